"""The health of each step: is it finite, is its gradient of usual size?

Asked without waiting for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tightbound.config import TrainSettings
from tightbound.runtime.errors import TightboundError

SETTLED, LOOK = 50, 25
MOST = torch.finfo(torch.float32).max


class Exploded(TightboundError):
    """Too many steps in a row had to be left out; the best validated weights are kept."""


class Health:
    """Says which steps to leave out and how far to cut large gradients, and counts.

    A step is left out if a loss or its gradient norm is not finite, or if the norm is `skip` times
    its running mean; norms above `clip` times the mean are cut.  The mean is over the last hundred
    accepted steps or so; the host reads the norms, and moves the mean, once in 25 steps, and sets
    no bound in the first 50. counts: steps left out in all, in a row now, most in a row.
    """

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        self.clip, self.skip = settings.clip, settings.skip
        self.mean, self.seen, self.counts = 0.0, 0, [0, 0, 0]
        self.norms, self.unread = torch.zeros(LOOK, device=device), 0

    @property
    def most(self) -> float:
        """The largest norm of a step that is taken."""
        return self.skip * self.mean if self.seen >= SETTLED else MOST

    def check(
        self, losses: Iterable[Tensor], grads: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Scalars: whether the step may be taken; what to divide its gradients by, 1 or more, or
        None for nothing.
        """
        if self.unread == LOOK:
            self.look()
        norm: Any = torch.stack(torch._foreach_norm(grads)).norm()
        norm = (
            norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        )  # of gradients in shards
        checked = norm
        for loss in losses:
            checked = torch.add(
                checked, loss.detach(), alpha=0
            )  # not finite where a loss is not
        self.norms[self.unread] = checked
        self.unread += 1
        cuts = self.clip and self.seen >= SETTLED
        return checked <= self.most, (norm / (self.clip * self.mean)).clamp(
            min=1.0
        ) if cuts else None

    def look(self) -> None:
        """Reads the norms since the last look, which waits for the device, and counts."""
        most = self.most
        for norm in self.norms[: self.unread].tolist():
            if math.isfinite(norm) and norm <= most:
                self.seen += 1
                self.mean += (norm - self.mean) * max(1 / self.seen, 0.01)
                self.counts[1] = 0
            else:
                self.counts[0] += 1
                self.counts[1] += 1
                self.counts[2] = max(self.counts[1:])
        self.unread = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in ("mean", "seen", "counts", "norms", "unread")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.norms.copy_(state["norms"])
        self.mean, self.seen, self.unread = (
            state["mean"],
            state["seen"],
            state["unread"],
        )
        self.counts = list(state["counts"])
