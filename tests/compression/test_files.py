"""Files and commands: what is written is whole, what is wrong is said, nothing is replaced."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from support.exports import tiny_run

pytest.importorskip("constriction")

from faults.compressed import framed, parts_of, with_header

import tightbound as tb
from tightbound.cli import main
from tightbound.compression import blocks
from tightbound.compression.compress import fingerprint
from tightbound.compression.container import (
    CODED,
    STORED,
    VERSION,
    Block,
    Damaged,
    Header,
    Reader,
    pack,
    unpack,
    varint,
)
from tightbound.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs") / "run", "vae")


@pytest.fixture
def digits(run: Run) -> np.ndarray:
    x = run.read("digits")
    assert isinstance(x, torch.Tensor)
    return x.to(torch.uint8).numpy()


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(autouse=True)
def always_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few examples are shorter as they are: here they are coded all the same."""
    monkeypatch.setattr(blocks, "QUICK", 0.0)


def kinds(path: Path) -> set[int]:
    """The kinds of the blocks of a file."""
    return {block.kind for block in unpack(path.read_bytes(), path.name)[1]}


HEADER = Header(
    version=VERSION,
    model="0123456789abcdef",
    n=12,
    dtype="uint8",
    rows=64,
    versions="0.1 2.13.0+cpu 0.5.0 2.3 1.16",
    run="../runs/vae",
    steps={"height": 0.1},
)


def test_a_file_has_a_header_and_blocks() -> None:
    parts = [Block(CODED, 10, b"abcd"), Block(STORED, 2, b"")]
    assert unpack(pack(HEADER, parts), "F.tb") == (HEADER, parts)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**40, 2**62])
def test_numbers_of_a_file_come_back(number: int) -> None:
    reader = Reader(varint(number) + b"rest")
    assert reader.varint() == number
    assert reader.rest() == b"rest"


def test_numbers_that_do_not_end_are_damage() -> None:
    with pytest.raises(Damaged, match="too large"):
        Reader(b"\xff" * 20).varint()
    with pytest.raises(Damaged, match="ends too early"):
        Reader(b"\xff").varint()


def test_another_format_version_is_named() -> None:
    data = pack(Header(**{**HEADER.__dict__, "version": 1, "n": 1}), [Block(1, 1, b"")])
    with pytest.raises(tb.TightboundError, match=r"format version 1, and .* reads 2"):
        unpack(data, "F.tb")


