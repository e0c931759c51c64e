"""Writes AGENTS.md and llms.txt from the tables of the package and the pages of docs/.

    python scripts/agents_pages.py            writes both
    python scripts/agents_pages.py --check    exits with 1 where one is out of date

AGENTS.md tells programs that change this repository how it is built and tested; llms.txt tells
programs that answer questions about the package which pages there are.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import tightbound
from tightbound.cli.app import app
from tightbound.models.parts import KINDS
from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
SITE = "https://github.com/tightbound/tightbound/blob/main/"
ROOM = re.compile(r"^\| (`[\w./`, ]+`) \| (.+) \|$", re.MULTILINE)


def commands() -> list[str]:
    """The commands, each with the first sentence of its help."""
    lines = []
    for name in app:
        if name.startswith("-"):
            continue
        text = inspect.getdoc(app[name].default_command) or ""
        lines.append(
            f"- `tightbound {name}`: {' '.join(text.split(chr(10) * 2)[0].split())}"
        )
    return sorted(lines)


def verbs() -> list[str]:
    """The public functions, each with the first sentence of its docstring."""
    lines = []
    for name in sorted(tightbound.__all__):
        value = getattr(tightbound, name)
        if inspect.isfunction(value):
            text = (inspect.getdoc(value) or "").split("\n\n")[0]
            lines.append(f"- `tb.{name}`: {' '.join(text.split())}")
    return lines


def pages() -> list[tuple[str, str]]:
    """Path and title of each page of the docs that users read."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    files += sorted((ROOT / "docs" / "guide").glob("*.md"))
    titled = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        if title is not None and "{toctree}" not in text:
            titled.append((file.relative_to(ROOT).as_posix(), title[1]))
    return titled


def rooms() -> list[str]:
    """The rooms of the package with their content, as the architecture page lists them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return [f"- {name}: {content}" for name, content in ROOM.findall(text)]


def llms() -> str:
    """llms.txt: what the package is, its commands and functions, and its pages."""
    lines = [
        "# tightbound",
        "",
        "> Variational autoencoders on images, tables and arrays: training, evaluation of log p(x) "
        "with errors, a diagnosis, reports, export. Python and PyTorch.",
        "",
        "All figures are in nats per example, summed over dimensions and averaged over examples. "
        "Values come back in the units of the data.",
        "",
        "## Pages",
        "",
        *[f"- [{title}]({SITE}{path})" for path, title in pages()],
        "",
        "## Commands",
        "",
        *commands(),
        "",
        "## Python",
        "",
        *verbs(),
        "",
        "## Recipes",
        "",
        *[f"- `{name}`: {recipe.purpose}" for name, recipe in RECIPES.items()],
        "",
    ]
    return "\n".join(lines)


def agents() -> str:
    """AGENTS.md: how to change the package."""
    tables = [
        f"- `{kind}`: " + ", ".join(f"`{name}`" for name in KINDS[kind].table)
        for kind in KINDS
    ]
    lines = [
        "# For programs that change this repository",
        "",
        "Written by `python scripts/agents_pages.py`.",
        "",
        "## Commands",
        "",
        "- `make check`: ruff, mypy, the order of imports, bounds on structure",
        "- `make quick`: the short tests; `make test`: all; both make `.venv`",
        "- `OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/ROOM`: the tests of one room",
        "- `python scripts/same_figures.py COMMIT`: weights and figures against an older commit",
        "",
        "## Rules",
        "",
        "- [CONTRIBUTING.md](CONTRIBUTING.md) says what a change needs.",
        "- [docs/architecture.md](docs/architecture.md) says which file a part goes to, and "
        "[docs/contracts.md](docs/contracts.md) what it must promise.",
        "- With default settings, training gives the same weights bit for bit.",
        "- An error is one sentence: what is wrong, where, what to do (`TightboundError`).",
        "- Every install goes through `constraints.txt`.",
        "",
        "## Rooms of `src/tightbound/`",
        "",
        *rooms(),
        "",
        "## Components by kind",
        "",
        *tables,
        "",
    ]
    return "\n".join(lines)


PAGES = {"llms.txt": llms, "AGENTS.md": agents}


def main() -> int:
    """Write the pages, or check them; returns the exit status."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, text in PAGES.items():
        file = ROOT / name
        if not check:
            file.write_text(text(), encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text():
            stale.append(name)
    for name in stale:
        print(f"{name} is out of date: python scripts/agents_pages.py", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
