"""Encoders and decoders; one line per network."""

from tightbound.networks.conv import Conv
from tightbound.networks.mlp import MLP, Linear
from tightbound.networks.own import Fitted

NETWORKS = {"linear": Linear, "mlp": MLP, "conv": Conv}

__all__ = ["NETWORKS", "Fitted"]
