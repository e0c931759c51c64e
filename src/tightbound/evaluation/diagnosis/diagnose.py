"""What is wrong with a model, and which setting to change: verdicts in words, from rules with fixed
thresholds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tightbound.core.trace import Batch
from tightbound.evaluation.diagnosis.measurements import Measurements, gather
from tightbound.evaluation.diagnosis.rules import RULES, Verdict
from tightbound.runs.run import Run


@dataclass(frozen=True)
class Diagnosis:
    """The measurements and the verdicts that follow from it."""

    measurements: Measurements
    verdicts: list[Verdict]

    def lines(self) -> list[str]:
        """For a person: a line a verdict, or that nothing was found, and what could not be looked
        at.
        """
        found = [f"{v.name}: {v.words}; {v.change}" for v in self.verdicts] or [
            "nothing wrong found"
        ]
        return found + [
            f"not looked at: {reason}" for reason in self.measurements.skipped
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure with its error, and the verdicts."""
        e = self.measurements
        tree: dict[str, Any] = dataclasses.asdict(e)
        for made, feature in zip(
            tree["latents"]["features"], e.latents.features, strict=True
        ):
            made["active"] = feature.active
        for made, site in zip(tree["latents"]["sites"], e.latents.sites, strict=True):
            made["cap"] = site.cap
        if e.transfer:
            tree["transfer"] |= {
                "lost": e.transfer.lost.to_json(),
                "share": e.transfer.share,
            }
        known: dict[str, Any] = _finite(
            tree | {"verdicts": [v.to_json() for v in self.verdicts]}
        )
        return known


def _finite(value: Any) -> Any:
    """The same with null for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def diagnose(run: Run, x: Batch, seed: int) -> Diagnosis:
    """Measures a run on test examples x (n, *shape) in model units and on its training examples,
    and judges it.

    Example:
        >>> import tempfile, torch, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run").with_data(data.splits)
        ...     x = data.test.examples(torch.arange(50))
        ...     diagnosis = tb.diagnose(run, x, seed=0)
        >>> type(diagnosis).__name__
        'Diagnosis'
    """
    measurements = gather(run, x, seed)
    return Diagnosis(
        measurements, [verdict for rule in RULES for verdict in rule(run, measurements)]
    )
