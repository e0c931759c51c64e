"""Damaged compressed files, and commands in trouble: one sentence each, and no wrong output.

    python tests/faults/compressed.py            500 files, and the commands
    python tests/faults/compressed.py --count 40 --start 100

`TRIES` are commands that meet a full disk, a kill in the middle, a file that exists, another model,
other data, a closed output or a file that claims a million million examples. Each ends with a
result or with exit status 2 and one sentence, within 500 MiB above rest; a file is whole or absent,
and one that exists stays as it was.

A file is cut, has bits flipped, bytes put in, parts exchanged, entries of its header changed under
a right checksum, or is given to another model. It counts as right where `tb.decompress` raises
a TightboundError of one line, or returns what was compressed.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import resource
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import tightbound as tb
from tightbound.compression import blocks
from tightbound.compression.container import CODED, MAGIC, STORED, Reader, varint
from tightbound.runs.run import Run
from tightbound.runtime import atomic_files

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS)]  # where it is run as a program

from faults.process import fault, in_process, run_command  # noqa: E402

COUNT = 500
Damage = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Case:
    """A run, what was compressed with it, and the bytes."""

    run: Run
    x: torch.Tensor
    data: bytes


def framed(head: bytes, payload: bytes) -> bytes:
    """A part of a file with its checksum."""
    part = head + varint(len(payload)) + payload
    return part + zlib.crc32(part).to_bytes(4, "little")


def parts_of(data: bytes) -> tuple[dict[str, object], bytes]:
    """The header of a whole file as a table, and its blocks."""
    reader = Reader(data)
    reader.take(len(MAGIC))
    text = reader.take(reader.varint())
    reader.take(4)
    return json.loads(text), reader.rest()


def with_header(entries: object, rest: bytes) -> bytes:
    """A file with another header, whose checksum is right."""
    return MAGIC + framed(b"", json.dumps(entries).encode()) + rest


def cut_short(made: random.Random, data: bytes) -> bytes:
    return data[: made.randrange(len(data))]


def flip_bits(made: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(made.choice([1, 1, 2, 8])):
        out[made.randrange(len(out))] ^= 1 << made.randrange(8)
    return bytes(out)


def put_in(made: random.Random, data: bytes) -> bytes:
    at = made.randrange(len(data) + 1)
    return data[:at] + made.randbytes(made.choice([1, 4, 100])) + data[at:]


def take_out(made: random.Random, data: bytes) -> bytes:
    at = made.randrange(len(data))
    return data[:at] + data[at + made.choice([1, 4, 100]) :]


def overwrite(made: random.Random, data: bytes) -> bytes:
    at = made.randrange(len(data))
    new = made.choice([bytes(8), b"\xff" * 8, made.randbytes(8)])
    return data[:at] + new + data[at + 8 :]


def change_header(made: random.Random, data: bytes) -> bytes:
    """Another value of an entry, one more entry, or one fewer."""
    entries, rest = parts_of(data)
    strange = [
        0,
        -1,
        1 << 70,
        1.5,
        "",
        "x" * 5000,
        "\ud800",
        None,
        [],
        {},
        True,
        "../../etc",
    ]
    name = made.choice([*entries, "p", "s", "g", "z"])
    if made.random() < 0.2:
        entries.pop(name, None)
    else:
        entries[name] = made.choice(strange)
    return with_header(entries, rest)


def change_text(made: random.Random, data: bytes) -> bytes:
    """A header that is no table."""
    _, rest = parts_of(data)
    text = made.choice([b"[]", b"{", b"\xff\xfe", b"null", b"[" * 20_000, b'{"v":1}'])
    return MAGIC + framed(b"", text) + rest


def change_message(made: random.Random, data: bytes) -> bytes:
    """A block with another message under a right checksum."""
    entries, rest = parts_of(data)
    reader = Reader(rest)
    kind = reader.varint()
    n = reader.varint()
    payload = flip_bits(made, reader.take(reader.varint()))
    if made.random() < 0.3:
        kind = 1 - kind
    if made.random() < 0.3:
        n = made.choice([1, n - 1, n + 1, 1 << 50])
        entries["n"] = n
    return with_header(entries, framed(varint(kind) + varint(n), payload))


DAMAGES: tuple[Damage, ...] = (
    cut_short,
    flip_bits,
    put_in,
    take_out,
    overwrite,
    change_header,
    change_text,
    change_message,
)


def cases(folder: Path) -> list[Case]:
    """Two small runs of different kinds, each with a file of coded and one of stored blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for seed, recipe in enumerate(("vae", "vq-vae")):
        latent = {"vae": 4, "vq-vae": 16}[recipe]
        model, _ = tb.build(
            recipe, "digits", seed=seed, settings={"recipe.size": "s", "latent": latent}
        )
        run = tb.save(model, folder / recipe)
        x = run.read("digits")
        assert isinstance(x, torch.Tensor)
        few = x[:60].to(torch.uint8)
        # coded, however few examples there are, and stored; both name the run
        for quick in (0.0, 1e9):
            file = folder / f"{recipe}-{quick:g}.tb"
            with mock.patch.object(blocks, "QUICK", quick):
                tb.compress(run, few.numpy(), file, overwrite=True)
            made.append(Case(run, few, file.read_bytes()))
    return made


