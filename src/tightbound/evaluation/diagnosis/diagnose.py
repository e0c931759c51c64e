"""Diagnosis of a run: measurements, and verdicts that name the setting to change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tightbound.core.batch import Batch
from tightbound.evaluation.diagnosis.code_usage import CodeUsage
from tightbound.evaluation.diagnosis.measurements import Measurements, measure
from tightbound.evaluation.diagnosis.rules import Verdict, verdicts
from tightbound.runs.run import Run
from tightbound.runtime.reading import Tree

if TYPE_CHECKING:
    from tightbound.evaluation.metrics.novelty import Novelty


@dataclass(frozen=True)
class Diagnosis:
    """Measurements of a run, and the verdicts that follow from them by fixed rules."""

    measurements: Measurements
    verdicts: list[Verdict]

    def lines(self) -> list[str]:
        """A line for each verdict, and for each measurement that was not possible."""
        lines = [f"{v.name}: {v.words}; {v.change}" for v in self.verdicts]
        if not lines:
            lines = ["nothing wrong found"]
        lines += [_words_of_codes(usage) for usage in self.measurements.codes]
        skipped = [f"not looked at: {reason}" for reason in self.measurements.skipped]
        return lines + skipped

    def to_json(self) -> Tree:
        """All measurements with their standard errors, and the verdicts, as JSON."""
        measurements = self.measurements
        tree: Tree = dataclasses.asdict(dataclasses.replace(measurements, novelty=None))
        del tree["novelty"]  # it stands among the metrics
        latents = measurements.latents
        features = tree["latents"]["features"]
        for entry, feature in zip(features, latents.features, strict=True):
            entry["active"] = feature.active
        for entry, site in zip(tree["latents"]["sites"], latents.sites, strict=True):
            entry["cap"] = site.cap
        transfer = measurements.transfer
        if transfer is not None:
            tree["transfer"]["lost"] = transfer.lost.to_json()
            tree["transfer"]["share"] = transfer.share
        if measurements.encoder_gap is not None:
            tree["encoder_gap"]["share"] = measurements.encoder_gap.share
        for entry, usage in zip(tree["codes"], measurements.codes, strict=True):
            entry["share"] = usage.share
        tree["verdicts"] = [verdict.to_json() for verdict in self.verdicts]
        finite: Tree = _finite(tree)
        return finite


def _words_of_codes(usage: CodeUsage) -> str:
    """The use of a codebook in one line."""
    mean = "" if usage.tables == 1 else f", a mean over {usage.tables} tables"
    return (
        f"codes of {usage.site}: {usage.used:.1f} of {usage.entries} entries in use, "
        f"perplexity {usage.perplexity:.1f}{mean}"
    )


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def diagnose(
    run: Run,
    x: Batch,
    seed: int,
    names: Sequence[str] | None = None,
    *,
    novelty: Novelty | None = None,
) -> Diagnosis:
    """Measures a run on test and training examples, and applies the rules.

    Args:
        run: the run.
        x: test examples (n, *shape) in model units.
        seed: seed of all draws.
        names: the numbers of the examples, for verdicts on single rows; "0" and so on
            if None.
        novelty: distances of samples to training examples, where they were measured.

    Example:
        >>> import tempfile, torch, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     x = data.test.examples(torch.arange(50))
        ...     diagnosis = tb.diagnose(run, x, seed=0)
        >>> type(diagnosis).__name__
        'Diagnosis'
    """
    measurements = measure(run, x, seed, names)
    measurements = dataclasses.replace(measurements, novelty=novelty)
    return Diagnosis(measurements, verdicts(run, measurements))
