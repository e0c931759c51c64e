"""A page in the browser: the latent space, networks and terms of a trained run."""
