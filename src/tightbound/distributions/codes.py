"""Distributions over discrete codes: N groups, each one of K entries of a codebook.

A value is the vector of the chosen entries, which a decoder reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.distributions.base import (
    NoiseForm,
    ReparameterisedDistribution,
    register_kl,
)


@dataclass(frozen=True)
class Code:
    """Codes as entry numbers (n, N) and as vectors (n, d)."""

    index: Tensor
    vector: Tensor


class Codebook:
    """Base class of codebooks: entry numbers to vectors and back.

    groups: number N of codes of a row.  size: number K of entries of each.
    """

    groups: int
    size: int

    def vectors(self, index: Tensor) -> Tensor:
        """Vectors (n, d) of entry numbers (n, N)."""
        raise NotImplementedError

    def index(self, z: Tensor) -> Tensor:
        """Entry numbers (n, N) of vectors (n, d) that are codes."""
        raise NotImplementedError

    def by_table(self, index: Tensor) -> Tensor:
        """Entry numbers (tables, m) of entry numbers (n, N), by the table of the entries.

        Each of the N codes has a table of its own, unless a subclass shares them.
        """
        return index.T

    def moments(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (n, d) under probabilities (n, N, K); NotImplementedError if none."""
        raise NotImplementedError


def gumbel(noise: Tensor) -> Tensor:
    """Gumbel noise from uniform noise."""
    return -(-noise.clamp(torch.finfo(noise.dtype).tiny, 1 - 1e-7).log()).log()


class CodeDistribution(ReparameterisedDistribution):
    """Base class of distributions over the codes of a codebook."""

    codebook: Codebook

    def log_mass(self, index: Tensor) -> Tensor:
        """log P of entry numbers (n, N), (n,)."""
        raise NotImplementedError


class Codes(CodeDistribution):
    """Independent categoricals: P(code) = prod_g softmax(logits_g)[code_g].

    A sample is the largest of logits + Gumbel noise.

    Args:
        logits: (n, N, K).
        codebook: Entries of each group.
        relax: Temperature of the Gumbel-softmax relaxation, or None. With it, the gradient of a
            sample is that of softmax((logits + noise) / relax) through a codebook of one-hot
            vectors, and log P is a linear function of the vector, so that gradients reach z.
            The values are those of the code.

    Jang et al. 2017 (arXiv:1611.01144), section 2.2.
    """

    def __init__(
        self, logits: Tensor, codebook: Codebook, relax: float | None = None
    ) -> None:
        self.logits = logits
        self.codebook = codebook
        self.relax = relax
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
        if self.relax is None:
            return z, self.log_mass(index)
        soft = (score / self.relax).softmax(-1).flatten(1)
        z = z + (soft - soft.detach())
        return z, self.log_prob(z)

    def log_mass(self, index: Tensor) -> Tensor:
        return self.logits.log_softmax(-1).gather(-1, index.unsqueeze(-1)).sum((-2, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        if self.relax is None:
            return self.log_mass(self.codebook.index(value))
        log_p: Tensor = (
            value.unflatten(-1, self.logits.shape[1:]) * self.logits.log_softmax(-1)
        ).sum((-2, -1))
        return log_p

    @property
    def mean(self) -> Tensor:
        return self.codebook.moments(self.logits.softmax(-1))[0]

    @property
    def variance(self) -> Tensor:
        return self.codebook.moments(self.logits.softmax(-1))[1]

    @property
    def code(self) -> Code:
        """The most likely code."""
        index = self.logits.argmax(-1)
        return Code(index, self.codebook.vectors(index))

    @property
    def point(self) -> Tensor:
        return self.code.vector


class UniformCodes(Codes):
    """Uniform distribution over codes: log P = -N log K."""

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


class CodeChain(CodeDistribution):
    """Autoregressive distribution: P(code) = prod_i P(code_i | code_1, ..., code_{i-1}).

    Sampled one code after another, each as in `Codes`.

    Args:
        n: Number of rows.
        codebook: Entries of each group.
        logits: Function of entry numbers (n, N) to logits (n, N, K), whose row i depends only
            on the numbers before i.
        like: Tensor with dtype and device.
        temperature: Divisor of the logits in sampling.
    """

    def __init__(
        self,
        n: int,
        codebook: Codebook,
        logits: Callable[[Tensor], Tensor],
        like: Tensor,
        temperature: float = 1.0,
    ) -> None:
        self.codebook = codebook
        self.logits = logits
        self.like = like
        self.temperature = temperature
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
        return Codes(self.logits(index), self.codebook).log_mass(index)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_mass(self.codebook.index(value))


class Quantized(ReparameterisedDistribution):
    """Point mass on one code: log q = 0 there.

    The space is countable, so unlike `Delta` it has a mass, and bounds are defined.

    Args:
        code: Entry numbers and vector.
        through: The vector, with the gradient of the encoding (straight-through).
        commitment: Squared distance between encoding and code (n,), summed over the levels of
            residual codes.
        codebook: Entries of each group.
        raw: The encoding before quantisation, (n, parts, D).
    """

    def __init__(
        self,
        code: Code,
        through: Tensor,
        commitment: Tensor,
        codebook: Codebook,
        raw: Tensor,
    ) -> None:
        self.code = code
        self.through = through
        self.commitment = commitment
        self.codebook = codebook
        self.raw = raw
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
    log_q = q.logits.log_softmax(-1)
    log_p = p.logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum((-2, -1))


@register_kl(Quantized, CodeChain)
@register_kl(Quantized, Codes)
def _kl_quantized(q: Quantized, p: Codes | CodeChain) -> Tensor:
    """-log P of the one code."""
    return -p.log_mass(q.code.index)
