"""Quality of samples, novelty, out-of-distribution scores, disentanglement, features."""
