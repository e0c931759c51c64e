"""What `show` and docs/recipes.md say of recipes: every key has its meaning, and the page is the
table's.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import recipes_page

from tightbound.cli import meanings, tables
from tightbound.config import SECTIONS
from tightbound.core.component import Objective
from tightbound.models.parts import KINDS
from tightbound.models.recipes import RECIPES, Part, part


def test_the_page_is_up_to_date() -> None:
    text = recipes_page.PAGE.read_text(encoding="utf-8")
    assert text == recipes_page.page(), "write it again: python scripts/recipes_page.py"
    assert [
        re.match(r"\| `([\w-]+)`", row)[1]
        for row in text.splitlines()
        if row.startswith("| `")
    ] == list(RECIPES)  # type: ignore[index]
    assert all(
        row.count(" | ") == 4 for row in text.splitlines() if row.startswith("| `")
    )


def test_pictures_are_small_and_of_recipes_that_there_are() -> None:
    pictures = list(recipes_page.PICTURES.glob("*"))
    assert {p.stem for p in pictures} <= set(RECIPES) and sum(
        p.stat().st_size for p in pictures
    ) < 1_500_000


def test_identifiers_become_links() -> None:
    said = recipes_page.linked(
        "A 2019, arXiv:1911.02469; B 1999, doi:10.1111/1467-9868.00196; C, openreview:Sy2fzU9gl"
    )
    assert (
        "(https://arxiv.org/abs/1911.02469)" in said
        and "(https://doi.org/10.1111/1467-9868.00196)" in said
    )
    assert "(https://openreview.net/forum?id=Sy2fzU9gl)" in said


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind].table]
)
def test_every_option_of_every_part_has_its_meaning_at_the_argument(
    kind: str, name: str
) -> None:
    for option, _, said in meanings.options(kind, Part(name=name)):
        assert said, f"describe {option} of {kind} {name}: Field(description=...)"


def test_every_setting_has_a_meaning() -> None:
    assert all(
        said for cls in SECTIONS.values() for said in meanings.described(cls).values()
    )


class Odd(Objective):
    """An objective with described and other options."""

    def __init__(
        self,
        alpha: Annotated[
            float, Field(ge=0, description="weights (Higgins et al.)")
        ] = 1.0,
        beta: Annotated[float, Field(gt=0)] = 2.0,
        gamma: float = 3.0,
    ) -> None:
        super().__init__()


class Child(Odd):
    """An objective that has the options of its base class."""


@pytest.mark.parametrize("cls", [Odd, Child])
def test_descriptions_are_those_at_the_arguments(cls: type[Objective]) -> None:
    mine = part(f"{__name__}:{cls.__name__}", beta=5.0)
    assert meanings.options("objective", mine) == [
        ("alpha", 1.0, "weights (Higgins et al.)"),
        ("beta", 5.0, ""),
        ("gamma", 3.0, ""),
    ]


def test_show_has_every_option_with_its_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    tables.show("disentangled-beta-vae")
    rows = {
        cells[0]: cells[1:]
        for line in capsys.readouterr().out.splitlines()
        if (cells := re.split(r"\s{2,}", line.strip()))
    }
    assert rows["recipe.objective.gamma"] == [
        "1000.0",
        "weight of the distance of the rate from the capacity",
    ]
    assert rows["recipe.objective.rise"][0] == "0.8" and rows["seed"][0] == "0"
    tables.show("ppca")
    assert re.search(r"train\.lr +0\.01 ", capsys.readouterr().out), (
        "a recipe's own training settings are shown"
    )


def test_options_of_a_part_that_the_data_will_choose_are_those_that_are_set() -> None:
    assert meanings.options("likelihood", part("auto", scale="learned")) == [
        ("scale", "learned", "")
    ]


def test_the_table_says_what_tells_a_recipe_apart() -> None:
    told = {name: tables.parts(RECIPES[name]) for name in RECIPES}
    assert (
        told["conditional"] == ["conditional true"]
        and "missing zero" in told["missing-data"]
    )
    assert told["rae-l2"][-1] == "train groups.inference.weight_decay=0.0"
    alike = [name for name in RECIPES if name != "vae" and told[name] == told["vae"]]
    assert not alike, "nothing is said of how they differ"
