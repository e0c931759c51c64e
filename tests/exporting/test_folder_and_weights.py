"""Folders of exports are whole or absent, and weights rebuild the module; without the extra."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.exports import tiny_run

import tightbound as tb
from tightbound.cli import main
from tightbound.exporting import folder as places
from tightbound.exporting import read_module
from tightbound.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs") / "run", "vae")


def test_weights_and_settings_rebuild_the_module(run: Run, tmp_path: Path) -> None:
    exported = tb.export(run, "safetensors", tmp_path / "weights")
    assert exported.files == ("config.json", "model.safetensors", "export.json")
    model = read_module(tmp_path / "weights")
    x = torch.rand(3, 1, 8, 8) * 16
    z = run.model.encode(x).mean
    assert torch.equal(model.encode(x).mean, z)
    assert torch.equal(model.decode(z).mean, run.model.decode(z).mean)


@pytest.mark.parametrize("recipe", ["hvae", "vq-vae", "conditional"])
def test_other_recipes_are_rebuilt(recipe: str, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", recipe)
    state = read_module(tb.export(run, "safetensors").folder).state_dict()
    expected = run.model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_damaged_weights_are_refused(run: Run, tmp_path: Path) -> None:
    folder = tb.export(run, "safetensors", tmp_path / "weights").folder
    blob = bytearray((folder / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (folder / "model.safetensors").write_bytes(blob)
    with pytest.raises(tb.TightboundError, match="damaged"):
        read_module(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(tb.TightboundError, match=r"no readable config\.json"):
        read_module(folder)


def test_the_verb_stays_a_verb_after_its_first_use(run: Run, tmp_path: Path) -> None:
    tb.export(run, "safetensors", tmp_path / "a")
    assert tb.export(run, "safetensors", tmp_path / "b").folder == tmp_path / "b"


def test_an_export_is_replaced_only_when_asked_and_other_files_never(
    run: Run, tmp_path: Path
) -> None:
    place = tmp_path / "weights"
    tb.export(run, "safetensors", place)
    with pytest.raises(tb.TightboundError, match="is an export already"):
        tb.export(run, "safetensors", place)
    tb.export(run, "safetensors", place, overwrite=True)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(tb.TightboundError, match="holds files and is not an export"):
        tb.export(run, "safetensors", place, overwrite=True)
    assert (place / "notes.txt").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(tb.TightboundError, match="is a file"):
        tb.export(run, "safetensors", file, overwrite=True)
    assert file.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"weights", "file"}


def test_an_interrupted_export_leaves_what_was_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "weights"
    tb.export(run, "safetensors", place)
    before = (place / "model.safetensors").read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        places.whole_folder(place, overwrite=True) as new,
    ):
        (new / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt
    assert (place / "model.safetensors").read_bytes() == before
    replace = Path.replace

    def fails_once(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp") and Path(target) == place:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fails_once)
    with pytest.raises(tb.TightboundError, match="No space left"):
        tb.export(run, "safetensors", place, overwrite=True)
    assert (place / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_run_that_is_replaced_loses_its_exports(tmp_path: Path) -> None:
    model, _ = tb.build("vae", "digits", latent=2, seed=0)
    run = tb.save(model, tmp_path / "run")
    folder = tb.export(run, "safetensors").folder
    assert folder == tmp_path / "run" / "exports" / "safetensors"
    tb.save(model, tmp_path / "run", overwrite=True)
    assert not folder.exists()


def test_the_command(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "weights"
    words = ["export", str(run.folder), "--format", "safetensors", "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == (
        f"{out}: config.json, model.safetensors, export.json\n"
    )
    assert main(words) == 2
    assert "is an export already: add --overwrite" in capsys.readouterr().err
    assert main(["export", str(run.folder), "--format", "tf"]) == 2
    assert main(["export", str(tmp_path / "none"), "--format", "safetensors"]) == 2
    about = json.loads((out / "export.json").read_text())
    assert about["fingerprint"] == run.predictor.fingerprint and about["latents"] == {
        "z": 4
    }


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    model, _ = tb.build("vae", "digits", latent=2, seed=0)
    tb.save(model, tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    blob = bytearray(weights.read_bytes())
    blob[-1] ^= 1
    weights.write_bytes(blob)
    with pytest.raises(tb.TightboundError, match="damaged"):
        tb.export(tmp_path / "run", "safetensors")
    assert not (tmp_path / "run" / "exports").exists()
