"""Draw: the argument of a pass that decides where each latent's value comes from.

Shapes: B examples, K samples of each, n = K*B rows in K-major order. Every log-term is (K, B), in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import rows
from tightbound.core.latent import Latent
from tightbound.distributions.codes import Codes
from tightbound.distributions.reparam import from_noise, noise_form, noise_like, point

#: Standard noise of a site, a function of its name and distribution.
Noise = Callable[[str, Distribution], Tensor]
#: A value z, or z and log q(z|x).
Given = Tensor | tuple[Tensor, Tensor]
#: Features (n, F) of an encoder, or one such tensor for each scale.
Features = Tensor | Sequence[Tensor]
#: Function of n to up to n training examples and their row numbers.
Examples = Callable[[int], tuple[Tensor, Tensor | None]]


def scale_of(h: Features, scale: int) -> Tensor:
    """The features of one scale; an encoder without scales has one for all."""
    if isinstance(h, Tensor):
        return h
    return h[scale]


def repeated(h: Features, k: int) -> Features:
    """Features of B examples for K*B rows, K-major."""
    if isinstance(h, Tensor):
        return rows(h, k)
    return [rows(h_scale, k) for h_scale in h]


def folded(drawn: Tensor, samples: int, fold: int) -> Tensor:
    """Repeat each of K samples (K*B, ...) `fold` times in a row: (K*fold*B, ...)."""
    if fold == 1:
        return drawn
    each = drawn.unflatten(0, (samples, 1, -1))
    by_sample: Tensor = each.expand(-1, fold, *each.shape[2:]).flatten(0, 2)
    return by_sample


@dataclass(frozen=True)
class Clock:
    """Progress of training: the share of all steps that is done, 0 to 1.

    Example:
        >>> import tightbound as tb
        >>> tb.Clock(0.25).ramp(0.5), tb.Clock(0.9).ramp(0.5)
        (0.5, 1.0)
    """

    progress: float | Tensor = 1.0

    def ramp(self, share: float) -> float | Tensor:
        """Linear rise from 0 to 1 over the first part of training, then 1.

        Args:
            share: The share of all steps over which it rises; 1 from the start where 0.

        Returns:
            A number from 0 to 1; a tensor where `progress` is one.
        """
        if share <= 0:
            return 1.0
        level = self.progress / share
        if isinstance(level, Tensor):
            return level.clamp(max=1.0)
        return min(1.0, level)


@dataclass(frozen=True)
class Context:
    """Inputs of priors and posteriors: n rows and what is given of them.

    Args:
        n: Number of rows.
        h: Features of the encoder, or None where no site needs q: (n, F), or (n, *grid, F) with
            features at each place of a grid, or a list of such by scale, the finest first.
        index: Row numbers of training examples in the training data (n,).
        c: Condition of a conditional model (n, C).
        joint: log p(x, z) of the rows, (n,), as a function of latents {site: (n, d)}, where
            there is an x. Read by posteriors with `uses_log_joint`.

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
        """True where q is wanted, so that a hierarchy computes it."""
        return self.h is not None


