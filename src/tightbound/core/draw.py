"""How a pass fills its latents: a path asks `draw(name, p=..., q=...)` for each, and the caller's
`Draw` decides.

Shapes: B examples, K samples of each, n = K*B rows in K-major order. Every log-term is (K, B), in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import rows
from tightbound.distributions.codes import Quantized
from tightbound.distributions.reparam import (
    from_noise,
    kl,
    kl_per_dimension,
    log_ratio_per_dimension,
    noise_form,
    noise_like,
    point,
)

Noise = Callable[[str, Distribution], Tensor]
Given = Tensor | tuple[Tensor, Tensor]
Features = Tensor | Sequence[Tensor]
Examples = Callable[[int], tuple[Tensor, Tensor | None]]


def scale_of(h: Features, scale: int) -> Tensor:
    """The features of one scale; those of an encoder that gives one serve all."""
    return h if isinstance(h, Tensor) else h[scale]


def repeated(h: Features, k: int) -> Features:
    """Features of B examples for K*B rows, K-major."""
    return rows(h, k) if isinstance(h, Tensor) else [rows(h_scale, k) for h_scale in h]


def folded(drawn: Tensor, samples: int, fold: int) -> Tensor:
    """Rows of K samples (K*B, ...), each sample's `fold` times, one after another:
    (K*fold*B, ...).
    """
    if fold == 1:
        return drawn
    each = drawn.unflatten(0, (samples, 1, -1))
    return each.expand(-1, fold, *each.shape[2:]).flatten(0, 2)


@dataclass(frozen=True)
class Clock:
    """Where training stands: the share of all steps that is done, 0 to 1.

    Example:
        >>> import tightbound as tb
        >>> tb.Clock(0.25).ramp(0.5), tb.Clock(0.9).ramp(0.5)
        (0.5, 1.0)
    """

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

    h: (n, F), or (n, *grid, F) with features at each place of a grid; or by scale, a list of such,
    the finest first. index: the rows' numbers in the training data (n,), of training examples.  c:
    their condition (n, C), of a conditional model.  joint: log p(x, z) of the rows at given latents
    {site: (n, d)}, (n,), where there is an x: what a q that looks at the model asks.

    Example:
        >>> import torch, tightbound as tb
        >>> tb.Context(3).infer, tb.Context(3, h=torch.zeros(3, 8)).infer
        (False, True)
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


class Latent:
    """A latent site: its value z (n, *event), p and q, and their log-terms, each (K, B), computed
    once when read.

    late: p came after another site was drawn, so it may depend on this z (bottom-up inference); a
    closed-form KL, which takes z as independent of p, would not be the rate, and log q - log p at z
    is used.
    """

    def __init__(
        self,
        k: int,
        z: Tensor,
        source: str,
        q: Distribution | None,
        log_q: Tensor | None,
    ) -> None:
        self.k = k
        self.z = z
        self.source = source
        self.q = q
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
            own: Any = (
                getattr(self.p, "log_mass", None)
                if self.source in ("q", "point")
                else None
            )
            if own and isinstance(
                self.q, Quantized
            ):  # its numbers are known, which a sum of vectors may not tell
                self._log_p = self._rows(own(self.q.code.index))
            else:
                self._log_p = self._rows(self.p.log_prob(self.z))
        return self._log_p

    @property
    def log_q(self) -> Tensor:
        """log q(z|x), (K, B), of a z that was drawn from q, or given with its density."""
        if self._log_q is None:
            if self.source != "q" or self.q is None:
                raise ValueError(
                    f"log q of a latent whose value came from {self.source!r}, "
                    "not from q, has no meaning"
                )
            self._log_q = self.q.log_prob(self.z)
        return self._rows(self._log_q)

    @property
    def kl(self) -> Tensor:
        """KL(q(z|x), p(z)), (K, B): in closed form where torch knows it and p is not late, else log
        q - log p at z.
        """
        if self._kl is None:
            closed = (
                None
                if self.q is None or self.p is None or self.late
                else kl(self.q, self.p)
            )
            self._kl = self.log_q - self.log_p if closed is None else self._rows(closed)
        return self._kl

    @property
    def kl_each(self) -> Tensor | None:
        """The same of each latent dimension, (n, d), where q and p are factorised; None
        otherwise.
        """
        if self.q is None or self.p is None:
            return None
        return (
            log_ratio_per_dimension(self.q, self.p, self.z)
            if self.late
            else kl_per_dimension(self.q, self.p)
        )


class Draw:
    """Decides where each latent's value comes from, and keeps the record; serves one pass.

    k: samples of each example.  source: "q" (posterior), "p" (prior), "point" (the posterior's
    central value), or one per site, {"z1": "q", "z2": "p"}.  given: {site: z} or {site: (z, log
    q)}, values that no distribution is asked for. noise: the standard noise of each site, a
    function of its name and distribution, (n, *event); the global generator where None.
    temperature: of sites drawn from p, see `from_noise`.  enumerate: a site that has C classes by
    its path is not drawn but takes each: K becomes K*C, the classes of a sample side by side,
    weighed by `log_v`.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> x = data.train.examples(4)
        >>> model(x, tb.Draw(5)).latents["z"].z.shape  # five draws of q(z|x) for each example
        torch.Size([20, 2])
        >>> model.generate(3, tb.Draw(source="p")).px.mean.shape  # z from the prior
        torch.Size([3, 1, 8, 8])
    """

    fold = 1  # rows of a sample
    listed = ""  # the site that is enumerated
    log_v: Tensor | None = None

    def __init__(
        self,
        k: int = 1,
        *,
        source: str | Mapping[str, str] = "q",
        given: Mapping[str, Given] | None = None,
        noise: Noise | None = None,
        temperature: float = 1.0,
        enumerate: bool = False,
    ) -> None:
        self.k = k
        self.source = source
        self.given = dict(given or {})
        self.enumerate = enumerate
        self.noise = noise
        self.temperature = temperature
        self.latents: dict[str, Latent] = {}
        values = {source} if isinstance(source, str) else set(source.values())
        if bad := values - {"q", "p", "point"}:
            raise ValueError(
                f"a latent's source is 'q', 'p' or 'point', not {sorted(bad)[0]!r}"
            )

    def begin(
        self, sites: Sequence[str], classes: Mapping[str, int] | None = None
    ) -> bool:
        """Starts the one pass over a path's sites; True where one of them comes from q or its
        point.

        classes: the site that can be enumerated, and how many values it has.
        """
        if self.latents:
            raise ValueError(
                "a Draw serves one pass, and this one has served: make a new one"
            )
        for name, count in (classes or {}).items() if self.enumerate else ():
            if name not in self.given and self._source(name) != "point":
                self.listed = name
                self.fold = count
                self.k = self.k * count
        return any(self._source(site) != "p" for site in sites)

    def _source(self, name: str) -> str:
        return (
            self.source if isinstance(self.source, str) else self.source.get(name, "q")
        )

    def __call__(
        self, name: str, p: Distribution | None = None, q: Distribution | None = None
    ) -> Tensor | None:
        """The value of a site: filled by the first call that can, returned by the later ones; None
        until then.
        """
        site = self.latents.get(name)
        if site is None:
            site = self._fill(name, p, q)
            if site is None:
                return None
            self.latents[name] = site
        if site.p is None and p is not None:
            site.p = p
            site.late = name != next(reversed(self.latents))
        site.q = q if site.q is None else site.q
        return site.z

    def _fill(
        self, name: str, p: Distribution | None, q: Distribution | None
    ) -> Latent | None:
        if name in self.given:
            value = self.given[name]
            z, log_q = value if isinstance(value, tuple) else (value, None)
            return Latent(self.k, z, "given", q, log_q)
        source = self._source(name)
        dist = p if source == "p" else q
        if dist is None:
            if p is not None:
                raise ValueError(
                    f"latent {name!r} is to come from q, but the path offers none"
                )
            return None
        if name == self.listed:
            return self._list(source, q, dist)
        if source == "point":
            return Latent(self.k, point(dist), "point", q, None)
        z, log_q = self.fresh(name, dist, self.temperature if source == "p" else 1.0)
        return Latent(self.k, z, source, q, log_q if source == "q" else None)

    def fresh(
        self, name: str, dist: Distribution, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """A value of `dist` from noise under this name, and its log-density where it is cheapest
        now.
        """
        noise = noise_like(dist) if self.noise is None else self.noise(name, dist)
        if self.fold > 1:  # the classes of a sample share its noise
            rows = noise_form(dist).rows // self.fold
            noise = folded(noise[:rows], self.k // self.fold, self.fold)
        return from_noise(dist, noise, temperature)

    def _list(self, source: str, q: Distribution | None, dist: Distribution) -> Latent:
        """Each class in turn, weighed by its mass."""
        classes = torch.arange(self.k, device=noise_form(dist).device) % self.fold
        index = classes.repeat_interleave(noise_form(dist).rows // self.k)
        z = dist.codebook.vectors(index[:, None])  # type: ignore[attr-defined]
        mass = dist.log_prob(z)
        self.log_v = mass.reshape(self.k, -1) - math.log(self.k // self.fold)
        return Latent(self.k, z, source, q, mass if source == "q" else None)

    def finish(self) -> dict[str, Latent]:
        """The record of the pass; raises where a name was misspelt or a site never met its p."""
        asked = set(self.given) | (
            set() if isinstance(self.source, str) else set(self.source)
        )
        if missing := asked - set(self.latents):
            raise ValueError(
                f"no latent is named {sorted(missing)[0]!r}; this model has {sorted(self.latents)}"
            )
        for name, site in self.latents.items():
            if site.p is None:
                raise ValueError(
                    f"latent {name!r} has no prior: the path asked for q only"
                )
        return self.latents
