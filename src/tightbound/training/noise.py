"""The noise of training steps, drawn before the pass that uses it, into memory that serves every
step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.trace import Batch, Noise
from tightbound.distributions.random import StepNoise, part_of, seed_for
from tightbound.runtime.launch_context import WHOLE, Share


class Drawn:
    """The noise of one pass by site; what the record does not foresee is drawn on the spot, from
    the same generator.
    """

    def __init__(self, values: dict[str, Tensor], spot: StepNoise) -> None:
        self.values, self.spot = values, spot

    def part(self, share: Share) -> Drawn:
        """The noise of one of the batch's equal parts."""
        return Drawn(
            {
                name: part_of(value, self.spot.k, share)
                for name, value in self.values.items()
            },
            self.spot,
        )

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        found = self.values.get(name)
        return self.spot(name, dist) if found is None else found


class NoiseBuffer:
    """`noise(step, batch)`: all that the pass over a batch will ask for, a function of (seed,
    step).

    The first batch of a size is passed through the model once, without gradients, to record which
    sites ask for what, and in which order; from then on noise is drawn in that order, so it has the
    values that the sites would draw. rehearse: makes that pass.  k, share: see `StepNoise`.
    """

    def __init__(
        self,
        seed: int,
        device: torch.device,
        rehearse: Callable[[Batch, Noise], object],
        k: int = 1,
        share: Share = WHOLE,
    ) -> None:
        self.seed, self.rehearse, self.share = seed, rehearse, share
        self.spot = StepNoise(seed, k=k, share=share)
        self.spot.generator = torch.Generator(device)
        self.records: dict[int, tuple[Drawn, list[Callable[..., Tensor]]]] = {}

    def __call__(self, step: int, batch: Batch) -> Drawn:
        if len(batch) not in self.records:
            self.records[len(batch)] = self._record(batch)
        drawn, fills = self.records[len(batch)]
        generator = self.spot.generator.manual_seed(seed_for(self.seed, "noise", step))
        for fill in fills:
            fill(generator=generator)
        return drawn if self.share == WHOLE else drawn.part(self.share)

    @torch.no_grad()
    def _record(self, batch: Batch) -> tuple[Drawn, list[Callable[..., Tensor]]]:
        noise = StepNoise(self.seed, "rehearsal")
        self.rehearse(batch, noise)
        values = {
            name: torch.empty(
                form.rows * self.share[1],
                *form.event,
                dtype=form.dtype,
                device=form.device,
            )
            for name, form in noise.forms.items()
        }
        fills = [
            v.normal_ if noise.forms[name].kind == "normal" else v.uniform_
            for name, v in values.items()
        ]
        return Drawn(values, self.spot), fills
