"""README and overview in both languages: what they claim runs, and their tables are true.

The overview (docs/guide/overview.md) has every command; README has a few of them.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.short_reports import coarse_grids, no_report_of_training
from support.small import few_temperatures, short_search

from tightbound import api
from tightbound.cli import main
from tightbound.cli.app import app
from tightbound.components.priors import PRIORS
from tightbound.exploring import explore
from tightbound.exploring.assets import SCRIPT, STATIC
from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.ko.md")
OVERVIEWS = ("docs/guide/overview.md", "docs/guide/overview.ko.md")
NAMES = READMES + OVERVIEWS
TEXT = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
NOT_RUN = {
    (
        "tightbound train mnist --recipe vae --set data.binarize=dynamic --budget 30min"
    ): "takes half an hour, needs MNIST",
    "tightbound bench": "takes many minutes; tests/project/test_benchmarks.py runs it with --quick",
}

if importlib.util.find_spec("onnxscript") is None:
    NOT_RUN["tightbound export runs/vae --format onnx"] = "needs the extra [export]"
EXPLORE = "tightbound explore runs/vae --export page.html"
if importlib.util.find_spec("onnxscript") is None or not (STATIC / SCRIPT).is_file():
    NOT_RUN[EXPLORE] = "needs the extra [explore] and the built page, make web"
if importlib.util.find_spec("constriction") is None:
    for command in (
        "tightbound compress runs/vae digits --out digits.tb",
        "tightbound decompress digits.tb --out digits.npz",
    ):
        NOT_RUN[command] = "needs the extra [compress]"


def commands(text: str) -> list[str]:
    """The commands of tables and shell blocks, in their order."""
    return re.findall(r"^(?:\| `)?(tightbound [^`\n]+)", text, re.MULTILINE)


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def table(text: str, first: str) -> list[list[str]]:
    """The rows below the head that begins with a word."""
    found = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"no table begins with {first}"
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in found[1].splitlines()
    ]


def shapes_of_tables(text: str) -> list[int]:
    """The number of bars in each line of a table."""
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


def figures(text: str) -> list[str]:
    """The numbers with a decimal point in the rows of tables."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return re.findall(r"-?\d+\.\d+", "\n".join(rows))


@pytest.mark.parametrize("pair", [READMES, OVERVIEWS], ids=["README", "overview"])
def test_both_languages_show_the_same_commands_and_the_same_python(
    pair: tuple[str, str],
) -> None:
    en, ko = (TEXT[name] for name in pair)
    assert commands(en) == commands(ko)
    code = [
        [re.sub(r"(^|\s+)#.*", "", line) for line in "".join(blocks(text)).splitlines()]
        for text in (en, ko)
    ]
    assert code[0] == code[1]
    assert shapes_of_tables(en) == shapes_of_tables(ko)
    assert figures(en) == figures(ko)


def test_the_readme_shows_make_demo_and_make_test() -> None:
    makes = [
        re.findall(r"^(make \w+)\s+#", TEXT[name], re.MULTILINE) for name in READMES
    ]
    assert makes[0] == makes[1] == ["make demo", "make test"]
    rules = (ROOT / "Makefile").read_text()
    targets = [make.split()[1] for make in makes[0]]
    assert all(re.search(rf"^{name}:", rules, re.MULTILINE) for name in targets)


@pytest.mark.parametrize("name", READMES)
def test_the_readme_is_short(name: str) -> None:
    (code,) = blocks(TEXT[name])
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    assert len(commands(TEXT[name])) == 5
    assert len(TEXT[name].splitlines()) <= 100


def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = [row for row in table(TEXT["README.md"], "nats per image") if row]
    measured = figures(TEXT["README.md"])
    assert len(rows) == 6 and len(measured) > 8
    assert [number for number in measured if number.lstrip("-") not in results] == []


