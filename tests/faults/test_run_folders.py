"""Run folders that are damaged, edited, hostile, or cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import tightbound as tb
from tightbound import cli
from tightbound.config import assignments, configure, read_toml
from tightbound.evaluation import saved
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import load
from tightbound.runtime import atomic_files
from tightbound.runtime.atomic_files import load_weights, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.training.checkpoint import StateStore
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
DEEP = "[" * 100_000
LONG = "9" * 5000
LONG_TESTS = bool(os.environ.get("TIGHTBOUND_LONG"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "run"
    fit(configure("digits", "vae", values=SETTINGS), "digits", folder, Quiet())
    run = load(folder)
    tb.evaluate(run, k=3, limit=8, subset=0, diagnosis=False).save(folder)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def sentence(call: Callable[[], object]) -> str:
    """The text of the error of a call, one line of bounded length."""
    with pytest.raises(TightboundError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 900
    return text


# ---- settings that were changed after the weights were written


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed = 0", "seed = 1", "seed = 1"),
        ("batch = 32", "batch = 16", "train.batch = 16"),
        ("lr = 0.001", "lr = 0.5", "train.lr = 0.5"),
        ('name = "elbo"', 'name = "elbo"\nbeta = 9.0', "recipe.objective.beta = 9.0"),
        ('binarize = "none"', 'binarize = "dynamic"', "data.binarize = 'dynamic'"),
    ],
)
def test_changed_settings_are_refused(run: Path, old: str, new: str, key: str) -> None:
    path = run / "config.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if not key.startswith("train."):  # what weights mean does not depend on these
        assert f"says {key}" in sentence(lambda: load(run))
    for name in ("ema.safetensors", "model.safetensors"):
        (run / name).unlink()
    answer = sentence(lambda: tb.train("digits", out=run, resume=True, display="none"))
    assert f"says {key}" in answer or "data are not those" in answer


def test_weights_without_settings_are_not_trained_over(run: Path) -> None:
    weights = (run / "model.safetensors").read_bytes()
    (run / "config.toml").unlink()
    answer = sentence(lambda: tb.train("digits", out=run, resume=True, display="none"))
    assert "weights and no config.toml" in answer
    assert (run / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("how", ["removed", "a folder", "a link to nothing"])
def test_averaged_weights_that_are_gone_are_missed(run: Path, how: str) -> None:
    path = run / "ema.safetensors"
    assert load(run).predictor.fingerprint
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a link to nothing":
        path.symlink_to("nowhere")
    assert "ema.safetensors is missing, the averaged weights" in sentence(
        lambda: load(run)
    )


def test_a_run_may_move_and_change_its_device(run: Path) -> None:
    path = run / "config.toml"
    text = path.read_text()
    path.write_text(text.replace('device = "auto"', 'device = "cpu"', 1))
    assert load(run).config.device == "cpu"


# ---- evaluation.json


def test_an_evaluation_is_used_for_its_weights_and_as_it_was_written(
    run: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "evaluation.json"
    weights = load(run).predictor.fingerprint
    tree = saved.read(run, weights)
    assert tree is not None and tree["k"] == 3
    assert "other weights" in sentence(lambda: saved.read(run, "0" * 16))
    content = json.loads(path.read_text())
    content["terms"]["elbo"]["mean"] = -1.0
    edited = json.dumps(content)
    for text, reason in (
        (edited, "checksum does not match"),
        (DEEP, "nested too deeply"),
        (f'{{"format": {LONG}}}', "damaged"),
        ("[]", "damaged"),
        ('{"format": NaN}', "another format"),
        ('{"format": 3}', "damaged"),
        ('{"format": 3, "terms": {"elbo": 1}, "n": 1, "k": 1, "seed": 0}', "damaged"),
        ("", "damaged"),
    ):
        path.write_text(text)
        assert reason in sentence(lambda: saved.read(run, weights))
    path.write_text(edited)
    assert cli.main(["show", str(run)]) == 0
    assert "checksum" in "".join(capsys.readouterr())
    assert cli.main(["compare", str(run), "--out", str(run.parent / "a.html")]) == 0
    assert "is not used" in capsys.readouterr().err
    assert "-1.00" not in (run.parent / "a.html").read_text()


def test_an_evaluation_without_a_checksum_is_kept_as_one_with_it(run: Path) -> None:
    """An earlier version wrote none: the larger terms and the other parts stay."""
    path = run / "evaluation.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    content["bdmc_gap"] = {"n": 3, "gap": {"mean": 0.5, "se": 0.1}}
    path.write_text(json.dumps(content))
    tree = saved.read(run, load(run).predictor.fingerprint)
    assert tree is not None and tree["k"] == 3
    smaller = tb.evaluate(run, k=2, limit=4, subset=0, diagnosis=False)
    kept = smaller.save(run)
    assert kept is not None and "keeps its terms of K = 3 on 8 examples" in kept
    assert json.loads(path.read_text()) == content
    larger = tb.evaluate(run, k=4, limit=8, subset=0, diagnosis=False)
    assert larger.save(run) is None
    tree = saved.read(run, load(run).predictor.fingerprint)
    assert tree is not None and tree["k"] == 4
    assert tree["bdmc_gap"] == content["bdmc_gap"] and "sha256" in path.read_text()


def test_an_evaluation_that_cannot_be_used_is_replaced_and_it_is_said(
    run: Path,
) -> None:
    path = run / "evaluation.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))
    evaluation = tb.evaluate(run, k=2, limit=4, subset=0, diagnosis=False)
    replaced = evaluation.save(run)
    assert replaced is not None and "checksum does not match" in replaced
    assert replaced.endswith("so it was replaced")
    tree = saved.read(run, load(run).predictor.fingerprint)
    assert tree is not None and tree["k"] == 2
    assert evaluation.save(run) is None


@pytest.mark.slow
@pytest.mark.skipif(not LONG_TESTS, reason="two processes: TIGHTBOUND_LONG=1")
def test_two_processes_evaluate_one_folder_each_with_its_own_k(run: Path) -> None:
    """What each prints is whole and of its own K, and so is the file that is left."""
    (run / "evaluation.json").unlink()
    ks = (2, 300)
    expected = {
        k: tb.evaluate(run, k=k, subset=0, diagnosis=False).to_json() for k in ks
    }
    words = [sys.executable, "-m", "tightbound", "evaluate", str(run), "--json"]
    words += ["--subset", "0", "--no-diagnosis"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = {
        k: subprocess.Popen(
            [*words, "-k", str(k)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for k in ks
    }
    printed = {k: process.communicate()[0] for k, process in processes.items()}
    assert [process.returncode for process in processes.values()] == [0, 0]
    for k in ks:
        tree = json.loads(printed[k])
        assert tree["k"] == k and tree["terms"] == expected[k]["terms"]
    kept = saved.read(run, load(run).predictor.fingerprint)
    assert kept is not None and kept["terms"] == expected[kept["k"]]["terms"]
    assert not (run / "evaluation.parts").exists()


def test_two_evaluations_at_once_both_end(run: Path) -> None:
    (run / "evaluation.json").unlink()
    evaluation = tb.evaluate(run, k=2, limit=4, subset=0, diagnosis=False)
    errors: list[Exception] = []

    def work(k: int) -> None:
        try:
            own = tb.load(run)
            tb.evaluate(own, k=k, limit=4, subset=0, diagnosis=False)
            evaluation.save(run)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert saved.read(run, load(run).predictor.fingerprint) is not None
    assert not (run / "evaluation.parts").exists()


class ReadOnly(atomic_files.Ops):
    """A disk that refuses to make files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, path: Path) -> Any:
        if path.resolve().is_relative_to(self.folder):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return super().open(path)


