"""AGENTS.md and llms.txt are those that the tables give."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import agents_pages

from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", agents_pages.PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == agents_pages.PAGES[name](), "python scripts/agents_pages.py"


def test_pages_name_what_there_is() -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in RECIPES)
    assert "`tightbound train`" in text and "`tb.train`" in text
    links = [line for line in text.splitlines() if line.startswith("- [")]
    assert len(links) > 15
