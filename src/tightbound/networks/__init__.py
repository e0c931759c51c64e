"""Encoders and decoders; one line per network."""

from tightbound.networks.conv import Conv
from tightbound.networks.mlp import MLP, Linear

NETWORKS = {"linear": Linear, "mlp": MLP, "conv": Conv}
