"""Models of one to three latents whose log p(x) is known by a way that shares no code with
tightbound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import integrate
from torch import Tensor, nn

from tightbound.core.data_spec import DataSpec
from tightbound.models.build import build
from tightbound.models.recipes import Recipe, part
from tightbound.models.vae import VAE

DIMS = 6


class Wavy(nn.Module):
    """A smooth decoder far from linear: sums of sines of z."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(5)
        self.register_buffer("inner", 1.5 * torch.randn(latent, 8, generator=g))
        self.register_buffer("outer", torch.randn(8, DIMS, generator=g))

    def forward(self, z: Tensor) -> Tensor:
        return (
            torch.sin(z @ self.get_buffer("inner") + 0.3) @ self.get_buffer("outer")
        )[:, None]


class Steep(nn.Module):
    """Each pixel is 1 where z is above its threshold: the posterior is a sliver between two of
    them, 0.0012 wide.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "threshold",
            torch.tensor([[0.1, 0.5, 0.7337, 0.7349, 1.2, 1.4]], dtype=torch.float64),
        )

    def forward(self, z: Tensor) -> Tensor:
        return (5e4 * (z - self.get_buffer("threshold")))[:, None]


class Folded(nn.Module):
    """A decoder that is even in every latent: z and -z explain x equally well, so the posterior has
    2^d modes.
    """

    def __init__(self, latent: int, power: float = 2.0) -> None:
        super().__init__()
        weight = torch.randn(latent, DIMS, generator=torch.Generator().manual_seed(3))
        self.register_buffer("weight", 1.5 * weight)
        self.power = power

    def forward(self, z: Tensor) -> Tensor:
        return (z.abs() ** self.power @ self.get_buffer("weight") - 1.0)[:, None]


def binary_spec(dims: int = DIMS) -> DataSpec:
    return DataSpec(
        shape=(dims,),
        domain="binary",
        mean=torch.full((dims,), 0.5),
        std=torch.ones(dims),
    )


def flat_vae(latent: int, decoder: nn.Module) -> VAE:
    """A flat Bernoulli model with a decoder made by hand and an encoder that is not far off, but
    not right either.
    """
    torch.manual_seed(0)
    model = build(
        Recipe(latent=latent, network="mlp", size="s", likelihood=part("bernoulli")),
        binary_spec(),
    )[0].eval()
    model.hierarchy.decoder = decoder
    with torch.no_grad():
        for p in model.hierarchy.posterior.parameters():
            p *= 0.3
    return model.requires_grad_(False)


def wavy(latent: int) -> VAE:
    return flat_vae(latent, Wavy(latent))


def folded(latent: int) -> VAE:
    """The posterior has 2^latent equal modes, and q is one normal."""
    return flat_vae(latent, Folded(latent))


def examples(n: int, dims: int = DIMS, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 2, (n, dims), generator=torch.Generator().manual_seed(seed)
    ).float()


def by_scipy(
    model: VAE, x: Tensor, cuts: Sequence[float] = tuple(np.linspace(-4, 4, 17))
) -> float:
    """log p(x) of one example (1, *shape) under a flat model with one latent: scipy's adaptive
    quadrature.
    """
    model = model.double()
    x = x.double()

    def density(z: float) -> float:
        at = torch.tensor([[z]], dtype=torch.float64)
        logits = model.likelihood.base + model.hierarchy.decoder(at)[0, 0]
        log_px = -nn.functional.binary_cross_entropy_with_logits(
            logits, x[0], reduction="sum"
        )
        return math.exp(float(log_px) - z * z / 2) / math.sqrt(2 * math.pi)

    with torch.no_grad():
        value, _ = integrate.quad(
            density, -9, 9, points=list(cuts), limit=400, epsabs=0, epsrel=1e-10
        )
    return math.log(value)


def by_lattice(model: VAE, x: Tensor, latent: int, points: int) -> Tensor:
    """log p(x) of x (n, DIMS) by the trapezoidal rule on a plain lattice over [-8, 8]^latent; for
    smooth integrands.
    """
    model = model.double()
    axis = torch.linspace(-8, 8, points, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * latent).reshape(-1, latent)
    with torch.no_grad():
        logits = model.likelihood.base + model.hierarchy.decoder(z)[:, 0]
        log_px = x.double() @ logits.T - nn.functional.softplus(logits).sum(-1)
    log_prior = -(z.square().sum(-1) + latent * math.log(2 * math.pi)) / 2
    return (log_px + log_prior).logsumexp(-1) + latent * math.log(16 / (points - 1))
