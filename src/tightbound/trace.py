"""One pass of a model and its record: a path asks `draw(name, p=..., q=...)` for each latent and leaves a `Trace`.

Shapes: B examples, K samples of each, n = K*B rows in K-major order. Every log-term is (K, B), in nats.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from tightbound.batch import Batch as Batch
from tightbound.batch import rows as rows
from tightbound.distributions.codes import Quantized
from tightbound.distributions.reparam import (
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    log_prob_of,
    log_ratio_per_dimension,
    noise_like,
    point,
)

Noise = Callable[[str, Distribution], Tensor]
Gather = Callable[[Tensor], Tensor]
Given = Tensor | tuple[Tensor, Tensor]
Features = Tensor | Sequence[Tensor]


def scale_of(h: Features, scale: int) -> Tensor:
    """The features of one scale; those of an encoder that gives one serve all."""
    return h if isinstance(h, Tensor) else h[scale]


def repeated(h: Features, k: int) -> Features:
    """Features of B examples for K*B rows, K-major."""
    return rows(h, k) if isinstance(h, Tensor) else [rows(h_scale, k) for h_scale in h]


@dataclass(frozen=True)
class Clock:
    """Where training stands: the share of all steps that is done, 0 to 1."""

    progress: float | Tensor = 1.0

    def ramp(self, share: float) -> float | Tensor:
        """Rises from 0 to 1 over the first `share` of the run, then stays 1."""
        if share <= 0:
            return 1.0
        level = self.progress / share
        return level.clamp(max=1.0) if isinstance(level, Tensor) else min(1.0, level)


@dataclass(frozen=True)
class Context:
    """All that a part may look at: n rows, the encoder's features h, or None where no site needs q.

    h: (n, F), or (n, *grid, F) with features at each place of a grid; or by scale, a list of such, the finest first.
    index: the rows' numbers in the training data (n,), of training examples.  c: their condition (n, C), of a
    conditional model.  joint: log p(x, z) of the rows at given latents {site: (n, d)}, (n,), where there is an x: what
    a q that looks at the model asks.
    """

    n: int
    h: Features | None = None
    index: Tensor | None = None
    c: Tensor | None = None
    joint: Callable[[Mapping[str, Tensor]], Tensor] | None = None

    @property
    def infer(self) -> bool:
        """True where q is wanted, so that a path computes it."""
        return self.h is not None


class Bound:
    """Mixed in to a part that looks at the model around it: `whole`, which is no part of its part."""

    whole: Any

    def bind(self, model: Any) -> None:
        """Called by `build` once the model is whole."""
        self.__dict__["whole"] = model


class Latent:
    """A latent site: its value z (n, *event), p and q, and their log-terms, each (K, B), computed once when read.

    late: p came after another site was drawn, so it may depend on this z (bottom-up inference); a closed-form KL, which
    takes z as independent of p, would not be the rate, and log q - log p at z is used.
    """

    def __init__(self, k: int, z: Tensor, source: str, q: Distribution | None, log_q: Tensor | None) -> None:
        self.k, self.z, self.source, self.q = k, z, source, q
        self.p: Distribution | None = None
        self.late = False
        self._log_q = log_q
        self._log_p: Tensor | None = None
        self._kl: Tensor | None = None

    def _rows(self, term: Tensor) -> Tensor:
        return term.reshape(self.k, -1)

    @property
    def log_p(self) -> Tensor:
        """log p(z), (K, B)."""
        if self._log_p is None:
            assert self.p is not None
            own: Any = getattr(self.p, "log_mass", None) if self.source in ("q", "point") else None
            if own and isinstance(self.q, Quantized):  # its numbers are known, which a sum of vectors may not tell
                self._log_p = self._rows(own(self.q.code.index))
            else:
                self._log_p = self._rows(self.p.log_prob(self.z))
        return self._log_p

    @property
    def log_q(self) -> Tensor:
        """log q(z|x), (K, B), of a z that was drawn from q, or given with its density."""
        if self._log_q is None:
            if self.source != "q" or self.q is None:
                raise ValueError(f"log q of a latent whose value came from {self.source!r}, not from q, has no meaning")
            self._log_q = self.q.log_prob(self.z)
        return self._rows(self._log_q)

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x), p(z)), (K, B): in closed form where torch knows it and p is not late, else log q - log p at z."""
        if self._kl is None:
            closed = None if self.q is None or self.p is None or self.late else kl(self.q, self.p)
            self._kl = self.log_q - self.log_p if closed is None else self._rows(closed)
        return self._kl

    @property
    def kl_each(self) -> Tensor | None:
        """The same of each latent dimension, (n, d), where q and p are factorised; None otherwise."""
        if self.q is None or self.p is None:
            return None
        return log_ratio_per_dimension(self.q, self.p, self.z) if self.late else kl_per_dimension(self.q, self.p)


