"""One training step: the forward pass, its gradients and the check of them."""
