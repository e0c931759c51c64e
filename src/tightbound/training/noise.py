"""The noise of training steps, drawn before the pass into memory that is reused."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Noise
from tightbound.distributions.random import StepNoise, part_of, seed_for
from tightbound.runtime.launch_context import WHOLE, Share

Fill = Callable[..., Tensor]


class Drawn:
    """The noise of one pass by site.

    Noise of a site without a recorded value is drawn on demand from the same generator.
    """

    def __init__(self, values: dict[str, Tensor], on_demand: StepNoise) -> None:
        self.values = values
        self.on_demand = on_demand

    def part(self, share: Share) -> Drawn:
        """The noise of one of the batch's equal parts."""
        k = self.on_demand.k
        parts = {name: part_of(value, k, share) for name, value in self.values.items()}
        return Drawn(parts, self.on_demand)

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        value = self.values.get(name)
        return self.on_demand(name, dist) if value is None else value


class NoiseBuffer:
    """`noise(step, batch)`: the noise of a whole pass, a function of (seed, step).

    The first batch of a size goes through the model once, without gradients, to record
    the noise of each site and the order of the sites. From then on noise is drawn in
    that order, so it has the values that the sites would draw.

    Args:
        rehearse: runs a batch through the model with the noise that is passed in.
        k: samples per example.
        share: the part of each batch that this process has, see `StepNoise`.
    """

    def __init__(
        self,
        seed: int,
        device: torch.device,
        rehearse: Callable[[Batch, Noise], object],
        k: int = 1,
        share: Share = WHOLE,
    ) -> None:
        self.seed = seed
        self.rehearse = rehearse
        self.share = share
        self.on_demand = StepNoise(seed, k=k, share=share)
        self.on_demand.generator = torch.Generator(device)
        self.records: dict[int, tuple[Drawn, list[Fill]]] = {}

    def __call__(self, step: int, batch: Batch) -> Drawn:
        if len(batch) not in self.records:
            self.records[len(batch)] = self._record(batch)
        drawn, fills = self.records[len(batch)]
        seed = seed_for(self.seed, "noise", step)
        generator = self.on_demand.generator.manual_seed(seed)
        for fill in fills:
            fill(generator=generator)
        return drawn if self.share == WHOLE else drawn.part(self.share)

    @torch.no_grad()
    def _record(self, batch: Batch) -> tuple[Drawn, list[Fill]]:
        noise = StepNoise(self.seed, "rehearsal")
        self.rehearse(batch, noise)
        values: dict[str, Tensor] = {}
        fills: list[Fill] = []
        for name, form in noise.forms.items():
            value = torch.empty(
                form.rows * self.share[1],
                *form.event,
                dtype=form.dtype,
                device=form.device,
            )
            values[name] = value
            fills.append(value.normal_ if form.kind == "normal" else value.uniform_)
        return Drawn(values, self.on_demand), fills
