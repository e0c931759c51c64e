"""Remedies of verdicts on a model: each, as it is written, improves its figure.

A tiny model with a known fault, the verdict and the remedy that it names, the same model
trained again with that remedy, and the figure that the verdict is about: better by more
than two standard errors on each of three seeds. Long: TIGHTBOUND_LONG=1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.small import trained

import tightbound as tb
from tightbound.evaluation.diagnosis.diagnose import Diagnosis
from tightbound.evaluation.diagnosis.rules import COPIES

pytestmark = pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="trains: TIGHTBOUND_LONG=1"
)
SEEDS = (1, 2, 3)
Array = NDArray[np.float32]
Settings = dict[str, object]
Source = Array | pd.DataFrame | str
Figure = tuple[float, float]  # larger is better, and its standard error


# ---- data, each with one property by construction


def factors(seed: int, n: int = 600) -> Array:
    """Two factors in six columns, with noise."""
    r = np.random.default_rng(seed)
    z = r.normal(size=(n, 2))
    noise = 0.3 * r.normal(size=(n, 6))
    return (z @ r.normal(size=(2, 6)) + noise).astype(np.float32)


def noise(seed: int) -> Array:
    """No structure that a code could hold."""
    return np.random.default_rng(seed).normal(size=(600, 8)).astype(np.float32)


def two_scales(seed: int) -> Array:
    """Fifteen rows of a hundred have thirty times the spread of the others."""
    r = np.random.default_rng(seed)
    is_wide = r.random(1000) < 0.15
    narrow = 0.1 * r.normal(size=(1000, 6))
    wide = 4 + 3 * r.normal(size=(1000, 6))
    return np.where(is_wide[:, None], wide, narrow).astype(np.float32)


def heavy(seed: int) -> Array:
    """Sixteen columns with noise of Student's t, 1.1 degrees of freedom."""
    r = np.random.default_rng(seed)
    signal = r.normal(size=(1000, 1)) @ r.normal(size=(1, 16))
    return (signal + r.standard_t(1.1, size=(1000, 16))).astype(np.float32)


def heavy_table(seed: int) -> pd.DataFrame:
    """The same beside a column of categories."""
    frame = pd.DataFrame(heavy(seed), columns=[f"c{i}" for i in range(16)])
    is_u = np.random.default_rng(seed).random(len(frame)) < 0.5
    return frame.assign(kind=np.where(is_u, "u", "v"))


def unequal(seed: int) -> Array:
    """Independent columns whose spreads are 0.01 to 100, which one scale does not fit."""
    x = np.random.default_rng(seed).normal(size=(600, 8))
    return (x * np.logspace(-2, 2, 8)).astype(np.float32)


def clusters(seed: int) -> Array:
    """Three narrow clusters, far apart."""
    r = np.random.default_rng(seed)
    centres = 10 * r.normal(size=(3, 8))
    x = centres[r.integers(0, 3, 1000)] + 0.1 * r.normal(size=(1000, 8))
    return x.astype(np.float32)


def log_normal(seed: int) -> pd.DataFrame:
    """A column above 0, two others that follow it."""
    r = np.random.default_rng(seed)
    z = r.normal(size=1000)
    amount = np.exp(1.2 * z + 0.3 * r.normal(size=1000))
    return pd.DataFrame(
        {"amount": amount, "a": z + r.normal(size=1000), "b": r.normal(size=1000)}
    )


def bits(seed: int) -> NDArray[np.uint8]:
    """Truth values without structure, so that rows can only be remembered."""
    is_one = np.random.default_rng(seed).uniform(size=(300, 24)) < 0.5
    return is_one.astype(np.uint8)


def digits(seed: int) -> str:
    """Small images."""
    return "digits"


# ---- the figure that a verdict is about


def kl_of_codes(diagnosis: Diagnosis) -> Figure:
    """Nats that the code holds."""
    kls = [site.kl for site in diagnosis.measurements.latents.sites if site.kl]
    return sum(kl.mean for kl in kls), math.hypot(*[kl.se for kl in kls])


def calibrated(diagnosis: Diagnosis) -> Figure:
    """Nearness of the central 50 % to the half of the values."""
    result = diagnosis.measurements.calibration
    assert result is not None
    return -abs(result.central50.mean - 0.5), result.central50.se


