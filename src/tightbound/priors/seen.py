"""What a prior that is fitted after training is shown: examples, and where the trained encoder puts them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """n training examples x (n, *shape) in domain units and, of each one's q(z|x), a draw z (n, d), mean and scale.

    A prior with `fit(seen)` can be fitted; where it says `learns = True`, fitting only places its start, and the one
    training loop then minimises -E_q[log p(z)].  seed: of what is random in fitting.
    """

    x: Tensor
    z: Tensor
    mean: Tensor
    scale: Tensor
    seed: int