def test_another_file_is_none_of_these(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "F.tb"
    path.write_bytes(b"PK something else")
    with pytest.raises(tb.TightboundError, match="not written by tightbound compress"):
        tb.decompress(path, run)
    with pytest.raises(tb.TightboundError, match=r"there is no file .*G\.tb'?: name"):
        tb.decompress(tmp_path / "G.tb", run)


def test_a_file_finds_its_run_also_when_both_are_moved(
    tmp_path: Path, digits: np.ndarray
) -> None:
    made = tiny_run(tmp_path / "a" / "runs" / "vae", "vae")
    (tmp_path / "a" / "files").mkdir()
    tb.compress(made, digits, tmp_path / "a" / "files" / "F.tb")
    assert kinds(tmp_path / "a" / "files" / "F.tb") == {CODED}
    (tmp_path / "a").rename(tmp_path / "b")
    x = tb.decompress(tmp_path / "b" / "files" / "F.tb").x
    assert np.array_equal(np.asarray(x), digits)
    (tmp_path / "b" / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(tb.TightboundError, match="not there: name the run with --run"):
        tb.decompress(tmp_path / "b" / "files" / "F.tb")
    x = tb.decompress(tmp_path / "b" / "files" / "F.tb", tmp_path / "elsewhere/vae").x
    assert np.array_equal(np.asarray(x), digits)


@pytest.mark.parametrize("recipe", ["vae", "mixed", "conditional"])
def test_a_run_in_memory_is_the_model_that_its_folder_holds(
    recipe: str, tmp_path: Path
) -> None:
    settings = {"recipe.size": "s", "latent": 2, "steps": 2}
    x: Any = "digits"
    if recipe == "mixed":
        x = pandas.DataFrame({"a": [1.5, 2.0, 4.5, 3.0] * 30, "b": list("uvwv") * 30})
        settings["data.fields"] = {"a": "real"}
    trained = tb.train(
        x, recipe, out=tmp_path / "run", display="none", report=False, settings=settings
    )
    assert fingerprint(trained) == fingerprint(tb.load(tmp_path / "run"))


def test_the_model_must_be_the_same(tmp_path: Path, run: Run, digits: Any) -> None:
    other = tiny_run(tmp_path / "other", "vae", latent=3)
    data = tb.compress(run, digits).data
    with pytest.raises(tb.TightboundError, match="with another model than run 'other'"):
        tb.decompress(data, other)


def test_without_the_package_the_command_to_install_it_is_named(
    run: Run, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(
        tb.TightboundError, match=r"pip install 'tightbound\[compress\]'"
    ):
        tb.compress(run, digits)


def test_no_examples_are_refused(run: Run, digits: np.ndarray) -> None:
    with pytest.raises(tb.TightboundError, match=r"no examples|is empty|0 examples"):
        tb.compress(run, digits[:0])


# ---- commands


def test_compress_and_decompress_by_command(
    tmp_path: Path, run: Run, digits: np.ndarray, capsys: Any
) -> None:
    file = tmp_path / "new" / "F.tb"
    status, out, _ = command(capsys, "compress", run.folder, "digits", "--out", file)
    assert status == 0
    assert "180 examples, " in out
    assert kinds(file) == {CODED}
    assert f"{file}: decoded again and equal bit for bit" in out
    arrays = tmp_path / "F.npz"
    status, out, _ = command(capsys, "decompress", file, "--out", arrays)
    assert status == 0
    assert "180 examples, equal bit for bit" in out
    with np.load(arrays) as loaded:
        assert loaded["x"].shape == (180, 8, 8)
        assert np.array_equal(loaded["x"], digits)
    for words in (
        ("compress", run.folder, "digits", "--out", file),
        ("decompress", file, "--out", arrays),
    ):
        status, _, err = command(capsys, *words)
        assert status == 2
        assert "add --overwrite to replace it" in err
    status, _, err = command(capsys, "decompress", file, "--out", tmp_path / "F.csv")
    assert status == 2
    assert "name --out F.npz" in err
    status, _, err = command(capsys, "compress", run.folder, "digits", "--out", "F.zip")
    assert status == 2
    assert "name F.tb" in err
    unchecked = tmp_path / "U.tb"
    words = ("compress", run.folder, "digits", "--no-check", "--out", unchecked)
    status, out, _ = command(capsys, *words)
    assert status == 0
    assert f"{unchecked}: not checked" in out
    coded = unpack(file.read_bytes(), "F.tb")[1]
    assert unpack(unchecked.read_bytes(), "U.tb")[1] == coded
    again = tmp_path / "copy.npz"
    words = ("decompress", file, "--run", run.folder, "--out", again)
    assert command(capsys, *words)[0] == 0
    other = ("--prior", "p", "--out", tmp_path / "other.npz")
    status, _, err = command(capsys, *words[:2], *other)
    assert status == 2
    assert "--prior names a fitted prior of --run: give both" in err


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, run: Run, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "F.tb"
    assert command(capsys, "compress", run.folder, "digits", "--out", file)[0] == 0
    out = tmp_path / "F.npz"
    decode = blocks.Coder.decode

    def and_another_writes(self: blocks.Coder, block: Block) -> Any:
        out.write_text("of another program")
        return decode(self, block)

    monkeypatch.setattr(blocks.Coder, "decode", and_another_writes)
    status, _, err = command(capsys, "decompress", file, "--out", out)
    assert status == 2
    assert "is a file already: add --overwrite to replace it" in err
    assert out.read_text() == "of another program"
    assert command(capsys, "decompress", file, "--out", out, "--overwrite")[0] == 0
    with np.load(out) as loaded:
        assert len(loaded["x"]) == 180


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("r", "\ud800"),
        ("r", "a" * 5000),
        ("r", "a\nb"),
        ("m", "\ud800zz"),
        ("m", "0" * 15),
        ("p", "\x1b[31m"),
        ("t", "2\ud800"),
        ("s", {"\ud800": 0.1}),
        ("g", "zz"),
        ("d", "\ud800"),
    ],
)
def test_entries_of_a_header_are_bounded(
    entry: str, value: object, tmp_path: Path, capsys: Any
) -> None:
    """A right checksum does not make them right."""
    entries, _ = parts_of(pack(HEADER, [Block(STORED, 12, b"")]))
    file = tmp_path / "F.tb"
    part = framed(b"\x01\x0c", b"")
    file.write_bytes(with_header(entries | {entry: value}, part))
    words = ("decompress", file, "--out", tmp_path / "x.npz")
    status, _, err = command(capsys, *words)
    assert status == 2
    assert "is damaged (its header has other entries): restore it from a copy" in err


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "키", "\x1b[31m"])
def test_a_header_holds_the_name_of_every_column(name: str) -> None:
    header = Header(**{**HEADER.__dict__, "steps": {name: 0.1}})
    back, _ = unpack(pack(header, [Block(STORED, 12, b"")]), "F.tb")
    assert back.steps == {name: 0.1}


