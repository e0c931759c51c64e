"""Encoders and decoders; one line per network."""

from tightbound.components.networks.autoencoder_kl import AutoencoderKL
from tightbound.components.networks.conv import Conv
from tightbound.components.networks.custom import CheckedNetwork
from tightbound.components.networks.dense import Dense
from tightbound.components.networks.mlp import MLP, Linear
from tightbound.components.networks.pyramid import Pyramid
from tightbound.components.networks.standard import InRange, Standard
from tightbound.core.component import MultiscaleNetwork, Network

NETWORKS: dict[str, type[Network | MultiscaleNetwork]] = {
    "linear": Linear,
    "mlp": MLP,
    "dense": Dense,
    "conv": Conv,
    "pyramid": Pyramid,
    "autoencoder-kl": AutoencoderKL,
}

__all__ = ["NETWORKS", "CheckedNetwork", "InRange", "Standard"]
