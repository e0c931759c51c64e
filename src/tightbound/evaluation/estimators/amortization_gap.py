"""Approximation gap and amortisation gap, the two parts of the inference gap.

log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]), where q* is the best q of the
encoder's family for this x. The first part is the approximation gap, the second the
amortisation gap. Cremer, Li and Duvenaud 2018 (arXiv:1801.03558), eq. 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw, Noise
from tightbound.core.trace import Trace
from tightbound.distributions import from_noise, noise_form
from tightbound.distributions.random import ContentNoise, seed_for, tiles
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

VALUES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Search:
    """Settings of the search for q*, which uses Adam.

    The search ends when a round raises the mean bound by less than `enough`, or after
    `rounds` rounds. The bounds are then measured on `k` further draws.

    Args:
        samples: draws of a step.
        steps: steps of a round.
        rounds: rounds at the most; each has half the learning rate of the one before.
        lr: learning rate of the first round.
        judge: draws on which a round is judged.
        k: draws on which the bounds are measured.
        enough: nats.
    """

    samples: int = 8
    steps: int = 100
    rounds: int = 4
    lr: float = 0.1
    judge: int = 64
    k: int = 512
    enough: float = 0.01


class LocalParameters(Protocol):
    """Free parameters of one q per example, which start at the encoder's own q."""

    parameters: list[Tensor]

    def draw(self, k: int, noise: Noise) -> Draw:
        """A draw from the q of these parameters."""
        ...

    def features(self) -> Tensor | None:
        """Features to use in place of the encoder's; None for the encoder's own."""
        ...


# ---- a normal q: its mean and scale at every site


def _normal(dist: Distribution | None) -> Normal | None:
    """The normal under a diagonal normal distribution, else None."""
    if isinstance(dist, Independent) and isinstance(dist.base_dist, Normal):
        return dist.base_dist
    return None


@dataclass(frozen=True)
class NormalShift:
    """A change of the mean and the scale of a diagonal normal q, per example.

    Args:
        shift: (B, d), added to the mean, in units of q's own scale.
        stretch: (B, d), added to the log-scale.
    """

    shift: Tensor
    stretch: Tensor

    @classmethod
    def zero(cls, z: Tensor) -> NormalShift:
        """No change, as parameters of the shape of z (B, d)."""
        shift = torch.zeros_like(z, requires_grad=True)
        return cls(shift, torch.zeros_like(z, requires_grad=True))

    def detach(self) -> NormalShift:
        """The same values without gradients."""
        return NormalShift(self.shift.detach(), self.stretch.detach())

    def apply(self, q: Distribution, k: int) -> Independent[Normal]:
        """The changed q of K*B rows."""
        base = _normal(q)
        assert base is not None
        shift = self._rows(self.shift, k, base)
        stretch = self._rows(self.stretch, k, base)
        loc = base.loc + base.scale * shift
        scale = base.scale * stretch.exp()
        return Independent(
            Normal(loc, scale, validate_args=False), 1, validate_args=False
        )

    def _rows(self, t: Tensor, k: int, base: Normal) -> Tensor:
        return t.expand(k, *t.shape).reshape(base.loc.shape)


class _ShiftedDraw(Draw):
    """Draws from q's that are changed by a `NormalShift` at each site.

    log q(z) is computed with the shifts detached, so that its gradient is the path's
    alone and has no noise where q is exact ("sticking the landing", Roeder, Wu and
    Duvenaud 2017, arXiv:1703.09194).
    """

    def __init__(self, k: int, noise: Noise, shifts: Mapping[str, NormalShift]) -> None:
        super().__init__(k, noise=noise)
        self.shifts = shifts

    def __call__(
        self, name: str, p: Distribution | None = None, q: Distribution | None = None
    ) -> Tensor | None:
        if q is None or name in self.latents or self.noise is None:
            return super().__call__(name, p, q)
        shift = self.shifts[name]
        shifted = shift.apply(q, self.k)
        fixed = shift.detach().apply(q, self.k)
        z, _ = from_noise(shifted, self.noise(name, shifted))
        self.given[name] = (z, fixed.log_prob(z))
        return super().__call__(name, p, shifted)


