"""Rejection of bad steps, and gradient clipping relative to a running mean.

Nothing here waits for the device at every step: the norms are read once in 25.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tightbound.config import TrainSettings
from tightbound.runtime.errors import TightboundError

SETTLED = 50  # accepted steps before the running mean sets any bound
READ_EVERY = 25  # steps between two reads of the gradient norms
LARGEST = torch.finfo(torch.float32).max


class Exploded(TightboundError):
    """Training ended because too many steps in a row were skipped."""


class GradientGuard:
    """Skips steps with bad gradients, clips large ones, and counts the skipped.

    A step is skipped if a loss or its gradient norm is not finite, or if the norm
    is above `train.skip_gradient_above` times its running mean. Norms above
    `train.clip` times the mean are clipped to that. The mean is over about the last
    hundred accepted steps. The norms are read, and the mean updated, once in 25
    steps; the first 50 accepted steps set no bound.

    Attributes:
        skipped: steps skipped since the start.
        skipped_in_a_row: steps skipped since the last accepted one.
        most_skipped_in_a_row: the longest run of skipped steps so far.
    """

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        self.clip = settings.clip
        self.skip_above = settings.skip_gradient_above
        self.mean = 0.0
        self.accepted = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.most_skipped_in_a_row = 0
        self.norms = torch.zeros(READ_EVERY, device=device)
        self.unread = 0

    @property
    def largest_norm(self) -> float:
        """The largest gradient norm of a step that is taken."""
        if self.accepted < SETTLED:
            return LARGEST
        return self.skip_above * self.mean

    def check(
        self, losses: Iterable[Tensor], grads: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Scalars: whether the step may be taken, and the divisor of its gradients.

        The divisor is 1 or more, and None where nothing is clipped.
        """
        if self.unread == READ_EVERY:
            self.read_norms()
        norm: Any = torch.stack(torch._foreach_norm(grads)).norm()
        if hasattr(norm, "full_tensor"):  # gradients in shards
            norm = norm.full_tensor()
        checked = norm
        for loss in losses:  # adds 0, or NaN where a loss is not finite
            checked = torch.add(checked, loss.detach(), alpha=0)
        self.norms[self.unread] = checked
        self.unread += 1
        ok = checked <= self.largest_norm
        if not self.clip or self.accepted < SETTLED:
            return ok, None
        return ok, (norm / (self.clip * self.mean)).clamp(min=1.0)

    def read_norms(self) -> None:
        """Read the norms since the last read, which waits for the device, and count."""
        largest = self.largest_norm
        for norm in self.norms[: self.unread].tolist():
            if math.isfinite(norm) and norm <= largest:
                self.accepted += 1
                self.mean += (norm - self.mean) * max(1 / self.accepted, 0.01)
                self.skipped_in_a_row = 0
                continue
            self.skipped += 1
            self.skipped_in_a_row += 1
            self.most_skipped_in_a_row = max(
                self.skipped_in_a_row, self.most_skipped_in_a_row
            )
        self.unread = 0

    def state_dict(self) -> dict[str, object]:
        """The counts, the mean and the norms that were not read yet."""
        return {
            "mean": self.mean,
            "accepted": self.accepted,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "most_skipped_in_a_row": self.most_skipped_in_a_row,
            "norms": self.norms,
            "unread": self.unread,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.norms.copy_(state["norms"])
        self.mean = state["mean"]
        self.accepted = state["accepted"]
        self.skipped = state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.most_skipped_in_a_row = state["most_skipped_in_a_row"]
        self.unread = state["unread"]
