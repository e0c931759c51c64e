"""Probabilistic PCA in closed form: the optimum of recipe `ppca`, without steps.

p(z) = N(0, I), p(x|z) = N(W z + mu, sigma^2 I). With the mean mu and the eigenvalues l_1 >= ...
>= l_D and eigenvectors U of the covariance of the training data, the likelihood is highest at
W = U_L (diag(l_1..l_L) - sigma^2 I)^(1/2) and sigma^2 = mean(l_L+1..l_D), and the posterior is
N(M^-1 W'(x - mu), sigma^2 M^-1) with M = W'W + sigma^2 I. Tipping and Bishop 1999
(doi:10.1111/1467-9868.00196), eq. 7, 8 and 12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tightbound.components.likelihoods.continuous import GaussianLikelihood
from tightbound.components.posteriors.normal import WIDEST, NormalPosterior
from tightbound.config import Config
from tightbound.data import Data, Split
from tightbound.distributions.normal import HIGH, LOW, soft_clip
from tightbound.models.recipes import Recipe
from tightbound.models.vae import VAE

RECIPE = "ppca"
MOST = 4096  # of the smaller of dimensions and examples: a matrix that is decomposed in seconds
MOST_VALUES = (
    2**27
)  # of fewer examples than dimensions, which are held as float64: 1 GB
CHUNK_VALUES = 4_000_000  # numbers that are read at a time
NOTE = (
    "ppca is solved in closed form, from the mean and the covariance of the training data "
    "(Tipping and Bishop 1999): train.steps and the settings of the optimiser are not used"
)
# Parts that the closed form is the optimum for, with the options that they must have.
PARTS: dict[str, tuple[str, dict[str, object]]] = {
    "posterior": ("normal", {"scale": "shared"}),
    "prior": ("standard", {}),
    "likelihood": ("gaussian", {"scale": "shared"}),
    "objective": ("elbo", {"beta": 1.0, "free_bits": 0.0}),
    "network": ("linear", {}),
}


def applies(config: Config, data: Data) -> bool:
    """Whether a run of recipe `ppca` is solved in closed form.

    Not with other parts than the recipe's, with augmented, streamed or missing data, where
    both dimensions and examples are more than 4,096, and where the examples are so few that
    the latents hold all their variance, so that the optimum has no noise.
    """
    spec = data.spec
    if not _has_known_parts(config.recipe) or spec.missing or config.data.augment:
        return False
    if not isinstance(data.train, Split) or config.train.parallel == "fsdp2":
        return False
    n = len(data.train)
    latent = config.recipe.latent
    if not isinstance(latent, int) or columns_of(latent, spec.dims) >= n - 1:
        return False
    return min(spec.dims, n) <= MOST and (
        n >= spec.dims or n * spec.dims <= MOST_VALUES
    )


def columns_of(latent: int, dims: int) -> int:
    """The number of columns of W that are not 0.

    With D - 1 columns, the covariance W W' + sigma^2 I is any covariance already: sigma^2 is
    its least eigenvalue.
    """
    return min(latent, dims - 1)


def _has_known_parts(recipe: Recipe) -> bool:
    """Whether the parts are those that the closed form is the optimum for."""
    plain = (RECIPE, "flat", False, "refused")
    if (recipe.name, recipe.hierarchy, recipe.conditional, recipe.missing) != plain:
        return False
    for kind, (name, options) in PARTS.items():
        part = recipe.model_dump()[kind]
        chosen = {key: part.get(key, value) for key, value in options.items()}
        if part["name"] != name or chosen != options:
            return False
    return True


def one_step(config: Config, data: Data) -> Config:
    """The settings of a run that is solved in closed form: one step, one pass over the data."""
    if not applies(config, data):
        return config
    update = {"steps": 1, "epochs": 1.0, "validate_every": 1, "budget": None}
    train = config.train.model_copy(update=update)
    return config.model_copy(update={"train": train})


@dataclass(frozen=True)
class Moments:
    """Mean (D,), and the L largest eigenvalues (L,) and eigenvectors (D, L) of the covariance.

    total: sum of all eigenvalues.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    total: float


