"""Encoders and decoders; one line per network."""

from tightbound.networks.conv import Conv
from tightbound.networks.mlp import MLP, Linear
from tightbound.networks.own import Fitted
from tightbound.networks.pyramid import Pyramid
from tightbound.networks.standard import Standard

NETWORKS = {"linear": Linear, "mlp": MLP, "conv": Conv, "pyramid": Pyramid}

__all__ = ["NETWORKS", "Fitted", "Standard"]
