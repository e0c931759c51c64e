"""The pages of the guide: commands and settings exist, links lead somewhere, blocks run.

Every block runs with TIGHTBOUND_LONG=1, as it stands and in the order of the page. Else commands
are parsed, and Python is compiled. A block that needs what is not here has a comment with the
reason above it, `<!-- not run: REASON -->`, and is counted.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tightbound.cli.app import app
from tightbound.config import assignments, configure
from tightbound.models.recipes import RECIPES

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = sorted((DOCS / "guide").glob("*.md"))
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?"
    r"^```(?:\{code-block\} )?(?P<kind>\w+)\n(?::\w+:[^\n]*\n)*(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = {
    "overview": "takes half an hour, and needs MNIST",
    "overview.ko": "takes half an hour, and needs MNIST",
    "pythae": "needs pythae, which wants versions that are long gone",
}
# Pages outside the guide that have blocks: the test that runs them, or why none does.
ELSEWHERE = {
    "architecture": "tests/end_to_end/test_readme.py",
    "compress": "tests/compression/test_compress_page.py",
    "explore": "tests/exploring/test_explore_command.py",
    "export": "tests/exporting/test_export_page.py",
    "index": "tests/end_to_end/test_readme.py",
    "notes": "tests/end_to_end/test_notes.py",
    "notes.ko": "tests/end_to_end/test_notes.py",
    "results": "not run: the commands of measurements, minutes to hours each",
    "speed": "not run: the commands of measurements, minutes to hours each",
}
LONG = os.environ.get("TIGHTBOUND_LONG") == "1"
needs_long = pytest.mark.skipif(not LONG, reason="takes minutes: set TIGHTBOUND_LONG=1")


@dataclass(frozen=True)
class Block:
    """A block of code of a page that a reader can run."""

    kind: str
    text: str
    reason: str | None  # why it is not run

    def commands(self) -> list[list[str]]:
        """The words of each tightbound command of a shell block."""
        lines = [line.partition("#")[0] for line in self.text.splitlines()]
        words = [shlex.split(line.split("&&")[-1]) for line in lines]
        return [line for line in words if line and line[0] == "tightbound"]


def blocks(page: Path) -> list[Block]:
    """The shell and Python blocks of a page in their order."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    every = [Block(block["kind"], block["text"], block["reason"]) for block in found]
    return [block for block in every if block.kind in ("sh", "python")]


def settings_of(words: list[str]) -> list[str]:
    """The KEY=VALUE words of a command."""
    return [word for word in words if re.fullmatch(r"[a-z_]+(\.\w+)*=\S+", word)]


@pytest.fixture
def theory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The extension of the site that runs the theory pages."""
    for package in ("sphinx", "bs4"):
        pytest.importorskip(package, reason="needs the extra [docs]")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module("theory_pictures")


def test_there_are_pages() -> None:
    names = {page.stem for page in GUIDE}
    assert {"start", "images", "data", "report", "choosing", "evaluating"} <= names
    assert sum(len(blocks(page)) for page in GUIDE) > 20


def test_blocks_that_do_not_run_are_counted() -> None:
    reasons = [
        (page.stem, block.reason)
        for page in GUIDE
        for block in blocks(page)
        if block.reason is not None
    ]
    assert sorted(reasons) == sorted(NOT_RUN.items())


def test_every_page_with_blocks_is_accounted_for() -> None:
    with_blocks = {page.stem for page in DOCS.glob("*.md") if blocks(page)}
    assert with_blocks == set(ELSEWHERE)
    for where in ELSEWHERE.values():
        assert where.startswith("not run: ") or (DOCS.parent / where).is_file()


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    made = "generated/"  # written when the site is built
    missing = [x for x in links if made not in x and not (page.parent / x).exists()]
    assert missing == []


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_commands_and_python_are_understood(page: Path) -> None:
    for block in blocks(page):
        if block.kind == "python":
            compile(block.text, page.name, "exec")
            continue
        for words in block.commands():
            app.parse_args(words[1:], exit_on_error=False, print_error=False)
            recipe = words[words.index("--recipe") + 1] if "--recipe" in words else None
            if words[1] == "train":
                configure("digits", recipe, values=assignments(settings_of(words)))


def test_recipes_that_the_guide_names_exist() -> None:
    for name in ("choosing", "pythae"):
        text = (DOCS / "guide" / f"{name}.md").read_text(encoding="utf-8")
        column = 2
        named = []
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) > column + 1 and line.startswith("| "):
                named += re.findall(r"`([a-z][a-z0-9-]+)`", cells[column])
        priors = {"normal", "gaussian-mixture", "two-stage", "maf", "iaf", "pixelcnn"}
        assert len(named) > 15
        assert set(named) - set(RECIPES) - priors == set()


def test_each_question_of_the_guide_has_a_command() -> None:
    page = DOCS / "guide" / "questions.md"
    _, *answers = page.read_text(encoding="utf-8").split("\n## ")
    assert len(answers) > 10
    assert [text.split("\n")[0] for text in answers if "\n```" not in text] == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_theory_page_embeds_the_page_of_a_run_that_it_trains(
    theory: ModuleType, language: str
) -> None:
    name = "notes.md" if language == "en" else "notes.ko.md"
    text = (DOCS / name).read_text(encoding="utf-8")
    (request,) = theory.EXPLORER.finditer(text)
    assert request["language"] == language and len(request["title"]) > 20
    commands = next(block for block in blocks(DOCS / name) if block.kind == "sh")
    outputs = [words[words.index("--out") + 1] for words in commands.commands()]
    assert request["run"] in outputs


def test_a_request_for_the_page_becomes_a_frame_with_a_title(
    theory: ModuleType, tmp_path: Path
) -> None:
    folder, out = tmp_path / "made", tmp_path / "theory"
    folder.mkdir()
    (folder / "explorer-en.html").write_text("the page")
    text = "above\n<!-- explorer: runs/x en A <title> -->\nbelow"
    shown = theory._explorer(text, folder, out)
    assert (out / "explorer-en.html").read_text() == "the page"
    frame = '<iframe src="theory/explorer-en.html" title="A &lt;title&gt;"'
    assert frame in shown and shown.startswith("above") and shown.endswith("below")


@pytest.mark.parametrize(
    ("name", "language"),
    [("notes.ko", "ko"), ("guide/overview.ko", "ko"), ("notes", "en")],
)
def test_korean_pages_say_their_language(
    theory: ModuleType, name: str, language: str
) -> None:
    extension = importlib.import_module("page_language")
    context: dict[str, object] = {"language": "en"}
    extension.name_language(None, name, "page.html", context, None)
    assert context["language"] == language


@needs_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(DOCS.parent / "examples")
    programs = str(Path(sys.executable).parent)
    env = os.environ | {
        "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
        "PYTHONPATH": str(DOCS.parent / "src"),
        "TIGHTBOUND_CACHE": str(tmp_path / "cache"),
    }
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.kind == "sh":
            command = ["bash", "-ec", block.text]
        else:
            command = [sys.executable, "-c", block.text]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block.text}\n{done.stderr[-2000:]}"