def wrong(case: Case, data: bytes, run: Run | None, path: Path) -> str | None:
    """What is wrong with the answer to a file, None where nothing is.

    Args:
        run: The run that is given; None for the one that the header names.
    """
    path.write_bytes(data)
    try:
        x = tb.decompress(path, run).x
    except tb.TightboundError as error:
        text = str(error)
        return (
            None if "\n" not in text and 20 < len(text) < 700 else f"message {text!r}"
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(x, torch.Tensor) and np.array_equal(x.numpy(), case.x.numpy()):
        return None
    return "wrong examples"


def campaign(start: int, count: int, folder: Path) -> list[str]:
    """Damages files and returns what went wrong, a line for each."""
    every = cases(folder)
    faults = []
    for number in range(start, start + count):
        made = random.Random(number)
        case = every[number % len(every)]
        damage = DAMAGES[number // len(every) % len(DAMAGES)]
        run = made.choice([case.run, None])
        data = damage(made, case.data)
        if made.random() < 0.05:
            run = every[(number + len(every) // 2) % len(every)].run
            data = case.data
        fault = wrong(case, data, run, folder / "damaged.tb")
        if fault:
            faults.append(f"{number} {damage.__name__}: {fault}")
    return faults


# ---- commands in trouble


@dataclass(frozen=True)
class Place:
    """Where a try finds its files.

    Args:
        folder: A folder of its own, empty.
        case: A run, and a whole file that it coded.
        other: A run of another fingerprint, of images of another size.
    """

    folder: Path
    case: Case
    other: Run

    @property
    def out(self) -> Path:
        """The file to compress to."""
        return self.folder / "F.tb"

    def data(self, x: np.ndarray) -> Path:
        """A file of examples."""
        path = self.folder / "x.npy"
        np.save(path, x)
        return path

    def whole(self) -> Path:
        """A whole compressed file."""
        path = self.folder / "whole.tb"
        path.write_bytes(self.case.data)
        return path

    def compress(self, data: object, *more: object) -> Callable[[], int]:
        """The command that compresses data to `out`."""
        words = ["compress", self.case.run.folder, data, "--out", self.out, *more]
        return partial(run_command, words)

    def decompress(self, file: Path, *more: object) -> Callable[[], int]:
        """The command that decompresses a file to x.npz."""
        out = self.folder / "x.npz"
        if "--run" not in more:
            more = ("--run", self.case.run.folder, *more)
        return partial(run_command, ["decompress", file, "--out", out, *more])


@dataclass(frozen=True)
class Expected:
    """How a try must end.

    Args:
        says: A part of its sentence; "" where it ends with 0.
        is_killed: Whether the process kills itself.
    """

    says: str = ""
    is_killed: bool = False


Try = Callable[[Place], Callable[[], int]]
TRIES: dict[str, tuple[Try, Expected]] = {}
ROWS = np.arange(60 * 64, dtype=np.uint8).reshape(60, 8, 8) % 17


def attempt(
    name: str, says: str = "", *, is_killed: bool = False
) -> Callable[[Try], Try]:
    """Enter a try in `TRIES`."""

    def enter(work: Try) -> Try:
        assert name not in TRIES, name
        TRIES[name] = (work, Expected(says, is_killed))
        return work

    return enter


def kill(*_: object, **__: object) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def with_patch(
    work: Callable[[], int], owner: object, name: str, value: object
) -> Callable[[], int]:
    """Some work with another function in one place, in the process of the try alone."""

    def patched() -> int:
        setattr(owner, name, value)
        return work()

    return patched


@attempt("compress, killed while it codes", is_killed=True)
def _kill_coding(place: Place) -> Callable[[], int]:
    return with_patch(place.compress(place.data(ROWS)), blocks.Coder, "encode", kill)


@attempt("compress, killed before the file has its name", is_killed=True)
def _kill_writing(place: Place) -> Callable[[], int]:
    work = place.compress(place.data(ROWS))
    return with_patch(work, atomic_files.Ops, "replace", kill)


@attempt("decompress, killed while it decodes", is_killed=True)
def _kill_decoding(place: Place) -> Callable[[], int]:
    return with_patch(place.decompress(place.whole()), blocks.Coder, "decode", kill)


@attempt("decompress, killed before the file has its name", is_killed=True)
def _kill_arrays(place: Place) -> Callable[[], int]:
    work = place.decompress(place.whole())
    return with_patch(work, atomic_files.Ops, "replace", kill)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@attempt("compress to a full disk", "no room on the disk")
def _full_disk(place: Place) -> Callable[[], int]:
    work = place.compress(place.data(ROWS))
    return with_patch(work, atomic_files.Ops, "fsync", _full)


@attempt("decompress to a full disk", "no room on the disk")
def _full_disk_out(place: Place) -> Callable[[], int]:
    work = place.decompress(place.whole())
    return with_patch(work, atomic_files.Ops, "fsync", _full)


@attempt("decompress beyond the largest size of a file", "raise the limit")
def _limited(place: Place) -> Callable[[], int]:
    work = place.decompress(place.whole())

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        return work()

    return limited


@attempt("compress to a file that exists", "add --overwrite")
def _taken(place: Place) -> Callable[[], int]:
    place.out.write_bytes(b"another")
    return place.compress(place.data(ROWS))


@attempt("compress to a file that another program writes meanwhile", "add --overwrite")
def _raced(place: Place) -> Callable[[], int]:
    encode = blocks.Coder.encode

    def and_write(self: blocks.Coder, examples: object) -> object:
        place.out.write_bytes(b"another")
        return encode(self, examples)  # type: ignore[arg-type]

    work = place.compress(place.data(ROWS))
    return with_patch(work, blocks.Coder, "encode", and_write)


@attempt("decompress to a file that exists", "add --overwrite")
def _taken_out(place: Place) -> Callable[[], int]:
    (place.folder / "x.npz").write_bytes(b"another")
    return place.decompress(place.whole())


@attempt(
    "decompress with a model of another fingerprint", "with another model than run"
)
def _other_model(place: Place) -> Callable[[], int]:
    return place.decompress(place.whole(), "--run", place.other.folder)


@attempt("compress images of another size", "(12, 12)")
def _other_size(place: Place) -> Callable[[], int]:
    return place.compress(place.data(np.zeros((20, 12, 12), np.uint8)))


@attempt("compress values that are not numbers", "nan")
def _not_numbers(place: Place) -> Callable[[], int]:
    x = ROWS.astype(np.float32)
    x[3, 2, 1] = np.nan
    return place.compress(place.data(x))


@attempt("compress levels that the model has not", "255")
def _other_levels(place: Place) -> Callable[[], int]:
    x = ROWS.copy()
    x[3, 2, 1] = 255
    return place.compress(place.data(x))


@attempt("compress one example")
def _one(place: Place) -> Callable[[], int]:
    return place.compress(place.data(ROWS[:1]))


@attempt("compress no example", "x.npy")
def _none(place: Place) -> Callable[[], int]:
    return place.compress(place.data(ROWS[:0]))


@attempt("compress an empty folder", "empty")
def _empty_folder(place: Place) -> Callable[[], int]:
    (place.folder / "empty").mkdir()
    return place.compress(place.folder / "empty")


@attempt("decompress a folder", "a.tb")
def _folder(place: Place) -> Callable[[], int]:
    (place.folder / "a.tb").mkdir()
    return place.decompress(place.folder / "a.tb")


@attempt("compress with an output that is full", "cannot write the output")
def _full_output(place: Place) -> Callable[[], int]:
    work = place.compress(place.data(ROWS))

    def full() -> int:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        return work()

    return full


def claims(n: int, size: int, kind: int, payload: bytes) -> Callable[[Place], bytes]:
    """A file whose header claims n examples, in blocks of `size` with right checksums."""

    def write(place: Place) -> bytes:
        entries, _ = parts_of(place.case.data)
        block = framed(varint(kind) + varint(size), payload)
        return with_header(entries | {"n": n}, block * min(MOST_BLOCKS, n // size))

    return write


MOST_BLOCKS = 3000
MANY = 16384
HUGE = {
    "10^12 examples in one block": claims(10**12, 10**12, CODED, bytes(40)),
    "10^12 stored examples in one block": claims(10**12, 10**12, STORED, bytes(40)),
    "10^12 examples, most missing": claims(10**12, MANY, CODED, bytes(40)),
    "16,384 examples in 5 bytes": claims(MANY, MANY, CODED, b"\0\1\2\3\4"),
    "16,384 stored examples in 5 bytes": claims(MANY, MANY, STORED, b"\0\1\2\3\4"),
}


def _huge(what: str) -> Try:
    def work(place: Place) -> Callable[[], int]:
        file = place.folder / "huge.tb"
        file.write_bytes(HUGE[what](place))
        return place.decompress(file)

    return work


for _what in HUGE:
    attempt(f"decompress {_what}", "huge.tb")(_huge(_what))


def troubled(name: str, place: Place) -> str | None:
    """What is wrong with the end of a try; None where nothing is."""
    work, expected = TRIES[name]
    command = work(place)
    before = contents(place.folder)
    outcome = in_process(command, place.folder, 60.0)
    after = contents(place.folder)
    if expected.is_killed:
        if outcome.status != -signal.SIGKILL:
            return f"ended with status {outcome.status}: {outcome.error[-300:]}"
        problem = None
    else:
        problem = fault(outcome, lambda: None)
    status = 2 if expected.says else 0
    if problem is None and not expected.is_killed and outcome.status != status:
        problem = f"ended with status {outcome.status}: {outcome.error[-300:]}"
    if problem is None and expected.says not in outcome.error:
        problem = f"does not say {expected.says!r}: {outcome.error[-300:]}"
    changed = [path for path, data in before.items() if after.get(path) != data]
    if problem is None and changed:
        problem = f"changed {changed[0].name}"
    whole = {place.out} if not expected.says and not expected.is_killed else set()
    new = {path for path in after if path not in before and path.suffix != ".tmp"}
    if problem is None and not new <= whole | others_of(place, name):
        problem = f"left {sorted(path.name for path in new)}"
    return problem


def others_of(place: Place, name: str) -> set[Path]:
    """Files that a try may leave: what another program wrote, and a whole result."""
    is_by_others = "meanwhile" in name or "output that is full" in name
    return {place.out} if is_by_others else set()


def contents(folder: Path) -> dict[Path, bytes]:
    """The files of a folder, the streams of a process aside."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("stdout.txt", "stderr.txt")
    }


def in_trouble(folder: Path) -> list[str]:
    """Run all tries and return what went wrong, a line for each."""
    case = cases(folder / "runs")[0]
    model, _ = tb.build(
        "vae",
        np.zeros((40, 6, 6), np.uint8) + np.arange(6, dtype=np.uint8),
        seed=0,
        settings={"recipe.size": "s", "latent": 2},
    )
    other = tb.save(model, folder / "runs" / "other")
    faults = []
    for number, name in enumerate(TRIES):
        (folder / str(number)).mkdir()
        with mock.patch.object(blocks, "QUICK", 0.0):
            problem = troubled(name, Place(folder / str(number), case, other))
        if problem:
            faults.append(f"{name}: {problem}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        wrong_files = campaign(given.start, given.count, Path(folder) / "damaged")
        wrong_tries = in_trouble(Path(folder) / "tries")
    for line in (*wrong_files, *wrong_tries):
        print(line)
    print(f"{given.count} damaged compressed files, {len(wrong_files)} faults")
    print(f"{len(TRIES)} commands in trouble, {len(wrong_tries)} faults")
    return int(bool(wrong_files or wrong_tries))


if __name__ == "__main__":
    sys.exit(main())