class SiteParameters:
    """A `NormalShift` of every site, for models whose q's are diagonal normals.

    With one site they reach every diagonal normal. With several, the conditional q's
    keep their dependence on one another and each is changed as a whole, so the best of
    these is a lower bound on the best of the family.
    """

    def __init__(self, trace: Trace) -> None:
        self.shifts = {
            name: NormalShift.zero(site.z) for name, site in trace.latents.items()
        }
        self.parameters: list[Tensor] = []
        for shift in self.shifts.values():
            self.parameters += [shift.shift, shift.stretch]

    def draw(self, k: int, noise: Noise) -> Draw:
        """A draw from the changed q's."""
        return _ShiftedDraw(k, noise, self.shifts)

    def features(self) -> None:
        """None: the encoder's own features."""


# ---- any other q: the encoder's features


class FeatureParameters:
    """A shift of the encoder's features h, (B, F), in units of their spread.

    Of a conditional model h are the features with the condition in them. The q's that can
    be reached are those that the posterior network makes of any h.
    """

    def __init__(self, run: Run, x: Batch) -> None:
        h = run.model.features(x)
        if not isinstance(h, Tensor):
            raise _refusal(run, "its encoder gives features by scale")
        self.h = h
        if len(h) > 1:
            self.unit = h.std(0).mean().clamp(min=1e-3)
        else:
            self.unit = h.abs().mean()
        self.shift = torch.zeros_like(h, requires_grad=True)
        self.parameters = [self.shift]

    def draw(self, k: int, noise: Noise) -> Draw:
        """A draw from q as it is."""
        return Draw(k, noise=noise)

    def features(self) -> Tensor:
        """The shifted features of the examples."""
        return self.h + self.unit * self.shift


def _refusal(run: Run, reason: str) -> TightboundError:
    return TightboundError(f"the gap of {run.name!r} cannot be parted: {reason}")


def local_parameters(run: Run, x: Tensor | Batch) -> LocalParameters:
    """The free parameters of this model's q for examples x.

    Raises:
        TightboundError: if there are none, with the reason.
    """
    if not run.config.recipe.has_bound:
        raise TightboundError(
            f"{run.name!r} has no gap to part: its latent is a point, so it has no bound"
        )
    if run.model.classes:
        raise _refusal(run, "latent 'y' is discrete")
    x = Batch.of(x)
    with torch.no_grad():
        trace = run.model(x, Draw(noise=ContentNoise(0, x.x, 0, 1)))
    for name, site in trace.latents.items():
        if site.q is not None and not site.z.is_floating_point():
            raise _refusal(run, f"latent {name!r} is discrete")
    if all(_normal(site.q) is not None for site in trace.latents.values()):
        return SiteParameters(trace)
    with torch.no_grad():
        return FeatureParameters(run, x)


