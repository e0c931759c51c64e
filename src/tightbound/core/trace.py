"""The record of one pass: a path asks `draw(name, p=..., q=...)` for each latent and leaves a
`Trace`.

Shapes: B examples, K samples of each, n = K*B rows in K-major order.  Every log-term is (K, B), in
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

from tightbound.core.batch import Batch as Batch
from tightbound.core.batch import rows as rows
from tightbound.core.draw import Clock as Clock
from tightbound.core.draw import Context as Context
from tightbound.core.draw import Draw as Draw
from tightbound.core.draw import Examples as Examples
from tightbound.core.draw import Features as Features
from tightbound.core.draw import Latent as Latent
from tightbound.core.draw import Noise as Noise
from tightbound.core.draw import folded as folded
from tightbound.core.draw import repeated as repeated
from tightbound.core.draw import scale_of as scale_of
from tightbound.distributions.reparam import is_point_mass, log_prob_of
from tightbound.runtime.errors import TightboundError

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


class Trace:
    """The record of one pass, from which every objective and every reported figure is computed.

    log_px, log_w, log_v: (K, B);  distortion, rate, elbo: (B,);  nats per example, lazily computed.
    log_w = log p(x|z) + sum over sites (log p(z) - log q(z|x)), always at the sampled z; `rate`
    uses closed-form KLs. gather: rows (n, ...) of this batch to the rows of all processes' batches,
    with gradients; what an objective that is not `per_example` calls on whatever it takes a
    statistic of.  In one process, the rows themselves. y (K*B, P, *shape): what the decoder said,
    from which the likelihood made px.  c (K*B, C): the rows' condition.

    Example:
        >>> import torch, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> trace = model(data.train.examples(4), k=5)
        >>> trace.log_w.shape, trace.elbo.shape
        (torch.Size([5, 4]), torch.Size([4]))
        >>> torch.equal(trace.elbo, -trace.distortion - trace.rate)
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

    @property
    def bound(self) -> bool:
        """True where -distortion - rate bounds log p(x): no continuous latent is a point mass, each
        p has a density.
        """
        return not any(
            is_point_mass(site.q)
            or site.source == "point"
            or not getattr(site.p, "density", True)
            for site in self.latents.values()
        )

    def again(
        self,
        draw: Draw | None = None,
        *,
        frozen: Collection[str] = (),
        detach: bool = False,
    ) -> Trace:
        """A second pass over the same batch, with the parameters of the groups in `frozen` held
        constant.

        draw: None for the latents of this pass, whose log q is then that of the second; with
        `detach`, no gradient goes through them.  Freezing all of q, not detaching its output, is
        what path-derivative gradients need: a q of several sites also depends on the latents before
        (Roeder et al. 2017, arXiv:1703.09194).
        """
        held = {id(p) for name in frozen for p in self._model.groups()[name]}  # type: ignore[operator]
        constant = {
            name: p.detach()
            for name, p in self._model.named_parameters()
            if id(p) in held
        }
        if draw is not None:
            return functional_call(self._model, constant, (self.batch, draw))
        values = {
            name: site.z.detach() if detach else site.z
            for name, site in self.latents.items()
        }
        trace: Trace = functional_call(
            self._model, constant, (self.batch, Draw(self.k, given=values))
        )
        for name, site in trace.latents.items():
            site.source = self.latents[name].source
        return trace

    def fresh(self, name: str, dist: Distribution) -> Tensor:
        """A draw from another distribution, with the noise of this pass under a name of its own."""
        return self._draw.fresh(name, dist)[0]

    def _need_bound(self, what: str) -> None:
        if not self.bound:
            raise TightboundError(
                f"{what} is not defined: a latent is a point mass or its p no "
                "density, so there is only a distortion; "
                "a posterior of your own says is_point_mass = True, a prior has_density = False"
            )

    def mean_over_samples(self, term: Tensor) -> Tensor:
        """Of (K, B) over the K rows with their weights, (B,); of one row, nothing is to be added
        up.
        """
        if self._draw.log_v is not None:
            return (self._draw.log_v.exp() * term).sum(0)
        return term.squeeze(0) if self.k == 1 else term.mean(0)

    @property
    def log_v(self) -> Tensor:
        """Log-weights of the K rows of each example, (K, B): -log K, or what an enumerated site
        gives its classes.
        """
        if self._draw.log_v is not None:
            return self._draw.log_v
        return torch.full_like(self.log_px, -math.log(self.k))

    @property
    def samples(self) -> int:
        """K without the classes of an enumerated site."""
        return self.k // self._draw.fold

    def log_sum_over_classes(self, term: Tensor) -> Tensor:
        """log sum_y v_y exp(term_y) over the classes of each sample, (K, B) to (samples, B); a
        plain term as it is.
        """
        if self._draw.log_v is None:
            return term
        return (term + self.log_v).unflatten(0, (self.samples, -1)).logsumexp(
            1
        ) + math.log(self.samples)

    @property
    def log_px(self) -> Tensor:
        """log p(x|z) of what was observed, (K, B)."""
        if self._log_px is None:
            x = self.batch.x
            mask = self.batch.mask
            x = rows(x, self.k)
            term = (
                self.px.log_prob(x)
                if mask is None
                else log_prob_of(self.px, x, rows(mask, self.k))
            )
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
        return -self.mean_over_samples(self.log_px)

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x), p(z)) summed over sites, (B,)."""
        self._need_bound("rate")
        return self.mean_over_samples(
            functools.reduce(torch.add, (site.kl for site in self.latents.values()))
        )

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
