"""Damaged compressed files: each must be refused with one sentence, and never decode wrongly.

    python tests/faults/compressed.py            500 files
    python tests/faults/compressed.py --count 40 --start 100

A file is cut, has bits flipped, bytes put in, parts exchanged, entries of its header changed under
a right checksum, or is given to another model. It counts as right where `tb.decompress` raises
a TightboundError of one line, or returns what was compressed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import tightbound as tb
from tightbound.compression import blocks
from tightbound.compression.container import MAGIC, Reader, varint
from tightbound.runs.run import Run

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
    strange = [0, -1, 1 << 70, 1.5, "", "x" * 5000, None, [], {}, True, "../../etc"]
    name = made.choice([*entries, "prior", "s", "g", "z"])
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
    """Two small runs of different kinds, with files that they coded."""
    blocks.QUICK = 0.0  # coded, however few examples there are
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
        made.append(Case(run, few, tb.compress(run, few.numpy()).data))
    return made


def wrong(case: Case, data: bytes, run: Run, path: Path) -> str | None:
    """What is wrong with the answer to a file, None where nothing is."""
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
        case = every[number % 2]
        damage = DAMAGES[number // 2 % len(DAMAGES)]
        run = case.run
        data = damage(made, case.data)
        if made.random() < 0.05:
            run = every[1 - number % 2].run
            data = case.data
        fault = wrong(case, data, run, folder / "damaged.tb")
        if fault:
            faults.append(f"{number} {damage.__name__}: {fault}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        faults = campaign(given.start, given.count, Path(folder))
    for fault in faults:
        print(fault)
    print(f"{given.count} damaged compressed files, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
