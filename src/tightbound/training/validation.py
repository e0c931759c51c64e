"""Figures on the validation split during training, comparable between validations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

import torch
from torch import Tensor

from tightbound.config import Config
from tightbound.core.component import Objective
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.data.prepare.split import Split
from tightbound.distributions.random import TILE, ContentNoise, StepNoise, tiles
from tightbound.models.vae import VAE
from tightbound.runtime.launch_context import current_launch

T = TypeVar("T")
LOGGED = 128  # examples whose bound is logged at each validation
BATCH = 1000  # examples evaluated at once, at most
VALUES_AT_ONCE = 4_000_000  # and values of x
# decoded values that the importance-sampled log p(x) of one validation may take
LOG_PX_VALUES = 25_000_000


@dataclass(frozen=True)
class Validation:
    """Figures on the validation split, and the bound of single examples.

    Args:
        figures: mean terms in nats per example.
        of: number of examples of the split.
        by_example: ELBO (-distortion without a bound) of examples spread over the
            split, the same ones at each validation, so that the error of a change is
            that of paired differences.
    """

    figures: dict[str, float]
    of: int
    by_example: list[float]

    def logged(self) -> dict[str, object]:
        """The bound of single examples, for the log."""
        return {"of": self.of, "bound": self.by_example}


class Validator:
    """Evaluates a model on the validation split, with the same noise each time.

    Figures: ELBO, rate, distortion, the objective at its final weights, and log p(x).
    `objective` selects the best weights: of several losses it is that of the generative
    group, and the ELBO where the objective is `judged` by it. An objective over the
    whole batch gets batches as large as in training. log p(x) is importance-sampled
    with `validate_k` samples on `validate_n` examples spread over the split, fewer where
    examples are large.
    """

    def __init__(self, split: Split, objective: Objective, config: Config) -> None:
        self.split = split
        self.objective = objective
        self.config = config

    @torch.no_grad()
    def __call__(self, model: VAE) -> Validation:
        """Mean terms in nats per example; without a bound, distortion and objective only."""
        model.eval()
        device = model.get_buffer("centre").device
        k = self.config.recipe.k
        size = BATCH if self.objective.per_example else int(self.config.train.batch)
        batches = torch.arange(len(self.split)).split(min(self._rows(k), size))
        terms: list[dict[str, Tensor]] = []
        for i, rows in self._of_this_process(batches):
            x = self.split.examples(rows).to(device)
            noise = StepNoise(self.config.seed, "valid", i)
            trace = model(x, Draw(k, noise=noise, enumerate=True))
            terms.append(self._terms(trace, len(x)))
        by_batch = _in_order(current_launch().gather(terms))
        values: dict[str, float] = {}
        for name in by_batch[0]:
            term = torch.cat([of_batch[name] for of_batch in by_batch])
            values[name] = float(term.mean())
            if name == "elbo":
                values["elbo_se"] = _standard_error(term)
        bound = torch.cat([_bound(of_batch) for of_batch in by_batch])
        if "elbo" in values:
            values |= self._log_px(model, device)
        chosen = bound[self.split.spread(min(LOGGED, len(bound)))]
        by_example = [round(value, 4) for value in chosen.tolist()]
        return Validation(values, len(bound), by_example)

    def _terms(self, trace: Trace, n: int) -> dict[str, Tensor]:
        """The terms of each of n examples, on the CPU in float64."""
        terms = {"distortion": trace.distortion}
        if trace.bound:
            terms |= {"rate": trace.rate, "elbo": trace.elbo}
        loss = self.objective(trace, Clock())
        if self.objective.selection == "elbo":
            loss = -trace.elbo.mean()
        if isinstance(loss, dict):
            loss = loss["generative"]
        terms["objective"] = loss.expand(n)
        return {name: value.double().cpu() for name, value in terms.items()}

    def _rows(self, k: int) -> int:
        """How many examples with k samples each are evaluated at once."""
        return max(1, min(BATCH, VALUES_AT_ONCE // self.split.spec.dims) // k)

    @property
    def decoded(self) -> int:
        """How many examples a validation decodes."""
        settings = self.config.train
        whole = len(self.split) * self.config.recipe.k
        return whole + self.log_px_examples * settings.validate_k

    @property
    def log_px_examples(self) -> int:
        """The number of examples whose log p(x) is estimated."""
        settings = self.config.train
        most = max(16, LOG_PX_VALUES // (settings.validate_k * self.split.spec.dims))
        return min(settings.validate_n, len(self.split), most)

    def _log_px(self, model: VAE, device: torch.device) -> dict[str, float]:
        k = self.config.train.validate_k
        n = self.log_px_examples
        batches = self.split.spread(n).split(self._rows(min(k, TILE)))
        estimates = []
        for _, rows in self._of_this_process(batches):
            x = self.split.examples(rows).to(device)
            log_w = []
            for i, samples in enumerate(tiles(k)):
                noise = ContentNoise(self.config.seed, x.x, i, samples)
                trace = model(x, Draw(noise.k, noise=noise, enumerate=True))
                log_w.append(trace.log_sum_over_classes(trace.log_w).double())
            log_mean = torch.cat(log_w).logsumexp(0) - torch.tensor(float(k)).log()
            estimates.append(log_mean.cpu())
        by_batch = _in_order(current_launch().gather(estimates))
        log_px = float(torch.cat(by_batch).mean())
        return {"log_px": log_px, "log_px_k": k, "log_px_n": n}

    def _of_this_process(self, batches: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
        """The batches that this process evaluates, with their numbers."""
        rank, world_size = current_launch().share
        return list(enumerate(batches))[rank::world_size]


def _bound(terms: dict[str, Tensor]) -> Tensor:
    """The ELBO of each example; -distortion without a bound."""
    return terms["elbo"] if "elbo" in terms else -terms["distortion"]


def _standard_error(term: Tensor) -> float:
    if len(term) < 2:
        return float("nan")
    return float(term.std() / len(term) ** 0.5)


def _in_order(by_process: list[list[T]]) -> list[T]:
    """Results in the order of the batches, which the processes took in turn."""
    in_turn = zip_longest(*by_process)
    return [value for turn in in_turn for value in turn if value is not None]
