"""Trace: the record of one pass, from which objectives and figures are computed.

Shapes: B examples, K samples of each, n = K*B rows in K-major order. Every log-term is (K, B), in
nats.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from tightbound.core.batch import Batch, rows
from tightbound.core.draw import Draw
from tightbound.core.latent import Latent
from tightbound.distributions.base import ReparameterisedDistribution
from tightbound.distributions.reparam import is_point_mass, log_prob_of
from tightbound.runtime.errors import TightboundError

#: Gathers rows (n, ...) of this process's batch over all processes.
Gather = Callable[[Tensor], Tensor]
NEGLIGIBLE = 50.0


def mask_negligible(log_w: Tensor, dim: int, nats: float = NEGLIGIBLE) -> Tensor:
    """Set log-weights more than `nats` below the maximum along `dim` to -inf.

    Their share of a sum is below float precision, and their gradients would be denormal numbers,
    with which matrix products are up to ten times slower.
    """
    return torch.where(
        log_w < log_w.detach().amax(dim, keepdim=True) - nats, -torch.inf, log_w
    )


def _has_density(site: Latent) -> bool:
    """Whether log q and log p of a site are defined."""
    if is_point_mass(site.q) or site.source == "point":
        return False
    return not isinstance(site.p, ReparameterisedDistribution) or site.p.has_density


class Trace:
    """The record of one pass: objectives and reported figures are computed from it.

    The terms are in nats per example and are computed when they are first read: log_px, log_w
    and log_v (K, B); distortion, rate and elbo (B,).

        log_w = log p(x|z) + sum over sites (log p(z) - log q(z|x)), always at the sampled z

    `rate` uses closed-form KLs where they exist.

    Args:
        model: The VAE.
        batch: The examples.
        draw: The draw of the pass, with its latents.
        y: Output of the decoder, (K*B, P, *shape), from which the likelihood made px.
        px: p(x|z) of the K*B rows.
        c: Condition of the rows (K*B, C), or None.

    Attributes:
        latents: The record of each site by its name.
        k: Number of rows K of each example.
        gather: Gathers rows (n, ...) over all processes, with gradients; the identity in one
            process. An objective that is not `per_example` calls it on all of which it takes a
            statistic.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> trace = model(data.train.examples(4), k=3)
        >>> trace.log_w.shape, trace.elbo.shape
        (torch.Size([3, 4]), torch.Size([4]))
        >>> bool((trace.log_p_hat >= trace.log_w.mean(0)).all())
        True
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        draw: Draw,
        y: Tensor,
        px: Distribution,
        c: Tensor | None = None,
    ) -> None:
        self.batch = batch
        self.px = px
        self.y = y
        self.c = c
        self.latents = draw.finish()
        self.k = draw.k
        self.gather: Gather = lambda rows: rows
        self._model = model
        self._draw = draw
        self._log_px: Tensor | None = None
        self._log_w: Tensor | None = None
        self._distortion: Tensor | None = None
        self._rate: Tensor | None = None

    @property
    def bound(self) -> bool:
        """True where -distortion - rate bounds log p(x).

        No continuous latent is a point mass, and each prior has a density.
        """
        return all(_has_density(site) for site in self.latents.values())

    def again(
        self,
        draw: Draw | None = None,
        *,
        frozen: Collection[str] = (),
        detach: bool = False,
    ) -> Trace:
        """Run a second pass over the same batch.

        Path-derivative gradients freeze all of q instead of detaching its output, since a q of
        several sites also depends on the latents before (Roeder et al. 2017, arXiv:1703.09194).

        Args:
            draw: Its draw; None for the latents of this pass, whose log q is computed anew.
            frozen: Groups of parameters that are constants in the second pass.
            detach: Whether the latents of this pass are constants.

        Returns:
            The trace of the second pass.
        """
        constant = self._constants(frozen)
        trace: Trace
        if draw is not None:
            trace = functional_call(self._model, constant, (self.batch, draw))
            return trace
        values = {name: site.z for name, site in self.latents.items()}
        if detach:
            values = {name: z.detach() for name, z in values.items()}
        trace = functional_call(
            self._model, constant, (self.batch, Draw(self.k, given=values))
        )
        for name, site in trace.latents.items():
            site.source = self.latents[name].source
        return trace

    def _constants(self, frozen: Collection[str]) -> dict[str, Tensor]:
        """Detached parameters of groups, by name."""
        if not frozen:
            return {}
        groups = self._model.groups
        assert callable(groups)
        ids = {id(p) for name in frozen for p in groups()[name]}
        return {
            name: p.detach()
            for name, p in self._model.named_parameters()
            if id(p) in ids
        }

    def fresh(self, name: str, dist: Distribution) -> Tensor:
        """Draw from another distribution, with noise of this pass under a name of its own.

        Args:
            name: The name that the noise is drawn for.
            dist: The distribution, n rows.

        Returns:
            z (n, *event).
        """
        return self._draw.fresh(name, dist)[0]

    def _need_bound(self, term: str) -> None:
        if not self.bound:
            raise TightboundError(
                f"{term} is not defined: a latent is a point mass or its p has no density, so "
                "there is only a distortion; a posterior of your own declares "
                "is_point_mass = True, a prior has_density = False"
            )

    def mean_over_samples(self, term: Tensor) -> Tensor:
        """Weighted mean of a term over the K rows of each example.

        Args:
            term: (K, B).

        Returns:
            (B,); the weights are exp(`log_v`).
        """
        if self._draw.log_v is not None:
            return (self._draw.log_v.exp() * term).sum(0)
        if self.k == 1:
            return term.squeeze(0)
        return term.mean(0)

    @property
    def log_v(self) -> Tensor:
        """Log-weights of the K rows of each example, (K, B).

        -log K, or the log-masses of the classes of an enumerated site.
        """
        if self._draw.log_v is not None:
            return self._draw.log_v
        return torch.full_like(self.log_px, -math.log(self.k))

    @property
    def samples(self) -> int:
        """Number of samples: K without the classes of an enumerated site."""
        return self.k // self._draw.fold

    def log_sum_over_classes(self, term: Tensor) -> Tensor:
        """log sum_y v_y exp(term_y) over the classes of each sample.

        Args:
            term: (K, B), in nats.

        Returns:
            (samples, B); the term itself where no site is enumerated.
        """
        if self._draw.log_v is None:
            return term
        by_sample = (term + self.log_v).unflatten(0, (self.samples, -1))
        log_mean: Tensor = by_sample.logsumexp(1) + math.log(self.samples)
        return log_mean

    @property
    def log_px(self) -> Tensor:
        """log p(x|z) of the observed values, (K, B)."""
        if self._log_px is None:
            x = self.batch.x
            mask = self.batch.mask
            x = rows(x, self.k)
            if mask is None:
                term = self.px.log_prob(x)
            else:
                term = log_prob_of(self.px, x, rows(mask, self.k))
            self._log_px = term.reshape(self.k, -1)
        return self._log_px

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z|x), (K, B); raises where z did not come from q."""
        if self._log_w is None:
            self._need_bound("log_w")
            self._log_w = self.log_px + sum(
                site.log_p - site.log_q for site in self.latents.values()
            )
        return self._log_w

    @property
    def distortion(self) -> Tensor:
        """-E_q[log p(x|z)], (B,)."""
        if self._distortion is None:
            self._distortion = -self.mean_over_samples(self.log_px)
        return self._distortion

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x), p(z)) summed over sites, (B,)."""
        if self._rate is None:
            self._need_bound("rate")
            every_site = [site.kl for site in self.latents.values()]
            self._rate = self.mean_over_samples(functools.reduce(torch.add, every_site))
        return self._rate

    @property
    def elbo(self) -> Tensor:
        """-distortion - rate, (B,)."""
        return -self.distortion - self.rate

    @property
    def log_p_hat(self) -> Tensor:
        """The K-sample importance-weighted bound, logsumexp_K(log_w + log_v), (B,).

        Burda et al. 2016, eq. 8.
        """
        return mask_negligible(self.log_w + self.log_v, 0).logsumexp(0)