class Draw:
    """Source of the latents of one pass, and its record.

    Args:
        k: Samples of each example.
        source: "q" (posterior), "p" (prior) or "point" (central value of the posterior), for all
            sites or by site, {"z1": "q", "z2": "p"}; sites that are not named come from q.
        given: Values of sites, {site: z} or {site: (z, log q)}; no distribution is asked for
            them.
        noise: Standard noise of a site (n, *event), a function of its name and distribution;
            from the global generator where None.
        temperature: Temperature of sites drawn from p, see `from_noise`.
        enumerate: Whether a discrete site of C classes takes each class instead of a draw. K
            becomes K*C, the classes of a sample side by side, weighted by `log_v`.

    Example:
        >>> import torch, tightbound as tb
        >>> draw = tb.Draw(k=2, given={"z": torch.ones(2, 3)})
        >>> p = torch.distributions.Normal(torch.zeros(2, 3), 1.0)
        >>> draw("z", p=torch.distributions.Independent(p, 1)).mean()
        tensor(1.)
        >>> round(float(draw.finish()["z"].log_p[0, 0]), 4)
        -4.2568
    """

    #: Rows of a sample: the number of classes of the enumerated site, else 1.
    fold = 1
    #: Name of the enumerated site.
    enumerated = ""
    #: Log-weights (K*C, B) of the rows of an enumerated site.
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
        sources = [source] if isinstance(source, str) else source.values()
        if bad := set(sources) - {"q", "p", "point"}:
            raise ValueError(
                f"a latent's source is 'q', 'p' or 'point', not {sorted(bad)[0]!r}"
            )

    def begin(
        self, sites: Sequence[str], classes: Mapping[str, int] | None = None
    ) -> bool:
        """Start the pass over the sites of a hierarchy.

        Args:
            sites: Names of the sites.
            classes: Discrete sites that can be enumerated, and their numbers of classes.

        Returns:
            Whether a site comes from q or its point, so that the encoder must run.
        """
        if self.latents:
            raise ValueError(
                "a Draw is for one pass, and this one was used: make a new one"
            )
        if self.enumerate and classes is not None:
            self._enumerate(classes)
        return any(self._source(site) != "p" for site in sites)

    def _enumerate(self, classes: Mapping[str, int]) -> None:
        for name, count in classes.items():
            if name not in self.given and self._source(name) != "point":
                self.enumerated = name
                self.fold = count
                self.k = self.k * count

    def _source(self, name: str) -> str:
        if isinstance(self.source, str):
            return self.source
        return self.source.get(name, "q")

    def __call__(
        self, name: str, p: Distribution | None = None, q: Distribution | None = None
    ) -> Tensor | None:
        """Return the value of a site, filled by the first call that can fill it.

        Args:
            name: Name of the site.
            p: Its prior, if known.
            q: Its posterior, if known.

        Returns:
            z (n, *event), or None where neither this call nor an earlier one could fill it.
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
        if site.q is None:
            site.q = q
        return site.z

    def _fill(
        self, name: str, p: Distribution | None, q: Distribution | None
    ) -> Latent | None:
        if name in self.given:
            value = self.given[name]
            if isinstance(value, tuple):
                return Latent(self.k, value[0], "given", q, value[1])
            return Latent(self.k, value, "given", q, None)
        source = self._source(name)
        dist = p if source == "p" else q
        if dist is None:
            if p is not None:
                raise ValueError(
                    f"latent {name!r} is to come from q, but the hierarchy gives none"
                )
            return None
        if name == self.enumerated:
            return self._all_classes(source, q, dist)
        if source == "point":
            return Latent(self.k, point(dist), "point", q, None)
        if source == "p":
            z, _ = self.fresh(name, dist, self.temperature)
            return Latent(self.k, z, source, q, None)
        z, log_q = self.fresh(name, dist)
        return Latent(self.k, z, source, q, log_q)

    def fresh(
        self, name: str, dist: Distribution, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """Draw from a distribution with the noise of a site.

        Args:
            name: The name that the noise is drawn for.
            dist: The distribution, n rows.
            temperature: As in `from_noise`.

        Returns:
            z (n, *event), and log q(z) (n,) where it costs less now than later, else None.
        """
        noise = noise_like(dist) if self.noise is None else self.noise(name, dist)
        if self.fold > 1:  # the classes of a sample share its noise
            count = noise_form(dist).rows // self.fold
            noise = folded(noise[:count], self.k // self.fold, self.fold)
        return from_noise(dist, noise, temperature)

    def _all_classes(
        self, source: str, q: Distribution | None, dist: Distribution
    ) -> Latent:
        """Each class in turn, weighted by its mass."""
        assert isinstance(dist, Codes)
        classes = torch.arange(self.k, device=noise_form(dist).device) % self.fold
        index = classes.repeat_interleave(noise_form(dist).rows // self.k)
        z = dist.codebook.vectors(index[:, None])
        log_mass = dist.log_prob(z)
        self.log_v = log_mass.reshape(self.k, -1) - math.log(self.k // self.fold)
        return Latent(self.k, z, source, q, log_mass if source == "q" else None)

    def finish(self) -> dict[str, Latent]:
        """Return the record of the pass.

        Raises:
            ValueError: For the name of a site that the model lacks, and a site without a prior.
        """
        names = set(self.given)
        if not isinstance(self.source, str):
            names |= set(self.source)
        if missing := names - set(self.latents):
            raise ValueError(
                f"no latent is named {sorted(missing)[0]!r}; this model has {sorted(self.latents)}"
            )
        for name, site in self.latents.items():
            if site.p is None:
                raise ValueError(
                    f"latent {name!r} has no prior: the hierarchy gave q only"
                )
        return self.latents
