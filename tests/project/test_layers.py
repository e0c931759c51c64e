"""Which way imports go: each room of the package imports only from rooms to its left, and nothing
goes in a circle.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "tightbound"
ORDER = """runtime | distributions | core |
    components.networks components.posteriors components.priors components.likelihoods
    components.objectives data | models | config | runs |
    training evaluation exporting compression | report | exploring | api |
    estimator | cli | __main__"""
LEVEL = {
    room: level
    for level, rooms in enumerate(ORDER.split("|"))
    for room in rooms.split()
}
PARTS = {room for room in LEVEL if room.startswith("components.")}
ONLY = {
    "components.objectives": {"runtime", "core", "distributions"},
    "data": {"runtime", "core"},
}
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in ROOT.rglob("*.py")
}
# the package's own, which imports lazily and which any module may ask for the version
SURFACE = "__init__"


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run, so also those inside functions, but none for the type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith(
            "TYPE_CHECKING"
        ):
            yield from statements(ast.Module(child.orelse, []))
        elif not isinstance(child, ast.expr):  # an expression holds no statement
            yield from statements(child)


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports, as `room.part`."""
    path, found = FILES[module], set()
    package = ["tightbound", *path.relative_to(ROOT).parent.parts]
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        for name in (
            n.removeprefix("tightbound.") for n in names if n.startswith("tightbound.")
        ):
            found |= {name} & FILES.keys() or {name.rpartition(".")[0]} & FILES.keys()
    return found - {module}


@cache
def graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    return {module: imports(module) for module in FILES if module != SURFACE}


def room(module: str) -> str:
    """The room of a module: its folder below the package, of a component the folder of its kind."""
    words = module.split(".")
    return ".".join(words[: 2 if words[0] == "components" else 1])


def edges() -> list[tuple[str, str, str, str]]:
    """Each import as (module, what it imports, the rooms of both)."""
    pairs = [(a, b) for a, targets in graph().items() for b in targets]
    return sorted((a, b, room(a), room(b)) for a, b in pairs)


def test_every_import_goes_left() -> None:
    assert {name for edge in edges() for name in edge[2:]} <= LEVEL.keys(), (
        "give the new room a place in ORDER"
    )
    assert [
        (a, b)
        for a, b, left, right in edges()
        if left != right and LEVEL[right] >= LEVEL[left]
    ] == []


def test_rooms_that_see_little_import_only_that() -> None:
    assert [
        (a, b)
        for a, b, left, right in edges()
        if left in ONLY and right not in ONLY[left] | {left}
    ] == []
    assert [
        (a, b) for a, b, _, _ in edges() if a == "models.vae" and b in PARTS
    ] == [], "vae.py imports no registry"


def test_there_is_no_circle() -> None:
    tuple(graphlib.TopologicalSorter(graph()).static_order())


PROGRAMS = {"import tightbound": "import tightbound"}
if "cli" in FILES:
    PROGRAMS["tightbound --help"] = (
        "import sys; sys.argv = ['tightbound', '--help']\n"
        "from tightbound.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_torch_is_not_imported_until_needed(program: str) -> None:
    check = (
        f"{program}\nimport sys; sys.exit('torch was imported' if 'torch' in "
        "sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
