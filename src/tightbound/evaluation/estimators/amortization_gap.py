"""The gap in its two parts: what no q of this family can express for an x, and what the encoder
missed of the best one.

log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]): approximation gap and amortisation gap, where
q* is the best q of the encoder's family for this x.  Cremer, Li and Duvenaud 2018
(arXiv:1801.03558), eq. 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.core.trace import Batch, Draw, Noise, Trace
from tightbound.distributions import from_noise, noise_form
from tightbound.distributions.random import ContentNoise, seed_for, tiles
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

VALUES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Search:
    """How q* is looked for: Adam on `samples` draws a step, in rounds of `steps` steps, each at
    half the rate before.

    It ends when a round raises the mean bound by less than `enough` nats (judged on `judge` fresh
    draws), or after `rounds` rounds.  The bounds are then measured on `k` further draws.
    """

    samples: int = 8
    steps: int = 100
    rounds: int = 4
    lr: float = 0.1
    judge: int = 64
    k: int = 512
    enough: float = 0.01


class Moves(Protocol):
    """Free parameters of one q per example, which start at the encoder's own q, and a draw from the
    q they give.
    """

    parameters: list[Tensor]

    def draw(self, k: int, noise: Noise) -> Draw: ...
    def features(self) -> Tensor | None: ...


# ---- a normal q: its mean and scale at every site


def _normal(dist: Distribution | None) -> Normal | None:
    base = dist.base_dist if isinstance(dist, Independent) else None
    return base if isinstance(base, Normal) and isinstance(dist, Independent) else None


class _MovedDraw(Draw):
    """Draws from q with its means moved by `shift` of its scales, and its log-scales by `stretch`,
    both (B, d).

    log q(z) holds the moves constant, so that its gradient is the path's alone: no noise is left
    where q is exact. Roeder, Wu and Duvenaud 2017 (arXiv:1703.09194).
    """

    def __init__(
        self, k: int, noise: Noise, moves: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__(k, noise=noise)
        self.moves = moves

    def __call__(
        self, name: str, p: Distribution | None = None, q: Distribution | None = None
    ) -> Tensor | None:
        if q is not None and name not in self.latents and self.noise is not None:
            shift, stretch = self.moves[name]
            q, still = (
                self._moved(q, shift, stretch),
                self._moved(q, shift.detach(), stretch.detach()),
            )
            z, _ = from_noise(q, self.noise(name, q))
            self.given[name] = (z, still.log_prob(z))
        return super().__call__(name, p, q)

    def _moved(self, q: Distribution, shift: Tensor, stretch: Tensor) -> Distribution:
        base = _normal(q)
        assert base is not None
        shift, stretch = (
            t.expand(self.k, *t.shape).reshape(base.loc.shape) for t in (shift, stretch)
        )
        moved = Normal(
            base.loc + base.scale * shift,
            base.scale * stretch.exp(),
            validate_args=False,
        )
        return Independent(moved, 1, validate_args=False)


class SiteMoves:
    """A shift and a stretch of each feature of each site, (B, d), in units of the encoder's own
    scale.

    With one site they reach every diagonal normal.  With several, the conditional q's keep their
    dependence on one another, and each is moved as a whole: the best of these is a lower bound on
    the best of the family.
    """

    def __init__(self, trace: Trace) -> None:
        like = {name: site.z for name, site in trace.latents.items()}
        self.moves = {
            name: tuple(torch.zeros_like(z, requires_grad=True) for _ in "ab")
            for name, z in like.items()
        }
        self.parameters = [t for pair in self.moves.values() for t in pair]

    def draw(self, k: int, noise: Noise) -> Draw:
        return _MovedDraw(k, noise, self.moves)  # type: ignore[arg-type]

    def features(self) -> None:
        """None: the encoder's own."""


# ---- any other q: what its posterior network makes of other features


class FeatureMoves:
    """A shift of the encoder's features h, (B, F), in units of their spread: all that the network
    makes of any h.
    """

    def __init__(self, run: Run, x: Batch) -> None:
        h: Any = run.model.encoder(run.model.inputs(x))
        if not isinstance(h, Tensor):
            raise TightboundError(
                f"the gap of {run.name!r} cannot be parted: its encoder gives features by scale"
            )
        self.h, self.unit = (
            h,
            h.std(0).mean().clamp(min=1e-3) if len(h) > 1 else h.abs().mean(),
        )
        self.shift = torch.zeros_like(h, requires_grad=True)
        self.parameters = [self.shift]

    def draw(self, k: int, noise: Noise) -> Draw:
        return Draw(k, noise=noise)

    def features(self) -> Tensor:
        """What the model is to take for the features of the examples."""
        return self.h + self.unit * self.shift


def moves_of(run: Run, x: Tensor | Batch) -> Moves:
    """The free parameters of this model's q; TightboundError, with the reason, where there are
    none.
    """
    if not run.has_bound:
        raise TightboundError(
            f"{run.name!r} has no gap to part: its latent is a point, so it has no bound"
        )
    if run.model.classes:
        raise TightboundError(
            f"the gap of {run.name!r} cannot be parted: latent 'y' is discrete"
        )
    x = Batch.of(x)
    with torch.no_grad():
        trace = run.model(x, Draw(noise=ContentNoise(0, x.x, 0, 1)))
    for name, site in trace.latents.items():
        if site.q is not None and not site.z.is_floating_point():
            raise TightboundError(
                f"the gap of {run.name!r} cannot be parted: latent {name!r} is discrete"
            )
    if all(_normal(site.q) is not None for site in trace.latents.values()):
        return SiteMoves(trace)
    with torch.no_grad():
        return FeatureMoves(run, x)


