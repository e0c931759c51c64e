"""A run folder that is damaged, half-written, newer, or not one gets a sentence; nothing in it is
lost.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tightbound import api
from tightbound import config as settings
from tightbound.config import configure
from tightbound.evaluation import evaluate
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError
from tightbound.training import run_training as fit_module
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

SETTINGS: dict[str, Any] = {
    "recipe.size": "s",
    "latent": 4,
    "train.steps": 20,
    "train.batch": 32,
    "train.validate_every": 10,
    "train.validate_n": 4,
    "train.save_seconds": 0,
}
FILES = [
    "config.toml",
    "environment.json",
    "log.jsonl",
    "model.safetensors",
    "ema.safetensors",
]


def train(folder: Path, *, resume: bool = False) -> Run:
    return fit(
        configure("digits", "vae", values=SETTINGS),
        "digits",
        folder,
        Quiet(),
        mode="resume" if resume else "new",
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder)
    return folder


def read_everything(folder: Path, *, diagnosis: bool = True) -> None:
    run = load(folder)
    run.history()
    evaluate(run, k=3, limit=5, diagnosis=diagnosis)
    run.sample(2)


@pytest.mark.parametrize("name", [*FILES, "state/state-20.pt"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_gets_a_sentence_or_does_not_matter(
    whole: Path, tmp_path: Path, name: str, share: float
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    # The diagnosis, a second of computing, reads no weights and no state itself.
    reading = partial(read_everything, diagnosis=name in FILES[:3])
    for use in (reading, lambda f: train(f, resume=True)):
        try:
            use(folder)
        except TightboundError as error:
            assert Path(name).name in str(error)
            assert "\n" not in str(error)
        else:
            if name != "ema.safetensors" or use is not reading:
                assert (folder / "ema.safetensors").read_bytes() == (
                    whole / "ema.safetensors"
                ).read_bytes()
    assert (folder / "config.toml").exists()


def test_a_run_of_an_older_format_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    path = folder / "config.toml"
    text = path.read_text()
    for version in (1, 2):
        path.write_text(
            text.replace("format_version = 3", f"format_version = {version}")
        )
        with pytest.raises(TightboundError, match="older than this tightbound reads"):
            load(folder)
    path.write_text("\n".join(text.splitlines()[:-1]))
    with pytest.raises(TightboundError, match="cut short"):
        load(folder)


def test_what_is_not_a_run_is_told_apart(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(TightboundError, match="no run folder"):
        load(tmp_path / "absent")
    with pytest.raises(TightboundError, match=r"no config\.toml"):
        load(tmp_path)
    half = tmp_path / "half"
    shutil.copytree(whole, half)
    for name in ("model.safetensors", "ema.safetensors"):
        (half / name).unlink()
    with pytest.raises(TightboundError, match=r"half-written.*--resume"):
        load(half)
    train(half, resume=True)
    read_everything(half)


def test_a_run_that_was_killed_before_it_began_starts_as_it_was_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    asked = {
        "latent": 3,
        "recipe.size": "s",
        "steps": 4,
        "validate_every": 4,
        "batch": 32,
        "validate_n": 8,
    }

    def train(**more: Any) -> Run:
        return api.train("digits", out=folder, display="lines", report=False, **more)

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt  # as a kill, it is no Exception: nothing is tidied

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "_plan", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(recipe="iwae", settings=asked)
    assert not (folder / "config.toml").exists()
    with pytest.raises(TightboundError, match="was begun with recipe 'iwae', not 'ae'"):
        train(recipe="ae", resume=True)
    run = train(resume=True)
    said = "".join(capsys.readouterr())
    assert (
        run.config.recipe.name == "iwae"
        and run.config.recipe.latent == 3
        and run.config.train.steps == 4
    )
    assert (
        "its training had not begun, so it starts now, recipe iwae with the "
        "settings that it was asked for"
    ) in said
    assert (
        not (folder / "requested.toml").exists()
        and load(folder).config.recipe.name == "iwae"
    )


def test_a_folder_that_kept_no_settings_says_which_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    values = {
        "latent": 3,
        "recipe.size": "s",
        "steps": 4,
        "validate_every": 4,
        "batch": 32,
        "validate_n": 8,
    }
    api.train(
        "digits",
        out=tmp_path / "run",
        display="lines",
        report=False,
        resume=True,
        settings=values,
    )
    assert "recipe vae with these settings, as none were kept" in "".join(
        capsys.readouterr()
    )
    with pytest.raises(TightboundError, match="budget decides the steps"):
        api.train(
            "digits",
            out=tmp_path / "b",
            display="none",
            report=False,
            settings=values,
            budget="5s",
        )
    assert not (tmp_path / "b" / "requested.toml").exists(), (
        "what was refused is not asked for any more"
    )


def test_a_newer_run_and_foreign_code_are_refused(whole: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(whole, newer)
    text = (newer / "config.toml").read_text()
    (newer / "config.toml").write_text(
        text.replace("format_version = 3", "format_version = 99")
    )
    with pytest.raises(TightboundError, match="newer than this tightbound"):
        load(newer)
    (newer / "config.toml").write_text(
        text.replace('name = "standard"', 'name = "os:getcwd"')
    )
    with pytest.raises(TightboundError, match="trust=True"):
        load(newer)


def test_mixed_weights_and_config_are_told_apart(whole: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(whole, mixed)
    text = (mixed / "config.toml").read_text()
    (mixed / "config.toml").write_text(text.replace("latent = 4", "latent = 5"))
    with pytest.raises(TightboundError, match=r"latent = 5, but .* written with 4"):
        load(mixed)


def test_how_often_a_state_is_saved_may_change(whole: Path, tmp_path: Path) -> None:
    """Weights do not depend on the settings of training, a state on all but that one."""
    changed = tmp_path / "changed"
    shutil.copytree(whole, changed)
    run = load(whole)
    config = run.config
    for update in ({"save_seconds": 77.0}, {"patience": 77}):
        train = config.train.model_copy(update=update)
        settings.write(
            changed / "config.toml", config.model_copy(update={"train": train})
        )
        assert load(changed).predictor.fingerprint == run.predictor.fingerprint
    text = settings.to_text(config)
    saved_less = config.train.model_copy(update={"save_seconds": 77.0})
    saved_less_config = config.model_copy(update={"train": saved_less})
    assert settings.changed_key(saved_less_config, text, training=True) is None
    patient = config.train.model_copy(update={"patience": 77})
    patient_config = config.model_copy(update={"train": patient})
    key = settings.changed_key(patient_config, text, training=True)
    assert key is not None
    assert key[0] == "train.patience"


def test_saved_and_loaded_runs_are_the_same(whole: Path, tmp_path: Path) -> None:
    run = load(whole)
    run.save(tmp_path / "copy")
    again = load(tmp_path / "copy")
    x = run.data.test.raw(torch.arange(5))
    assert (run.encode(x) == again.encode(x)).all()
    assert (run.reconstruct(x) == again.reconstruct(x)).all()
    assert run.reconstruct(x).shape == x.shape, "in the user's own layout"
