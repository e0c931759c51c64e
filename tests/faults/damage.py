"""Damaged run folders, damaged data files, and killed trainings."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from faults.process import ERROR, Outcome, Verdict, fault, in_process, run_command
from PIL import Image

# ---- damage


def cut(data: bytes, chance: random.Random) -> bytes:
    """The first bytes."""
    return data[: chance.randrange(len(data))] if data else data


def flip(data: bytes, chance: random.Random) -> bytes:
    """One to eight bytes changed."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] ^= chance.randrange(1, 256)
    return bytes(changed)


def blank(data: bytes, chance: random.Random) -> bytes:
    """A block of zeros in the middle."""
    if not data:
        return data
    start = chance.randrange(len(data))
    stop = min(len(data), start + chance.choice([4, 64, 4096]))
    return data[:start] + bytes(stop - start) + data[stop:]


def empty(data: bytes, chance: random.Random) -> bytes:
    """Nothing."""
    return b""


def longer(data: bytes, chance: random.Random) -> bytes:
    """Bytes after the end."""
    return data + chance.randbytes(chance.choice([1, 100, 5000]))


def noise(data: bytes, chance: random.Random) -> bytes:
    """Other bytes of the same length."""
    return chance.randbytes(len(data))


def twice(data: bytes, chance: random.Random) -> bytes:
    """The content twice."""
    return data + data


def big_number(data: bytes, chance: random.Random) -> bytes:
    """A number of the text replaced by an unusual one."""
    numbers = [
        b"9" * 5000,
        b"-1",
        b"0",
        b"1e400",
        b"NaN",
        b"-Infinity",
        b"1.5",
        b"null",
    ]
    places = [i for i in range(len(data)) if data[i : i + 1].isdigit()]
    if not places:
        return flip(data, chance)
    start = chance.choice(places)
    stop = start
    while stop < len(data) and data[stop : stop + 1].isdigit():
        stop += 1
    return data[:start] + chance.choice(numbers) + data[stop:]


def deep(data: bytes, chance: random.Random) -> bytes:
    """A value nested 20,000 levels deep."""
    marks = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return marks[0] * 20_000 + b"1" + marks[1] * 20_000


DAMAGE = [cut, cut, cut, flip, flip, flip, blank, blank, empty, longer, noise, twice]
TEXT_DAMAGE = [*DAMAGE, big_number, big_number, big_number, deep]


# ---- damaged run folders


class Folders:
    """Commands on a finished run with one damaged file."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.examples = folder / "examples.npy"
        np.save(self.examples, np.random.default_rng(0).integers(0, 17, (6, 8, 8)))
        words = ["train", "digits", "--out", self.run, "--quiet", "--set"]
        settings = [
            "train.steps=6",
            "latent=4",
            "recipe.size=s",
            "limit=90",
            "batch=16",
        ]
        assert run_command([*words, *settings]) == 0
        self.files = sorted(p for p in self.run.rglob("*") if p.is_file())
        self.right: dict[str, np.ndarray] = {}
        self.right = {
            name: self._result(name, self.run, folder) for name in ("sample", "encode")
        }

    def _words(self, name: str, run: Path, out: Path) -> list[object]:
        commands: dict[str, list[object]] = {
            "sample": ["sample", run, "--n", "5", "--out", out],
            "encode": ["encode", run, self.examples, "--out", out],
            "show": ["show", run],
            "evaluate": ["evaluate", run, "-k", "5", "--limit", "8", "--quiet"],
            "compare": ["compare", run, "--out", out.with_suffix(".html")],
            "resume": ["train", "digits", "--out", run, "--resume", "--quiet"],
        }
        return commands[name]

    def _result(self, name: str, run: Path, folder: Path) -> np.ndarray:
        out = folder / f"{name}.npz"
        assert run_command([str(w) for w in self._words(name, run, out)]) == 0
        return _first_array(out)

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Damage a file and run a command."""
        chance = random.Random(f"folders {number}")
        run = folder / "run"
        shutil.copytree(self.run, run)
        file = run / chance.choice(self.files).relative_to(self.run)
        what = self._damage(file, chance)
        name = chance.choice(
            ["sample", "encode", "show", "evaluate", "compare", "resume"]
        )
        out = folder / "out.npz"
        words = [str(word) for word in self._words(name, run, out)]

        def problem() -> str | None:
            if name not in self.right:
                return None
            if np.array_equal(_first_array(out), self.right[name]):
                return None
            return "gave another result"

        outcome = in_process(lambda: run_command(words), folder, wait)
        wrong = fault(outcome, problem)
        text = wrong and f"{name}, {file.relative_to(run)} {what}: {wrong}"
        return Verdict(text, outcome.status == 2)

    def _damage(self, file: Path, chance: random.Random) -> str:
        """Damage a file; returns how."""
        is_text = file.suffix in (".json", ".jsonl", ".toml", ".html", ".txt")
        how = chance.choice(TEXT_DAMAGE if is_text else DAMAGE)
        special = chance.random()
        if special < 0.05:
            file.unlink()
            return "removed"
        if special < 0.1:
            file.unlink()
            file.mkdir()
            return "made a folder"
        if special < 0.15:
            other = chance.choice(self.files)
            file.write_bytes(other.read_bytes())
            return f"replaced by {other.name}"
        file.write_bytes(how(file.read_bytes(), chance))
        return f"damaged by {how.__name__}"