def test_a_run_that_cannot_be_written_is_evaluated_and_compared(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atomic_files, "_ops", ReadOnly(run.resolve()))
    before = {path.name for path in run.iterdir()}
    words = ["evaluate", "run", "-k", "2", "--no-diagnosis", "--subset", "0"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert "run cannot be written" in said.err and "run-evaluation.json" in said.err
    assert json.loads(Path("run-evaluation.json").read_text())["k"] == 2
    assert cli.main([*words, "--out", "mine.json"]) == 0
    assert json.loads(Path("mine.json").read_text())["k"] == 2
    assert cli.main([*words, "--out", "mine.json"]) == 2
    assert cli.main(["compare", "run"]) == 0
    assert Path("report.html").is_file()
    left = {path.name for path in run.iterdir()} - {"evaluation.parts"}
    assert left == before


# ---- hostile content


@pytest.mark.parametrize(
    "line",
    [
        DEEP,
        f'{{"event": "epoch", "step": {LONG}}}',
        '{"event": "epoch"}',
        '{"event": "epoch", "epoch": [], "step": {}, "time": 1, "train": 1, "valid": 2}',
        "[1, 2]",
        "3",
        '"text"',
        "NaN",
        "\x00\xff",
    ],
)
def test_a_damaged_line_of_the_log_is_left_out(run: Path, line: str) -> None:
    log = run / "log.jsonl"
    steps = [record["step"] for record in RunFolder(run).history()]
    assert steps == [10, 20]
    log.write_bytes(line.encode("latin-1") + b"\n" + log.read_bytes())
    assert [record["step"] for record in RunFolder(run).history()] == steps
    assert cli.main(["show", str(run)]) == 0


def header(text: str, tensors: bytes = b"") -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(8, "little") + raw + tensors


F4 = '"dtype": "F32"'


@pytest.mark.parametrize(
    "content",
    [
        header(DEEP),
        header(f'{{"a": {LONG}}}'),
        header("[]"),
        header("3"),
        header('{"__metadata__": []}'),
        header('{"__metadata__": {"sha256": 5}}'),
        header(f'{{"a": {{{F4}, "shape": [-1], "data_offsets": [0, 4]}}}}', b"0000"),
        header(f'{{"a": {{{F4}, "shape": [{10**18}], "data_offsets": [0, 4]}}}}'),
        header(f'{{"a": {{{F4}, "shape": [NaN], "data_offsets": [0, 4]}}}}'),
        header(
            f'{{"a": {{{F4}, "shape": [1], "data_offsets": [0, 4]}}, '
            f'"b": {{{F4}, "shape": [1], "data_offsets": [0, 4]}}}}',
            b"0000",
        ),
        header('{"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}}', b"0000"),
        (2**62).to_bytes(8, "little") + b"{}",
        b"",
        b"\xff" * 9,
    ],
    ids=range(14),
)
def test_hostile_weights_are_refused(run: Path, content: bytes) -> None:
    path = run / "ema.safetensors"
    path.write_bytes(content)
    assert "ema.safetensors are damaged" in sentence(lambda: load_weights(path))
    assert "ema.safetensors" in sentence(lambda: load(run))


@pytest.mark.parametrize(
    "state",
    [
        {"step": 20},
        {"step": "20"},
        {"step": 20, "shards": {"../../x": "0"}},
        {"step": 20, "shards": []},
        {"step": 20, "model": 3, "ema": [], "optimizer": None},
        {"step": 20, "model": {"a": torch.zeros(2)}, "ema": {}, "optimizer": {}},
    ],
    ids=range(6),
)
def test_a_state_of_other_content_is_refused(run: Path, state: dict[str, Any]) -> None:
    for path in (run / "state").glob("state-*.pt"):
        path.unlink()
    StateStore(run / "state").save(20, state)
    sentence(lambda: tb.train("digits", out=run, resume=True, display="none"))
    assert (run / "ema.safetensors").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a = " + DEEP,
        "seed = " + LONG,
        "[train]\nlr = nan",
        "[train]\nlr = inf",
        "[train]\nclip = inf",
        "recipe = 3",
        'recipe = ["vae"]',
        "[recipe]\nname = [1]",
        "seed = -1",
        "seed = 1e30",
        "train = 3",
        "[recipe]\nlatent = -3",
        "[recipe]\nlatent = 99999999999",
        "[data]\nvalid = nan",
        "[recipe.prior]\nname = 3",
        "\x00",
    ],
)
def test_hostile_settings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    sentence(lambda: configure("digits", file=path))


