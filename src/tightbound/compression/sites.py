"""Latents on the stack: drawn by popping from q(z|x), and sent by pushing with p(z).

Where p(z) is a mixture, its component is a latent of its own: it is drawn from its posterior
p(m|z) and sent with its weight, which costs -log p(z) in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.compression import bins
from tightbound.compression.bins import Grid
from tightbound.compression.coder import Stack, whole_weights
from tightbound.compression.ordered import pop_ordered, push_ordered
from tightbound.distributions import (
    CodeChain,
    CodeDistribution,
    Codes,
    Flow,
    FullNormal,
    Mixture,
    Quantized,
)


@dataclass(frozen=True)
class Filled:
    """A latent on both sides of the code.

    Args:
        name: Its site.
        numbers: Numbers of its bins (b, d), or of its entries (b, N).
        z: Its value, all rows of the batch.
        p, q: Its distributions where they are known.
        grid: Its bins; None for codes.
    """

    name: str
    numbers: Tensor
    z: Tensor
    p: Distribution | None
    q: Distribution | None
    grid: Grid | None


def normal_of(dist: Distribution | None) -> Normal | None:
    """The normal of each dimension, where the dimensions are independent normals."""
    if isinstance(dist, Independent) and isinstance(dist.base_dist, Normal):
        return dist.base_dist
    return None


def why_not_prior(p: Distribution | None) -> str | None:
    """Why latents cannot be sent with p(z), in words; None where they can."""
    codes = isinstance(p, Codes | CodeChain)
    if codes or isinstance(p, Mixture) or normal_of(p) is not None:
        return None
    if isinstance(p, Flow):
        return "the density of a flow prior does not factorise over the latents"
    return (
        f"its prior is a {type(p).__name__}, which is neither a density of each latent, nor a "
        "mixture of such, nor one of codes"
    )


def why_not_posterior(q: Distribution | None) -> str | None:
    """Why latents cannot be drawn from q(z|x), in words; None where they can."""
    if isinstance(q, Codes | Quantized) or normal_of(q) is not None:
        return None
    kind = type(q).__name__
    if isinstance(q, FullNormal):
        kind = "normal with full covariance"
    return f"its posterior is a {kind}, whose latents depend on one another given x"


def grid_of(p: Distribution) -> Grid | None:
    """The bins that a prior sets; None for codes.

    Those of a mixture cover all its components, since the component is not known before z.
    """
    if isinstance(p, CodeDistribution):
        return None
    normal = normal_of(p)
    if normal is not None:
        return Grid(normal.loc, normal.scale)
    return Grid(p.mean, p.stddev)


def value_of(numbers: Tensor, p: Distribution, grid: Grid | None, rows: int) -> Tensor:
    """The value z of all rows, the unused ones at number 0."""
    padded = numbers.new_zeros(rows, numbers.shape[1])
    padded[: len(numbers)] = numbers
    if grid is not None:
        return grid.values(padded)
    assert isinstance(p, CodeDistribution)
    return p.codebook.vectors(padded).double()


# ---- q(z|x)


def pop_posterior(
    stack: Stack, q: Distribution, grid: Grid | None, count: int
) -> Tensor:
    """Draw latents of the first `count` rows: numbers (count, ...)."""
    if isinstance(q, Quantized):
        return q.code.index[:count]
    if isinstance(q, Codes):
        return _pop_codes(stack, q.logits[:count])
    return _pop_normal(stack, _normal(q), grid, count)


def push_posterior(
    stack: Stack, q: Distribution, numbers: Tensor, grid: Grid | None
) -> None:
    """Give back the bits that latents were drawn from."""
    if isinstance(q, Quantized):
        return
    if isinstance(q, Codes):
        _push_codes(stack, q.logits[: len(numbers)], numbers)
    else:
        _push_normal(stack, _normal(q), grid, numbers)


def _normal(dist: Distribution) -> Normal:
    normal = normal_of(dist)
    assert normal is not None
    return normal


def _pop_normal(stack: Stack, dist: Normal, grid: Grid | None, count: int) -> Tensor:
    assert grid is not None
    law = grid.law(dist.loc, dist.scale, count)
    size = dist.loc[:count].numel()
    return pop_ordered(stack, size, bins.FIRST, law).reshape(count, -1)


def _push_normal(
    stack: Stack, dist: Normal, grid: Grid | None, numbers: Tensor
) -> None:
    assert grid is not None
    law = grid.law(dist.loc, dist.scale, len(numbers))
    push_ordered(stack, numbers.flatten(), bins.FIRST, law)


def _pop_codes(stack: Stack, logits: Tensor) -> Tensor:
    weights = whole_weights(logits.softmax(-1).flatten(0, -2))
    return stack.pop(weights).reshape(logits.shape[:-1])


def _push_codes(stack: Stack, logits: Tensor, numbers: Tensor) -> None:
    stack.push(numbers.flatten(), whole_weights(logits.softmax(-1).flatten(0, -2)))


# ---- p(z)


def push_prior(
    stack: Stack, p: Distribution, numbers: Tensor, grid: Grid | None
) -> None:
    """Send latents of the first rows: numbers (count, ...)."""
    count = len(numbers)
    if isinstance(p, CodeChain):
        _push_codes(stack, _chain_logits(p, numbers)[:count], numbers)
    elif isinstance(p, Codes):
        _push_codes(stack, p.logits[:count], numbers)
    elif isinstance(p, Mixture):
        _push_mixture(stack, p, numbers, grid)
    else:
        _push_normal(stack, _normal(p), grid, numbers)


def pop_prior(stack: Stack, p: Distribution, grid: Grid | None, count: int) -> Tensor:
    """Receive latents of the first `count` rows."""
    if isinstance(p, CodeChain):
        return _pop_chain(stack, p, count)
    if isinstance(p, Codes):
        return _pop_codes(stack, p.logits[:count])
    if isinstance(p, Mixture):
        return _pop_mixture(stack, p, grid, count)
    return _pop_normal(stack, _normal(p), grid, count)


def _padded(numbers: Tensor, rows: int) -> Tensor:
    padded = numbers.new_zeros(rows, numbers.shape[1])
    padded[: len(numbers)] = numbers
    return padded


def _chain_logits(p: CodeChain, numbers: Tensor) -> Tensor:
    logits: Tensor = p.logits(_padded(numbers, p.batch_shape[0]))
    return logits


def _pop_chain(stack: Stack, p: CodeChain, count: int) -> Tensor:
    """Codes one after another, each given those before it.

    The logits are those of a pass over all codes on the other side: a masked network gives the
    same ones whatever stands at the places after.
    """
    numbers = torch.zeros(count, p.codebook.groups, dtype=torch.long)
    for place in range(p.codebook.groups):
        logits = _chain_logits(p, numbers)[:count, place]
        numbers[:, place] = _pop_codes(stack, logits)
    return numbers


def _weight_rows(p: Mixture, count: int) -> Tensor:
    share = p.log_weight.double().exp()
    return share.expand(p.batch_shape[0], -1)[:count]


def _responsibilities(p: Mixture, numbers: Tensor, grid: Grid) -> Tensor:
    """p(m|z) of each component, (count, M)."""
    z = grid.values(_padded(numbers, p.batch_shape[0]))
    log_joint = p.log_each(z) + p.log_weight
    return log_joint.softmax(-1)[: len(numbers)]


def _component(p: Mixture, m: Tensor, grid: Grid) -> tuple[Normal, Grid]:
    """The normals of components (count,), and the bins of those rows."""
    count = len(m)
    normal = Normal(p.loc.double()[m], p.scale.double()[m], validate_args=False)
    return normal, Grid(grid.loc[:count], grid.scale[:count])


def _push_mixture(stack: Stack, p: Mixture, numbers: Tensor, grid: Grid | None) -> None:
    assert grid is not None
    m = stack.pop(whole_weights(_responsibilities(p, numbers, grid)))
    _push_normal(stack, *_component(p, m, grid), numbers)
    stack.push(m, whole_weights(_weight_rows(p, len(numbers))))


def _pop_mixture(stack: Stack, p: Mixture, grid: Grid | None, count: int) -> Tensor:
    assert grid is not None
    m = stack.pop(whole_weights(_weight_rows(p, count)))
    normal, bins = _component(p, m, grid)
    numbers = _pop_normal(stack, normal, bins, count)
    stack.push(m, whole_weights(_responsibilities(p, numbers, grid)))
    return numbers


def log_ratio(filled: Filled, count: int) -> Tensor:
    """log p(z) - log q(z|x) of the first rows at the value of the bins, (count,), in nats."""
    assert filled.p is not None
    assert filled.q is not None
    if isinstance(filled.p, CodeDistribution):
        rows = filled.p.batch_shape[0]
        log_p = filled.p.log_mass(_padded(filled.numbers, rows))[:count]
        if isinstance(filled.q, Quantized):
            return log_p
        q = filled.q
        assert isinstance(q, CodeDistribution)
        return log_p - q.log_mass(_padded(filled.numbers, rows))[:count]
    log_p = filled.p.log_prob(filled.z)
    log_q = filled.q.log_prob(filled.z)
    return (log_p - log_q)[:count]
