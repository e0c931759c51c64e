"""Measurements of a diagnosis: settings, outliers, the constant, and paired progress."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.small import small_run, trained

import tightbound as tb
from tightbound.config import configure
from tightbound.evaluation.diagnosis import rules
from tightbound.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tightbound.evaluation.diagnosis.measurements import Constant, EncoderGap
from tightbound.evaluation.diagnosis.outliers import (
    ColumnOutlier,
    RowOutlier,
    columns_of,
    row_outliers,
)
from tightbound.evaluation.diagnosis.progress import Progress, progress
from tightbound.evaluation.diagnosis.unusual_settings import remedy, unusual_settings
from tightbound.evaluation.statistic import Mean
from tightbound.models.build import resolve_domain
from tightbound.runs.run import Run, load


def built(recipe: str = "vae", **settings: object) -> Run:
    """An untrained run of digits with these settings, which need not fit training."""
    values = {key.replace("__", "."): value for key, value in settings.items()}
    config = configure("digits", recipe, values={"recipe.size": "s", **values})
    model, data = tb.build(recipe, "digits", latent=2, seed=0)
    spec = model.spec
    config = config.model_copy(update={"spec": spec})
    chosen, _, _ = resolve_domain(config.recipe, spec)
    config = config.model_copy(update={"recipe": chosen})
    return Run(config, model, None, data.splits)


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, []),
        ({"lr": 0.004, "batch": 32, "train__weight_decay": 0.5}, []),
        ({"lr": 0.1}, ["train.lr"]),
        ({"lr": 1e-5}, ["train.lr"]),
        ({"train__weight_decay": 100.0}, ["train.weight_decay"]),
        ({"train__weight_decay": 0.0, "train__clip": 0.0, "train__ema": 0.0}, []),
        ({"batch": 2}, ["train.batch"]),
        ({"batch": 1024}, []),
        ({"objective__beta": 50.0}, ["objective.beta"]),
        ({"objective__beta": 0.01}, ["objective.beta"]),
        ({"objective__free_bits": 0.1}, []),
        ({"objective__free_bits": 5.0, "latent": 64}, ["objective.free_bits"]),
        ({"train__groups": {"inference": {"lr": 1e-6}}}, ["train.groups.inference.lr"]),
        ({"latent": 2}, []),
        ({"latent": 400}, ["recipe.latent"]),
    ],
)
def test_settings_far_from_the_recipe_are_found(
    settings: dict[str, object], keys: list[str]
) -> None:
    unusual = unusual_settings(built(**settings))
    assert [setting.key for setting in unusual] == keys
    if keys:
        back = {**settings, **remedy(unusual)}
        assert unusual_settings(built(**back)) == []


def test_a_recipes_own_values_are_not_unusual() -> None:
    for name in ("beta-vae", "ppca", "rae-l2", "sigma-vae", "info-vae", "factor-vae"):
        config = configure("", name)
        spec = tb.DataSpec(shape=(6,), domain="real", mean=torch.zeros(6))
        run = SimpleNamespace(config=config, spec=spec, history=list)
        assert unusual_settings(run) == [], name


def test_settings_of_training_are_not_named_where_no_step_was_made(
    tmp_path: Path,
) -> None:
    """They have no effect on a model that was solved in closed form."""
    x = np.random.default_rng(0).normal(size=(220, 6)).astype(np.float32)
    far = {"train.lr": 1.0, "train.weight_decay": 50.0, "latent": 4}
    run = tb.train(
        x, "ppca", out=tmp_path / "run", settings=far, report=False, display="none"
    )
    assert unusual_settings(run) == []
    diagnosis = diagnose(run, run.data.test.examples(run.data.test.spread(20)), 0)
    named = [key for verdict in diagnosis.verdicts for key in verdict.settings]
    assert not [key for key in named if key.startswith("train.")]
    assert "trained enough" not in "\n".join(diagnosis.lines())
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_a_setting_is_compared_with_that_of_its_own_recipe() -> None:
    assert unusual_settings(built("beta-vae", objective__beta=20.0)) == []
    (setting,) = unusual_settings(built("beta-vae", objective__beta=0.1))
    assert (setting.value, setting.usual, setting.times) == (0.1, 4.0, 40.0)
    assert setting.words == "objective.beta=0.1 (the recipe's is 4)"


def test_the_values_that_a_caller_gives_are_not_changed() -> None:
    groups = {"inference": {"lr": 1e-5}}
    configure(
        "",
        "vae",
        values={"train.groups": groups, "train.groups.inference.lr": 0.1},
    )
    assert groups == {"inference": {"lr": 1e-5}}


def test_the_spread_of_a_column_leaves_out_three_rows() -> None:
    x = torch.arange(101.0, dtype=torch.float64)[:, None] - 50
    x[7] = 1e6
    columns = columns_of(x)
    assert float(columns.median[0]) == 1.0
    kept = (torch.arange(101.0) - 50 - 1).abs().double()
    kept[7] = 0
    assert float(columns.spread[0]) == pytest.approx(29.0, abs=1.0)
    assert float(columns.full[0]) == pytest.approx(1e6 / math.sqrt(101), rel=1e-3)


def test_a_row_that_carries_the_mean_is_named_and_a_tail_is_not() -> None:
    run = built()
    bound = torch.randn(200, generator=torch.manual_seed(0)).double() - 80
    x = tb.Batch(torch.zeros(200, *run.spec.shape))
    names = [str(i) for i in range(200)]
    assert row_outliers(run, bound, x, names, None) == []
    bound[13] = -9000.0
    (row,) = row_outliers(run, bound, x, names, None)
    assert (row.row, row.bound) == ("13", -9000.0)
    assert row.without == pytest.approx(-80, abs=0.3)
    assert row.mean == pytest.approx(row.without - 8920 / 200, abs=0.1)
    bound[20:40] = -9000.0
    assert row_outliers(run, bound, x, names, None) == [], "a tenth of the rows"


OUTLIERS = [
    RowOutlier("3", "'age'", -9000.0, -120.0, -80.0),
    RowOutlier("17", "", -700.25, -120.0, -80.0),
]


@pytest.mark.parametrize("recipe", ["vae", "ae"])
def test_each_outlying_row_is_named_with_its_figure_and_column(recipe: str) -> None:
    run = built(recipe)
    measured = diagnose(run, run.data.test.examples(torch.arange(30)), 0).measurements
    term = "-distortion" if recipe == "ae" else "bound"
    both = dataclasses.replace(measured, constant=None, row_outliers=OUTLIERS)
    (verdict,) = rules.test_outlier(run, both)
    assert verdict.words == (
        f"row 3, far from the median of column 'age', has a {term} of -9,000.0 nats; "
        f"row 17 has a {term} of -700.2 nats; the mean is -120.0 nats over all rows and "
        "-80.0 over the others"
    )
    assert verdict.change.startswith("correct those rows or leave them out")
    one = dataclasses.replace(measured, constant=None, row_outliers=OUTLIERS[:1])
    (verdict,) = rules.test_outlier(run, one)
    assert verdict.words.count("row ") == 1 and "that row" in verdict.change


def test_a_single_validation_is_compared_with_the_steps_before_it() -> None:
    run = built()
    measured = diagnose(run, run.data.test.examples(torch.arange(30)), 0).measurements
    single = Progress(gained=9.5, error=0.1, early=0, epochs=1.0, steps=250)
    (short,) = rules.undertrained(run, dataclasses.replace(measured, progress=single))
    assert short.words.endswith("250 steps, too few for two validations")
    long = dataclasses.replace(single, gained=1e4, steps=500)
    (verdict,) = rules.undertrained(run, dataclasses.replace(measured, progress=long))
    assert verdict.words == (
        "there was one validation; it is 10000.00 ± 0.10 nats above the mean bound of "
        "the training steps before it"
    )


def test_the_error_of_a_gain_is_that_of_paired_differences(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "vae", steps=60, validate_every=20)
    lines = run.history()
    logged = lines[0]["valid_by_example"]
    assert logged["of"] == 180 and len(logged["bound"]) == 128
    result = progress(run, 99.0)
    assert result is not None and result.paired and result.early == 2
    bounds = [np.array(line["valid_by_example"]["bound"]) for line in lines]
    by_elbo = [line["valid"]["elbo"] for line in lines]
    best = int(np.argmax(by_elbo))
    before = int(np.argmax(by_elbo[:2]))
    change = bounds[best] - bounds[before]
    assert result.gained == pytest.approx(by_elbo[best] - by_elbo[before])
    assert result.error == pytest.approx(change.std(ddof=1) / math.sqrt(180))
    assert result.error < 0.5 * lines[best]["valid"]["elbo_se"]


def test_a_log_without_single_examples_has_an_unpaired_error(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "vae", steps=60, validate_every=20)
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line.pop("valid_by_example", None)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = progress(load(folder), 99.0)
    assert result is not None and not result.paired
    errors = [line["valid"]["elbo_se"] for line in lines if "valid" in line]
    assert result.error in errors


def test_the_column_of_an_outlier_is_named_in_a_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    z = random.normal(size=(300, 1))
    x = z * [[1.0, -1.0, 2.0]] + 0.3 * random.normal(size=(300, 3))
    table = pandas.DataFrame(x, columns=["height", "age", "weight"])
    _, data = tb.build("vae", table, seed=0)
    row = int(data.splits.train.index[5])  # of a random split by a fixed seed
    table.loc[row, "age"] = 1e6
    run = trained(tmp_path / "run", "vae", table, steps=20, validate_every=20)
    rows = run.data.test.examples(torch.arange(20))
    outlier = diagnose(run, rows, 0).measurements.training_outlier
    assert outlier is not None
    assert (outlier.row, outlier.column) == (f"5 (row {row} of the data)", "'age'")
    assert outlier.value == pytest.approx(1e6) and outlier.times > 10


def test_a_remedy_that_is_so_already_is_not_named() -> None:
    """The scale of a discretised logistic is predicted unless it is set."""
    run = built()
    assert not rules.applicable(run, {"likelihood.scale": "predicted"})
    assert rules.applicable(run, {"likelihood.scale": "learned"})
    assert not rules.applicable(run, {"recipe.size": "s"})
    assert not rules.applicable(run, {"likelihood.scale": "nonsense"})
    name = "discretized-logistic"
    other = built(likelihood=name, likelihood__scale="learned")
    assert not rules.applicable(other, {"likelihood": name}), "with its options"


def test_rows_in_two_splits_are_a_verdict(tmp_path: Path) -> None:
    """The remedy leaves them out of training, so that none is left."""
    x = np.random.default_rng(0).normal(size=(220, 4)).astype(np.float32)
    splits = {"valid": x[160:190], "test": np.concatenate([x[190:], x[:10]])}

    def diagnosed(**settings: object) -> Diagnosis:
        folder = tmp_path / f"run-{len(settings)}"
        values = {"recipe.size": "s", "latent": 2, "steps": 10, **settings}
        run = tb.train(
            x[:160], out=folder, settings=values, report=False, display="none", **splits
        )
        rows = run.data.test.examples(torch.arange(40))
        return diagnose(run, rows, 0)

    before = diagnosed()
    first = before.verdicts[0]
    assert first.name == "rows in two splits"
    assert first.values == {"count": 10, "test": 40}
    assert before.measurements.overlap is not None
    assert before.measurements.overlap.test_in_train == 10
    after = diagnosed(**first.settings)
    overlap = after.measurements.overlap
    assert overlap is not None and (overlap.test, overlap.train) == (40, 150)
    assert (overlap.test_in_train, overlap.checked) == (0, 150)
    assert "rows in two splits" not in [verdict.name for verdict in after.verdicts]


@pytest.mark.parametrize("lr", [None, 0.5])
def test_a_model_worse_than_a_constant_by_a_setting_is_said_first(
    lr: float | None,
) -> None:
    """Before faults of the data; without such a setting these may be why, and come first."""
    run = built(**({"lr": lr} if lr else {}))
    measured = diagnose(run, run.data.test.examples(torch.arange(30)), 0).measurements
    assert [setting.key for setting in measured.unusual] == ["train.lr"] * bool(lr)
    bad = dataclasses.replace(
        measured,
        constant=Constant(-900.0, -100.0, Mean(-800.0, 1.0), 1.0, 200),
        training_outlier=ColumnOutlier("5", "3", 1e6, 1.0, 40.0),
        progress=None,
    )
    names = [verdict.name for verdict in rules.verdicts(run, bad)]
    outlier = names.index("outlier in the training data")
    assert names.index("worse than a constant") == (0 if lr else outlier + 1)
    assert outlier == (1 if lr else 0)


def test_a_bound_that_is_loose_by_design_is_not_worse_than_a_constant() -> None:
    """Of importance weighting the ELBO is below log p(x), which is compared as well."""
    worse = Constant(-11.0, -9.0, Mean(-2.0, 0.1), 1.0, 200)
    for recipe, expected in (("vae", 1), ("iwae", 0)):
        run = built(recipe)
        x = run.data.test.examples(torch.arange(30))
        measured = diagnose(run, x, 0).measurements
        gap = EncoderGap(64, 500, Mean(1.9, 0.1), learned=-0.1)
        bad = dataclasses.replace(measured, constant=worse, encoder_gap=gap)
        assert len(rules.worse_than_constant(run, bad)) == expected
        far = dataclasses.replace(bad, encoder_gap=dataclasses.replace(gap, learned=-2))
        assert len(rules.worse_than_constant(run, far)) == 1


def test_validation_and_test_of_one_kind_agree(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "vae", steps=60, validate_every=20)
    rows = run.data.test.spread(1000)
    measured = diagnose(run, run.data.test.examples(rows), 0).measurements
    assert measured.transfer is not None and measured.transfer.valid is not None
    assert rules.shift(run, measured) == []
