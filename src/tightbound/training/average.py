"""The averaged weights, which validation and the finished run use."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tightbound.model import VAE


class Average:
    """An exponential running mean of a model's weights (Polyak averaging); its buffers are those of the model now.

    The decay rises with the step, (1 + step) / (10 + step) up to `decay`, so that the start is forgotten.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.decay, self.source = decay, model
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.pairs: tuple[list[Any], list[Any]] = ([], [])

    @torch.no_grad()
    def move(self, step: int) -> None:
        """Takes in the weights after a step, counted from 0."""
        if not self.pairs[0]:  # only now: parameters may have been put into shards since
            self.pairs = (list(self.model.parameters()), list(self.source.parameters()))
        torch._foreach_lerp_(*self.pairs, 1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def current(self) -> VAE:
        """The averaged model."""
        for kept, fresh in zip(self.model.buffers(), self.source.buffers(), strict=True):
            kept.copy_(fresh)
        return self.model

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(state)