def test_every_command_of_the_program_is_shown() -> None:
    shown = {command.split()[1] for command in commands(TEXT[OVERVIEWS[0]])}
    assert set(NOT_RUN) <= set(commands(TEXT[OVERVIEWS[0]]))
    assert set(commands(TEXT["README.md"])) <= set(commands(TEXT[OVERVIEWS[0]]))
    assert shown == {name for name in app if not name.startswith("-")}


def test_the_recipes_that_are_shown_are_those_of_the_table() -> None:
    rows = table(TEXT[OVERVIEWS[0]], "recipe")
    known = [
        [f"`{name}`", recipe.purpose, recipe.paper] for name, recipe in RECIPES.items()
    ]
    assert len(rows) > 5 and all(row in known for row in rows)
    assert [
        (name, paper) for name, _, paper in table(TEXT[OVERVIEWS[1]], "레시피")
    ] == [(name, paper) for name, _, paper in rows]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT[name])
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link).exists()] == []


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        api, "demo", partial(api.demo, steps=20)
    )  # the demo, but shorter
    few_temperatures(monkeypatch, 30)
    short_search(monkeypatch)
    monkeypatch.setattr(explore, "ROLES", {})  # no small runs for the scenes
    rows = [f"{i}.5,{i % 7}" if i % 5 else f"{i}.5," for i in range(60)]
    Path("holes.csv").write_text("\n".join(["a,b", *rows]))
    coarse_grids(monkeypatch)
    for command in commands(TEXT[OVERVIEWS[0]]):  # those of README are among them
        if command in NOT_RUN:
            continue
        words = shlex.split(command)
        with monkeypatch.context() as patch:
            if words[1] == "train":
                no_report_of_training(patch)
            assert main(words[1:]) == 0, command
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).exists(), command
        if command == EXPLORE:
            assert Path("page.html").stat().st_size <= 6_500_000  # 7 MB with scenes
    assert Path("demo/report.html").is_file()


def test_the_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (first,) = blocks(TEXT["README.md"])
    own_loop, second = blocks(TEXT[OVERVIEWS[0]])
    scope: dict[str, Any] = {}
    exec(compile(first, "README.md", "exec"), scope)
    shapes = {name: tuple(scope[name].shape) for name in ("z", "back", "new", "like")}
    assert shapes == {
        "z": (180, 16),
        "back": (180, 8, 8),
        "new": (64, 8, 8),
        "like": (16, 8, 8),
    }
    assert [record["event"] for record in scope["history"]][-1:] == ["epoch"]
    assert "gap" in capsys.readouterr().out
    exec(compile(own_loop, "overview.md", "exec"), {})
    assert "log_px" in capsys.readouterr().out
    exec(compile(second, "overview.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) > 0.5


def test_the_part_that_the_architecture_page_adds_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (source,) = blocks(page)
    scope: dict[str, Any] = {}
    exec(compile(source, "architecture.md", "exec"), scope)
    monkeypatch.setitem(PRIORS, "wide", scope["WideNormal"])
    assert '`"wide": WideNormal,`' in page
    settings = {"prior": "wide", "prior.scale": 3.0, "recipe.size": "s", "latent": 2}
    run = api.train(
        "digits",
        out=tmp_path / "run",
        display="none",
        report=False,
        settings=settings,
        steps=3,
    )
    assert run.prior["z"].stddev.flatten().tolist() == [3.0, 3.0]
    assert run.sample(5).shape == (5, 8, 8)


@pytest.mark.parametrize("name", ["architecture.md", "contracts.md"])
def test_files_that_a_page_names_exist(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    package = ROOT / "src" / "tightbound"
    not_in_the_tree = {
        "components/priors/wide.py",
        "config.toml",
        "requested.toml",
        "evaluation.parts/",
    }
    named = set(re.findall(r"`([a-z_/.]+(?:/|\.py|\.toml))`", page)) - not_in_the_tree
    assert [
        file
        for file in sorted(named)
        if not (ROOT / file).exists() and not list(package.rglob(file.rstrip("/")))
    ] == []