@pytest.mark.parametrize("error", [IndexError, RuntimeError, ValueError, Damaged])
def test_a_block_whose_check_fails_is_stored(
    error: type[Exception],
    run: Run,
    digits: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise error("no such cell")

    with monkeypatch.context() as patch:
        patch.setattr(blocks.Coder, "_decode_coded", fails)
        file = tb.compress(run, digits)
    assert file.stored == len(digits)
    assert np.array_equal(np.asarray(tb.decompress(file.data, run).x), digits)


def test_a_lack_of_memory_is_no_reason_to_store_a_block(
    run: Run, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(blocks.Coder, "_decode_coded", fails)
    with pytest.raises(MemoryError):
        tb.compress(run, digits)


def test_a_run_whose_path_is_too_long_is_not_there(tmp_path: Path) -> None:
    header = HEADER.model_copy(update={"run": "a" * 4000})
    file = tmp_path / "F.tb"
    file.write_bytes(pack(header, [Block(STORED, 12, b"")]))
    with pytest.raises(tb.TightboundError, match="not there: name the run with --run"):
        tb.decompress(file)


def test_a_fitted_prior_is_named_where_it_is_missing(
    tmp_path: Path, run: Run, digits: np.ndarray
) -> None:
    data = tb.compress(run, digits).data
    header, parts = unpack(data, "F.tb")
    moved = header.model_copy(
        update={"prior": "of-classes", "run": "gone", "model": "0" * 16}
    )
    file = tmp_path / "F.tb"
    file.write_bytes(pack(moved, parts))
    with pytest.raises(tb.TightboundError, match="--run and --prior of-classes"):
        tb.decompress(file)
    with pytest.raises(tb.TightboundError, match="fitted prior too, with --prior of-c"):
        tb.decompress(file, run)


def test_new_options_change_no_fingerprint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version adds an option with a default, or writes a purpose otherwise."""
    before = fingerprint(run)
    config = run.config
    recipe = config.recipe.model_copy(update={"purpose": "another sentence"})
    monkeypatch.setattr(run, "config", config.model_copy(update={"recipe": recipe}))
    assert fingerprint(run) == before
    recipe = recipe.model_copy(update={"likelihood": tb.part("logistic-mixture")})
    monkeypatch.setattr(run, "config", config.model_copy(update={"recipe": recipe}))
    assert fingerprint(run) != before


def test_more_bytes_than_the_values_are_said_in_words(run: Run) -> None:
    compressed = tb.compress(run, np.zeros((1, 8, 8), np.uint8))
    assert compressed.raw_bytes < len(compressed.data)
    share = len(compressed.data) / compressed.raw_bytes
    assert f"as a file: {share:.1f} times as many" in compressed.lines()[0]


def test_a_failure_leaves_no_file(
    tmp_path: Path, run: Run, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "F.tb"
    command(capsys, "compress", run.folder, "digits", "--out", file)
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    out = tmp_path / "F.npz"
    status, _, err = command(capsys, "decompress", file, "--out", out)
    assert status == 2
    assert "is damaged (a checksum does not match): restore it from a copy" in err
    assert [path.name for path in tmp_path.iterdir()] == ["F.tb"]


def test_a_table_by_command(tmp_path: Path, capsys: Any) -> None:
    made = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "height": made.normal(170, 10, 200).round(1),
            "smokes": made.choice(["yes", "no"], 200),
            "city": made.choice(["a", "b", "c"], 200),
        }
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    values = {"recipe.size": "s", "latent": 2}
    source = str(tmp_path / "table.csv")
    model, _ = tb.build("mixed", source, seed=0, settings=values)
    tb.save(model, tmp_path / "run")
    file = tmp_path / "F.tb"
    words = ("compress", tmp_path / "run", tmp_path / "table.csv", "--out", file)
    status, _, err = command(capsys, *words)
    assert status == 2
    assert "no stated precision (height)" in err
    status, _, err = command(capsys, *words, "--precision", "height")
    assert status == 2
    assert "--precision height is no COLUMN=STEP" in err
    assert command(capsys, *words, "--precision", "height=0.1")[0] == 0
    out = tmp_path / "again.csv"
    assert command(capsys, "decompress", file, "--out", out)[0] == 0
    assert out.read_text() == (tmp_path / "table.csv").read_text()


def test_evaluate_says_the_size_beside_the_bound(run: Run, capsys: Any) -> None:
    words = ("evaluate", run.folder, "-k", "10", "--no-diagnosis", "--bytes", "--quiet")
    status, out, _ = command(capsys, *words)
    assert status == 0
    assert "bytes: 180 examples in " in out
    assert "bytes: the difference in bits an example: sampling" in out
    assert "bits an example; " in out
    status, out, _ = command(capsys, *words, "--json", "--limit", "50")
    assert status == 0
    tree = json.loads(out)
    size = tree["bytes"]
    assert size["n"] == 50
    assert size["elbo_bits"] == pytest.approx(
        -tree["terms"]["elbo"]["mean"] / np.log(2)
    )
    total = size["elbo_bits"] + sum(size["parts"].values())
    assert size["bits_per_example"] == pytest.approx(total)
    assert size["weights"] == sum(p.numel() for p in run.model.parameters())


def test_an_evaluation_is_shown_also_where_a_size_is_not_comparable(
    run: Run, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.Coder, "_is_whole", lambda *_: False)
    words = ("evaluate", run.folder, "-k", "10", "--no-diagnosis", "--bytes", "--quiet")
    status, out, err = command(capsys, *words, "--limit", "20")
    assert status == 0
    assert "elbo" in out
    assert "note: 20 of 20 examples had to be stored as they are" in err
    status, out, err = command(capsys, *words, "--limit", "20", "--json")
    assert status == 0
    assert json.loads(out)["bytes"] is None


def test_a_model_without_a_bound_has_no_size(tmp_path: Path, capsys: Any) -> None:
    folder = tiny_run(tmp_path / "ae", "ae").folder
    words = ("evaluate", folder, "-k", "10", "--no-diagnosis", "--bytes", "--quiet")
    status, _, err = command(capsys, *words)
    assert status == 2
    assert "it has no bound on log p(x)" in err
