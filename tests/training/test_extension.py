"""More steps for a finished run, and runs that start from the weights of another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.trainings import SMALL, Listener, train, weights

import tightbound as tb
from tightbound.config import TrainSettings, configure
from tightbound.runs.folder import RunFolder
from tightbound.runtime.errors import TightboundError
from tightbound.training.extension import as_written, extended
from tightbound.training.optimization.optimizer import (
    learning_rate_factor,
    schedule_at,
)
from tightbound.training.run_training import FitOptions, fit
from tightbound.training.trainer import Interrupted

CONFIG = configure("digits", "vae", values=SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(folder)
    return folder


def copy_of(run: Path, folder: Path) -> Path:
    import shutil

    shutil.copytree(run, folder)
    return folder


def extend(folder: Path, more: int, show: Any = None) -> tb.Run:
    return fit(
        CONFIG,
        "digits",
        folder,
        show or Listener(),
        FitOptions(extend=more),
        mode="resume",
    )


def test_an_extension_is_a_schedule_of_its_own() -> None:
    """Steps 0 to 59 as planned, then 40 steps whose rate rises from 0 and falls again."""
    settings = TrainSettings(steps=100, extensions=((60, 60),), warmup=0.1)
    before = TrainSettings(steps=60, warmup=0.1)
    alone = TrainSettings(steps=40, warmup=0.1)

    def factor(settings: TrainSettings, step: int) -> float:
        first, end = schedule_at(settings, step)
        return learning_rate_factor(settings, step - first, end - first)

    assert [factor(settings, s) for s in range(60)] == [
        factor(before, s) for s in range(60)
    ]
    assert [factor(settings, 60 + s) for s in range(40)] == [
        factor(alone, s) for s in range(40)
    ]
    assert factor(settings, 59) < 0.02 < 0.1 < factor(settings, 60)
    # a run that stopped early at step 40 of 60: its first steps are those of 60
    stopped = TrainSettings(steps=80, extensions=((40, 60),), warmup=0.1)
    assert schedule_at(stopped, 39) == (0, 60)
    assert schedule_at(stopped, 40) == (40, 80)


def test_settings_go_back_to_what_a_state_was_written_with() -> None:
    train_settings = TrainSettings(steps=61, epochs=61 / 7)
    config = CONFIG.model_copy(update={"train": train_settings})
    from tightbound.config import to_text

    once = extended(config, 50, 30)
    twice = extended(once, 80, 5)
    assert (once.train.steps, twice.train.steps) == (80, 85)
    assert twice.train.epochs == pytest.approx(85 / 7)
    assert as_written(twice, to_text(once)) == once
    assert as_written(twice, to_text(config)) == config
    assert as_written(twice, None) == twice


def test_a_finished_run_takes_more_steps(finished: Path, tmp_path: Path) -> None:
    run = copy_of(finished, tmp_path / "a")
    old = weights(run)
    show = Listener()
    result = extend(run, 40, show)
    steps = [record["step"] for record in result.history()]
    assert steps == [20, 40, 60, 80, 100]
    assert [record["step"] for record in show.records] == [80, 100]
    assert result.config.train.steps == 100
    assert result.config.train.extensions == ((60, 60),)
    assert weights(run) != old
    assert weights(run / "earlier" / "step-60") == old
    assert any("40 steps more" in line and "earlier" in line for line in show.said)
    before = tb.load(run / "earlier" / "step-60")
    assert before.config.train.steps == 60 and before.config.train.extensions == ()
    lines = (run / "log.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events.count("start") == 1 and events.count("resume") == 1


def test_an_interrupted_extension_resumes_bit_for_bit(
    finished: Path, tmp_path: Path
) -> None:
    whole = copy_of(finished, tmp_path / "whole")
    cut = copy_of(finished, tmp_path / "cut")
    extend(whole, 40)
    with pytest.raises(Interrupted):
        extend(cut, 40, Listener(press_at=80))
    with pytest.raises(TightboundError, match="at step 80 of 100: finish it with --re"):
        extend(cut, 40)
    train(cut, resume=True)
    assert weights(cut) == weights(whole)


def test_a_kill_after_the_settings_were_written_loses_nothing(
    finished: Path, tmp_path: Path
) -> None:
    """The new config.toml alone begins the extension; the state is that of before it."""
    whole = copy_of(finished, tmp_path / "whole")
    killed = copy_of(finished, tmp_path / "killed")
    extend(whole, 40)
    folder = RunFolder(killed)
    folder.keep_earlier(60)
    config = folder.settings()
    assert config is not None
    folder.write_config(extended(config, 60, 40))
    train(killed, resume=True)
    assert weights(killed) == weights(whole)


def test_two_extensions_and_a_run_that_stopped_early(tmp_path: Path) -> None:
    values: dict[str, Any] = {"train__patience": 1, "train__lr": 1e-30}
    train(tmp_path / "run", train__ema=0, **values)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    stopped = [json.loads(line) for line in log.splitlines() if "early stop" in line]
    begun = stopped[0]["step"]
    assert begun < 60
    extend(tmp_path / "run", 20)
    run = extend(tmp_path / "run", 20)
    at = [first for first, _ in run.config.train.extensions]
    assert at == [begun, begun + 20] and run.config.train.steps == begun + 40
    assert run.config.train.extensions[0][1] == 60
    assert run.history()[-1]["step"] == begun + 40
    kept = sorted(path.name for path in (tmp_path / "run" / "earlier").iterdir())
    assert kept == sorted([f"step-{begun}", f"step-{begun + 20}"])


def test_what_cannot_be_extended_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(TightboundError, match="no run"):
        tb.train(out=tmp_path / "none", extend=5, display="none")
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(TightboundError, match="extend ="):
            tb.train(out=finished, extend=wrong, display="none")  # type: ignore[arg-type]
    with pytest.raises(TightboundError, match="contradict"):
        tb.train(out=finished, extend=5, overwrite=True, display="none")
    with pytest.raises(TightboundError, match="more steps by --extend"):
        tb.train("digits", settings={"train.extensions": [[1, 2]]}, display="none")
    train(tmp_path / "ppca", recipe="ppca")
    with pytest.raises(TightboundError, match="closed form"):
        fit(
            configure("digits", "ppca", values=SMALL),
            "digits",
            tmp_path / "ppca",
            Listener(),
            FitOptions(extend=5),
            mode="resume",
        )
    model, _ = tb.build("vae", "digits", latent=2, seed=0)
    tb.save(model, tmp_path / "own")
    with pytest.raises(TightboundError, match="no state to train on from"):
        tb.train(out=tmp_path / "own", extend=5, display="none")
    assert not (tmp_path / "own" / "earlier").exists()


# ---- the weights of a run as a start


def first_weights(run: Path, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The initial weights of a run, as `tb.build` makes them."""
    model, _ = tb.build(
        "vae", "digits", seed=5, settings={**settings, "init": str(run)}
    )
    return model.state_dict()


