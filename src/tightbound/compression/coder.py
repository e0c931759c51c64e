"""A stack of bits by asymmetric numeral systems, over integer probabilities.

Probabilities are rounded to integers before they reach the coder, so that the small differences
of floating-point numbers between two machines hardly ever change them.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.runtime.errors import TightboundError

#: Probabilities are multiples of 1 / TOTAL, those of 0 and 1 of 1 / BINARY.
TOTAL = 1 << 20
BINARY = 1 << 16
#: Bits that the coder spends on a value whose probability was rounded to 0.
MOST_BITS = 24.0

Words = NDArray[np.uint32]
Weights = NDArray[np.float64]
Numbers = NDArray[np.int32]


class Uncodable(Exception):
    """A value has no code, or its probability is no number."""


def constriction() -> ModuleType:
    """The entropy coder's package.

    Raises:
        TightboundError: It is not installed.
    """
    try:
        import constriction as coder
    except ImportError:
        raise TightboundError(
            "compression needs the package constriction: pip install 'tightbound[compress]'"
        ) from None
    package: ModuleType = coder
    return package


def whole_weights(mass: Tensor) -> Weights:
    """Masses rounded to integers.

    Args:
        mass: Masses up to a factor in each row, (m, C), float64.

    Returns:
        (m, C), integers in float64.
    """
    return weights_below(mass.cumsum(1))


def weights_below(below: Tensor) -> Weights:
    """Sums of masses, from the first value on, rounded to integers.

    The sums are rounded, and not the masses, so that the weights add up to TOTAL. Rows without a
    finite positive sum become uniform.

    Args:
        below: Mass of the first 1, 2, ..., C values up to a factor in each row, (m, C), float64.

    Returns:
        (m, C), integers in float64.
    """
    count = below.shape[1]
    whole = below[:, -1:]
    usable = whole.isfinite() & (whole > 0)
    if not usable.all():
        steps = torch.arange(1, count + 1, dtype=below.dtype)
        below = torch.where(usable, below, steps)
        whole = below[:, -1:]
    edges = below.div(whole).mul_(TOTAL).round_()
    weights = edges.clone()
    weights[:, 1:] -= edges[:, :-1]
    # sums that differ in their last digit may fall where they should not
    return weights.clamp_(min=0).numpy()


class Stack:
    """The bits of a message: what is pushed last is popped first.

    To pop a value of a distribution from random bits is to draw it, and to push it again gives
    the bits back.

    Args:
        words: The message so far.
        sealed: Whether the words are arbitrary bits, and not the words of a message.

    Attributes:
        least: Least number of bits after any pop since it was last set.
        ideal: Bits of all pushed values less those of all popped ones, by their integer
            probabilities; None where they are not counted.
    """

    def __init__(self, words: Words, *, sealed: bool = False) -> None:
        stream = constriction().stream
        self._model = stream.model
        self._coder = stream.stack.AnsCoder(words, seal=sealed)
        self.least = self.bits
        self.ideal: float | None = None

    @property
    def bits(self) -> int:
        """Number of bits of the message."""
        return int(self._coder.num_valid_bits())

    def words(self, *, sealed: bool = False) -> Words:
        """The message; `sealed` gives arbitrary bits back that it began with."""
        words: Words = self._coder.get_compressed(unseal=sealed)
        return words

    def copy(self) -> Stack:
        """A stack of its own with the same bits."""
        other = Stack.__new__(Stack)
        other._model = self._model
        other._coder = self._coder.clone()
        other.least = self.least
        other.ideal = self.ideal
        return other

    def _count(self, sign: float, weights: Weights, numbers: Numbers) -> None:
        """Add the bits of values by their weights to `ideal`, where they are counted."""
        if self.ideal is None:
            return
        chosen = weights[np.arange(len(weights)), numbers]
        self._add(sign, chosen / weights[0].sum())

    def _count_binary(self, sign: float, share: Weights, numbers: Numbers) -> None:
        if self.ideal is not None:
            self._add(sign, np.where(numbers == 1, share, 1 - share))

    def _add(self, sign: float, probability: Weights) -> None:
        assert self.ideal is not None
        with np.errstate(divide="ignore"):
            bits = np.minimum(-np.log2(probability), MOST_BITS)
        self.ideal += sign * float(bits.sum())

    def push(self, symbols: Tensor, weights: Weights) -> None:
        """Append values: symbols (m,) in 0..C-1 of weights (m, C)."""
        if not len(symbols):
            return
        numbers = symbols.int().numpy()
        self._count(1.0, weights, numbers)
        self._coder.encode_reverse(
            numbers, self._model.Categorical(perfect=False), weights
        )

    def pop(self, weights: Weights) -> Tensor:
        """Remove values of weights (m, C): symbols (m,)."""
        if not len(weights):
            return torch.zeros(0, dtype=torch.long)
        family = self._model.Categorical(perfect=False)
        numbers = self._coder.decode(family, weights)
        self._count(-1.0, weights, numbers)
        self.least = min(self.least, self.bits)
        return torch.from_numpy(numbers).long()

    def push_binary(self, symbols: Tensor, p: Tensor) -> None:
        """Append values 0 or 1 (m,), which are 1 with probability p (m,)."""
        share = _binary(p)
        numbers = symbols.int().numpy()
        self._count_binary(1.0, share, numbers)
        self._coder.encode_reverse(numbers, self._model.Bernoulli(perfect=False), share)

    def pop_binary(self, p: Tensor) -> Tensor:
        """Remove values 0 or 1 that are 1 with probability p (m,)."""
        share = _binary(p)
        numbers = self._coder.decode(self._model.Bernoulli(perfect=False), share)
        self._count_binary(-1.0, share, numbers)
        self.least = min(self.least, self.bits)
        return torch.from_numpy(numbers).long()


def _binary(p: Tensor) -> Weights:
    """Probabilities (m,) as multiples of 1 / BINARY, neither 0 nor 1.

    Raises:
        Uncodable: One is not a number.
    """
    if bool(p.isnan().any()):
        raise Uncodable
    whole = (p * BINARY).round_().clamp_(1, BINARY - 1)
    share: Weights = whole.div_(BINARY).numpy()
    return share
