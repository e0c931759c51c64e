"""Check that every test of an older commit is in the tree, under its old name or a mapped one.

    python scripts/check_moved_tests.py COMMIT      exit with 1 if a test is missing
    python scripts/check_moved_tests.py COMMIT --list     print where each one is

tests/moved.toml has three tables. `[files]`: old file to new file. `[tests]`: a test that was
renamed or moved by itself, "OLD_FILE::NAME" to "NEW_FILE::NAME", or to a list of those where it was
cut into several. `[gone]`: a test that was removed, with the reason. Tests are functions and
methods whose names begin with `test`; cases of a parametrised test are not counted.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
MAP = TESTS / "moved.toml"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def tests_in(source: str) -> list[str]:
    """Names of the tests of a file: `test_a`, or `TestA::test_b` of a class."""
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, FUNCTIONS) and node.name.startswith("test"):
            names.append(node.name)
        if isinstance(node, ast.ClassDef):
            names += [
                f"{node.name}::{method.name}"
                for method in node.body
                if isinstance(method, FUNCTIONS) and method.name.startswith("test")
            ]
    return names


def tests_of_commit(commit: str) -> set[str]:
    """Every test below tests/ of a commit, as `FILE::NAME`."""
    command = ["git", "-C", str(ROOT), "archive", commit, "tests"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    names: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            if member.name.endswith(".py") and file is not None:
                path = member.name.removeprefix("tests/")
                names |= {f"{path}::{name}" for name in tests_in(file.read().decode())}
    return names


def tests_of_tree(folder: Path) -> set[str]:
    """Every test below a folder, as `FILE::NAME`."""
    return {
        f"{path.relative_to(folder).as_posix()}::{name}"
        for path in folder.rglob("*.py")
        for name in tests_in(path.read_text(encoding="utf-8"))
    }


@dataclass
class Comparison:
    """Where the old tests are: new names, reasons of removed ones, and mistakes of the map."""

    now: dict[str, list[str]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def new_names(test: str, moved: Mapping[str, Any]) -> list[str]:
    """The new names of a test by the map."""
    mapped = moved.get("tests", {}).get(test)
    if mapped is not None:
        return [mapped] if isinstance(mapped, str) else list(mapped)
    file, _, name = test.partition("::")
    return [f"{moved.get('files', {}).get(file, file)}::{name}"]


def compare(old: set[str], new: set[str], moved: Mapping[str, Any]) -> Comparison:
    """Look up every old test in the new tree."""
    result = Comparison()
    gone: Mapping[str, str] = moved.get("gone", {})
    for test in sorted(old):
        if test in gone:
            result.gone[test] = gone[test]
            continue
        names = new_names(test, moved)
        absent = [name for name in names if name not in new]
        if absent:
            result.missing.append(f"{test} is not at {', '.join(absent)}")
        else:
            result.now[test] = names
    for table in ("tests", "gone"):
        unknown = sorted(set(moved.get(table, {})) - old)
        result.mistakes += [
            f"[{table}] {test} is no test of that commit" for test in unknown
        ]
    result.mistakes += [
        f"[gone] {test} has no reason" for test in gone if not gone[test]
    ]
    return result


def main(arguments: list[str]) -> int:
    commits = [word for word in arguments if not word.startswith("-")]
    if len(commits) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    moved = tomllib.loads(MAP.read_text(encoding="utf-8"))
    new = tests_of_tree(TESTS)
    result = compare(tests_of_commit(commits[0]), new, moved)
    if "--list" in arguments:
        for test, names in result.now.items():
            print(f"{test} -> {', '.join(names)}")
        for test, reason in result.gone.items():
            print(f"{test} is gone: {reason}")
    for line in (*result.missing, *result.mistakes):
        print(line, file=sys.stderr)
    targets = {name for names in result.now.values() for name in names}
    print(
        f"{len(result.now)} tests of {commits[0]} are in the tree, {len(result.gone)} are gone "
        f"with a reason, {len(result.missing)} are missing; {len(new - targets)} are new"
    )
    return int(bool(result.missing or result.mistakes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
