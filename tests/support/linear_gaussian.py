"""Linear-Gaussian models whose log p(x), joint and posterior are known, built by our `build` with
weights set by hand.

The oracle is numpy: a chain v = c + L v + e, e ~ N(0, diag s^2), over the blocks (top latent, ...,
z1, x), has mean (I - L)^-1 c and covariance (I - L)^-1 diag(s^2) (I - L)^-T. It shares no code with
tightbound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from tightbound.components.posteriors.normal import WIDEST
from tightbound.core.data_spec import DataSpec
from tightbound.distributions import soft_clip
from tightbound.distributions.normal import HIGH
from tightbound.models.build import build
from tightbound.models.recipes import Recipe, part
from tightbound.models.vae import VAE

Array = np.ndarray
DIMS = 7
FLOOR = 0.01
PATHS = ("flat", "top-down", "bottom-up")


class Chain:
    """The joint normal of named blocks, each linear in the blocks before it."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.at: dict[str, slice] = {}
        total = 0
        for name, size in sizes.items():
            self.at[name] = slice(total, total + size)
            total += size
        self.c, self.links, self.scale = (
            np.zeros(total),
            np.zeros((total, total)),
            np.ones(total),
        )

    def block(self, name: str, offset: Array, scale: Array, **weights: Array) -> None:
        """block = offset + sum of weights @ earlier block + N(0, diag scale^2)."""
        self.c[self.at[name]], self.scale[self.at[name]] = offset, scale
        for other, weight in weights.items():
            self.links[self.at[name], self.at[other]] = weight

    def index(self, names: list[str]) -> Array:
        every = np.arange(len(self.c))
        return (
            np.concatenate([every[self.at[n]] for n in names]) if names else every[:0]
        )

    def moments(self, names: list[str]) -> tuple[Array, Array]:
        """Mean and covariance of the blocks together."""
        spread = np.linalg.inv(np.eye(len(self.c)) - self.links)
        cov, i = spread @ np.diag(self.scale**2) @ spread.T, self.index(names)
        return (spread @ self.c)[i], cov[np.ix_(i, i)]

    def log_density(self, **values: Array) -> Array:
        """log N of the blocks' values, each (n, d), by scipy."""
        mean, cov = self.moments(list(values))
        return np.atleast_1d(
            multivariate_normal(mean, cov).logpdf(
                np.concatenate(list(values.values()), -1)
            )
        )

    def conditional(self, name: str, given: list[str]) -> tuple[Array, Array, Array]:
        """A, b, covariance of p(block | given) = N(A given + b, covariance)."""
        mean, cov = self.moments([name, *given])
        d = self.at[name].stop - self.at[name].start
        weight = cov[:d, d:] @ np.linalg.inv(cov[d:, d:])
        return weight, mean[:d] - weight @ mean[d:], cov[:d, :d] - weight @ cov[d:, :d]

    def sample(self, n: int, name: str = "x", seed: int = 1) -> Array:
        mean, cov = self.moments([name])
        return np.random.default_rng(seed).multivariate_normal(mean, cov, n)


@dataclass
class Problem:
    """A model in float64 with the exact posterior, and the chain that knows its answers."""

    model: VAE
    chain: Chain
    sites: tuple[str, ...]

    def data(self, n: int) -> tuple[Tensor, Array]:
        """n rows from the model itself, and their exact log p(x)."""
        x = self.chain.sample(n)
        return torch.from_numpy(x), self.chain.log_density(x=x)

    def spoil(self, shift: float = 0.4, widen: float = 0.3) -> Problem:
        """The same model with a wrong q: means moved and scales widened."""
        with torch.no_grad():
            for module in self.model.hierarchy.modules():
                if hasattr(module, "mean") and isinstance(module.mean, nn.Linear):
                    module.mean.bias += shift
                    module.log_scale.bias += widen
        return self


def inverse_soft_clip(target: Array, high: float = HIGH) -> Tensor:
    """s with soft_clip(s, high=high) = target, by bisection in float64."""
    goal = torch.as_tensor(target, dtype=torch.float64)
    left, right = torch.full_like(goal, -30.0), torch.full_like(goal, 30.0)
    for _ in range(80):
        middle = (left + right) / 2
        below = soft_clip(middle, high=high) < goal
        left, right = (
            torch.where(below, middle, left),
            torch.where(below, right, middle),
        )
    return (left + right) / 2