class _Mirrored:
    """Normal noise in pairs e and -e, so that odd moments cost nothing; other noise is
    drawn anew.
    """

    def __init__(self, seed: int, x: Tensor, tile: int, k: int) -> None:
        self.half, self.whole, self.k = (
            ContentNoise(seed, x, tile, k // 2),
            ContentNoise(seed, x, tile, k),
            k,
        )

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        if self.k % 2 or noise_form(dist).kind != "normal":
            return self.whole(name, dist)
        e = self.half(name, dist)
        return torch.cat([e, -e])


def best_bound(
    run: Run,
    x: Tensor | Batch,
    seed: int,
    search: Search | None = None,
    tick: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """L[q] and L[q*] of each example x (n, *shape) in domain units, on the same fresh draws,
    float64 (n,), in nats.

    elbo, best, and its error best_se;  gain_se: the error of best - elbo;  last: what the search's
    last round gained. The encoder's q is itself a candidate: of the two, the one that is better on
    draws kept for judging is taken. Raises TightboundError where q has no parameters of its own for
    each x.
    """
    search = search or Search()
    found: dict[str, list[Tensor]] = {}
    rows = max(1, VALUES_AT_ONCE // (run.spec.dims * search.samples))
    for part in Batch.of(x).split(rows):
        for name, value in _part(run, part.to(run.device), seed, search).items():
            found.setdefault(name, []).append(value.cpu())
        if tick:
            tick(len(part))
    return {name: torch.cat(values) for name, values in found.items()}


def _part(run: Run, x: Batch, seed: int, search: Search) -> dict[str, Tensor]:
    moves = moves_of(run, x)
    start = [t.detach().clone() for t in moves.parameters]
    last = improve(run, x, moves, seed, search)
    best = _terms(run, x, moves, seed, search.k)
    _set(moves, start)
    elbo = _terms(run, x, moves, seed, search.k)
    return {
        "elbo": elbo.mean(0),
        "best": best.mean(0),
        "best_se": _error(best),
        "gain_se": _error(best - elbo),
        "last": last,
    }


def _error(terms: Tensor) -> Tensor:
    """The standard error of the mean of (k, B) over k; not a number for k = 1."""
    return (
        terms.std(0) / math.sqrt(len(terms))
        if len(terms) > 1
        else torch.full_like(terms[0], math.nan)
    )


def improve(
    run: Run, x: Tensor | Batch, moves: Moves, seed: int, search: Search
) -> Tensor:
    """Brings `moves` to q* of each example of x (B, *shape); what the last round still gained,
    (B,), in nats.
    """
    x, kept = Batch.of(x), [t.detach().clone() for t in moves.parameters]
    judge = seed_for(seed, "judge")
    last = _terms(run, x, moves, judge, search.judge).mean(0)
    gained = torch.zeros_like(last)
    for i in range(search.rounds):
        _round(run, x, moves, seed_for(seed, "search", i), search, search.lr / 2**i)
        now = _terms(run, x, moves, judge, search.judge).mean(0)
        gained = (now - last).clamp(min=0)
        better = now > last
        kept = [
            torch.where(_like(better, t), t.detach(), k)
            for t, k in zip(moves.parameters, kept, strict=True)
        ]
        last = torch.maximum(now, last)
        _set(moves, kept)
        if float(gained.mean()) < search.enough:
            break
    return gained


def _like(mask: Tensor, t: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (t.dim() - 1))


def _set(moves: Moves, values: list[Tensor]) -> None:
    with torch.no_grad():
        for t, value in zip(moves.parameters, values, strict=True):
            t.copy_(value)


def _round(
    run: Run, x: Batch, moves: Moves, seed: int, search: Search, lr: float
) -> None:
    """One round of Adam; the examples do not see each other, as neither the loss nor Adam mixes
    their parameters.
    """
    optimizer = torch.optim.Adam(moves.parameters, lr=lr, betas=(0.9, 0.99))
    for step in range(search.steps):
        optimizer.param_groups[0]["lr"] = (
            lr * 0.5 * (1 + math.cos(math.pi * step / search.steps))
        )
        noise = _Mirrored(seed, x.x, step, search.samples)
        with torch.enable_grad():
            draw = moves.draw(search.samples, noise)
            loss = -run.model(x, draw, moves.features()).log_w.mean(0).sum()
        grads = torch.autograd.grad(loss, moves.parameters, allow_unused=True)
        if all(g is None or not g.any() for g in grads):
            raise TightboundError(
                f"the gap of {run.name!r} cannot be parted: its q has no parameters to search over"
            )
        for t, g in zip(moves.parameters, grads, strict=True):
            t.grad = torch.zeros_like(t) if g is None else g.nan_to_num()
        optimizer.step()


@torch.no_grad()
def _terms(run: Run, x: Batch, moves: Moves, seed: int, k: int) -> Tensor:
    """The bound's terms at k draws, (k, B) in float64: log p(x|z) less the rate, in closed form
    where there is one.
    """
    found, most = [], max(1, VALUES_AT_ONCE // (run.spec.dims * len(x)))
    for i, m in enumerate(tiles(k)):
        noise = ContentNoise(seed, x.x, i, m)
        for start in range(0, m, most):
            some = min(most, m - start)
            trace = run.model(
                x, moves.draw(some, noise.part(start, some)), moves.features()
            )
            rate: Any = sum(site.kl for site in trace.latents.values())
            found.append((trace.log_px - rate).double())
    return torch.cat(found)


def parts(
    log_px: Tensor, elbo: Tensor, bounds: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The two parts of log p(x) - elbo, each (n,), which add up to it exactly.

    approximation = log p(x) - L[q*];  amortisation = L[q*] - L[q], the difference of two bounds on
    the same draws.
    """
    amortisation = bounds["best"] - bounds["elbo"]
    return {"approximation": log_px - elbo - amortisation, "amortisation": amortisation}
