"""Training by several processes of a torchrun launch."""
