"""The benchmark's networks in pythae: its own VAE over the same layers; for the hierarchy a
subclass of its base.
"""

from __future__ import annotations

from typing import Any

import torch
from networks import NETWORKS, Plain
from pythae.models import VAE, BaseAE, BaseAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn

SHAPE = (1, 28, 28)


class Encoder(BaseEncoder):
    """Features, then mean and log-variance."""

    def __init__(self, body: nn.Module, features: int, latent: int) -> None:
        super().__init__()
        self.body, self.mean, self.log_var = (
            body,
            nn.Linear(features, latent),
            nn.Linear(features, latent),
        )

    def forward(self, x: Tensor) -> Any:
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    """Means in [0, 1] for binary data, as pythae's cross-entropy wants them; else as they are."""

    def __init__(self, body: nn.Module, binary: bool) -> None:
        super().__init__()
        self.body, self.binary = body, binary

    def forward(self, z: Tensor) -> Any:
        y = self.body(z)
        return ModelOutput(
            reconstruction=(y.sigmoid() if self.binary else y).reshape(-1, *SHAPE)
        )


class Hierarchy(BaseAE):
    """pythae has no top-down model; a user would write one as a subclass of its base class."""

    def __init__(self, name: str) -> None:
        super().__init__(
            BaseAEConfig(input_dim=SHAPE, latent_dim=8),
            decoder=Decoder(nn.Identity(), True),
        )
        self.model_name, self.plain = "Hierarchy", Plain(name)

    def forward(self, inputs: Any, **kwargs: Any) -> Any:
        x = inputs["data"]
        return ModelOutput(
            loss=self.plain.loss(
                x, torch.randn(len(x), sum(self.plain.latents), device=x.device)
            )
        )


def pythae_model(name: str) -> BaseAE:
    """The network of this name as a pythae model."""
    net = NETWORKS[name]()
    if not isinstance(net.latent, int):
        return Hierarchy(name)
    binary = net.likelihood == "bernoulli"
    config = VAEConfig(
        input_dim=SHAPE,
        latent_dim=net.latent,
        reconstruction_loss="bce" if binary else "mse",
    )
    encoder = Encoder(net.encoder(SHAPE), net.features, net.latent)
    return VAE(config, encoder, Decoder(net.decoder(net.latent, (1, *SHAPE)), binary))
