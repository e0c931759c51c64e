"""log p(x) by importance sampling from q: K honoured exactly and streamed, with the signs that it
can be trusted.
"""

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
from tightbound.evaluation.estimators.pareto import tail_length, tail_shape
from tightbound.models.vae import VAE

CURVE = (1, 5, 50, 500, 5000)
SEGMENT = 5000  # log-weights of an example that are held at a time: the longest block of the curve


@torch.no_grad()
def importance(
    model: VAE,
    x: Tensor | Batch,
    *,
    k: int = 5000,
    seed: int = 0,
    tick: Tick | None = None,
) -> Estimate:
    """log (1/K) sum_k w_k with w = p(x, z_k) / q(z_k|x), a lower bound in expectation.  Burda et
    al. 2016, eq. 8.

    se: by the delta method, sqrt((K / ess - 1) / K).  diagnostic: ess = (sum w)^2 / sum w^2;
    pareto_k (`pareto.py`); distortion, rate and elbo over the same K draws; curve and curve_se (n,
    P), the bound at K of settings["curve"] = 1, 5, 50, ... <= K: the mean over the disjoint blocks
    of that size that the K draws hold.
    """
    sizes = [b for b in CURVE if b <= k]
    group = max(1, rows_at_once(model) // min(k, SEGMENT))
    found: dict[str, list[Tensor]] = {}
    for part in Batch.of(x).split(max(group, 256)):
        rows = part.to(model.get_buffer("centre").device)
        h = model.features(rows)
        for start in range(0, len(rows), group):
            some, at = rows[start : start + group], slice(start, start + group)
            features = h[at] if isinstance(h, Tensor) else [scale[at] for scale in h]
            for name, value in (
                _Stream(model, some, features, k, seed, sizes).result().items()
            ):
                found.setdefault(name, []).append(value.cpu())
            if tick:
                tick(len(some))
    terms = {name: torch.cat(values) for name, values in found.items()}
    values, se = terms.pop("values"), terms.pop("se")
    return Estimate(
        "importance", "lower", values, se, terms, {"k": k, "seed": seed, "curve": sizes}
    )


class _Stream:
    """The running sums of a group of examples (B of them) over K draws, of which a segment is held
    at a time.
    """

    def __init__(
        self, model: VAE, x: Batch, h: Features, k: int, seed: int, sizes: list[int]
    ) -> None:
        self.model, self.x, self.h, self.k, self.seed, self.sizes = (
            model,
            x,
            h,
            k,
            seed,
            sizes,
        )
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.x.device)
        self.log_px, self.rate = zero, zero
        self.first, self.second = zero - torch.inf, zero - torch.inf
        self.blocks = [
            zero.new_zeros(3, len(x)) for _ in sizes
        ]  # of each size: count, sum and sum of squares
        self.top = zero.new_empty(0, len(x))

    def passes(self) -> Iterator[Trace]:
        """K samples as passes that fit, one after another."""
        most = max(1, rows_at_once(self.model) // len(self.x))
        for i, m in enumerate(tiles(self.k)):
            noise = ContentNoise(self.seed, self.x.x, i, m)
            for start in range(0, m, most):
                some = min(most, m - start)
                yield self.model(
                    self.x,
                    Draw(some, noise=noise.part(start, some), enumerate=True),
                    self.h,
                )

    def result(self) -> dict[str, Tensor]:
        """All figures of these examples, (B,) or (B, P)."""
        held: list[Tensor] = []
        for trace in self.passes():
            held.append(trace.log_sum_over_classes(trace.log_w.double()))
            self.log_px = (
                self.log_px
                + trace.mean_over_samples(trace.log_px.double()) * trace.samples
            )
            self.rate = self.rate + trace.rate.double() * trace.samples
            if sum(map(len, held)) >= SEGMENT:
                whole = torch.cat(held)
                self._take(whole[:SEGMENT])
                held = [whole[SEGMENT:]]
        self._take(torch.cat(held))
        return self._figures()

    def _take(self, log_w: Tensor) -> None:
        """A segment of log-weights, (m, B)."""
        if not len(log_w):
            return
        self.first = torch.logaddexp(self.first, log_w.logsumexp(0))
        self.second = torch.logaddexp(self.second, (2 * log_w).logsumexp(0))
        every = torch.cat([self.top, log_w])
        self.top = every.topk(min(tail_length(self.k) + 1, len(every)), 0).values
        for size, block in zip(self.sizes, self.blocks, strict=True):
            bounds = log_mean_exp(
                log_w[: len(log_w) // size * size].reshape(-1, size, log_w.shape[1]), 1
            )
            block += torch.stack(
                [
                    torch.full_like(block[0], len(bounds)),
                    bounds.sum(0),
                    bounds.square().sum(0),
                ]
            )

    def _figures(self) -> dict[str, Tensor]:
        k = self.k
        ess = (2 * self.first - self.second).exp().clamp(1.0, float(k))
        count, total, square = (
            torch.stack(self.blocks, -1)
            if self.blocks
            else self.first.new_zeros(3, len(self.x), 0)
        )
        mean = total / count
        spread = (square / count - mean.square()).clamp(min=0) * count / (count - 1)
        return {
            "values": self.first - math.log(k),
            "se": ((k / ess - 1) / k).clamp(min=0).sqrt(),
            "ess": ess,
            "pareto_k": tail_shape(self.top),
            "distortion": -self.log_px / k,
            "rate": self.rate / k,
            "elbo": (self.log_px - self.rate) / k,
            "curve": mean,
            "curve_se": torch.where(count > 1, (spread / count).sqrt(), torch.nan),
        }
