"""Which way imports go: each room of the package imports only from rooms to its left, and nothing goes in a circle."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "tightbound"
ORDER = """errors progress | files heap processes | spec batch | distributions | draw | trace | networks posteriors
    priors likelihoods objectives | path | model assemble | recipes | checks | build | data | config |
    trained fitted impute | run | training evaluation export | report | api | explorer | estimator | cli | __main__"""
LEVEL = {room: level for level, rooms in enumerate(ORDER.split("|")) for room in rooms.split()}
PARTS = {"networks", "posteriors", "priors", "likelihoods", "objectives"}
ONLY = {
    "objectives": {"errors", "trace", "distributions"},
    "data": {"errors", "files", "processes", "progress", "spec", "batch"},
}
FILES = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in ROOT.rglob("*.py")}
SURFACE = "__init__"  # the package's own, which imports lazily and which any module may ask for the version


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run, so also those inside functions, but none for the type checker."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from statements(ast.Module(child.orelse, []))
        else:
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
        for name in (n.removeprefix("tightbound.") for n in names if n.startswith("tightbound.")):
            found |= {name} & FILES.keys() or {name.rpartition(".")[0]} & FILES.keys()
    return found - {module}


GRAPH = {module: imports(module) for module in FILES if module != SURFACE}
EDGES = sorted((a, b, a.split(".")[0], b.split(".")[0]) for a, targets in GRAPH.items() for b in targets)


def test_every_import_goes_left() -> None:
    assert {room for edge in EDGES for room in edge[2:]} <= LEVEL.keys(), "give the new room a place in ORDER"
    assert [(a, b) for a, b, room, other in EDGES if room != other and LEVEL[other] >= LEVEL[room]] == []


def test_rooms_that_see_little_import_only_that() -> None:
    assert [(a, b) for a, b, room, other in EDGES if room in ONLY and other not in ONLY[room] | {room}] == []
    assert [(a, b) for a, b, room, other in EDGES if other == "explorer" and room not in ("explorer", "cli")] == []
    assert [(a, b) for a, b, _, _ in EDGES if a == "model" and b in PARTS] == [], "model.py imports no registry"


def test_there_is_no_circle() -> None:
    tuple(graphlib.TopologicalSorter(GRAPH).static_order())


PROGRAMS = {"import tightbound": "import tightbound"}
if "cli" in FILES:
    PROGRAMS["tightbound --help"] = (
        "import sys; sys.argv = ['tightbound', '--help']\n"
        "from tightbound.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_torch_is_not_imported_until_needed(program: str) -> None:
    check = f"{program}\nimport sys; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
