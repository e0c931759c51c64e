"""The file that `tightbound evaluate` writes: in the run folder, at --out, or beside you."""

from __future__ import annotations

from pathlib import Path

from tightbound.evaluation import Evaluation, saved
from tightbound.runtime.atomic_files import is_writable
from tightbound.runtime.errors import TightboundError, cut


def check(out: Path | None) -> None:
    """Refuse an --out that exists or is no .json, before any work is done."""
    if out is None:
        return
    if out.suffix.lower() != ".json":
        raise TightboundError(
            f"--out {cut(out)} is not something that this command writes: name F.json"
        )
    if out.exists():
        raise TightboundError(f"{cut(out)} exists: choose another --out, or remove it")


def keep(evaluation: Evaluation, folder: Path, out: Path | None) -> str | None:
    """Write an evaluation; returns a sentence where it is not in the run folder.

    Args:
        evaluation: the evaluation.
        folder: the run folder, or that of a fitted prior.
        out: the file that the user names, or None.
    """
    if out is not None:
        saved.write(out, evaluation.to_json())
        return f"the evaluation is in {cut(out)}"
    if is_writable(folder):
        return evaluation.save(folder)
    beside = _free(f"{folder.resolve().name}-evaluation")
    unwritable = f"{cut(folder)} cannot be written, so the evaluation is"
    try:
        saved.write(beside, evaluation.to_json())
    except TightboundError:
        return f"{unwritable} only printed: --out F.json keeps it elsewhere"
    return f"{unwritable} in {beside}: --out F.json chooses another place"


def _free(name: str) -> Path:
    """The first of NAME.json, NAME-2.json, ... that does not exist."""
    path = Path(f"{name}.json")
    number = 1
    while path.exists():
        number += 1
        path = Path(f"{name}-{number}.json")
    return path
