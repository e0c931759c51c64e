"""Latent: the record of one latent site in a pass."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.codes import CodeDistribution, Quantized
from tightbound.distributions.reparam import (
    kl,
    kl_per_dimension,
    log_ratio_per_dimension,
)


class Latent:
    """A latent site: its value z (n, *event), p and q, and their log-terms, (K, B).

    Each log-term is computed once, when it is first read.

    Args:
        k: Number of samples K of each example; the n rows are K-major.
        z: The value.
        source: Where it came from: "q", "p", "point" or "given".
        q: q(z|x), if known.
        log_q: log q(z|x) of the value (n,), if known already.

    Attributes:
        late: True where p was known only after another site was drawn, so that it may depend on
            this z (bottom-up inference). A closed-form KL takes z as independent of p and would
            not be the rate; log q - log p at z is used instead.
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
            self._log_p = self._rows(self._log_prior())
        return self._log_p

    def _log_prior(self) -> Tensor:
        assert self.p is not None
        # the entry numbers of a quantised code are known, and a sum of vectors may not determine
        # them
        if (
            isinstance(self.p, CodeDistribution)
            and isinstance(self.q, Quantized)
            and self.source in ("q", "point")
        ):
            return self.p.log_mass(self.q.code.index)
        return self.p.log_prob(self.z)

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
        """KL(q(z|x), p(z)), (K, B): in closed form where possible, else log q - log p at z."""
        if self._kl is None:
            closed = self._closed_kl()
            if closed is None:
                self._kl = self.log_q - self.log_p
            else:
                self._kl = self._rows(closed)
        return self._kl

    def _closed_kl(self) -> Tensor | None:
        if self.q is None or self.p is None or self.late:
            return None
        return kl(self.q, self.p)

    @property
    def kl_each(self) -> Tensor | None:
        """KL of each latent dimension, (n, d), where q and p are factorised; else None."""
        if self.q is None or self.p is None:
            return None
        if self.late:
            return log_ratio_per_dimension(self.q, self.p, self.z)
        return kl_per_dimension(self.q, self.p)
