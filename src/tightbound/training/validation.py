"""Figures on the validation split during training: cheap, the same noise each time, so that they
compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TypeVar

import torch
from torch import Tensor

from tightbound.config import Config
from tightbound.core.trace import Clock, Draw
from tightbound.data.prepare.split import Split
from tightbound.distributions.random import TILE, ContentNoise, StepNoise, tiles
from tightbound.models.vae import VAE, Objective
from tightbound.runtime.launch_context import current_launch

T = TypeVar("T")
BATCH, VALUES_AT_ONCE = 1000, 4_000_000
# decoded values that the importance-sampled log p(x) of one validation may take
LOOK_VALUES = 25_000_000


class Validator:
    """Evaluates a model on a fixed split: ELBO, rate, distortion, the objective at its final
    weights, and log p(x).

    `objective` is what the best weights are chosen by: of several losses, that of the generative
    group; the ELBO where the objective says that it is to be `judged` so.  One that sees the whole
    batch sees batches as large as in training.  log p(x) is importance-sampled with `validate_k`
    samples on `validate_n` examples spread over the split, fewer where they are large.
    """

    def __init__(self, split: Split, objective: Objective, config: Config) -> None:
        self.split, self.objective, self.config = split, objective, config

    @torch.no_grad()
    def __call__(self, model: VAE) -> dict[str, float]:
        model.eval()
        device = model.get_buffer("centre").device
        k, values = self.config.recipe.k, {}
        every: list[dict[str, Tensor]] = []
        alike = (
            BATCH
            if getattr(self.objective, "per_example", True)
            else int(self.config.train.batch)
        )
        for i, rows in self._own(
            torch.arange(len(self.split)).split(min(self._rows(k), alike))
        ):
            x = self.split.examples(rows).to(device)
            trace = model(
                x,
                Draw(k, noise=StepNoise(self.config.seed, "valid", i), enumerate=True),
            )
            terms = {"distortion": trace.distortion}
            if trace.bound:
                terms |= {"rate": trace.rate, "elbo": trace.elbo}
            loss = self.objective(trace, Clock())
            if getattr(self.objective, "judged", "") == "elbo":
                loss = -trace.elbo.mean()
            terms["objective"] = (
                loss["generative"] if isinstance(loss, dict) else loss
            ).expand(len(x))
            every.append({name: value.double().cpu() for name, value in terms.items()})
        per = _in_turn(current_launch().gather(every))
        for name in per[0]:
            term = torch.cat([some[name] for some in per])
            values[name] = float(term.mean())
            if name == "elbo":
                values["elbo_se"] = (
                    float(term.std() / len(term) ** 0.5)
                    if len(term) > 1
                    else float("nan")
                )
        if "elbo" in values:
            values |= self._log_px(model, device)
        return values

    def _rows(self, k: int) -> int:
        return max(1, min(BATCH, VALUES_AT_ONCE // self.split.spec.dims) // k)

    def _log_px(self, model: VAE, device: torch.device) -> dict[str, float]:
        k = self.config.train.validate_k
        most = max(16, LOOK_VALUES // (k * self.split.spec.dims))
        n = min(self.config.train.validate_n, len(self.split), most)
        found = []
        for _, rows in self._own(self.split.spread(n).split(self._rows(min(k, TILE)))):
            x = self.split.examples(rows).to(device)
            noises = (
                ContentNoise(self.config.seed, x.x, i, m)
                for i, m in enumerate(tiles(k))
            )
            passes = (
                model(x, Draw(noise.k, noise=noise, enumerate=True)) for noise in noises
            )
            log_w = [trace.summed(trace.log_w).double() for trace in passes]
            found.append(torch.cat(log_w).logsumexp(0) - torch.tensor(float(k)).log())
        per = _in_turn(current_launch().gather([some.cpu() for some in found]))
        return {"log_px": float(torch.cat(per).mean()), "log_px_k": k, "log_px_n": n}

    def _own(self, batches: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        """The batches that this process has among several, with their numbers."""
        rank, world = current_launch().share
        return list(enumerate(batches))[rank::world]


def _in_turn(parts: list[list[T]]) -> list[T]:
    """What processes made of every so many-th batch, in the order of the batches."""
    return [
        value for some in zip_longest(*parts) for value in some if value is not None
    ]