def above_constant(diagnosis: Diagnosis) -> Figure:
    """The bound above that of a constant."""
    result = diagnosis.measurements.constant
    assert result is not None
    return result.above.mean, result.above.se


def unlike_the_prior(diagnosis: Diagnosis) -> Figure:
    """The AUC of codes against draws of the prior; its error is at most that of a share."""
    latents = diagnosis.measurements.latents
    auc = latents.c2st_auc
    return -auc, math.sqrt(max(auc * (1 - auc), 0.01) / latents.n)


def hidden_share(diagnosis: Diagnosis) -> Figure:
    """The inference gap as a share of all that was learned."""
    gap = diagnosis.measurements.encoder_gap
    assert gap is not None
    return -gap.share, gap.gap.se / gap.learned


def used_codes(diagnosis: Diagnosis) -> Figure:
    """The entropy of entries as a share; the error of n codes of a spread of at most 1 / 2."""
    (usage,) = diagnosis.measurements.codes
    return usage.share, 0.5 / math.sqrt(usage.n)


def distance_of_columns(diagnosis: Diagnosis) -> Figure:
    """The largest distance of a column; its error is at most that of a share of 1,600."""
    table = diagnosis.measurements.table
    assert table is not None
    return -max(column.distance for column in table.columns), 1 / 80


@dataclass(frozen=True)
class Case:
    """A model with a fault, and the verdict with the remedy that it should get.

    Args:
        data: the data of a seed.
        settings: settings of the training, the fault among them.
        name: the verdict.
        fix: its remedy.
        figure: the figure that the remedy should improve.
        recipe: the recipe.
        named: settings that the remedy should name; {} for one in words alone.
    """

    data: Callable[[int], Source]
    settings: Settings
    name: str
    fix: str
    figure: Callable[[Diagnosis], Figure]
    recipe: str = "vae"
    named: Settings = field(default_factory=dict)


SCALE = "likelihood scale wrong"
PREDICTED: Settings = {"likelihood.scale": "predicted"}
FIXED: Settings = {
    "likelihood": "gaussian",
    "likelihood.scale": "fixed",
    "likelihood.value": 3.0,
}
SLOW: Settings = {"inference": {"lr": 2e-4}}  # a fifth, which is not unusual
CASES = {
    "other scale": Case(
        two_scales, {}, SCALE, "other_scale", calibrated, named=PREDICTED
    ),
    "heavy tails": Case(
        heavy,
        {**PREDICTED, "latent": 1},
        SCALE,
        "heavy_tails",
        calibrated,
        named={"likelihood": "laplace"},
    ),
    "heavy columns": Case(
        heavy_table,
        {**PREDICTED, "latent": 1},
        SCALE,
        "heavy_columns",
        calibrated,
        named={"likelihood.real": "laplace"},
    ),
    "a scale that is young": Case(
        two_scales,
        {"likelihood": "laplace", **PREDICTED, "train.steps": 10},
        SCALE,
        "more_steps",
        calibrated,
        named={"train.steps": 1000},
    ),
    "scale first": Case(
        factors,
        FIXED,
        "collapsed",
        "scale_first",
        kl_of_codes,
        named={"likelihood.scale": "learned", "likelihood.value": ""},
    ),
    "free bits": Case(
        noise,
        {},
        "collapsed",
        "elbo_free_bits",
        kl_of_codes,
        recipe="vae-stl",
        named={"objective": "elbo", "objective.free_bits": 0.1},
    ),
    "an empty code that is young": Case(
        factors,
        {"train.steps": 20, "objective.warmup": 0.3},
        "collapsed",
        "more_steps",
        kl_of_codes,
        named={"train.steps": 1000},
    ),
    "more features": Case(
        unequal,
        {"latent": 1},
        "worse than a constant",
        "more_features",
        above_constant,
        recipe="ppca",
        named={"recipe.latent": 2},
    ),
    "codes worse than a constant": Case(
        factors,
        {"latent": 8},
        "worse than a constant",
        "more_steps",
        above_constant,
        recipe="vq-vae",
        named={"train.steps": 1000},
    ),
    "a codebook that is young": Case(
        clusters,
        {"latent": 8},
        "codebook collapsed",
        "more_steps",
        used_codes,
        recipe="vq-vae",
        named={"train.steps": 1000},
    ),
    "raise beta": Case(
        digits,
        {"objective.beta": 0.11, "latent": 16, "train.steps": 300},
        "prior mismatch",
        "raise_beta",
        unlike_the_prior,
        named={"objective.beta": 1.0},
    ),
    "fit a prior": Case(
        clusters, PREDICTED, "prior mismatch", "fit_prior", unlike_the_prior
    ),
    "poor encoder": Case(
        digits,
        {"latent": 8, "train.steps": 60, "train.groups": SLOW},
        "poor encoder",
        "more_steps",
        hidden_share,
        named={"train.steps": 1000},
    ),
    "one-sided column": Case(
        log_normal,
        {"data.fields": {"amount": "real"}},
        "column unlike the data",
        "one_sided",
        distance_of_columns,
        named={"data.fields.amount": "positive"},
    ),
}