def test_a_run_starts_from_the_weights_of_another(
    finished: Path, tmp_path: Path
) -> None:
    few = {**SMALL, "train.steps": 1, "train.lr": 1e-30, "train.ema": 0}
    few |= {"train.weight_decay": 0, "train.validate_every": 1}
    run = tb.train(
        "digits",
        init=finished,
        out=tmp_path / "b",
        settings=few,
        seed=3,
        display="none",
    )
    old = tb.load(finished)
    assert run.config.recipe == old.config.recipe
    assert run.config.train.init == str(finished.resolve())
    x = run.read("digits")[:5]
    assert torch.allclose(run.encode(x), old.encode(x), atol=1e-6)
    built = first_weights(finished, SMALL)
    assert all(torch.equal(built[k], v) for k, v in old.model.state_dict().items())
    # another objective may be trained from there, and a Run is as good as its folder
    other = tb.train(
        "digits",
        init=old,
        out=tmp_path / "c",
        settings=few,
        objective="stl",
        display="none",
    )
    assert other.config.recipe.objective.name == "stl"


def test_weights_that_do_not_fit_are_refused(finished: Path, tmp_path: Path) -> None:
    few = {**SMALL, "train.steps": 2}

    def start(data: Any, **more: Any) -> None:
        values = {**few, **more}
        tb.train(
            data,
            "vae",
            init=finished,
            out=tmp_path / "b",
            settings=values,
            display="none",
        )

    with pytest.raises(TightboundError, match="latent is 3, and 4 was asked"):
        start("digits", latent=4)
    rows = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(TightboundError, match="do not fit: its recipe"):
        start(rows, **{"recipe.size": "s"})
    halves = np.random.default_rng(0).integers(0, 5, (60, 8, 8)).astype(np.uint8)
    with pytest.raises(TightboundError, match="levels of its data is 17"):
        tb.train(
            halves, init=finished, out=tmp_path / "b", settings=few, display="none"
        )
    with pytest.raises(TightboundError, match="no run folder"):
        tb.train("digits", init=tmp_path / "none", display="none")
    assert not (tmp_path / "b" / "config.toml").exists()


@pytest.mark.parametrize(("digits", "kind"), [(4, "float64"), (0, "int64")])
def test_the_step_and_type_of_a_column_may_differ(
    digits: int, kind: str, tmp_path: Path
) -> None:
    """The weights mean the same where columns of the same names and kinds are written otherwise."""
    few = {"recipe.size": "s", "latent": 2, "train.steps": 1, "train.lr": 1e-30}
    few |= {"train.ema": 0, "train.weight_decay": 0, "train.validate_every": 1}
    random = np.random.default_rng(0)

    def start(decimals: int, **more: Any) -> tb.Run:
        table = pd.DataFrame(random.normal(0, 9, (60, 2)), columns=["a", "b"])
        table = table.round(decimals)
        if not decimals:
            table = table.astype(int)
        folder = tmp_path / str(decimals)
        return tb.train(table, out=folder, settings=few, display="none", **more)

    first = start(2)
    second = start(digits, init=first)
    assert [f.type for f in second.spec.fields] == [kind, kind]
    assert second.spec.fields != first.spec.fields
    old = first.model.state_dict()
    for name, value in second.model.state_dict().items():
        assert torch.allclose(value, old[name], atol=1e-6), name


def test_changed_initial_weights_are_not_taken(finished: Path, tmp_path: Path) -> None:
    """A start that is repeated, as after a kill before the first state, has the same weights."""
    source = copy_of(finished, tmp_path / "source")
    with pytest.raises(Interrupted):
        train(tmp_path / "b", Listener(press_at=20), train__init=str(source))
    for state in (tmp_path / "b" / "state").glob("*.pt"):
        state.unlink()
    whole = train(tmp_path / "whole", train__init=str(source))
    train(tmp_path / "b", resume=True)
    assert weights(tmp_path / "b").keys() == weights(tmp_path / "whole").keys()
    again = tb.load(tmp_path / "b")
    x = whole.read("digits")[:5]
    assert torch.equal(again.encode(x), tb.load(tmp_path / "whole").encode(x))
    extend(source, 20)
    with pytest.raises(TightboundError, match="other weights than when"):
        train(tmp_path / "b", resume=True)
