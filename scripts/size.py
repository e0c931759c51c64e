"""Counts the code of the package: lines per room, lines that stand elsewhere too, files and lines
that grew too long.

A line of code holds more than blanks, comments and docstrings. It is repeated if it lies in a
window of six successive lines of code, compared without comments and outer blanks, that occurs
twice or more in the package.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "tightbound"
MODEL_ROOMS = (
    *(
        "errors",
        "spec",
        "batch",
        "draw",
        "trace",
        "distributions",
        "networks",
        "posteriors",
        "priors",
        "likelihoods",
        "objectives",
    ),
    *("path", "model", "assemble", "recipes", "checks", "build"),
)
MODEL_CODE, REPEATED_PERCENT, FILE_LINES, LINE_WIDTH, WINDOW = 4500, 8.0, 330, 120, 6
LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Place = tuple[str, int]


@dataclass(frozen=True)
class Size:
    """What was counted.

    code: per file, its lines of code as (number, text); repeated: places of repeated lines.
    """

    code: dict[str, list[tuple[int, str]]]
    lines: dict[str, int]
    too_wide: list[Place]
    repeated: dict[Place, Place]

    @property
    def total(self) -> int:
        return sum(map(len, self.code.values()))

    @property
    def model(self) -> int:
        return sum(
            len(code) for name, code in self.code.items() if room(name) in MODEL_ROOMS
        )

    @property
    def repeated_percent(self) -> float:
        return 100 * len(self.repeated) / max(1, self.total)

    def faults(self) -> list[str]:
        """One sentence per bound that is broken."""
        found = [
            f"{name} has {n} lines, more than {FILE_LINES}"
            for name, n in self.lines.items()
            if n > FILE_LINES
        ]
        found += [
            f"{name}:{row} is wider than {LINE_WIDTH} characters"
            for name, row in self.too_wide
        ]
        if self.model >= MODEL_CODE:
            found.append(
                f"the model rooms have {self.model} lines of code, not under {MODEL_CODE}"
            )
        if self.repeated_percent >= REPEATED_PERCENT:
            found.append(
                f"{self.repeated_percent:.1f} % of the code is repeated, not "
                f"under {REPEATED_PERCENT:g} %"
            )
        return found


def room(name: str) -> str:
    """The folder or module right below the package that a file belongs to:
    `components/priors/normal.py` is in `priors`.
    """
    return name.split("/")[0].removesuffix(".py")


def docstrings(source: str) -> set[tuple[int, int]]:
    """Where each docstring starts, as (row, column)."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, owners)]
    return {
        (n.body[0].lineno, n.body[0].col_offset)
        for n in found
        if ast.get_docstring(n, clean=False) is not None
    }


def code_lines(source: str) -> list[tuple[int, str]]:
    """The lines of code as (number, text without comment and outer blanks)."""
    skipped, text = docstrings(source), source.split("\n")
    rows: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            text[row - 1] = text[row - 1][:column]
        elif token.type not in LAYOUT and token.start not in skipped:
            rows.update(range(row, token.end[0] + 1))
    return [
        (row, text[row - 1].strip()) for row in sorted(rows) if text[row - 1].strip()
    ]


def repeats(code: Mapping[str, list[tuple[int, str]]]) -> dict[Place, Place]:
    """Each line inside a repeated window, with the place of the first line of another such
    window.
    """
    windows: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in code.items():
        for start in range(len(lines) - WINDOW + 1):
            windows[tuple(text for _, text in lines[start : start + WINDOW])].append(
                (name, start)
            )
    found: dict[Place, Place] = {}
    for places in windows.values():
        for i, (name, start) in enumerate(places if len(places) > 1 else []):
            other, there = places[i - 1]
            for row, _ in code[name][start : start + WINDOW]:
                found.setdefault((name, row), (other, code[other][there][0]))
    return found


def measure(folder: Path) -> Size:
    """Counts every Python file below a folder."""
    sources = {
        p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8")
        for p in sorted(folder.rglob("*.py"))
    }
    code = {name: code_lines(source) for name, source in sources.items()}
    wide = [
        (name, row)
        for name, s in sources.items()
        for row, line in enumerate(s.splitlines(), 1)
        if len(line) > LINE_WIDTH
    ]
    return Size(
        code,
        {name: len(s.splitlines()) for name, s in sources.items()},
        wide,
        repeats(code),
    )


def table(size: Size) -> str:
    """The count as text: a line per room, the totals, and where the repeated lines are."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for name in size.code:
        rooms[room(name)].append(name)
    rows = [f"{'room':<16}{'files':>6}{'lines':>8}{'code':>8}"]
    for name in sorted(
        rooms,
        key=lambda r: (
            r not in MODEL_ROOMS,
            MODEL_ROOMS.index(r) if r in MODEL_ROOMS else 0,
            r,
        ),
    ):
        inside = rooms[name]
        counts = (
            sum(size.lines[f] for f in inside),
            sum(len(size.code[f]) for f in inside),
        )
        mark = " model" if name in MODEL_ROOMS else ""
        rows.append(f"{name:<16}{len(inside):>6}{counts[0]:>8}{counts[1]:>8}{mark}")
    rows.append(
        f"{'package':<16}{len(size.code):>6}{sum(size.lines.values()):>8}{size.total:>8}"
    )
    rows.append(f"model rooms: {size.model} lines of code (bound {MODEL_CODE})")
    share = f"{size.repeated_percent:.1f} % of the code (bound {REPEATED_PERCENT:g} %)"
    rows.append(
        f"inside a repeated window of {WINDOW} lines: {len(size.repeated)} lines, {share}"
    )
    starts = [p for p in size.repeated if (p[0], p[1] - 1) not in size.repeated]
    rows += [
        f"  {name}:{row} stands in {other}:{there} too"
        for name, row in starts
        for other, there in [size.repeated[name, row]]
    ]
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a bound is broken"
    )
    size = measure(PACKAGE)
    check = parser.parse_args().check
    print(table(size))
    for fault in size.faults():
        print(f"too much: {fault}", file=sys.stderr)
    return int(check and bool(size.faults()))


if __name__ == "__main__":
    sys.exit(main())