@pytest.mark.parametrize("value", [DEEP, LONG, "-1", "nan", "1e400", "'a'"])
def test_hostile_values_on_the_command_line_are_refused(value: str) -> None:
    sentence(lambda: configure("digits", values=assignments([f"seed={value}"])))


# ---- files that are no files, names, and the reasons of the machine


@pytest.mark.parametrize("name", ["log.jsonl", "evaluation.json", "ema.safetensors"])
def test_a_pipe_in_a_run_folder_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    run_object = None
    if name != "ema.safetensors":
        run_object = load(run)
    if name == "log.jsonl":
        assert "named pipe" in sentence(RunFolder(run).history)
    if run_object is not None and name == "evaluation.json":
        weights = run_object.predictor.fingerprint
        assert "named pipe" in sentence(lambda: saved.read(run, weights))
    if run_object is None:
        assert "averaged weights" in sentence(lambda: load(run))


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null"])
def test_devices_are_no_settings_and_no_run_folders(place: str) -> None:
    assert "device" in sentence(lambda: read_toml(place))
    assert "device" in sentence(lambda: load(place))
    assert "device" in sentence(lambda: tb.train("digits", out=place, display="none"))


def test_a_lock_that_is_a_pipe_or_a_link_is_refused(tmp_path: Path) -> None:
    for number, make in enumerate((os.mkfifo, lambda p: p.symlink_to("/dev/zero"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / ".lock")
        sentence(lambda: tb.train("digits", out=folder, display="none"))  # noqa: B023


@pytest.mark.parametrize("name", ["a" * 300, "ä" * 200, "a\0b"])
def test_names_that_no_disk_takes(tmp_path: Path, name: str) -> None:
    sentence(lambda: tb.train("digits", out=tmp_path / name, display="none"))
    sentence(lambda: load(tmp_path / name))
    sentence(lambda: tb.train("digits", name))
    sentence(lambda: tb.train(name, out=tmp_path / "run"))


def test_a_long_name_leaves_room_for_the_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".json")
    write_atomic(path, "x")
    assert path.read_text() == "x"
    assert "name is too long" in sentence(
        lambda: write_atomic(tmp_path / ("b" * 300), "x")
    )


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit of the machine on the bytes of a file, as of `ulimit -f`."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [4000, 60_000])
def test_a_training_whose_files_get_too_large_is_resumable(
    whole: Path, tmp_path: Path, size: int
) -> None:
    """With room for the settings alone, and for more than those."""
    config = configure("digits", "vae", values=SETTINGS)
    folder = tmp_path / "run"
    assert (whole / "model.safetensors").stat().st_size > 60_000
    with files_of_at_most(size):
        text = sentence(lambda: fit(config, "digits", folder, Quiet()))
    assert "larger than a file may be here" in text and "raise the limit" in text
    assert (folder / "config.toml").is_file()
    fit(config, "digits", folder, Quiet(), mode="resume")
    for name in ("model.safetensors", "ema.safetensors"):
        assert load_weights(folder / name)[0].keys() == (
            load_weights(whole / name)[0].keys()
        )
        for key, value in load_weights(whole / name)[0].items():
            assert torch.equal(load_weights(folder / name)[0][key], value), key


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EMFILE, "too many open files"),
        (errno.ENOMEM, "out of memory"),
        (errno.EIO, "disk reports an error"),
        (errno.EFBIG, "larger than a file may be"),
    ],
)
def test_reasons_of_the_machine_are_not_called_damage(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    real = os.open

    def refuse(path: Any, *args: Any, **more: Any) -> int:
        if str(path).endswith((".safetensors", ".pt")):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    for use in (
        lambda: load(run),
        lambda: StateStore(run / "state").load(),
    ):
        text = sentence(use)
        assert words in text
        assert "damaged" not in text and "truncated" not in text
