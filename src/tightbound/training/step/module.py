"""One training pass as a module: losses, and sums for the log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tightbound.core.trace import Batch, Clock, Draw, Examples, Gather, Noise
from tightbound.models.vae import VAE, Objective


class Step(nn.Module):
    """One training pass: the losses, and the sums that logs and hooks need, all evaluated inside
    `forward`.

    That is what distribution and compilation wrap.  sums: n, distortion and, for a bound, elbo and
    rate, each summed over the batch; and what parts with `statistics` ask for.  gather: see
    `Trace`.  only: the part of the model that is trained, where the rest stays as it is.
    """

    gather: Gather | None = None

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        k: int = 1,
        only: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.k = model, objective, k
        self.parts: list[Any] = list((only or model).modules())
        self.observers = [m for m in self.parts if getattr(m, "observes", False)]

    @torch.no_grad()
    def prepare(self, examples: Examples) -> None:
        """Lets parts that start from data (pseudo-inputs, codebooks) look at some, once, before the
        first step.

        examples: n -> up to n training examples in domain units, spread over the split, and their
        row numbers, or None.
        """
        for part in self.parts:
            if hasattr(part, "prepare"):
                part.prepare(examples)

    def forward(
        self, batch: Batch, clock: Clock, noise: Noise | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        trace = self.model(batch, Draw(self.k, noise=noise, enumerate=True))
        trace.gather = self.gather or trace.gather
        loss = self.objective(trace, clock)
        losses = loss if isinstance(loss, dict) else {"all": loss}
        with torch.no_grad():
            sums = {
                "n": torch.full_like(trace.log_px[0, 0], len(batch)),
                "distortion": trace.distortion.sum(),
            }
            if trace.bound:
                sums["rate"] = trace.rate.sum()
                sums["elbo"] = -sums["distortion"] - sums["rate"]
            for part in self.observers:
                sums |= part.statistics(trace)
        return losses, sums

    @torch.no_grad()
    def after_step(self, sums: dict[str, Tensor], ok: Tensor | bool = True) -> None:
        """Tells the parts that keep running statistics (an optimal scale) of a step; they move only
        where it is `ok`.

        The device decides: asking it from here would make every step wait.
        """
        for part in self.observers:
            before = [buffer.clone() for buffer in part.buffers()]
            part.after_step(sums)
            for buffer, old in zip(part.buffers(), before, strict=True):
                buffer.copy_(
                    torch.where(torch.as_tensor(ok, device=buffer.device), buffer, old)
                )
