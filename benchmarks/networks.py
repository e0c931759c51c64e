"""The networks that every library trains: the same layers, as classes that this package takes by
import path.

Each has `latent` and `likelihood`, and methods `encoder`, `decoder` and, for the hierarchy, `link`.
`Plain` is the same model written out by hand, for the loops that are compared with the package's.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tightbound.core.component import Network


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """Linear layers of these widths, each with its activation."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return layers


class Burda(Network):
    """784-200-200-50 and back, tanh, Bernoulli: Burda et al. 2016, with one stochastic layer."""

    latent: Any = 50
    likelihood, features = "bernoulli", 200

    def __init__(self, size: str = "m") -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), *mlp(math.prod(shape), 200, 200, activation=nn.Tanh)
        )

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(
            *mlp(inputs, 200, 200, activation=nn.Tanh), nn.Linear(200, math.prod(out))
        )


class Wide(Network):
    """784-512-16-512-784, ReLU, squared error: pythae's default network."""

    latent: Any = 16
    likelihood, features = "gaussian", 512

    def __init__(self, size: str = "m") -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), *mlp(math.prod(shape), 512))

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(*mlp(inputs, 512), nn.Linear(512, math.prod(out)))


class Strided(Network):
    """Two strided 4x4 convolutions down and up, 32 and 64 channels, Bernoulli."""

    latent: Any = 16
    likelihood, features = "bernoulli", 64 * 7 * 7

    def __init__(self, size: str = "m") -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        down = [
            nn.Conv2d(shape[0], 32, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2, 1),
            nn.ReLU(),
        ]
        return nn.Sequential(*down, nn.Flatten())

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        up = [
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, out[0] * out[1], 4, 2, 1),
        ]
        return nn.Sequential(
            nn.Linear(inputs, 64 * 7 * 7), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)), *up
        )


class Block(nn.Module):
    """x + conv3(ReLU(conv1(ReLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Residual(Network):
    """Two strided convolutions to 64 channels at 7x7 with two residual blocks each way,
    Bernoulli.
    """

    latent: Any = 32
    likelihood, features = "bernoulli", 64 * 7 * 7

    def __init__(self, size: str = "m") -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        down = [
            nn.Conv2d(shape[0], 64, 4, 2, 1),
            Block(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 4, 2, 1),
            Block(64),
        ]
        return nn.Sequential(*down, nn.ReLU(), nn.Flatten())

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        up = [
            Block(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 64, 4, 2, 1),
            Block(64),
            nn.ReLU(),
        ]
        last = nn.ConvTranspose2d(64, out[0] * out[1], 4, 2, 1)
        return nn.Sequential(
            nn.Linear(inputs, 64 * 7 * 7), nn.Unflatten(1, (64, 7, 7)), *up, last
        )


class Ladder(Network):
    """Twelve groups of 8 latents from the top down, layers 256 wide, Bernoulli."""

    latent: Any = (8,) * 12
    likelihood, features = "bernoulli", 256

    def __init__(self, size: str = "m") -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), *mlp(math.prod(shape), 256, 256))

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(*mlp(inputs, 256), nn.Linear(256, math.prod(out)))

    def link(self, inputs: int) -> nn.Module:
        return nn.Sequential(*mlp(inputs, 256))


NETWORKS: dict[str, Any] = {
    "burda": Burda,
    "wide": Wide,
    "strided": Strided,
    "residual": Residual,
    "ladder": Ladder,
}


class Plain(nn.Module):
    """The model by hand: `loss(x, noise)` is -ELBO in nats, averaged over the batch; noise is (B,
    sum of latents).
    """

    def __init__(self, name: str, shape: tuple[int, ...] = (1, 28, 28)) -> None:
        super().__init__()
        net = NETWORKS[name]()
        self.bernoulli = net.likelihood == "bernoulli"
        self.latents = (net.latent,) if isinstance(net.latent, int) else net.latent
        self.encoder = net.encoder(shape)
        wide, state = net.features, 0
        self.heads, self.priors, self.links = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        for level, latent in enumerate(self.latents):
            self.heads.append(nn.Linear(wide + state, 2 * latent))
            if level:
                self.priors.append(nn.Linear(state, 2 * latent))
            if len(self.latents) > 1:
                self.links.append(net.link(state + latent))
                state = 256
        self.decoder = net.decoder(state or self.latents[0], (1, *shape))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        h = self.encoder(x)
        rate, state, z = torch.zeros((), device=x.device), None, h
        for level, (head, eps) in enumerate(
            zip(self.heads, noise.split(self.latents, -1), strict=True)
        ):
            mean, log_scale = (
                head(h if state is None else torch.cat([h, state], -1))
                .float()
                .chunk(2, -1)
            )
            z = mean + log_scale.exp() * eps
            if state is None:
                kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
            else:
                loc, width = self.priors[level - 1](state).float().chunk(2, -1)
                square = (mean - loc).square() + (2 * log_scale).exp()
                kl = 0.5 * (square * (-2 * width).exp() - 1) + width - log_scale
            rate = rate + kl.sum(-1)
            if len(self.links):
                state = self.links[level](
                    z if state is None else torch.cat([state, z], -1)
                )
        y = self.decoder(z if state is None else state).float().flatten(1)
        flat = x.flatten(1)
        if self.bernoulli:
            distortion = F.binary_cross_entropy_with_logits(y, flat, reduction="none")
        else:
            distortion = 0.5 * (y - flat).square()
        return (distortion.sum(-1) + rate).mean()
