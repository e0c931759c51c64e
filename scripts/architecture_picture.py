"""Draw docs/images/architecture.svg: the rooms of the package and the imports between them.

    python scripts/architecture_picture.py            write the picture
    python scripts/architecture_picture.py --check    exit with 1 if it is out of date

Rooms, numbers of modules and arrows are read from the sources. An arrow goes from a room to one
that it imports. An import that other arrows imply is left out: `training` imports `core`, and the
arrows lead there by way of `runs`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import structure

PICTURE = structure.ROOT / "docs" / "images" / "architecture.svg"
SURFACE = ("__init__", "__main__")  # public names and the start of the command line
COMPONENTS = "components"

BOX_WIDTH, BOX_HEIGHT = 240, 64
COLUMN_PITCH, ROW_PITCH = 270, 98
MARGIN = 20
WIDEST_TEXT = 36  # letters of a line of 12 pixels in a box
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
THICKNESS = ((20, 4.5), (8, 3.0), (1, 1.6))  # at least so many imports: so many pixels


@dataclass(frozen=True)
class Place:
    """Where a room stands in the picture, and what it holds, in a line or two."""

    column: int
    row: int
    text: tuple[str, ...] = ()


PLACES = {
    "runtime": Place(1, 0, ("errors, atomic files, lock, device,", "launch context")),
    "distributions": Place(1, 1, ("densities that torch lacks,", "seeds and noise")),
    "core": Place(
        1, 2, ("DataSpec, Batch, Draw, Trace,", "base classes of components")
    ),
    COMPONENTS: Place(0, 3),  # its text is the list of its folders
    "data": Place(2, 3, ("files, arrays, tables, streams", "to splits and a DataSpec")),
    "models": Place(0, 4, ("recipes, compatibility, build,", "hierarchies, VAE")),
    "config": Place(1, 5, ("all settings, --set, TOML",)),
    "runs": Place(1, 6, ("Run, Predictor, RunFolder,", "fitted priors, imputation")),
    "training": Place(0, 7, ("Trainer, step, optimisation,", "processes, own loops")),
    "evaluation": Place(2, 7, ("terms, estimates of log p(x),", "diagnosis")),
    "exporting": Place(1, 7, ("ONNX graphs in raw units,", "weights with settings")),
    "compression": Place(1, 8, ("bits-back coding, masses,", "blocks and files")),
    "estimator": Place(0, 8, ("VAEEstimator (scikit-learn)",)),
    "report": Place(2, 8, ("content, figures, sections, page",)),
    "exploring": Place(
        1, 9, ("the page of a run: data, networks,", "server, one file")
    ),
    "api": Place(1, 10, ("train, evaluate, compare, load, ...",)),
    "cli": Place(1, 11, ("the command tightbound",)),
}


def room(module: str) -> str:
    """The room of a module such as tightbound.core.draw: the first name below the package."""
    return module.split(".")[1]


def modules_by_room(graph: Mapping[str, set[str]]) -> Counter[str]:
    """Number of modules of each room, without packages that hold modules."""
    packages = {module.rpartition(".")[0] for module in graph}
    modules = [module for module in graph if module not in packages]
    counts = Counter(room(module) for module in modules)
    return Counter({name: n for name, n in counts.items() if name not in SURFACE})


def imports_between(graph: Mapping[str, set[str]]) -> Counter[tuple[str, str]]:
    """Number of imports of a module of one room by a module of another."""
    counts: Counter[tuple[str, str]] = Counter()
    for module, targets in graph.items():
        for target in targets:
            pair = (room(module), room(target))
            if pair[0] != pair[1] and not set(pair) & set(SURFACE):
                counts[pair] += 1
    return counts


def without_implied(
    counts: Mapping[tuple[str, str], int],
) -> dict[tuple[str, str], int]:
    """The imports without those that a chain of others implies (transitive reduction)."""
    targets: dict[str, set[str]] = {}
    for importer, imported in counts:
        targets.setdefault(importer, set()).add(imported)

    def reachable(start: str) -> set[str]:
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            new = targets.get(waiting.pop(), set()) - reached
            reached |= new
            waiting += new
        return reached

    return {
        (importer, imported): n
        for (importer, imported), n in sorted(counts.items())
        if not any(
            imported in reachable(between)
            for between in targets[importer]
            if between != imported
        )
    }


def corner(place: Place) -> tuple[int, int]:
    """The upper left corner of a box."""
    return (
        MARGIN + place.column * COLUMN_PITCH,
        MARGIN + place.row * ROW_PITCH,
    )


def box(name: str, count: int, lines: tuple[str, ...]) -> str:
    """A room: its name, its number of modules, and what it holds."""
    x, y = corner(PLACES[name])
    modules = "1 module" if count == 1 else f"{count} modules"
    first = y + 39 if len(lines) == 2 else y + 46
    parts = [
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>',
        f'<text class="name" x="{x + 12}" y="{y + 22}">{escape(name)}</text>',
        f'<text class="count" x="{x + BOX_WIDTH - 12}" y="{y + 22}">{modules}</text>',
    ]
    for i, line in enumerate(lines):
        if len(line) > WIDEST_TEXT:
            raise ValueError(f"{line!r} is wider than a box")
        parts.append(f'<text x="{x + 12}" y="{first + 15 * i}">{escape(line)}</text>')
    return "\n".join(parts)


def path(importer: Place, imported: Place) -> str:
    """An arrow from the importer up to the room that it imports."""
    x1, y1 = corner(importer)
    x2, y2 = corner(imported)
    top = x1 + BOX_WIDTH // 2
    bottom = x2 + BOX_WIDTH // 2
    end = y2 + BOX_HEIGHT + 9
    if importer.column == imported.column:
        return f"M {top} {y1} V {end}"
    side = x1 if imported.column < importer.column else x1 + BOX_WIDTH
    if importer.row - imported.row > 1:  # out at the side, then up
        return f"M {side} {y1 + BOX_HEIGHT // 2} H {bottom} V {end}"
    # side by side at the foot of a box that several rooms import
    lean = (importer.column - imported.column) * BOX_WIDTH // 4
    start = top - lean
    foot = bottom + lean
    middle = (y1 + end) // 2
    return f"M {start} {y1} C {start} {middle} {foot} {middle + 4} {foot} {end}"


def thickness(count: int) -> float:
    """Width of an arrow in pixels."""
    return next(width for least, width in THICKNESS if count >= least)


def arrow(importer: str, imported: str, count: int) -> str:
    """An import of one room by another."""
    line = path(PLACES[importer], PLACES[imported])
    width = thickness(count)
    return f'<path d="{line}" stroke-width="{width}" marker-end="url(#head)"/>'


STYLE = f"""
text {{ font: 12px {FONT}; fill: #3d4652; }}
.name {{ font: bold 15px {FONT}; fill: #10202e; }}
.count {{ text-anchor: end; fill: #5d6673; }}
rect {{ fill: #eef3f6; stroke: #6f8796; stroke-width: 1.2; }}
path {{ fill: none; stroke: #7b8794; }}
marker path {{ fill: #7b8794; stroke: none; }}
"""


def picture() -> str:
    """The picture as SVG; it has no background, so it can be seen on white and on black."""
    graph = structure.Structure(structure.PACKAGE).import_graph(typing=False)
    counts = modules_by_room(graph)
    if set(counts) != set(PLACES):
        difference = ", ".join(sorted(set(counts) ^ set(PLACES)))
        raise ValueError(f"PLACES and the package have different rooms: {difference}")
    arrows = without_implied(imports_between(graph))
    kinds = sorted(
        p.name
        for p in (structure.PACKAGE / COMPONENTS).iterdir()
        if (p / "__init__.py").exists()
    )
    folders = (f"{', '.join(kinds[:3])},", ", ".join(kinds[3:]))
    texts = {name: place.text for name, place in PLACES.items()} | {COMPONENTS: folders}
    width = 2 * MARGIN + 2 * COLUMN_PITCH + BOX_WIDTH
    rows = max(place.row for place in PLACES.values())
    height = 2 * MARGIN + rows * ROW_PITCH + BOX_HEIGHT
    head = '<marker id="head" viewBox="0 0 10 10" refX="4" refY="5" markerWidth="9" '
    head += 'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
    head += '<path d="M 0 0 L 10 5 L 0 10 z"/></marker>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        "<title>Rooms of the package; arrows are imports</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{head}</defs>",
        *(arrow(*pair, n) for pair, n in arrows.items()),
        *(box(name, counts[name], texts[name]) for name in PLACES),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        drawn = PICTURE.read_text(encoding="utf-8") if PICTURE.is_file() else ""
        if drawn == picture():
            return 0
        print(
            "out of date: run python scripts/architecture_picture.py", file=sys.stderr
        )
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
