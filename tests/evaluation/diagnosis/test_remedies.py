"""Remedies that no case of the benchmark names: each changes the figure it is about."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.diagnosis_cases import CASES, campaign

from tightbound.evaluation.diagnosis.diagnose import Diagnosis

Splits = tuple[NDArray[np.float32], ...]
CASE = CASES["vae | signals | 0"]


def judged(
    splits: Splits, folder: Path, settings: dict[str, object]
) -> tuple[Diagnosis, NDArray[np.float64]]:
    """The diagnosis of a model of signals, and the ELBO of its test examples."""
    merged = campaign._merged(CASE.settings, settings)
    run = campaign._train(CASE, merged, splits, folder)
    return campaign._diagnosis(run), campaign._elbo(run, splits[2]).numpy()


def gain(after: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """The paired gain of the ELBO in standard errors."""
    change = after - before
    return float(change.mean() / change.std(ddof=1) * math.sqrt(len(change)))


def test_few_rows_are_told_a_linear_network(tmp_path: Path) -> None:
    """Weight decay 1 and 5 gave 0.3 and 0.0 nats here, network=linear 3.4 +- 0.5."""
    train, valid, test = campaign.splits_of("signals")
    splits = (train[:50], valid, test)
    result, before = judged(splits, tmp_path / "before", {})
    first = result.verdicts[0]
    assert first.name == "overfitting" and first.settings == {"network": "linear"}
    result, after = judged(splits, tmp_path / "after", dict(first.settings))
    assert gain(after, before) > 2
    assert "overfitting" not in [verdict.name for verdict in result.verdicts]


@pytest.mark.parametrize(("beta", "name"), [(6.0, "collapsed")])
def test_a_weight_that_is_not_far_but_too_high(
    beta: float, name: str, tmp_path: Path
) -> None:
    splits = campaign.splits_of("signals")
    result, before = judged(splits, tmp_path / "before", {"objective.beta": beta})
    first = result.verdicts[0]
    assert (first.name, first.fix) == (name, "lower_beta")
    result, after = judged(
        splits, tmp_path / "after", {"objective.beta": beta, **first.settings}
    )
    assert gain(after, before) > 2 and result.verdicts == []


def test_a_code_without_structure_to_hold_gets_more_nats_by_free_bits(
    tmp_path: Path,
) -> None:
    """Of pure noise nothing can be learned: the figure that changes is the code's."""
    random = np.random.default_rng(0)
    splits = tuple(
        random.normal(size=x.shape).astype(np.float32)
        for x in campaign.splits_of("signals")
    )
    result, _ = judged(splits, tmp_path / "before", {"steps": 200})
    first = result.verdicts[0]
    assert first.name == "collapsed" and first.settings == {"objective.free_bits": 0.1}
    settings = {"steps": 200, **first.settings}
    after, _ = judged(splits, tmp_path / "after", settings)
    rates = [d.measurements.latents.sites[0].kl for d in (result, after)]
    assert rates[0] is not None and rates[1] is not None
    assert rates[1].mean > rates[0].mean + 2 * math.hypot(rates[0].se, rates[1].se)
