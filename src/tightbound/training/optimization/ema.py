"""The averaged weights, which validation and the finished run use."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tightbound.models.vae import VAE

EARLY, STRIDE = 400, 8


class Average:
    """An exponential running mean of a model's weights (Polyak averaging); its buffers are those of
    the model now.

    The decay rises with the step, (1 + step) / (10 + step) up to `decay`, so that the start is
    forgotten.  After 400 steps it is the mean of every eighth step's weights, with the decay to the
    power of eight: over a thousand steps it is the same mean with an eighth of the terms, and what
    an optimiser saves by being fused is not lost again here.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.decay, self.source = decay, model
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.pairs: tuple[list[Any], list[Any]] = ([], [])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step, counted from 0."""
        stride = 1 if step < EARLY else STRIDE
        if step % stride:
            return
        if not self.pairs[
            0
        ]:  # only now: parameters may have been put into shards since
            self.pairs = (list(self.model.parameters()), list(self.source.parameters()))
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self.pairs, 1 - decay**stride)

    @torch.no_grad()
    def current(self) -> VAE:
        """The averaged model."""
        for kept, fresh in zip(
            self.model.buffers(), self.source.buffers(), strict=True
        ):
            kept.copy_(fresh)
        return self.model

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.model.load_state_dict(state)
