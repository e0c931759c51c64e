"""Compressed files in raw units: to a tensor or a table, with the run that a file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from tightbound.compression.compress import decompress, header_of, read_file
from tightbound.compression.container import Header
from tightbound.data import frame
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError, cut

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Decompressed:
    """Examples of a file, as they were read when it was written.

    Attributes:
        run: The run that they were coded with.
        x: Raw rows (n, ...) with their values, layout and dtype; of a table a DataFrame.
        condition: Of a conditional model, the names of the classes of all examples, or numbers
            (n, C).
    """

    run: Run
    x: Tensor | DataFrame
    condition: list[str] | Tensor | None = None


def examples_of(
    file: str | Path | bytes, run: Run | None, *, trust: bool = False
) -> Decompressed:
    """The examples of a file or its bytes, as `tb.decompress` gives them."""
    name = "the file"
    data = file
    folder = Path()
    if not isinstance(data, bytes):
        name = str(data)
        folder = Path(data).absolute().parent
        data = read_file(Path(data))
    if run is None:
        run = _named_run(header_of(data, name), name, folder, trust)
    decoded = decompress(data, run, name)
    x: Tensor | DataFrame = decoded.x
    if run.spec.is_table:
        x = frame(decoded.x.double(), run.spec.fields)
    condition: list[str] | Tensor | None = decoded.c
    names = run.spec.condition
    if names is not None and decoded.c is not None and not names.mean:
        condition = [names.names[int(number)] for number in decoded.c]
    return Decompressed(run, x, condition)


def _named_run(header: Header, name: str, folder: Path, trust: bool) -> Run:
    """The run that a file names.

    Raises:
        TightboundError: It names none, or one that is not there.
    """
    if not header.run:
        raise TightboundError(
            f"{cut(name)} was compressed with a run that is in no folder: give the run"
        )
    place = folder / header.run
    if not _is_folder(place):
        prior = f" and --prior {cut(header.prior)}" if header.prior else ""
        raise TightboundError(
            f"{cut(name)} was compressed with the run {cut(place)}, which is not there: name the "
            f"run with --run{prior}, its fingerprint is {header.model}"
        )
    return load(place, prior=header.prior or None, trust=trust)


def _is_folder(path: Path) -> bool:
    """True for a folder; a name that is too long for the file system is none."""
    try:
        return path.is_dir()
    except OSError:
        return False
