"""Example inputs of exported graphs, made from the spec of the data alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tightbound.core.data_spec import Column, DataSpec
from tightbound.distributions.random import seed_for
from tightbound.models.vae import VAE

MISSING = 0.2  # share of values that are NaN, of data with missing values


def raw_examples(model: VAE, n: int, seed: int) -> Tensor:
    """n examples in raw units, drawn at random from the domain of the data.

    They are float32; float64 where values are read less an offset, as seconds since 1970, of
    which float32 would lose digits.

    Args:
        model: A model; its spec says what the data are.
        n: Number of examples.
        seed: Of the draws.

    Returns:
        (n, ...) in the layout of the data.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "export"))
    spec = model.spec
    if spec.fields:
        x = torch.cat([_column(model, i, n, generator) for i in _columns(model)], 1)
    else:
        shape = (n, *spec.shape)
        centre = model.get_buffer("centre").expand(shape)
        spread = model.get_buffer("spread").expand(shape)
        x = _drawn(spec.domain, spec.levels, centre, spread, generator)
    raw = spec.to_raw(x).to(raw_dtype(spec)).contiguous()
    if spec.missing:
        gone = torch.rand(raw.shape, generator=generator) < MISSING
        raw = raw.masked_fill(gone, float("nan"))
    return raw


def raw_dtype(spec: DataSpec) -> torch.dtype:
    """The dtype of examples in raw units, of exported graphs."""
    return torch.float64 if any(spec.offset) else torch.float32


def _columns(model: VAE) -> range:
    return range(len(model.spec.fields))


def _column(model: VAE, i: int, n: int, generator: torch.Generator) -> Tensor:
    """Model units (n, width) of one column of a table."""
    column: Column = model.spec.fields[i]
    at = model.spec.places[i]
    if column.kind == "categorical":
        codes = torch.randint(column.width, (n,), generator=generator)
        return F.one_hot(codes, column.width).float()
    centre = model.get_buffer("centre")[at].expand(n, -1)
    spread = model.get_buffer("spread")[at].expand(n, -1)
    return _drawn(column.kind, None, centre, spread, generator)


def _drawn(
    domain: str,
    levels: int | None,
    centre: Tensor,
    spread: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Values of a domain in model units, of the shape of `centre`."""
    uniform = torch.rand(centre.shape, generator=generator)
    if domain == "binary":
        return (uniform < 0.5).float()
    if domain in ("levels", "categorical"):
        return (uniform * (levels or 2)).floor()
    if domain == "unit":
        return uniform
    if domain == "count":
        return torch.poisson(centre.clamp(min=0.5), generator=generator)
    noise = torch.randn(centre.shape, generator=generator)
    is_zero = (uniform < 0.5) & domain.startswith("zero-inflated")
    if domain in ("positive", "zero-inflated"):
        above = centre.clamp(min=1e-6) * noise.exp()
        return torch.where(is_zero, 0.0, above)
    return torch.where(is_zero, 0.0, centre + spread * noise)


def raw_conditions(model: VAE, n: int, seed: int) -> list[Tensor]:
    """n conditions in raw units, of a conditional model; else an empty list."""
    condition = model.spec.condition
    if condition is None:
        return []
    generator = torch.Generator().manual_seed(seed_for(seed, "condition"))
    if not condition.mean:
        return [torch.randint(condition.width, (n,), generator=generator)]
    noise = torch.randn(n, condition.width, generator=generator)
    dtype = torch.float64 if condition.is_far else torch.float32
    mean = torch.tensor(condition.mean, dtype=dtype)
    std = torch.tensor(condition.std, dtype=dtype)
    return [mean + std * noise]