def _first_array(path: Path) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays[arrays.files[0]]


# ---- damaged data files


class DataFiles:
    """Data files of every format, damaged and read."""

    #: Formats whose damage is found by a checksum, so that a result must be the right one.
    CHECKED = (".npz", ".gz", ".png")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        chance = np.random.default_rng(0)
        self.images = chance.integers(0, 256, (12, 8, 8), dtype=np.uint8)
        self.numbers = chance.normal(size=(30, 4))
        self.files = [*self._arrays(folder), *self._tables(folder)]
        self.files += [*self._pictures(folder), *self._chunked(folder)]
        self.right = {file: _shape_and_sum(file) for file in self.files}

    def _arrays(self, folder: Path) -> Iterator[Path]:
        import gzip
        import struct

        np.save(folder / "a.npy", self.images)
        np.savez_compressed(folder / "b.npz", x=self.images)
        np.savez(folder / "c.npz", x=self.numbers)
        header = struct.pack(">BBBB3I", 0, 0, 8, 3, *self.images.shape)
        idx = header + self.images.tobytes()
        (folder / "d-idx3-ubyte").write_bytes(idx)
        (folder / "e-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
        yield from sorted(folder.glob("[a-e]*"))

    def _tables(self, folder: Path) -> Iterator[Path]:
        import pandas as pd

        frame = pd.DataFrame(self.numbers, columns=["a", "b", "c", "d"])
        frame["k"] = np.where(self.numbers[:, 0] > 0, "left", "right")
        frame.to_csv(folder / "f.csv", index=False)
        frame.to_csv(folder / "g.tsv", index=False, sep="\t")
        yield folder / "f.csv"
        yield folder / "g.tsv"
        with suppress(ImportError):
            frame.to_parquet(folder / "h.parquet")
            yield folder / "h.parquet"

    def _pictures(self, folder: Path) -> Iterator[Path]:
        for ending in ("png", "jpg", "tif", "bmp"):
            images = folder / f"images-{ending}"
            images.mkdir()
            for i, image in enumerate(self.images[:3]):
                Image.fromarray(image).save(images / f"{i}.{ending}")
            yield images / f"1.{ending}"

    def _chunked(self, folder: Path) -> Iterator[Path]:
        with suppress(ImportError):
            import h5py

            with h5py.File(folder / "i.h5", "w") as file:
                file["x"] = self.images
            yield folder / "i.h5"

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Damage a file and read it."""
        chance = random.Random(f"data {number}")
        file = chance.choice(self.files)
        source = _source_of(file)
        copied = folder / source.name
        if source.is_dir():
            shutil.copytree(source, copied)
            damaged = copied / file.name
        else:
            shutil.copy(source, copied)
            damaged = copied
        is_text = file.suffix in (".csv", ".tsv")
        how = chance.choice(TEXT_DAMAGE if is_text else DAMAGE)
        damaged.write_bytes(how(damaged.read_bytes(), chance))
        result = folder / "result.txt"
        outcome = in_process(lambda: _read_to(damaged, result), folder, wait)

        def problem() -> str | None:
            if file.suffix not in self.CHECKED or how in (longer, twice):
                return None
            if result.read_text() == self.right[file]:
                return None
            return f"gave {result.read_text()} instead of {self.right[file]}"

        wrong = fault(outcome, problem)
        text = wrong and f"{file.name} damaged by {how.__name__}: {wrong}"
        return Verdict(text, outcome.status == 2)


def _source_of(file: Path) -> Path:
    """What is given to `load`: the folder of an image, else the file."""
    if file.parent.name.startswith("images-"):
        return file.parent
    return file


def _shape_and_sum(file: Path) -> str:
    """The shape of the examples of a source, and the sum of their values."""
    from tightbound.data import load

    data = load(str(_source_of(file)))
    rows = sum(len(split) for split in (data.train, data.valid, data.test))
    total = 0.0
    for split in (data.train, data.valid, data.test):
        total += float(
            split.batch(torch.arange(len(split))).double().nan_to_num().sum()
        )
    return f"{rows} x {data.spec.shape}, sum {total:.6g}"


def _read_to(file: Path, result: Path) -> int:
    """Read a source as the command line does: 2 and a sentence where it cannot be."""
    from tightbound.runtime.errors import TightboundError

    try:
        text = _shape_and_sum(file)
    except TightboundError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        return 2
    result.write_text(text)
    return 0


# ---- killed trainings


class Kills:
    """A training ended by SIGKILL at any moment, then resumed."""

    SETTINGS = ("train.steps=60", "latent=4", "recipe.size=s", "limit=200", "batch=16")

    def __init__(self, folder: Path) -> None:
        self.data = folder / "images.npy"
        np.save(self.data, np.random.default_rng(0).integers(0, 2, (200, 8, 8)))
        self.run = folder / "whole"
        assert self._train(self.run) == 0
        # the first one has imported what later ones, in forks, have at hand
        again = in_process(lambda: self._train(folder / "again"), folder, 120)
        assert again.status == 0
        self.seconds = again.seconds
        self.right = (self.run / "model.safetensors").read_bytes()

    def _train(self, run: Path, *more: str) -> int:
        words = ["train", self.data, "--out", run, "--quiet", *more]
        if not more:
            words += ["--set", *self.SETTINGS, "validate_every=10"]
        return run_command([str(word) for word in words])

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Kill a training, resume it, and compare the weights."""
        chance = random.Random(f"kills {number}")
        run = folder / "run"
        moment = chance.uniform(0, 0.9 * self.seconds)
        killed = in_process(lambda: self._train(run), folder, moment)
        outcome = killed
        if killed.status is None:
            outcome = self._resumed(run, folder, wait)
        if outcome.status != 0:
            text = (
                f"after {moment:.2f} s, status {outcome.status}: {outcome.error[-300:]}"
            )
            return Verdict(text, False)
        same = (run / "model.safetensors").read_bytes() == self.right
        text = None if same else f"killed after {moment:.2f} s: other weights"
        return Verdict(text, killed.status is None)

    def _resumed(self, run: Path, folder: Path, wait: float) -> Outcome:
        """The training resumed; begun again where the kill came before its first file."""
        outcome = in_process(lambda: self._train(run, "--resume"), folder, wait)
        if outcome.status == 2 and not run.exists():
            return in_process(lambda: self._train(run), folder, wait)
        return outcome