def judged(
    folder: Path, case: Case, seed: int, settings: Settings, prior: str = ""
) -> Diagnosis:
    """The diagnosis of a model, with a fitted prior where one is named."""
    base: Settings = {"train.steps": 200, "validate_every": 50, "seed": seed}
    values = {**base, "train.validate_k": 1, "train.validate_n": 1, **settings}
    values = {key: value for key, value in values.items() if value != ""}
    run = trained(folder, case.recipe, case.data(seed), save_seconds=1000, **values)
    if prior:
        run = tb.fit_prior(run, prior, display="none")
    test = run.data.test
    return tb.diagnose(run, test.examples(test.spread(1000)), 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_a_remedy_as_it_is_named_improves_its_figure(
    name: str, seed: int, tmp_path: Path
) -> None:
    case = CASES[name]
    before = judged(tmp_path / "before", case, seed, case.settings)
    verdicts = [verdict for verdict in before.verdicts if verdict.name == case.name]
    assert [verdict.fix for verdict in verdicts] == [case.fix], before.lines()
    assert verdicts[0].settings == case.named
    prior = verdicts[0].values["prior"] if case.fix == "fit_prior" else ""
    settings = {**case.settings, **verdicts[0].settings}
    after = judged(tmp_path / "after", case, seed, settings, prior)
    old, old_se = case.figure(before)
    new, new_se = case.figure(after)
    assert new - old > 2 * math.hypot(old_se, new_se), (old, new)


def copied(folder: Path, seed: int, settings: Settings) -> tuple[list[str], float, int]:
    """The fixes of verdicts on copies, the share of decoded means that are some, and n."""
    base: Settings = {"train.steps": 1000, "latent": 8, "train.lr": 0.004}
    values = {**base, "validate_every": 1000, "seed": seed, **settings}
    run = trained(folder, "vae", bits(seed), save_seconds=1000, **values)
    evaluation = tb.evaluate(run, k=2, subset=0, metrics="novelty")
    novelty = evaluation.metrics.novelty
    assert novelty is not None and evaluation.diagnosis is not None
    means = novelty.pixels.sets["means"]
    verdicts = evaluation.diagnosis.verdicts
    fixes = [verdict.fix for verdict in verdicts if verdict.name == COPIES]
    return fixes, means.copies, len(means.distances)


@pytest.mark.xfail(
    strict=True, reason="the verdict does not come on every one of the three seeds"
)
@pytest.mark.parametrize(
    "remedy",
    [{"data.limit": 24, "train.steps": 100}, {}],
    ids=["fewer steps", "more data"],
)
def test_fewer_steps_and_more_data_leave_fewer_copies(
    remedy: Settings, tmp_path: Path
) -> None:
    """Of 24 rows, after a thousand steps: a remedy in words, which says both.

    There are as few samples as rows, so the three seeds are taken together.
    """
    changes = []
    variance = 0.0
    for seed in SEEDS:
        few: Settings = {"data.limit": 24}
        fixes, before, n = copied(tmp_path / f"before-{seed}", seed, few)
        assert fixes == ["less_memory"]
        _, after, m = copied(tmp_path / f"after-{seed}", seed, remedy)
        changes.append(before - after)
        variance += 0.25 / n + 0.25 / m  # at most, of two shares
    assert sum(changes) > 2 * math.sqrt(variance)
