"""Compress examples with a trained run, and get them back."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from tightbound.compression import container
from tightbound.compression.blocks import Account, Coder, Different
from tightbound.compression.coder import constriction
from tightbound.compression.container import Block, Damaged, Header
from tightbound.compression.exact import exact_model, one_thread, rows_of
from tightbound.compression.plan import check_model, grids_from, measured_grids
from tightbound.compression.schedules import Job
from tightbound.compression.values import Decoded, Values
from tightbound.data import Split
from tightbound.data.conform import raw_shape
from tightbound.models.vae import VAE
from tightbound.runs.run import Run, training_folder
from tightbound.runtime.atomic_files import check_free, write_atomic
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.memory import check_memory
from tightbound.runtime.progress import Steady
from tightbound.runtime.reading import read_bytes

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
)


@dataclass(frozen=True)
class Compressed:
    """Examples as bytes, with an account of them.

    Attributes:
        data: The bytes of the file.
        n: Number of examples.
        dims: Number of values of an example.
        raw_bytes: Bytes of the raw values.
        stored: Examples that are stored as they are, since the model would need more bytes or
            a value was not reproduced.
        parts: Bits by part: "messages", "initial" (bits that the messages began with),
            "conditions", "stored" and "frame" (header, checksums, sizes).
        elbo: The measured ELBO as bits, at the latents that were drawn; None unless asked for.
        ideal: The same by the probabilities rounded to bins and integers.
        widths: Minus the logarithm of the steps of real numbers, in bits: what turns their
            density into a mass. 0 of values that have masses, and None unless asked for.
        checked: Whether it was decoded again and compared.
        path: The file, where one was written.
    """

    data: bytes
    n: int
    dims: int
    raw_bytes: int
    stored: int
    parts: Mapping[str, float] = field(default_factory=dict)
    elbo: float | None = None
    ideal: float | None = None
    widths: float | None = None
    checked: bool = True
    path: Path | None = None

    @property
    def bits(self) -> int:
        """Bits of the file."""
        return 8 * len(self.data)

    @property
    def bits_per_dim(self) -> float:
        """Bits of the file for each value."""
        return self.bits / (self.n * self.dims)

    def lines(self) -> list[str]:
        """The file in words, a line for each fact."""
        share = self.raw_bytes / len(self.data)
        ratio = f"1/{share:.1f}" if share >= 1 else f"{1 / share:.1f} times as many"
        lines = [
            f"{self.n} examples, {self.raw_bytes:,} bytes as they were read, "
            f"{len(self.data):,} bytes as a file: {ratio}",
            f"{self.bits_per_dim:.4f} bits a value, {self.bits / self.n:.1f} bits an example, of "
            f"which {self.parts['initial'] / self.n:.2f} to begin with and "
            f"{self.parts['frame'] / self.n:.2f} for header and checksums",
        ]
        if self.stored:
            lines.append(
                f"{self.stored} examples are stored as they are: the model would need more bytes, "
                "or a value would not come back bit for bit"
            )
        if self.path is not None:
            done = "decoded again and equal bit for bit"
            lines.append(f"{self.path}: {done if self.checked else 'not checked'}")
        return lines


def fingerprint(run: Run) -> str:
    """A short hash of weights, recipe and spec: what decides the probabilities.

    Only what differs from its default is hashed, so that an option that a later version adds
    changes no fingerprint.
    """
    recipe = run.config.recipe.model_dump_json(
        exclude_defaults=True, exclude={"name", "purpose", "paper", "train"}
    )
    spec = run.spec.model_dump_json(exclude_defaults=True)
    text = f"{run.predictor.fingerprint} {recipe} {spec}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _versions() -> str:
    """Versions of the packages that probabilities depend on, as a header has them."""
    return " ".join(version(name) for name in container.PACKAGES)


def compress_run(
    run: Run,
    split: Split,
    *,
    precision: Mapping[str, float] | None = None,
    measure: bool = False,
    check: bool = True,
    near: Path | None = None,
) -> Compressed:
    """Compress the examples of a split.

    Args:
        run: The run.
        split: The examples, as the run reads them.
        precision: Step of the values of columns of real numbers, by column, where training saw
            none.
        measure: Whether to compare with the ELBO.
        check: Whether to decode each block before it is kept, half of the time; one that
            does not come back is then stored as it is.
        near: The folder of the file, for the way from there to the run.

    Raises:
        TightboundError: The model cannot be coded, or a value is not a multiple of its precision.
    """
    constriction()
    if not len(split):
        raise TightboundError("there are no examples to compress: name data with some")
    model = exact_model(run)
    values = Values.of(run.spec, precision or {})
    with one_thread():
        check_model(run, model, values)
        dtype = _read(split, 0, 1).x.dtype
        job = Job(model, values, rows_of(model), {})
        first = _read(split, 0, min(len(split), 1024))
        given = _condition_of(run, first)
        grids = measured_grids(job, values.to_numbers(first.x), given)
        job = replace(job, grids=grids_from(model, grids))
        coder = Coder(job, dtype, measure, check)
        blocks, account = _encoded(coder, split, dtype)
    header = Header(
        version=container.VERSION,
        model=fingerprint(run),
        n=len(split),
        dtype=str(dtype).removeprefix("torch."),
        rows=job.rows,
        versions=_versions(),
        run=_way(run, near),
        prior=run.fitted.name if run.fitted else "",
        steps={name: float(step) for name, step in (precision or {}).items()},
        grids=grids.hex(),
    )
    data = container.pack(header, blocks)
    parts = _parts(account, blocks, 8 * len(data))
    raw_bytes = len(split) * math.prod(raw_shape(run.spec)) * dtype.itemsize
    compressed = Compressed(
        data, len(split), run.spec.dims, raw_bytes, account.stored, parts, checked=check
    )
    if measure and not account.stored:
        return replace(
            compressed,
            elbo=account.elbo,
            ideal=account.ideal,
            widths=account.widths,
        )
    return compressed


def _encoded(
    coder: Coder, split: Split, dtype: torch.dtype
) -> tuple[list[Block], Account]:
    """All blocks of a split, and their bits by part."""
    blocks = []
    account = Account()
    done = Steady("compressing", len(split), " examples")
    for examples in _in_blocks(split, dtype):
        block, part = coder.encode(examples)
        done.add(block.n)
        blocks.append(block)
        account = account + part
    return blocks, account


def _parts(account: Account, blocks: Sequence[Block], total: int) -> dict[str, float]:
    """The bits of a file by part; the frame is what is in none of the others."""
    stored = sum(8 * len(b.payload) for b in blocks if b.kind == container.STORED)
    coded = account.message + account.initial + account.conditions
    return {
        "messages": account.message,
        "initial": account.initial,
        "conditions": account.conditions,
        "stored": stored,
        "frame": total - stored - coded,
    }


def _condition_of(run: Run, examples: Decoded) -> Tensor | None:
    """The conditions of examples as the model reads them; None of a model without."""
    if examples.c is None or run.spec.condition is None:
        return None
    return run.spec.condition.encode(examples.c)


def check_run(run: Run, precision: Mapping[str, float] | None = None) -> None:
    """Refuse a run that cannot compress, before any work.

    Raises:
        TightboundError: With the reason.
    """
    constriction()
    with one_thread():
        check_model(run, exact_model(run), Values.of(run.spec, precision or {}))


def _way(run: Run, near: Path | None) -> str:
    """The run folder seen from the folder of the file; "" where a header cannot name it."""
    home = training_folder(run)
    if home is None or near is None:
        return ""
    start = near.absolute()
    try:
        way = Path(os.path.relpath(home.absolute(), start)).as_posix()
    except ValueError:  # on another drive
        way = home.absolute().as_posix()
    return way if container.can_name(way) else ""


def _read(split: Split, start: int, end: int) -> Decoded:
    rows = torch.arange(start, end)
    c = None
    if split.spec.condition is not None:
        if split.c is None:
            split.examples(rows)  # says which condition is missing
        assert split.c is not None
        c = split.c[rows].cpu()
        c = c.double() if split.spec.condition.mean else c.long()
    return Decoded(split.raw(rows).cpu(), c)


def _in_blocks(split: Split, dtype: torch.dtype) -> Iterator[Decoded]:
    row = math.prod(raw_shape(split.spec)) * dtype.itemsize
    size = max(1, min(container.BLOCK, container.MOST_BYTES // row))
    for start in range(0, len(split), size):
        yield _read(split, start, min(start + size, len(split)))


def compress_to(
    path: Path,
    run: Run,
    split: Split,
    *,
    precision: Mapping[str, float] | None = None,
    overwrite: bool = False,
    check: bool = True,
) -> Compressed:
    """Compress the examples of a split to a file, which is whole or absent.

    Raises:
        TightboundError: As `compress_run`; and where the file exists.
    """
    check_free(path, overwrite=overwrite)
    compressed = compress_run(
        run, split, precision=precision, check=check, near=path.parent
    )
    check_free(path, overwrite=overwrite)  # written by another in the meantime
    write_atomic(path, compressed.data)
    return replace(compressed, path=path)


# ---- back


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        TightboundError: It cannot be read.
    """
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise TightboundError(
            f"there is no file {cut(path)}: name an F.tb that tightbound compress wrote"
        ) from None


