"""A stack of bits by asymmetric numeral systems, over integer probabilities.

Probabilities are rounded to integers before they reach the coder, so that the small differences
of floating-point numbers between two machines hardly ever change them.
"""

from __future__ import annotations

import math
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


def constriction() -> ModuleType:
    """The entropy coder's package.

    Raises:
        TightboundError: It is not installed.
    """
    try:
        import constriction as package
    except ImportError:
        raise TightboundError(
            "compression needs the package constriction: pip install 'tightbound[compress]'"
        ) from None
    return package


def whole_weights(mass: Tensor) -> Weights:
    """Probabilities rounded to integers.

    The sums from the first value on are rounded, so that the weights add up exactly. Rows without
    a finite positive sum become uniform.

    Args:
        mass: Masses up to a factor in each row, (m, C), float64.

    Returns:
        (m, C), integers in float64.
    """
    count = mass.shape[1]
    below = mass.cumsum(1)
    whole = below[:, -1:]
    usable = whole.isfinite() & (whole > 0)
    if not usable.all():
        steps = torch.arange(1, count + 1, dtype=mass.dtype)
        below = torch.where(usable, below, steps)
        whole = below[:, -1:]
    edges = below.div(whole).mul_(TOTAL).round_()
    return torch.diff(edges, dim=1, prepend=edges.new_zeros(len(mass), 1)).numpy()


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

    def _count(self, sign: float, chosen: Weights, total: float) -> None:
        if self.ideal is None:
            return
        with np.errstate(divide="ignore"):
            bits = np.minimum(math.log2(total) - np.log2(chosen), MOST_BITS)
        self.ideal += sign * float(bits.sum())

    def push(self, symbols: Tensor, weights: Weights) -> None:
        """Append values: symbols (m,) in 0..C-1 of weights (m, C)."""
        if not len(symbols):
            return
        numbers = symbols.numpy().astype(np.int32)
        self._count(1.0, _chosen(weights, numbers), float(weights[0].sum()))
        self._coder.encode_reverse(
            numbers, self._model.Categorical(perfect=False), weights
        )

    def pop(self, weights: Weights) -> Tensor:
        """Remove values of weights (m, C): symbols (m,)."""
        if not len(weights):
            return torch.zeros(0, dtype=torch.long)
        family = self._model.Categorical(perfect=False)
        numbers = self._coder.decode(family, weights)
        self._count(-1.0, _chosen(weights, numbers), float(weights[0].sum()))
        self.least = min(self.least, self.bits)
        return torch.from_numpy(numbers.astype(np.int64))

    def push_binary(self, symbols: Tensor, p: Tensor) -> None:
        """Append values 0 or 1 (m,), which are 1 with probability p (m,)."""
        share = _binary(p)
        numbers = symbols.numpy().astype(np.int32)
        self._count(1.0, np.where(numbers == 1, share, 1 - share), 1.0)
        self._coder.encode_reverse(numbers, self._model.Bernoulli(perfect=False), share)

    def pop_binary(self, p: Tensor) -> Tensor:
        """Remove values 0 or 1 that are 1 with probability p (m,)."""
        share = _binary(p)
        numbers = self._coder.decode(self._model.Bernoulli(perfect=False), share)
        self._count(-1.0, np.where(numbers == 1, share, 1 - share), 1.0)
        self.least = min(self.least, self.bits)
        return torch.from_numpy(numbers.astype(np.int64))


def _binary(p: Tensor) -> Weights:
    """Probabilities (m,) as multiples of 1 / BINARY, neither 0 nor 1."""
    share: Weights = ((p * BINARY).round().clamp(1, BINARY - 1) / BINARY).numpy()
    return share


def _chosen(weights: Weights, numbers: NDArray[np.int32]) -> Weights:
    return weights[np.arange(len(weights)), numbers]
