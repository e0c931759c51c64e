"""Callbacks and trackers: when they are called, their metrics, and that nothing else changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.trainings import SMALL, weights

import tightbound as tb
from tightbound.report import trackers
from tightbound.runtime.errors import TightboundError


class Recorder(tb.Callback):
    """Keeps what it was called with, and gives a metric of the model."""

    def __init__(self, name: str = "mean") -> None:
        self.name = name
        self.calls: list[tuple[str, int]] = []
        self.records: list[dict[str, Any]] = []

    def start(self, progress: Any) -> None:
        self.calls.append(("start", progress.step))

    def validation(self, progress: Any, record: Any) -> Mapping[str, float]:
        self.calls.append(("validation", progress.step))
        self.records.append(record)
        torch.rand(3)
        mean = progress.run.sample(4, seed=progress.step).mean()
        return {self.name: float(mean)}

    def end(self, progress: Any) -> None:
        self.calls.append(("end", progress.step))


def train(out: Path, data: Any = "digits", **options: Any) -> tb.Run:
    return tb.train(
        data, out=out, settings=SMALL, display="none", report=False, **options
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "plain"
    train(folder)
    return folder


@pytest.mark.parametrize("ema", [0.999, 0])
def test_callbacks_are_called_and_change_no_weight(
    plain: Path, tmp_path: Path, ema: float
) -> None:
    if not ema:
        plain = tmp_path / "without averages"
        train(plain, ema=0)
    first, second = Recorder(), Recorder("other")
    run = train(tmp_path / "run", ema=ema, callbacks=[first, second])
    assert weights(tmp_path / "run") == weights(plain)
    validations = [("validation", step) for step in (20, 40, 60)]
    assert first.calls == [("start", 0), *validations, ("end", 60)]
    assert "metrics" not in first.records[0] and second.records[0]["metrics"]
    last = run.history()[-1]
    assert set(last["metrics"]) == {"mean", "other"}
    if run.config.train.ema and last["best"]:
        expected = float(run.sample(4, seed=60).mean())
        assert last["metrics"]["mean"] == pytest.approx(expected, rel=1e-5)


class Fails(tb.Callback):
    """Fails at the first validation."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.ended = False

    def validation(self, progress: Any, record: Any) -> Any:
        return self.value

    def end(self, progress: Any) -> None:
        self.ended = True


def test_values_that_are_no_metrics_are_refused(tmp_path: Path) -> None:
    for i, value in enumerate(({"a": "b"}, {1: 2.0}, {"a": None})):
        callback = Fails(value)
        with pytest.raises(TightboundError, match="callback Fails returned"):
            train(tmp_path / str(i), callbacks=[callback])
        assert callback.ended, "the end is called after an error too"
    with pytest.raises(TightboundError, match="another callback has returned"):
        train(tmp_path / "same", callbacks=[Fails({"a": 1.0}), Fails({"a": 2.0})])
    train(tmp_path / "nan", callbacks=[Fails({"a": float("nan")})])
    log = (tmp_path / "nan" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line).get("metrics") for line in log][-1] == {"a": None}


def test_what_is_no_callback_is_refused(tmp_path: Path) -> None:
    for wrong in (print, [print], [tb.Callback], "tensorboard"):
        with pytest.raises(TightboundError, match="callback"):
            train(tmp_path / "a", callbacks=wrong)
    with pytest.raises(TightboundError, match="tensorboard"):
        train(tmp_path / "a", track="tensorbord")
    assert not (tmp_path / "a").exists()


class StandIn(SimpleNamespace):
    """A module with the interface of wandb that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(__spec__=object(), __name__="wandb")
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **options: Any) -> StandIn:
        self.opened.append(options)
        return self

    def Image(self, image: Any) -> Any:
        assert isinstance(image, Image.Image)
        return np.asarray(image)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_module_tracker_gets_figures_and_pictures(
    name: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = StandIn()
    monkeypatch.setitem(sys.modules, name, module)
    metric = Recorder()
    run = train(tmp_path / "run", track=name, callbacks=[metric])
    assert weights(tmp_path / "run") == weights(plain)
    assert module.opened[0]["project"] == "tightbound"
    assert module.opened[0]["name"] == "run" and module.finished == 1
    assert module.opened[0]["config"]["train"]["steps"] == 60
    assert [step for step, _ in module.logged] == [20, 40, 60]
    last = module.logged[-1][1]
    history = run.history()[-1]
    assert last["valid/elbo"] == history["valid"]["elbo"]
    assert last["metrics/mean"] == history["metrics"]["mean"]
    assert last["lr"] == history["lr"]
    assert last["reconstructions"].ndim == 2 and last["samples"].std() > 0


def test_settings_have_keys_with_dots() -> None:
    settings = {"seed": 0, "train": {"lr": 0.1, "more": {"a": None}}, "empty": {}}
    expected = {"seed": 0, "train.lr": 0.1, "train.more.a": None, "empty": {}}
    assert trackers.flat(settings) == expected


def test_a_table_is_tracked_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    train(
        tmp_path / "run", np.random.default_rng(0).normal(size=(200, 5)), track="wandb"
    )
    assert "samples" not in module.logged[-1][1] and "lr" in module.logged[-1][1]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path / "run", track="tensorboard")
    tb.train(
        out=tmp_path / "run",
        extend=20,
        track="tensorboard",
        display="none",
        report=False,
    )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    elbo = events.Scalars("valid/elbo")
    assert [event.step for event in elbo] == [20, 40, 60, 80]
    assert elbo[2].value == pytest.approx(run.history()[2]["valid"]["elbo"], rel=1e-6)
    assert [image.step for image in events.Images("samples")][-1] == 80


def test_mlflow_has_figures_settings_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra [mlflow]")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    run = train(tmp_path / "run", track="mlflow", callbacks=[Recorder()])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("tightbound")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.run_name == "run" and kept.info.status == "FINISHED"
    assert kept.data.params["train.steps"] == "60"
    history = client.get_metric_history(kept.info.run_id, "valid/elbo")
    assert [point.step for point in history] == [20, 40, 60]
    expected = [line["valid"]["elbo"] for line in run.history()]
    assert [point.value for point in history] == pytest.approx(expected)
    assert "metrics/mean" in kept.data.metrics
    images = [file.path for file in client.list_artifacts(kept.info.run_id, "images")]
    assert sum("samples" in path for path in images) >= 3


def test_a_tracker_that_is_not_installed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TightboundError, match=r"pip install 'tightbound\[wandb\]'"):
        train(tmp_path / "a", track="wandb")