def moments(train: Split, dims: int, count: int) -> Moments:
    """Moments of training examples in model units, in float64.

    The covariance (divided by n) or, of fewer examples than dimensions, the matrix of inner
    products of the examples is decomposed.
    """
    size = max(1, CHUNK_VALUES // dims)
    rows = torch.arange(len(train)).split(size)
    mean = torch.zeros(dims, dtype=torch.float64)
    for part in rows:
        mean += train.batch(part).flatten(1).double().sum(0) / len(train)
    centred = (train.batch(part).flatten(1).double() - mean for part in rows)
    if len(train) < dims:
        x = torch.cat(list(centred)) / math.sqrt(len(train))
        values, left = torch.linalg.eigh(x @ x.T)
        values = values.clamp(min=0)
        vectors = x.T @ left / values.sqrt().clamp(min=1e-150)
    else:
        covariance = torch.zeros(dims, dims, dtype=torch.float64)
        for x in centred:
            covariance += x.T @ x / len(train)
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp(min=0)
    values = values.flip(0)
    least = dims * torch.finfo(torch.float64).eps * values[0]
    values = torch.where(values > least, values, 0.0)
    total = float(values.sum())
    vectors = vectors.flip(1)[:, :count] * (values[:count] > 0)
    return Moments(mean, values[:count], vectors, total)


def solution(model: VAE, config: Config, data: Data) -> dict[str, Tensor]:
    """The weights of the optimum, as a state dict of the model.

    Where the noise is smaller than the likelihood's least scale, it is that scale, with the W
    that is best for it.
    """
    posterior, likelihood, head = _parts(model)
    latent = posterior.mean.out_features
    dims = data.spec.dims
    assert isinstance(data.train, Split)
    columns = columns_of(latent, dims)
    stats = moments(data.train, dims, columns)
    scale = likelihood.scale
    unit = float(scale.get_buffer("unit").flatten()[0])
    least = unit * (math.exp(LOW + 0.01) + scale.floor)
    left = max(stats.total - float(stats.values.sum()), 0.0) / (dims - columns)
    noise = max(left, least**2)
    gain = torch.zeros(latent, dtype=torch.float64)
    gain[: len(stats.values)] = (stats.values - noise).clamp(min=0)
    weight = torch.zeros(dims, latent, dtype=torch.float64)
    weight[:, : stats.vectors.shape[1]] = stats.vectors
    weight = weight * gain.sqrt()
    inverse = 1 / (gain + noise)  # of M, which is diagonal
    project = inverse[:, None] * weight.T
    centre = model.get_buffer("centre").flatten().double().cpu()
    spread = model.get_buffer("spread").flatten().double().cpu()
    new = {
        head.weight: weight / unit,
        head.bias: torch.zeros(dims),
        likelihood.base: stats.mean,
        scale.log_scale: _unclipped(
            torch.tensor(math.sqrt(noise) / unit - scale.floor).log()
        ),
        posterior.mean.weight: project * spread,
        posterior.mean.bias: project @ (centre - stats.mean),
        posterior.shared: _unclipped((noise * inverse).log() / 2, WIDEST),
    }
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter in new:
            state[name] = new[parameter].reshape(parameter.shape).to(parameter)
    return state


def _parts(model: VAE) -> tuple[NormalPosterior, GaussianLikelihood, nn.Linear]:
    """The linear maps of the model and its scales."""
    posterior = model.hierarchy.get_submodule("posterior")
    head = model.hierarchy.get_submodule("decoder.head")
    likelihood = model.likelihood
    assert isinstance(posterior, NormalPosterior)
    assert isinstance(likelihood, GaussianLikelihood)
    assert isinstance(head, nn.Linear)
    return posterior, likelihood, head


def _unclipped(target: Tensor, high: float = HIGH) -> Tensor:
    """s with soft_clip(s) = target, by bisection; the nearest one where there is none."""
    low = torch.full_like(target.double(), LOW - 30)
    top = torch.full_like(low, high + 30)
    for _ in range(80):
        middle = (low + top) / 2
        below = soft_clip(middle, high=high) < target
        low = torch.where(below, middle, low)
        top = torch.where(below, top, middle)
    return (low + top) / 2
