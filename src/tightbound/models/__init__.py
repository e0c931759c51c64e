"""From a recipe to a VAE as an nn.Module."""
