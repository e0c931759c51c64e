"""The table of published results: its rows, a training that is killed and goes on, and what is
written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import ablation
import harness
import numpy as np
import speedrun
from reproduce import __main__ as command
from reproduce import jobs, rows, step_time, tables

import tightbound as tb
from tightbound.config import configure
from tightbound.core.data_spec import DataSpec
from tightbound.models.build import build, resolve, resolve_domain
from tightbound.runtime.errors import TightboundError

TINY = """
[rows.tiny]
title = "a tiny VAE"
source = "nowhere"
data = "digits"
recipe = "vae"
paper = 40.0
goal = 1.0
k = 20
images = 12
stages = [{share = 0.75}, {share = 0.25, settings = {objective = "iwae", k = 2}}]
obligatory = true
[rows.tiny.settings]
"recipe.size" = "s"
"train.validate_every" = 4
"train.validate_n" = 8
latent = 2

[rows.later]
title = "not run yet"
source = "nowhere"
data = "digits"
recipe = "vae"
goal = 2.0
"""
TIMES = {
    "step": 0.5,
    "validation": 0.1,
    "per_epoch": 11,
    "precision": "float32",
    "compile": "off",
    "foreign": 0.0,
    "quiet": True,
    "threads": 1,
    "device": "a processor",
}
STEPS = {0.75: 12, 0.25: 4}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a command on the tiny row, whose minutes hold sixteen steps."""
    path = tmp_path / "rows.toml"
    path.write_text(TINY)
    found = step_time.StepTime(**TIMES)
    monkeypatch.setattr(
        step_time.StepTime, "steps", lambda self, minutes: STEPS[minutes / 30]
    )
    monkeypatch.setattr(step_time, "known_or_measured", lambda *args: found)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    folders = {"--work": tmp_path / "work", "--out": tmp_path / "out"}
    options = [str(part) for pair in folders.items() for part in pair]
    return ["--rows", str(path), "--threads", "1", *options]


def spec_of(row: rows.Row) -> DataSpec:
    shape, domain, levels = (1, 28, 28), "binary", 2
    if row.data.startswith("cifar"):
        shape, domain, levels = (3, 32, 32), "levels", 256
    half = torch.full(shape, 0.5)
    return DataSpec(
        shape=shape, domain=domain, levels=levels, mean=half, std=half, rows=50_000
    )


