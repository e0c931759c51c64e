"""Distributions over codes: N groups, each one of K entries of a codebook; their value is the
entries' vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from tightbound.distributions.flow import FromNoise
from tightbound.distributions.reparam import NoiseForm


@dataclass(frozen=True)
class Code:
    """Codes as numbers (n, N) and as what a decoder reads (n, d)."""

    index: Tensor
    vector: Tensor


class Codebook(Protocol):
    """groups: N; size: K; vectors: numbers (n, N) to (n, d); index: the reverse, of vectors that
    are codes.
    """

    groups: int
    size: int

    def vectors(self, index: Tensor) -> Tensor: ...

    def index(self, z: Tensor) -> Tensor: ...


def gumbel(noise: Tensor) -> Tensor:
    """Gumbel noise from uniform noise."""
    return -(-noise.clamp(torch.finfo(noise.dtype).tiny, 1 - 1e-7).log()).log()


class Codes(FromNoise):
    """P(code) = prod_g softmax(logits_g)[code_g]; logits (n, N, K).  Sampled as the largest of
    logits + Gumbel noise.

    relax: where given, the gradient of a sample is that of softmax((logits + noise) / relax),
    through a codebook of one-hot vectors, and log P is read as a linear function of the vector, so
    that it has a path to z as well; the value, and every figure, is that of the code.  Jang et al.
    2017 (arXiv:1611.01144), 2.2.
    """

    def __init__(
        self, logits: Tensor, codebook: Codebook, relax: float | None = None
    ) -> None:
        self.logits, self.codebook, self.relax = logits, codebook, relax
        super().__init__(logits.shape[:1], validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        n, *event = self.logits.shape
        return NoiseForm(
            n, tuple(event), self.logits.dtype, self.logits.device, "uniform"
        )

    def tempered(self, temperature: float) -> Codes:
        return Codes(self.logits / max(temperature, 1e-6), self.codebook)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        score = self.logits + gumbel(noise)
        index = score.argmax(-1)
        z = self.codebook.vectors(index)
        if self.relax is not None:
            soft = (score / self.relax).softmax(-1).flatten(1)
            z = z + (soft - soft.detach())
        return z, self.log_mass(index) if self.relax is None else self.log_prob(z)

    def log_mass(self, index: Tensor) -> Tensor:
        """log P of numbers (n, N), (n,)."""
        return self.logits.log_softmax(-1).gather(-1, index.unsqueeze(-1)).sum((-2, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        if self.relax is None:
            return self.log_mass(self.codebook.index(value))
        return (
            value.unflatten(-1, self.logits.shape[1:]) * self.logits.log_softmax(-1)
        ).sum((-2, -1))

    @property
    def mean(self) -> Tensor:
        return self._expect()[0]

    @property
    def variance(self) -> Tensor:
        return self._expect()[1]

    def _expect(self) -> tuple[Tensor, Tensor]:
        """Mean and variance where the codebook gives them for probabilities (n, N, K)."""
        own = getattr(self.codebook, "moments", None)
        if own is None:
            raise NotImplementedError
        mean, variance = own(self.logits.softmax(-1))
        return mean, variance

    @property
    def code(self) -> Code:
        """The most likely code."""
        index = self.logits.argmax(-1)
        return Code(index, self.codebook.vectors(index))

    @property
    def point(self) -> Tensor:
        return self.code.vector


class UniformCodes(Codes):
    """Every code alike: log P = -N log K, whatever the code."""

    def __init__(self, n: int, codebook: Codebook, like: Tensor) -> None:
        super().__init__(
            like.new_zeros(()).expand(n, codebook.groups, codebook.size), codebook
        )

    def log_mass(self, index: Tensor) -> Tensor:
        return self.logits.new_full(
            index.shape[:-1], -self.codebook.groups * math.log(self.codebook.size)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_mass(value)


class CodeChain(FromNoise):
    """P(code) = prod_i P(code_i | the codes before it), n rows; sampled one after another, each as
    `Codes` is.

    logits: numbers (n, N) to (n, N, K), whose row i looks only at the numbers before i.
    """

    def __init__(
        self,
        n: int,
        codebook: Codebook,
        logits: Callable[[Tensor], Tensor],
        like: Tensor,
        temperature: float = 1.0,
    ) -> None:
        self.codebook, self.logits, self.like, self.temperature = (
            codebook,
            logits,
            like,
            temperature,
        )
        super().__init__(torch.Size([n]), validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        event = (self.codebook.groups, self.codebook.size)
        return NoiseForm(
            self.batch_shape[0], event, self.like.dtype, self.like.device, "uniform"
        )

    def tempered(self, temperature: float) -> CodeChain:
        return CodeChain(
            self.batch_shape[0],
            self.codebook,
            self.logits,
            self.like,
            max(temperature, 1e-6),
        )

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        index = torch.zeros(noise.shape[:2], dtype=torch.long, device=noise.device)
        for i in range(noise.shape[1]):
            score = self.logits(index)[:, i] / self.temperature + gumbel(noise[:, i])
            index[:, i] = score.argmax(-1)
        return self.codebook.vectors(index), None

    def log_mass(self, index: Tensor) -> Tensor:
        """log P of numbers (n, N), (n,)."""
        return Codes(self.logits(index), self.codebook).log_mass(index)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_mass(self.codebook.index(value))


class Quantized(FromNoise):
    """All mass on one code: log q = 0 there.  A point, but of a countable space, so that bounds are
    defined.

    code: its numbers and its vector; through: the vector with the gradient of what was quantised;
    commitment (n,): the squared distance between the two, in nats of a unit normal times 2, summed
    over the levels of residual codes.
    """

    def __init__(
        self,
        code: Code,
        through: Tensor,
        commitment: Tensor,
        codebook: Any,
        raw: Tensor,
    ) -> None:
        self.code, self.through, self.commitment, self.codebook, self.raw = (
            code,
            through,
            commitment,
            codebook,
            raw,
        )
        super().__init__(through.shape[:1], through.shape[1:], validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        return NoiseForm(
            len(self.through), (0,), self.through.dtype, self.through.device, "uniform"
        )

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        return self.through, torch.zeros_like(self.through[:, 0])

    @property
    def mean(self) -> Tensor:
        return self.through

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.through)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where((value == self.code.vector).all(-1), 0.0, -torch.inf).to(
            value.dtype
        )


@register_kl(Codes, Codes)
def _kl_codes(q: Codes, p: Codes) -> Tensor:
    log_q, log_p = q.logits.log_softmax(-1), p.logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum((-2, -1))


@register_kl(Quantized, CodeChain)
@register_kl(Quantized, Codes)
def _kl_quantized(q: Quantized, p: Codes | CodeChain) -> Tensor:
    """-log P of the one code."""
    return -p.log_mass(q.code.index)
