"""The file evaluation.json: written with a checksum, used only for the weights it is of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tightbound.runs.folder import RunFolder
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError, cut, os_reason
from tightbound.runtime.reading import Options, Tree, parse_json, read_text

FORMAT = 3
CHECKSUM = "sha256"


class OtherWeights(TightboundError):
    """An evaluation is of other weights than the run has."""


def write(path: Path, tree: Options) -> None:
    """Write an evaluation as JSON with a checksum of its content.

    Raises:
        TightboundError: The disk refuses.
    """
    content = {**tree, CHECKSUM: _digest(tree)}
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def read(folder: Path, weights: str) -> Tree | None:
    """The evaluation in a run folder, without its checksum; None where there is none.

    Args:
        folder: the run folder, or that of a fitted prior.
        weights: the fingerprint of the model's weights.

    Raises:
        OtherWeights: The file is of other weights.
        TightboundError: With the reason why the file cannot be used: it is damaged or was
            changed, or is of another format.

    A file without a checksum is of an earlier version; its shape is checked instead.
    """
    path = RunFolder(folder).evaluation_file
    if not path.exists():
        return None
    content = _content(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TightboundError(f"{cut(path)} is damaged or of another format")
    tree = {name: value for name, value in content.items() if name != CHECKSUM}
    if CHECKSUM not in content and not _is_evaluation(tree):
        raise TightboundError(f"{cut(path)} is damaged or of another format")
    if CHECKSUM in content and content[CHECKSUM] != _digest(tree):
        raise TightboundError(f"{cut(path)} was changed: its checksum does not match")
    if tree.get("weights") != weights:
        raise OtherWeights(f"{cut(path)} is of other weights than the run has")
    return tree


def _content(path: Path) -> object:
    """What a JSON file holds."""
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise TightboundError(
            f"cannot read {cut(path)} ({os_reason(error)}): check the file"
        ) from error
    except ValueError as error:
        raise TightboundError(f"{cut(path)} is damaged ({cut(error)})") from error


def _is_evaluation(tree: Tree) -> bool:
    """Whether a file without a checksum has the parts that every evaluation has."""
    counts = [tree.get(name) for name in ("n", "k", "seed")]
    if not all(type(count) is int for count in counts):
        return False
    data, terms, methods = (tree.get(name) for name in ("data", "terms", "methods"))
    if not isinstance(data, dict) or not isinstance(data.get("digest"), str):
        return False
    if not terms or not _holds_tables(terms) or not _holds_tables(methods):
        return False
    return all(
        isinstance(tree.get(name) or {}, dict) for name in ("inference_gap", "train")
    )


def _holds_tables(tree: object) -> bool:
    """True for a table of which each value is a table."""
    return isinstance(tree, dict) and all(isinstance(v, dict) for v in tree.values())


def closest_terms(tree: Options) -> Tree:
    """The terms of log p(x) with log p(x) and the gap by the closest method."""
    best = tree.get("headline")
    if not best:
        return dict(tree["terms"])
    return {**tree["terms"], "log_px": best["log_px"], "gap": best["gap"]}


def one_sided(tree: Options) -> bool:
    """Whether log p(x) is a lower bound whose error is not known for some examples."""
    importance = (tree.get("methods") or {}).get("importance")
    if not importance or tree.get("headline"):
        return False
    return importance.get("noise") is None


def _digest(tree: Options) -> str:
    as_read = json.loads(json.dumps(tree))  # keys are texts then
    text = json.dumps(as_read, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