def header_of(data: bytes, name: str) -> Header:
    """The header of a file, whose checksums are compared."""
    return container.unpack(data, name)[0]


def decompress(data: bytes, run: Run, name: str = "the file") -> Decoded:
    """The examples of a file.

    Args:
        data: The bytes of the file.
        run: The run that compressed it.
        name: The file in messages.

    Raises:
        TightboundError: The file is damaged, of another model, or this machine computes other
            probabilities than the one that wrote it. No examples are returned then.
    """
    constriction()
    header, blocks = container.unpack(data, name)
    if header.model != fingerprint(run):
        raise _another_model(header, name, run)
    check_memory(
        f"{header.n} examples", 16 * header.n * run.spec.dims, "use a larger machine"
    )
    model = exact_model(run)
    done = Steady("decompressing", header.n, " examples")
    parts: list[Decoded] = []
    with one_thread():
        try:
            coder = _coder(header, model, run)
            for block in blocks:
                parts.append(coder.decode(block))
                done.add(block.n)
        except Different:
            raise _other_machine(header, name, len(parts), len(blocks)) from None
        except Damaged as damage:
            raise TightboundError(
                f"{cut(name)} is damaged ({cut(damage)}): restore it from a copy"
            ) from damage
    return Decoded(torch.cat([part.x for part in parts]), _conditions(parts))


