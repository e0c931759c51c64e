"""The theory page with its commands run: outputs of its blocks, pictures of its reports.

A page asks for them by comments, which other readers of Markdown do not show:
`<!-- output -->` after a Python block shows what the block prints,
`<!-- pictures: FILE.html SECTION -->` the pictures of a section of a report that the page's first
block of commands writes, and `<!-- explorer: RUN LANGUAGE TITLE -->` the page of
`tightbound explore` on one of its runs, in a frame.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.element import Tag
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

import tightbound

PAGES = ("notes", "notes.ko")
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
OUTPUT = re.compile(r"```python\n(?P<code>[^`]*?)```\n\n<!-- output -->", re.DOTALL)
PICTURES = re.compile(r"<!-- pictures: (?P<file>[\w.-]+\.html) (?P<section>[\w-]+) -->")
EXPLORER = re.compile(
    r"<!-- explorer: (?P<run>[\w./-]+) (?P<language>\w+) (?P<title>[^\n]+) -->"
)
KINDS = {"image/png": "png", "image/svg+xml": "svg"}

logger = logging.getLogger(__name__)


def _package_hash() -> str:
    """A hash of all sources of the package, and of the built page of `explore`."""
    digest = hashlib.sha256()
    package = Path(tightbound.__file__).parent
    built = (package / "exploring" / "static").glob("*.*")
    for path in [*sorted(package.rglob("*.py")), *sorted(built)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str], folder: Path) -> str:
    """Run a program in a folder; returns what it prints."""
    programs = str(Path(sys.executable).parent)
    paths = os.pathsep.join([programs, os.environ.get("PATH", "")])
    result = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": paths, "COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise ExtensionError(f"{command} failed: {result.stderr[-2000:]}")
    return result.stdout


def _once(text: str, folder: Path) -> None:
    """Run the commands of a page's first block, unless they were run with these sources."""
    block = SHELL.search(text)
    if block is None:
        raise ExtensionError("the theory page has no block of commands")
    stamp = folder / "stamp"
    key = hashlib.sha256((block[1] + _package_hash()).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    shutil.rmtree(folder)
    folder.mkdir()
    for command in block[1].splitlines():
        logger.info("theory: %s", command)
        _run(command.split(), folder)
    stamp.write_text(key)


def _outputs(text: str, folder: Path) -> str:
    """Each Python block that asks for it, followed by what it prints."""

    def replaced(match: re.Match[str]) -> str:
        printed = _run([sys.executable, "-c", match["code"]], folder)
        return f"```python\n{match['code']}```\n\n```text\n{printed}```"

    return OUTPUT.sub(replaced, text)


def _figures(section: Tag, folder: Path, name: str) -> list[str]:
    """Write the pictures of a section of a report; returns the HTML of each run's."""
    figures = []
    for run, panel in enumerate(section.find_all("figure", class_="panel")):
        heading = panel.find("h3")
        title = html.escape(heading.get_text(strip=True)) if heading else ""
        images = []
        for number, image in enumerate(panel.find_all("img")):
            head, _, data = str(image["src"]).partition(";base64,")
            kind = KINDS[head.removeprefix("data:")]
            file = f"{name}-{run}-{number}.{kind}"
            (folder / file).write_bytes(base64.b64decode(data))
            alternative = html.escape(str(image.get("alt", "")))
            images.append(f'<img src="{folder.name}/{file}" alt="{alternative}">')
        if images:
            caption = f"<figcaption>{title}</figcaption>"
            figures.append(f"<figure>{caption}{''.join(images)}</figure>")
    return figures


def _pictures(text: str, folder: Path, out: Path) -> str:
    """Each request for pictures, replaced by them."""
    out.mkdir(parents=True, exist_ok=True)

    def replaced(match: re.Match[str]) -> str:
        report = folder / match["file"]
        page = BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")
        section = page.find("section", id=match["section"])
        if not isinstance(section, Tag):
            raise ExtensionError(f"{report.name} has no section {match['section']}")
        name = f"{report.stem}-{match['section']}"
        figures = _figures(section, out, name)
        if not figures:
            raise ExtensionError(
                f"section {match['section']} of {report.name} is empty"
            )
        return f'<div class="pictures">{"".join(figures)}</div>'

    return PICTURES.sub(replaced, text)


def _explorer(text: str, folder: Path, out: Path) -> str:
    """Each request for the page in the browser, replaced by a frame with it."""
    out.mkdir(parents=True, exist_ok=True)

    def replaced(match: re.Match[str]) -> str:
        name = f"explorer-{match['language']}.html"
        page = folder / name
        if not page.exists():
            logger.info("theory: the page of %s, %s", match["run"], match["language"])
            words = ["tightbound", "explore", match["run"], "--export", name]
            _run([*words, "--lang", match["language"]], folder)
        shutil.copyfile(page, out / name)
        source = f"{out.name}/{name}"
        title = html.escape(match["title"])
        frame = f'<iframe src="{source}" title="{title}" loading="lazy"></iframe>'
        link = f'<a href="{source}">{title}</a>'
        return (
            f'<figure class="explorer">{frame}<figcaption>{link}</figcaption></figure>'
        )

    return EXPLORER.sub(replaced, text)


def expand(app: Sphinx, name: str, content: list[str]) -> None:
    """Run the commands of the theory page and put in what they show."""
    if name not in PAGES:
        return
    folder = Path(app.outdir).parent / "theory"
    folder.mkdir(parents=True, exist_ok=True)
    _once(content[0], folder)
    text = _outputs(content[0], folder)
    out = Path(app.outdir) / "theory"
    content[0] = _explorer(_pictures(text, folder, out), folder, out)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the expansion."""
    app.connect("source-read", expand)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