def put(target: Tensor, value: Array | Tensor) -> None:
    """Writes a weight by hand."""
    with torch.no_grad():
        target.copy_(torch.as_tensor(value, dtype=target.dtype).reshape(target.shape))


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]


def make_chain(path: str, rng: np.random.Generator) -> Chain:
    """Weights for which every conditional that the path's q must express is diagonal."""
    s, b = rng.uniform(0.4, 0.9, DIMS), rng.normal(size=DIMS)
    if path == "flat":
        chain = Chain({"z": 3, "x": DIMS})
        chain.block("z", rng.normal(size=3), np.array([0.7, 1.2, 1.6]))
        chain.block(
            "x",
            b,
            s,
            z=s[:, None] * orthonormal(rng, DIMS, 3) * np.array([0.6, 1.4, 2.5]),
        )
        return chain
    chain = Chain({"z2": 2, "z1": 3, "x": DIMS})
    s1, t2, a = np.array([0.6, 0.9, 1.3]), np.array([0.8, 1.4]), rng.normal(size=3)
    chain.block("z2", rng.normal(size=2), t2)
    if path == "top-down":
        u, g = orthonormal(rng, DIMS, 5), np.array([0.8, 1.5, 2.2])
        gain = g**2 / (1 + (g * s1) ** 2)
        chain.block(
            "z1",
            a,
            s1,
            z2=orthonormal(rng, 3, 2) * np.array([0.5, 0.9]) / np.sqrt(gain)[:, None],
        )
        chain.block(
            "x",
            b,
            s,
            z1=s[:, None] * u[:, :3] * g,
            z2=s[:, None] * u[:, 3:] * np.array([0.7, 1.3]),
        )
        return chain
    chain.block(
        "z1", a, s1, z2=s1[:, None] * orthonormal(rng, 3, 2) * np.array([0.6, 1.1])
    )
    left = np.diag([4.0, 5.0, 6.5]) - np.linalg.inv(
        chain.moments(["z1"])[1]
    )  # what x must add to be diagonal
    values, vectors = np.linalg.eigh(left)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    chain.block("x", b, s, z1=s[:, None] * (orthonormal(rng, DIMS, 3) @ root))
    return chain


def set_likelihood(model: VAE, chain: Chain, inputs: list[str]) -> None:
    """base + unit * head(inputs) and unit * (exp(soft_clip(log_scale)) + floor) become the chain's
    x | inputs.
    """
    likelihood, head = model.likelihood, model.hierarchy.decoder.head
    x, unit = chain.at["x"], likelihood.scale.unit.numpy()
    weight = np.concatenate([chain.links[x, chain.at[name]] for name in inputs], 1)
    put(head.weight, weight / unit[:, None])
    put(likelihood.base, chain.c[x] - unit * head.bias.detach().numpy())
    put(
        likelihood.scale.log_scale,
        inverse_soft_clip(np.log(chain.scale[x] / unit - FLOOR)),
    )


def set_prior(prior: nn.Module, chain: Chain, name: str, above: list[str]) -> None:
    log_scale = inverse_soft_clip(np.log(chain.scale[chain.at[name]]))
    if not above:
        put(prior.mean, chain.c[chain.at[name]])
        put(prior.log_scale, log_scale)
        return
    link = np.concatenate(
        [chain.links[chain.at[name], chain.at[other]] for other in above], 1
    )
    put(prior.head.weight, np.concatenate([link, np.zeros_like(link)]))
    put(
        prior.head.bias,
        torch.cat([torch.from_numpy(chain.c[chain.at[name]]), log_scale]),
    )


def set_posterior(
    posterior: nn.Module, model: VAE, chain: Chain, name: str, given: list[str]
) -> None:
    """q(name | given) becomes the exact conditional; an x among the given is seen as (x - centre) /
    spread.
    """
    weight, offset, cov = chain.conditional(name, given)
    assert np.allclose(cov, np.diag(np.diag(cov)), atol=1e-12), (
        "this posterior is not diagonal"
    )
    if given[0] == "x":
        offset = offset + weight[:, :DIMS] @ model.centre.numpy()
        weight = np.concatenate(
            [weight[:, :DIMS] * model.spread.numpy(), weight[:, DIMS:]], 1
        )
    put(posterior.mean.weight, weight)
    put(posterior.mean.bias, offset)
    put(posterior.log_scale.weight, np.zeros_like(weight))
    put(posterior.log_scale.bias, inverse_soft_clip(0.5 * np.log(np.diag(cov)), WIDEST))