def _another_model(header: Header, name: str, run: Run) -> TightboundError:
    """The sentence about a run of another fingerprint, with a fitted prior that it lacks."""
    prior = run.fitted.name if run.fitted else ""
    advice = f"name the run whose fingerprint is {header.model}"
    if header.prior and header.prior != prior:
        advice = f"give its fitted prior too, with --prior {cut(header.prior)}"
    elif prior and not header.prior:
        advice = "leave out --prior, since it was compressed with the run's own"
    return TightboundError(
        f"{cut(name)} was compressed with another model than run {run.name!r}: {advice}"
    )


def _conditions(parts: list[Decoded]) -> Tensor | None:
    present = [part.c for part in parts if part.c is not None]
    return torch.cat(present) if present else None


def _coder(header: Header, model: VAE, run: Run) -> Coder:
    """The coder that wrote a file.

    Raises:
        Damaged: Entries of the header are of no type or size that exists.
    """
    dtype = {str(d).removeprefix("torch."): d for d in DTYPES}.get(header.dtype)
    if dtype is None or header.rows > rows_of(model):
        raise Damaged("its header has values that do not exist")
    try:
        grids = grids_from(model, bytes.fromhex(header.grids))
    except ValueError as error:
        raise Damaged(str(error)) from error
    values = Values.of(run.spec, header.steps)
    return Coder(Job(model, values, header.rows, grids), dtype)


def _other_machine(header: Header, name: str, done: int, total: int) -> TightboundError:
    here = dict(zip(container.PACKAGES, _versions().split(), strict=True))
    there = dict(zip(container.PACKAGES, header.versions.split(), strict=False))
    others = [f"{p} {v} ({here[p]} here)" for p, v in there.items() if v != here[p]]
    where = f"with {', '.join(others)}" if others else "on another kind of processor"
    return TightboundError(
        f"block {done + 1} of {total} of {cut(name)} does not decode to its checksum on this "
        f"machine: it was written {where}, where probabilities are computed otherwise, so "
        "decompress it there"
    )