@pytest.mark.parametrize("path", [rows.ROWS, ablation.VARIANTS], ids=lambda p: p.stem)
def test_every_row_is_a_model_of_the_package(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGHTBOUND_DATA", "folder")
    sizes = {}
    for name, row in rows.read(path).items():
        assert row.file().endswith(row.data)
        for stage in range(len(row.stages)):
            config = configure("", row.recipe, values=row.settings_of(stage))
            with torch.device("meta"):
                recipe, spec, _ = resolve_domain(config.recipe, spec_of(row), True)
            recipe = resolve(recipe, spec, True)
            model, _ = build(recipe, spec)
            sizes[name] = sum(p.numel() for p in model.parameters())
    if path == rows.ROWS:  # Burda et al. have 425,284, and no means of the data: 784
        assert sizes["burda-1-vae"] == sizes["burda-1-iwae"] == 425_284 + 784


def test_rows_are_checked(tmp_path: Path) -> None:
    for old, new, words in (
        ('recipe = "vae"', 'recipe = "vae"\nminuts = 3', "'minutes'"),
        ("share = 0.75", "share = 0.5", "not 1 together"),
        ("k = 20", 'unit = "bits"', "bits/dim"),
    ):
        (tmp_path / "rows.toml").write_text(TINY.replace(old, new, 1))
        with pytest.raises(TightboundError, match=words):
            rows.read(tmp_path / "rows.toml")
    with pytest.raises(TightboundError, match="did you mean 'base'"):
        rows.pick(rows.read(ablation.VARIANTS), "bass")


def test_a_row_that_was_killed_goes_on_and_has_the_figures_of_one_that_was_not(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the first stage and before the evaluation, then given again."""
    assert command.main(["tiny", *tiny]) == 0
    whole = json.loads((tmp_path / "out" / "tiny.json").read_text())["runs"]["0"]
    assert [stage["steps"] for stage in whole["stages"]] == [12, 4]
    assert [point["step"] for point in whole["curve"]] == [4, 8, 12, 4]
    assert [point["minutes"] for point in whole["curve"]] == pytest.approx(
        [4 * 0.5 / 60, 8 * 0.5 / 60, 12 * 0.5 / 60, 16 * 0.5 / 60], abs=1e-3
    )
    assert whole["load"]["windows"] == 4 and whole["evaluation"]["images"] == 12

    again = [*tiny, "--work", str(tmp_path / "other"), "--out", str(tmp_path / "new")]
    stop_at = {8}

    class Stops(jobs.LoadLog):
        def validation(self, progress: Any, record: Any) -> None:
            super().validation(progress, record)
            if record["step"] in stop_at:
                stop_at.clear()
                import os
                import signal

                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(jobs, "LoadLog", Stops)
    assert command.main(["tiny", *again]) == command.LEFT
    assert not (tmp_path / "new").exists()
    evaluate = jobs.evaluate
    monkeypatch.setattr(
        jobs, "evaluate", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert command.main(["tiny", *again]) == command.LEFT
    monkeypatch.setattr(jobs, "evaluate", evaluate)
    assert command.main(["tiny", *again]) == 0
    resumed = json.loads((tmp_path / "new" / "tiny.json").read_text())["runs"]["0"]
    for run in (whole, resumed):
        run["evaluation"].pop("seconds")
    assert resumed["evaluation"] == whole["evaluation"]
    assert resumed["curve"] == whole["curve"]


RUN: dict[str, Any] = {
    "minutes": 30.0,
    "stages": [{"steps": 1200, "settings": {}, "time": TIMES}],
    "load": {"foreign_mean": 0.05, "foreign_most": 0.1, "windows": 3, "quiet": True},
    "curve": [
        {"step": 600, "minutes": 5.0, "elbo": -90.0, "log_px": -88.0},
        {"step": 1200, "minutes": 10.0, "elbo": -88.0, "log_px": -86.0},
    ],
    "evaluation": {
        "k": 5000,
        "images": 10_000,
        "terms": {"log_px": {"mean": -85.5, "se": 0.2}},
        "bits_per_dim": {},
    },
}


def test_the_table_says_what_was_missed_and_what_was_not_run(tmp_path: Path) -> None:
    table = rows.read(rows.ROWS)
    row = table["burda-1-iwae"]
    kept = {"row": row.name, "runs": {"0": RUN}}
    (tmp_path / "burda-1-iwae.json").write_text(json.dumps(kept))
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    mark = "<!-- reproduce: {} -->"
    (docs / "results.md").write_text(f"{mark.format('begin')}\n{mark.format('end')}\n")
    tables.write(table, tmp_path, docs)
    lines = (docs / "results.md").read_text().splitlines()
    (ours,) = (line for line in lines if "ROW=burda-1-iwae`" in line)
    assert "85.50 ± 0.20, met" in ours and "K = 5000, 10,000 images" in ours
    assert "30 min = 1,200 steps; 1 thread(s) of a processor |" in ours
    (other,) = (line for line in lines if "ROW=mlp-learned-prior`" in line)
    assert "**not run** (obligatory)" in other
    picture = (docs / "images" / tables.FIGURE).read_text()
    assert "burda-1-iwae: 86.0" in picture

    busy = json.loads(json.dumps(RUN))
    busy["stages"][0]["time"]["quiet"] = False
    busy["load"]["foreign_mean"] = 1.4
    busy["evaluation"]["terms"]["log_px"]["mean"] = -86.0
    text = tables.line(row, {"runs": {"0": RUN, "1": busy}}, None)
    assert "85.75 ± 0.20, 2 seeds, spread 0.35, **missed by 0.15**" in text
    assert "**steps measured on a busy machine**" in text
    assert "others used 1.4 cores meanwhile" in text


class Loads(harness.Load):
    """A machine on which others use the cores that the test says."""

    def __init__(self, *foreign: float) -> None:
        self.said = list(foreign)

    def start(self) -> None: ...

    def foreign(self) -> float:
        return self.said.pop(0)


def test_step_times_are_refused_on_a_busy_machine_unless_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_time, "WINDOW", 0.0)
    settings = {"recipe.size": "s", "latent": 2, "train.precision": "float32"}
    settings |= {"train.compile": "off", "train.batch": 8}
    with pytest.raises(TightboundError, match=r"use 0.30 cores.*--busy"):
        loads = Loads(0.5, 0.3, *[0.9] * 8)
        step_time.measure("digits", "vae", settings, load=loads)
    busy = step_time.measure("digits", "vae", settings, "cpu", True, Loads(0.5, 0.5))
    assert not busy.quiet and busy.foreign == 0.5 and busy.per_epoch == 179
    loads = Loads(0.5, 0.1, *[0.0] * 8, 0.0)
    quiet = step_time.measure("digits", "vae", settings, load=loads)
    assert quiet.quiet and quiet.step > 0 and quiet.settings["train.compile"] == "off"
    assert loads.said == []


def test_other_models_are_measured_in_turn_with_the_reference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twice the reference's seconds in the same rounds is twice its quiet seconds."""

    class Known(SimpleNamespace):
        def run(self, steps: int) -> None: ...
        def validate(self) -> None: ...

    def live(
        source: str, recipe: str, settings: Any, device: str, choices: Any = None
    ) -> step_time.Live:
        compiled = "off" if choices is None else choices["train.compile"]
        return step_time.Live(Known(name=recipe), "float32", compiled, 11)

    windows = iter([0.8, 0.4, 0.6, 0.3, 0.9, 0.3, 0.05] * 2)
    monkeypatch.setattr(harness, "Load", lambda: Loads(load[0]))
    load = [0.9]
    monkeypatch.setattr(step_time, "live", live)
    monkeypatch.setattr(step_time, "ROUNDS", 3)
    monkeypatch.setattr(step_time, "_window", lambda call: next(windows))
    path = tmp_path / "times.json"
    about = (*step_time.REFERENCE, "cpu")
    reference = step_time.StepTime(**{**TIMES, "step": 0.1})
    step_time._keep(path, step_time.REFERENCE, "cpu", reference)
    assert step_time.known_or_measured(path, *about) == reference
    with pytest.raises(TightboundError, match=r"use 0.90 cores"):
        step_time.known_or_measured(path, "digits", "vae", {"train.lr": 0.1})
    load[0] = 0.1
    found = step_time.known_or_measured(path, "digits", "vae", {"train.lr": 0.1})
    assert found.step == pytest.approx(0.2)  # 2 x 0.1
    assert found.validation == pytest.approx(0.05 / 3)  # three times slower now
    assert found.quiet
    again = step_time.known_or_measured(path, "digits", "vae", {"train.lr": 0.2})
    assert again == found, "the learning rate does not change the time of a step"


def test_minutes_hold_the_steps_that_fit_with_their_validations() -> None:
    """Half a second a step, 0.1 s a validation: 60 s hold 0.97 x 60 - 0.1 s of them."""
    found = step_time.StepTime(**TIMES)
    fewest = (0.97 * 60 - 0.1 - 40 * 0.1) / 0.5
    by_epoch = (0.97 * 60 - 0.1) / (0.5 + 0.1 / 11)
    assert found.steps(1.0) == int(max(fewest, by_epoch))


def test_variants_are_compared_on_the_same_images(tmp_path: Path) -> None:
    row = rows.read(ablation.VARIANTS)["base"]
    each = np.array([-80.0, -90.0, -100.0])
    base: Any = {**RUN, "load": None}
    other: Any = {**RUN, "load": None}
    for found, values in ((base, each), (other, each + np.arange(1.0, 4.0))):
        for split in ablation.SPLITS:
            found[split] = {
                "k": 10,
                "images": 3,
                "mean": float(values.mean()),
                "se": 5.77,
                "each": values.tolist(),
            }
    gain = ablation.difference(other, base, "test")
    assert gain == pytest.approx((2.0, 1 / 3**0.5))
    text = ablation.line(row, other, base)
    assert "| 88.00 ± 5.77 | +2.00 ± 0.58 |" in text
    other["test"]["k"] = 20
    assert ablation.difference(other, base, "test") is None
    assert "**not run**" in ablation.table({"base": row}, {})


def test_values_by_image_go_on_where_they_were_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tb.train(
        "digits",
        out=tmp_path / "run",
        display="none",
        report=False,
        settings={"recipe.size": "s", "latent": 2, "train.steps": 2},
    )
    monkeypatch.setattr(ablation, "PIECE", 4)
    whole = ablation.values_of(run, "test", 3, 10, tmp_path / "whole.npy")
    np.save(tmp_path / "part.npy", whole[:4])
    asked = []
    score = ablation.score

    def counted(run: Any, x: Any, *rest: Any) -> Any:
        asked.append(len(x))
        return score(run, x, *rest)

    monkeypatch.setattr(ablation, "score", counted)
    part = ablation.values_of(run, "test", 3, 10, tmp_path / "part.npy")
    assert np.array_equal(part, whole) and asked == [4, 2]


# ---- time to a mark


def test_the_clock_of_a_contestant_stands_while_it_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"time": 100.0}
    monkeypatch.setattr(speedrun.time, "time", lambda: now["time"])
    meter = speedrun.Meter(90.0, tmp_path / "points.json", images=((5, 2), (7, 3)))
    meter._sets = [torch.zeros(5), torch.zeros(7)]
    levels = iter([-95.0, -89.0, -91.0, -85.5, -85.9, -83.0, -83.9])

    def log_px(x: torch.Tensor, k: int) -> torch.Tensor:
        now["time"] += 1000.0
        return torch.full((len(x),), next(levels))

    assert not meter.judge(log_px)  # 95: no mark
    now["time"] += 5.0
    assert not meter.judge(log_px)  # 89, but 91 on the test images
    now["time"] += 5.0
    assert not meter.judge(log_px)  # 85.5 and 85.9: marks 90 and 86
    now["time"] += 5.0
    assert meter.judge(log_px)  # all marks
    seconds = {mark: point["seconds"] for mark, point in meter.reached.items()}
    assert seconds == {"90.0": 20.0, "86.0": 20.0, "84.0": 25.0}
    found = json.loads((tmp_path / "points.json").read_text())
    text = speedrun.table(
        {
            "ours": {**found, "threads": 2, "quiet": True},
            "theirs": {"missing": "no environment"},
        }
    )
    assert "| ours | 20 | 20 | 25 | 83.00 ± 0.00 at 25 s | 2 threads; quiet |" in text
    assert "**not run**: no environment" in text


def test_no_contestant_starts_on_a_busy_machine_unless_that_is_said() -> None:
    assert "use 0.40 cores" in speedrun.refused(False, Loads(0.4), 0.0)
    assert speedrun.refused(True, Loads(0.4), 0.0) == ""
    assert speedrun.refused(False, Loads(0.1), 0.0) == ""


def test_the_estimator_for_all_contestants_is_that_of_the_package() -> None:
    """Of a model that is q = p(z) = N(0, I) and p(x|z) without z, log p(x) is exact."""
    from torch.distributions import Bernoulli, Independent, Normal

    x = (torch.arange(12).reshape(3, 1, 2, 2) % 3 == 0).float()
    p = torch.tensor([0.2, 0.5, 0.7, 0.9]).reshape(1, 2, 2)

    def q_of(images: torch.Tensor) -> Any:
        zero = torch.zeros(len(images), 2)
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def px_of(z: torch.Tensor) -> Any:
        return Independent(Bernoulli(p.expand(len(z), 1, 2, 2)), 3)

    found = speedrun.importance(q_of, px_of)(x, 5)
    truth = (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    assert torch.allclose(found.float(), truth, atol=1e-5)
