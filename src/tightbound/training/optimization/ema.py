"""Exponential moving average of the weights, for validation and the finished run."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tightbound.models.vae import VAE

EARLY = 400  # steps whose weights all enter
STRIDE = 8  # later every so many-th


class Average:
    """Exponential moving average of a model's weights (Polyak averaging).

    The decay rises with the step, (1 + step) / (10 + step) up to `decay`, so that the
    initial weights lose their influence. After 400 steps every eighth step's weights
    enter, with the decay to the power of eight: over a thousand steps this is the same
    mean with an eighth of the terms, at an eighth of the time. Buffers are copied from
    the model, not averaged.

    Attributes:
        ends: the mean of the averaged weights at the ends of the cycles so far.
    """

    def __init__(self, model: VAE, decay: float) -> None:
        self.decay = decay
        self.source = model
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.pairs: tuple[list[Any], list[Any]] = ([], [])
        self.ends: list[Tensor] = []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        stride = 1 if step < EARLY else STRIDE
        if step % stride:
            return
        if not self.pairs[0]:  # not in __init__: parameters may be sharded after it
            self.pairs = (list(self.model.parameters()), list(self.source.parameters()))
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self.pairs, 1 - decay**stride)

    @torch.no_grad()
    def current(self) -> VAE:
        """The averaged model, with the buffers of the model as it is now."""
        buffers = zip(self.model.buffers(), self.source.buffers(), strict=True)
        for averaged, current in buffers:
            averaged.copy_(current)
        return self.model

    @torch.no_grad()
    def end_cycle(self, number: int) -> None:
        """Take the averaged weights at the end of a cycle into the mean over cycles.

        Izmailov et al. 2018 (arXiv:1803.05407), section 3.

        Args:
            number: the number of the cycle; the first one begins a new mean.
        """
        weights = [parameter.detach() for parameter in self.model.parameters()]
        if number == 1:
            self.ends = [weight.clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.ends, weights, 1 / number)

    @torch.no_grad()
    def take_mean_of_cycles(self) -> None:
        """Replace the averaged weights by their mean over the ends of the cycles."""
        for parameter, mean in zip(self.model.parameters(), self.ends, strict=True):
            parameter.copy_(mean)

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the averaged model."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state)