class _AntitheticNoise:
    """Normal noise in pairs e and -e, which removes the error of odd moments.

    Other noise, and noise of an odd number of draws, is independent.
    """

    def __init__(self, seed: int, x: Tensor, tile: int, k: int) -> None:
        self.half = ContentNoise(seed, x, tile, k // 2)
        self.independent = ContentNoise(seed, x, tile, k)
        self.k = k

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        if self.k % 2 or noise_form(dist).kind != "normal":
            return self.independent(name, dist)
        e = self.half(name, dist)
        return torch.cat([e, -e])


def best_bound(
    run: Run,
    x: Tensor | Batch,
    seed: int,
    search: Search | None = None,
    tick: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """L[q] and L[q*] of each example, on the same fresh draws.

    The encoder's q is itself a candidate for q*: the one that is better on separate
    draws is taken.

    Args:
        run: the run.
        x: examples (n, *shape) in model units.
        seed: seed of all draws.
        search: settings of the search; the default ones if None.
        tick: called with the number of examples finished since the last call.

    Returns:
        Tensors (n,) in float64, nats. elbo: L[q]. best: L[q*]. best_se: standard error
        of best. gain_se: standard error of best - elbo. last: gain of the last round of
        the search.

    Raises:
        TightboundError: if q has no parameters of its own for each x.
    """
    search = search or Search()
    results: dict[str, list[Tensor]] = {}
    rows = max(1, VALUES_AT_ONCE // (run.spec.dims * search.samples))
    for part in Batch.of(x).split(rows):
        for name, value in _bounds(
            run, part.to(run.predictor.device), seed, search
        ).items():
            results.setdefault(name, []).append(value.cpu())
        if tick:
            tick(len(part))
    return {name: torch.cat(values) for name, values in results.items()}


def _bounds(run: Run, x: Batch, seed: int, search: Search) -> dict[str, Tensor]:
    """`best_bound` of examples that fit into one pass."""
    local = local_parameters(run, x)
    start = _values(local)
    last = improve(run, x, local, seed, search)
    best = _terms(run, x, local, seed, search.k)
    _set(local, start)
    elbo = _terms(run, x, local, seed, search.k)
    return {
        "elbo": elbo.mean(0),
        "best": best.mean(0),
        "best_se": _standard_error(best),
        "gain_se": _standard_error(best - elbo),
        "last": last,
    }


def _standard_error(terms: Tensor) -> Tensor:
    """The standard error of the mean of (k, B) over k; not a number for k = 1."""
    if len(terms) == 1:
        return torch.full_like(terms[0], math.nan)
    return terms.std(0) / math.sqrt(len(terms))


def improve(
    run: Run, x: Tensor | Batch, local: LocalParameters, seed: int, search: Search
) -> Tensor:
    """Moves the parameters to q* of each example of x (B, *shape).

    Returns:
        The gain of the last round, (B,), in nats.
    """
    x = Batch.of(x)
    best = _values(local)
    judge = seed_for(seed, "judge")
    bound = _terms(run, x, local, judge, search.judge).mean(0)
    gain = torch.zeros_like(bound)
    for i in range(search.rounds):
        _round(run, x, local, seed_for(seed, "search", i), search, search.lr / 2**i)
        now = _terms(run, x, local, judge, search.judge).mean(0)
        gain = (now - bound).clamp(min=0)
        better = now > bound
        best = [
            torch.where(_broadcast(better, new), new, old)
            for new, old in zip(_values(local), best, strict=True)
        ]
        bound = torch.maximum(now, bound)
        _set(local, best)
        if float(gain.mean()) < search.enough:
            break
    return gain


def _broadcast(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.dim() - 1))


def _values(local: LocalParameters) -> list[Tensor]:
    """Copies of the parameters."""
    return [t.detach().clone() for t in local.parameters]


def _set(local: LocalParameters, values: list[Tensor]) -> None:
    with torch.no_grad():
        for t, value in zip(local.parameters, values, strict=True):
            t.copy_(value)


def _round(
    run: Run, x: Batch, local: LocalParameters, seed: int, search: Search, lr: float
) -> None:
    """One round of Adam, with a learning rate that falls along a half cosine.

    Examples are independent: neither the loss nor Adam mixes their parameters.
    """
    optimizer = torch.optim.Adam(local.parameters, lr=lr, betas=(0.9, 0.99))
    for step in range(search.steps):
        cosine = math.cos(math.pi * step / search.steps)
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cosine)
        noise = _AntitheticNoise(seed, x.x, step, search.samples)
        with torch.enable_grad():
            draw = local.draw(search.samples, noise)
            loss = -run.model(x, draw, local.features()).log_w.mean(0).sum()
        grads = torch.autograd.grad(loss, local.parameters, allow_unused=True)
        if all(g is None or not g.any() for g in grads):
            raise _refusal(run, "its q has no parameters to search over")
        for t, g in zip(local.parameters, grads, strict=True):
            t.grad = torch.zeros_like(t) if g is None else g.nan_to_num()
        optimizer.step()


@torch.no_grad()
def _terms(run: Run, x: Batch, local: LocalParameters, seed: int, k: int) -> Tensor:
    """log p(x|z) - rate at k draws, (k, B) in float64.

    The rate is in closed form where there is one.
    """
    terms = []
    most = max(1, VALUES_AT_ONCE // (run.spec.dims * len(x)))
    for i, m in enumerate(tiles(k)):
        noise = ContentNoise(seed, x.x, i, m)
        for start in range(0, m, most):
            size = min(most, m - start)
            draw = local.draw(size, noise.part(start, size))
            trace = run.model(x, draw, local.features())
            rate: Any = sum(site.kl for site in trace.latents.values())
            terms.append((trace.log_px - rate).double())
    return torch.cat(terms)


def parts(
    log_px: Tensor, elbo: Tensor, bounds: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The two parts of the inference gap log p(x) - elbo of each example.

    Args:
        log_px: log p(x) of each example, (n,).
        elbo: L[q], (n,).
        bounds: the result of `best_bound`.

    Returns:
        approximation = log p(x) - L[q*] and amortisation = L[q*] - L[q], (n,) each.
        They add up to log p(x) - elbo exactly. The latter is a difference of bounds on
        the same draws.
    """
    amortisation = bounds["best"] - bounds["elbo"]
    return {"approximation": log_px - elbo - amortisation, "amortisation": amortisation}
