"""The training pass as a module: losses, and sums for the log and for statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tightbound.core.batch import Batch
from tightbound.core.component import ModelPart, Objective, StatisticsKeeper
from tightbound.core.draw import Clock, Draw, Examples, Noise
from tightbound.core.trace import Gather
from tightbound.models.vae import VAE


class Step(nn.Module):
    """One training pass: losses and sums, all evaluated inside `forward`.

    Distribution and compilation wrap this module.

    Args:
        k: samples per example.
        only: the part of the model that is trained; the whole model if None.

    Attributes:
        gather: the function for `Trace.gather`, None for a single process.
        initial: weights that `prepare` starts from; None for random ones.
        observers: the parts with running statistics.
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
        self.model = model
        self.objective = objective
        self.k = k
        self.initial: dict[str, Tensor] | None = None
        modules = list((only or model).modules())
        self.parts = [m for m in modules if isinstance(m, ModelPart)]
        self.observers: list[StatisticsKeeper] = [
            m for m in self.parts if m.keeps_statistics
        ]

    @torch.no_grad()
    def prepare(self, examples: Examples) -> None:
        """Initialise the parts that start from data (pseudo-inputs, codebooks).

        With `initial` weights only those that hold training examples by their row numbers.

        Args:
            examples: n -> up to n training examples in model units, spread over the
                split, and their row numbers or None.
        """
        if self.initial is not None:
            self.model.load_state_dict(self.initial)
        for part in self.parts:
            if self.initial is None or part.holds_training_rows:
                part.prepare(examples)

    def forward(
        self, batch: Batch, clock: Clock, noise: Noise | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The losses, {"all": loss} or {group: loss}, and sums over the batch.

        Sums are n, distortion, with a bound elbo and rate, and those that parts with
        running statistics need.
        """
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
        """Update the parts with running statistics, where the step was `ok`.

        The device applies `ok`: reading it here would make every step wait.
        """
        for part in self.observers:
            before = [buffer.clone() for buffer in part.buffers()]
            part.after_step(sums)
            for buffer, old in zip(part.buffers(), before, strict=True):
                accepted = torch.as_tensor(ok, device=buffer.device)
                buffer.copy_(torch.where(accepted, buffer, old))
