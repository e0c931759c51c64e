"""The picture and the quiz of the architecture page agree with the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import architecture_picture
import check_quiz
import pytest

ROOT = check_quiz.ROOT
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def test_the_picture_is_up_to_date() -> None:
    drawn = architecture_picture.PICTURE.read_text(encoding="utf-8")
    command = "python scripts/architecture_picture.py"
    assert drawn == architecture_picture.picture(), f"draw it again: {command}"


def test_an_import_that_others_imply_is_left_out() -> None:
    counts = {("c", "b"): 1, ("b", "a"): 2, ("c", "a"): 3}
    expected = {("b", "a"): 2, ("c", "b"): 1}
    assert architecture_picture.without_implied(counts) == expected


def test_the_answers_of_the_quiz_hold() -> None:
    assert check_quiz.check() == []


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("TABLE: dict = {}\n")
    page = "`a.py` has `TABLE` and `OTHER`; `b.py`"
    right = {"paths": ["a.py"], "module": "a.py", "table": "TABLE"}
    assert check_quiz.mistakes(right, tmp_path, page) == []
    wrong = {"paths": ["b.py"], "module": "a.py", "table": "OTHER", "has": "def f"}
    assert len(check_quiz.mistakes(wrong, tmp_path, page)) == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_tests_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", text)
    written = [
        link for link in links if "generated/" not in link
    ]  # others are made by the site
    assert [link for link in written if not (page.parent / link).exists()] == []
    tests = set(re.findall(r"(?<![\w/])tests/[\w/]+\.py", text))
    assert [path for path in sorted(tests) if not (ROOT / path).is_file()] == []
