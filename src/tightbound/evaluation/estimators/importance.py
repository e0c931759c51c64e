"""log p(x) by importance sampling from q, in a stream of K samples."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw, Features
from tightbound.core.trace import Trace
from tightbound.distributions.random import ContentNoise, tiles
from tightbound.evaluation.estimators.estimate import (
    Estimate,
    Tick,
    log_mean_exp,
    rows_at_once,
)
from tightbound.evaluation.estimators.pareto import (
    WeightSums,
    is_even,
    standard_error,
    tail_length,
    tail_shape,
)
from tightbound.models.vae import VAE

CURVE = (1, 5, 50, 500, 5000)
SEGMENT = 5000  # log-weights of an example in memory: the longest block of the curve


@torch.no_grad()
def importance(
    model: VAE,
    x: Tensor | Batch,
    *,
    k: int = 5000,
    seed: int = 0,
    tick: Tick | None = None,
) -> Estimate:
    """The importance-weighted bound on log p(x), log (1/K) sum_k w_k.

    The weights are w_k = p(x, z_k) / q(z_k|x). A lower bound in expectation. Burda,
    Grosse and Salakhutdinov 2016 (arXiv:1509.00519), eq. 8.

    Args:
        model: the model.
        x: examples (n, *shape) in model units.
        k: number of samples K.
        seed: seed of all draws.
        tick: called with the number of examples finished since the last call.

    Returns:
        The estimate; se by `pareto.standard_error`, not a number where Pareto k may be
        above 0.7 or K is below 25, so that the value is a lower bound without an interval. The
        values are of the weights as drawn: with PSIS's smoothed tail they would be lower
        and no closer to log p(x) (docs/results.md), and their mean weight not unbiased.
        Diagnostic: ess =
        (sum w)^2 / sum w^2; pareto_k (`pareto.py`),
        not a number for weights that are all but equal; distortion, rate and elbo over the
        same K draws; curve and curve_se (n, P), the bound at each number of samples in
        settings["curve"] = 1, 5, 50, ... <= K, as the mean over the disjoint blocks of
        that size among the K draws.
    """
    sizes = [size for size in CURVE if size <= k]
    group = max(1, rows_at_once(model) // min(k, SEGMENT))
    results: dict[str, list[Tensor]] = {}
    for part in Batch.of(x).split(max(group, 256)):
        inputs = part.to(model.get_buffer("centre").device)
        h = model.features(inputs)
        for start in range(0, len(inputs), group):
            rows = slice(start, start + group)
            features = h[rows] if isinstance(h, Tensor) else [f[rows] for f in h]
            stream = _Stream(model, inputs[rows], features, k, seed, sizes)
            for name, value in stream.result().items():
                results.setdefault(name, []).append(value.cpu())
            if tick:
                tick(len(stream.x))
    terms = {name: torch.cat(values) for name, values in results.items()}
    values = terms.pop("values")
    se = terms.pop("se")
    settings = {"k": k, "seed": seed, "curve": sizes}
    return Estimate("importance", "lower", values, se, terms, settings)


class _Stream:
    """Running sums over K draws for a group of B examples, one segment in memory."""

    def __init__(
        self, model: VAE, x: Batch, h: Features, k: int, seed: int, sizes: list[int]
    ) -> None:
        self.model = model
        self.x = x
        self.h = h
        self.k = k
        self.seed = seed
        self.sizes = sizes
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.x.device)
        self.log_px = zero
        self.rate = zero
        self.log_sum = zero - torch.inf  # log of the sum of w
        self.log_sum_square = zero - torch.inf  # log of the sum of w^2
        # of each block size: count, sum and sum of squares of the blocks' bounds
        self.blocks = [zero.new_zeros(3, len(x)) for _ in sizes]
        self.top = zero.new_empty(0, len(x))  # the largest log-weights

    def passes(self) -> Iterator[Trace]:
        """K samples in passes that fit into memory."""
        most = max(1, rows_at_once(self.model) // len(self.x))
        for i, m in enumerate(tiles(self.k)):
            noise = ContentNoise(self.seed, self.x.x, i, m)
            for start in range(0, m, most):
                size = min(most, m - start)
                draw = Draw(size, noise=noise.part(start, size), enumerate=True)
                yield self.model(self.x, draw, self.h)

    def result(self) -> dict[str, Tensor]:
        """All numbers of these examples, (B,) or (B, P)."""
        segment: list[Tensor] = []
        for trace in self.passes():
            log_w = trace.log_sum_over_classes(trace.log_w.double())
            segment.append(log_w)
            self.log_px = (
                self.log_px
                + trace.mean_over_samples(trace.log_px.double()) * trace.samples
            )
            self.rate = self.rate + trace.rate.double() * trace.samples
            if sum(map(len, segment)) >= SEGMENT:
                whole = torch.cat(segment)
                self._add(whole[:SEGMENT])
                segment = [whole[SEGMENT:]]
        self._add(torch.cat(segment))
        return self._summarise()

    def _add(self, log_w: Tensor) -> None:
        """Adds a segment of log-weights, (m, B), to the sums."""
        if not len(log_w):
            return
        self.log_sum = torch.logaddexp(self.log_sum, log_w.logsumexp(0))
        square = (2 * log_w).logsumexp(0)
        self.log_sum_square = torch.logaddexp(self.log_sum_square, square)
        every = torch.cat([self.top, log_w])
        self.top = every.topk(min(tail_length(self.k) + 1, len(every)), 0).values
        for size, block in zip(self.sizes, self.blocks, strict=True):
            whole = log_w[: len(log_w) // size * size]
            bounds = log_mean_exp(whole.reshape(-1, size, log_w.shape[1]), 1)
            count = torch.full_like(block[0], len(bounds))
            block += torch.stack([count, bounds.sum(0), bounds.square().sum(0)])

    def _summarise(self) -> dict[str, Tensor]:
        k = self.k
        sums = WeightSums(k, self.log_sum, self.log_sum_square, self.top)
        ess = (2 * self.log_sum - self.log_sum_square).exp().clamp(1.0, float(k))
        count, total, square = torch.stack(self.blocks, -1)
        mean = total / count
        spread = (square / count - mean.square()).clamp(min=0) * count / (count - 1)
        return {
            "values": self.log_sum - math.log(k),
            "se": standard_error(sums),
            "ess": ess,
            "pareto_k": torch.where(is_even(sums), torch.nan, tail_shape(self.top)),
            "distortion": -self.log_px / k,
            "rate": self.rate / k,
            "elbo": (self.log_px - self.rate) / k,
            "curve": mean,
            "curve_se": torch.where(count > 1, (spread / count).sqrt(), torch.nan),
        }
