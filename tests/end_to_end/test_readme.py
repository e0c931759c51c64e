"""README.md and README.ko.md: what they claim runs, and their tables are those of the package."""

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
NAMES = ("README.md", "README.ko.md")
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


def test_both_languages_show_the_same_commands_and_the_same_python() -> None:
    en, ko = (TEXT[name] for name in NAMES)
    assert commands(en) == commands(ko) and set(NOT_RUN) <= set(commands(en))
    code = [
        [re.sub(r"(^|\s+)#.*", "", line) for line in "".join(blocks(text)).splitlines()]
        for text in (en, ko)
    ]
    assert code[0] == code[1]
    makes = [re.findall(r"^(make \w+)\s+#", text, re.MULTILINE) for text in (en, ko)]
    assert makes[0] == makes[1] == ["make demo", "make test"]
    assert all(
        re.search(
            rf"^{make.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE
        )
        for make in makes[0]
    )
    assert [line.count("|") for line in en.splitlines() if line.startswith("|")] == [
        line.count("|") for line in ko.splitlines() if line.startswith("|")
    ]


def test_every_command_of_the_program_is_shown() -> None:
    shown = {command.split()[1] for command in commands(TEXT["README.md"])}
    assert shown == {name for name in app if not name.startswith("-")}


def test_the_recipes_that_are_shown_are_those_of_the_table() -> None:
    rows = table(TEXT["README.md"], "recipe")
    known = [
        [f"`{name}`", recipe.purpose, recipe.paper] for name, recipe in RECIPES.items()
    ]
    assert len(rows) > 5 and all(row in known for row in rows)
    assert [
        (name, paper) for name, _, paper in table(TEXT["README.ko.md"], "레시피")
    ] == [(name, paper) for name, _, paper in rows]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT[name])
    assert [link for link in links if not (ROOT / link).exists()] == []


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
    for command in commands(TEXT["README.md"]):
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
    first, own_loop, second = blocks(TEXT["README.md"])
    scope: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), scope)
    shapes = {name: tuple(scope[name].shape) for name in ("z", "back", "new", "like")}
    assert shapes == {
        "z": (180, 16),
        "back": (180, 8, 8),
        "new": (64, 8, 8),
        "like": (16, 8, 8),
    }
    assert "gap" in capsys.readouterr().out
    exec(compile(own_loop, "README.md", "exec"), {})
    assert "log_px" in capsys.readouterr().out
    exec(compile(second, "README.md", "exec"), {})
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