def problem(path: str, seed: int = 0) -> Problem:
    """A linear-Gaussian model along one of the three paths; the data's centre and spread are not 0
    and 1.
    """
    rng = np.random.default_rng(seed)
    chain = make_chain(path, rng)
    spec = DataSpec(
        shape=(DIMS,),
        domain="real",
        mean=rng.normal(size=DIMS),
        std=rng.uniform(0.5, 2.0, DIMS),
    )
    recipe = Recipe(
        hierarchy=path,
        latent=3 if path == "flat" else (3, 2),
        network=part("linear"),
        size="s",
        prior="learned",
        likelihood=part("gaussian", scale="learned", floor=FLOOR),
    )
    model = build(recipe, spec)[0].double()
    way = model.hierarchy
    if path == "flat":
        set_prior(way.prior, chain, "z", [])
        set_posterior(way.posterior, model, chain, "z", ["x"])
        set_likelihood(model, chain, ["z"])
        return Problem(model, chain, ("z",))
    set_prior(way.priors[0], chain, "z2", [])
    set_prior(way.priors[1], chain, "z1", ["z2"])
    if path == "top-down":
        set_posterior(way.posteriors[0], model, chain, "z2", ["x"])
        set_posterior(way.posteriors[1], model, chain, "z1", ["x", "z2"])
        set_likelihood(model, chain, ["z2", "z1"])
    else:
        set_posterior(way.posteriors[0], model, chain, "z1", ["x"])
        set_posterior(way.posteriors[1], model, chain, "z2", ["z1"])
        set_likelihood(model, chain, ["z1"])
    return Problem(model, chain, ("z1", "z2"))


def deep(path: str, seed: int = 0) -> Problem:
    """Three layers of latents, z3 -> z2 -> z1, with a q that was never fitted: only log p(x) is
    exact.
    """
    rng = np.random.default_rng(seed)
    chain = Chain({"z3": 1, "z2": 2, "z1": 3, "x": DIMS})
    chain.block("z3", rng.normal(size=1), np.array([1.2]))
    chain.block(
        "z2", rng.normal(size=2), np.array([0.5, 0.9]), z3=rng.normal(size=(2, 1))
    )
    below = {"z2": rng.normal(size=(3, 2))} | (
        {"z3": rng.normal(size=(3, 1))} if path == "top-down" else {}
    )
    chain.block("z1", rng.normal(size=3), np.array([0.4, 0.7, 1.0]), **below)
    inputs = ["z3", "z2", "z1"] if path == "top-down" else ["z1"]
    weights = {
        name: 0.4 * rng.normal(size=(DIMS, len(chain.c[chain.at[name]])))
        for name in inputs
    }
    chain.block("x", rng.normal(size=DIMS), rng.uniform(0.6, 0.9, DIMS), **weights)
    spec = DataSpec(
        shape=(DIMS,),
        domain="real",
        mean=rng.normal(size=DIMS),
        std=rng.uniform(0.5, 2.0, DIMS),
    )
    recipe = Recipe(
        hierarchy=path,
        latent=(3, 2, 1),
        network="linear",
        size="s",
        prior="learned",
        likelihood=part("gaussian", scale="learned", floor=FLOOR),
    )
    torch.manual_seed(seed)
    model = build(recipe, spec)[0].double()
    with torch.no_grad():
        for p in model.hierarchy.posteriors.parameters():
            p *= 0.3
    set_prior(model.hierarchy.priors[0], chain, "z3", [])
    set_prior(model.hierarchy.priors[1], chain, "z2", ["z3"])
    set_prior(
        model.hierarchy.priors[2],
        chain,
        "z1",
        ["z3", "z2"] if path == "top-down" else ["z2"],
    )
    set_likelihood(model, chain, inputs)
    return Problem(model, chain, ("z1", "z2", "z3"))
