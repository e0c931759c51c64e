"""What a prior that is fitted after training is shown: examples, and where the trained encoder puts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


class Units(nn.Module):
    """Centre and spread of the codes, (d,) each, in which a network sees them and speaks; 0 and 1 until fitted."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def fit(self, seen: Seen) -> None:
        """Takes those of the draws."""
        self.get_buffer("centre").copy_(seen.z.mean(0))
        self.get_buffer("spread").copy_(seen.z.std(0).clamp(min=1e-6))

    def of(self, n: int) -> tuple[Tensor, Tensor]:
        """Both, n rows."""
        return self.get_buffer("centre").expand(n, -1), self.get_buffer("spread").expand(n, -1)