class Draw:
    """Decides where each latent's value comes from, and keeps the record; serves one pass.

    k: samples of each example.  source: "q" (posterior), "p" (prior), "point" (the posterior's central value), or one
    per site, {"z1": "q", "z2": "p"}.  given: {site: z} or {site: (z, log q)}, values that no distribution is asked for.
    noise: the standard noise of each site, a function of its name and distribution, (n, *event); the global generator
    where None.  temperature: of sites drawn from p, see `from_noise`.
    """

    def __init__(
        self,
        k: int = 1,
        *,
        source: str | Mapping[str, str] = "q",
        given: Mapping[str, Given] | None = None,
        noise: Noise | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.k, self.source, self.given = k, source, dict(given or {})
        self.noise, self.temperature = noise, temperature
        self.latents: dict[str, Latent] = {}
        values = {source} if isinstance(source, str) else set(source.values())
        if bad := values - {"q", "p", "point"}:
            raise ValueError(f"a latent's source is 'q', 'p' or 'point', not {sorted(bad)[0]!r}")

    def begin(self, sites: Sequence[str]) -> bool:
        """Starts the one pass over a path's sites; True where one of them comes from q or its point."""
        if self.latents:
            raise ValueError("a Draw serves one pass, and this one has served: make a new one")
        return any(self._source(site) != "p" for site in sites)

    def _source(self, name: str) -> str:
        return self.source if isinstance(self.source, str) else self.source.get(name, "q")

    def __call__(self, name: str, p: Distribution | None = None, q: Distribution | None = None) -> Tensor | None:
        """The value of a site: filled by the first call that can, returned by the later ones; None until then."""
        site = self.latents.get(name)
        if site is None:
            site = self._fill(name, p, q)
            if site is None:
                return None
            self.latents[name] = site
        if site.p is None and p is not None:
            site.p, site.late = p, name != next(reversed(self.latents))
        site.q = q if site.q is None else site.q
        return site.z

    def _fill(self, name: str, p: Distribution | None, q: Distribution | None) -> Latent | None:
        if name in self.given:
            value = self.given[name]
            z, log_q = value if isinstance(value, tuple) else (value, None)
            return Latent(self.k, z, "given", q, log_q)
        source = self._source(name)
        dist = p if source == "p" else q
        if dist is None:
            if p is not None:
                raise ValueError(f"latent {name!r} is to come from q, but the path offers none")
            return None
        if source == "point":
            return Latent(self.k, point(dist), "point", q, None)
        z, log_q = self.fresh(name, dist, self.temperature if source == "p" else 1.0)
        return Latent(self.k, z, source, q, log_q if source == "q" else None)

    def fresh(self, name: str, dist: Distribution, temperature: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """A value of `dist` from noise under this name, and its log-density where it is cheapest now."""
        noise = noise_like(dist) if self.noise is None else self.noise(name, dist)
        return from_noise(dist, noise, temperature)

    def finish(self) -> dict[str, Latent]:
        """The record of the pass; raises where a name was misspelt or a site never met its p."""
        asked = set(self.given) | (set() if isinstance(self.source, str) else set(self.source))
        if missing := asked - set(self.latents):
            raise ValueError(f"no latent is named {sorted(missing)[0]!r}; this model has {sorted(self.latents)}")
        for name, site in self.latents.items():
            if site.p is None:
                raise ValueError(f"latent {name!r} has no prior: the path asked for q only")
        return self.latents


class Trace:
    """The record of one pass, from which every objective and every reported figure is computed.

    log_px, log_w, log_v: (K, B);  distortion, rate, elbo: (B,);  nats per example, lazily computed.
    log_w = log p(x|z) + sum over sites (log p(z) - log q(z|x)), always at the sampled z; `rate` uses closed-form KLs.
    gather: rows (n, ...) of this batch to the rows of all processes' batches, with gradients; what an objective that is
    not `per_example` calls on whatever it takes a statistic of.  In one process, the rows themselves.
    y (K*B, P, *shape): what the decoder said, from which the likelihood made px.  c (K*B, C): the rows' condition.
    """

    def __init__(
        self, model: nn.Module, batch: Batch, draw: Draw, y: Tensor, px: Distribution, c: Tensor | None = None
    ) -> None:
        self.batch, self.px, self.y, self.c = batch, px, y, c
        self.latents, self.k = draw.finish(), draw.k
        self.gather: Gather = lambda rows: rows
        self._model, self._draw = model, draw
        self._log_px: Tensor | None = None
        self._log_w: Tensor | None = None

    @property
    def bound(self) -> bool:
        """True where -distortion - rate bounds log p(x): no continuous latent is a point mass, each p has a density."""
        return not any(
            is_point_mass(site.q) or site.source == "point" or not getattr(site.p, "density", True)
            for site in self.latents.values()
        )

    def again(self, draw: Draw | None = None, *, frozen: Collection[str] = (), detach: bool = False) -> Trace:
        """A second pass over the same batch, with the parameters of the groups in `frozen` held constant.

        draw: None for the latents of this pass, whose log q is then that of the second; with `detach`, no gradient goes
        through them.  Freezing all of q, not detaching its output, is what path-derivative gradients need: a q of
        several sites also depends on the latents before (Roeder et al. 2017, arXiv:1703.09194).
        """
        held = {id(p) for name in frozen for p in self._model.groups()[name]}  # type: ignore[operator]
        constant = {name: p.detach() for name, p in self._model.named_parameters() if id(p) in held}
        if draw is not None:
            return functional_call(self._model, constant, (self.batch, draw))
        values = {name: site.z.detach() if detach else site.z for name, site in self.latents.items()}
        trace: Trace = functional_call(self._model, constant, (self.batch, Draw(self.k, given=values)))
        for name, site in trace.latents.items():
            site.source = self.latents[name].source
        return trace

    def fresh(self, name: str, dist: Distribution) -> Tensor:
        """A draw from another distribution, with the noise of this pass under a name of its own."""
        return self._draw.fresh(name, dist)[0]

    def _need_bound(self, what: str) -> None:
        if not self.bound:
            raise ValueError(
                f"{what} is not defined: a latent is a point mass or its p no density, so there is only a distortion"
            )

    def _mean(self, term: Tensor) -> Tensor:
        """Over the K samples; of one sample, nothing is to be added up."""
        return term.squeeze(0) if self.k == 1 else term.mean(0)

    @property
    def log_v(self) -> Tensor:
        """Log-weights of the K rows of each example, (K, B); -log K."""
        return torch.full_like(self.log_px, -math.log(self.k))

    @property
    def log_px(self) -> Tensor:
        """log p(x|z) of what was observed, (K, B)."""
        if self._log_px is None:
            x, mask = self.batch.x, self.batch.mask
            x = rows(x, self.k)
            term = self.px.log_prob(x) if mask is None else log_prob_of(self.px, x, rows(mask, self.k))
            self._log_px = term.reshape(self.k, -1)
        return self._log_px

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z|x), (K, B); raises where z did not come from q."""
        if self._log_w is None:
            self._need_bound("log_w")
            self._log_w = self.log_px + sum(site.log_p - site.log_q for site in self.latents.values())
        return self._log_w

    @property
    def distortion(self) -> Tensor:
        """-E_q[log p(x|z)], (B,)."""
        return -self._mean(self.log_px)

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x), p(z)) summed over sites, (B,)."""
        self._need_bound("rate")
        return self._mean(functools.reduce(torch.add, (site.kl for site in self.latents.values())))

    @property
    def elbo(self) -> Tensor:
        """-distortion - rate, (B,)."""
        return -self.distortion - self.rate

    @property
    def log_p_hat(self) -> Tensor:
        """The K-sample importance-weighted bound, logsumexp_K(log_w + log_v), (B,). Burda et al. 2016, eq. 8."""
        return torch.logsumexp(self.log_w + self.log_v, 0)
