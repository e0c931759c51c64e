"""Check the answers of docs/quiz.toml against the tree, and against the questions and the page.

    python scripts/check_quiz.py        exit with 1 where an answer does not hold

Each question of docs/quiz.md has an answer. Each path of an answer exists, each table stands at the
top level of its module, and docs/architecture.md names both (of a
path its last part).
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tightbound"
DOCS = ROOT / "docs"


def names_in(source: str) -> set[str]:
    """Names that a module assigns or defines at its top level."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def mistakes(answer: Mapping[str, Any], package: Path, page: str) -> list[str]:
    """What does not hold of one answer."""
    wrong = []
    for path in answer["paths"]:
        if not (package / path).exists():
            wrong.append(f"{path} does not exist")
        elif Path(path).name not in page:
            wrong.append(f"the page does not name {path}")
    if "module" not in answer:
        return wrong
    module = package / answer["module"]
    if not module.is_file():
        return [*wrong, f"{answer['module']} does not exist"]
    source = module.read_text(encoding="utf-8")
    if answer["table"] not in names_in(source):
        wrong.append(f"{answer['module']} has no {answer['table']}")
    if answer["table"] not in page:
        wrong.append(f"the page does not name {answer['table']}")
    if answer.get("has", "") not in source:
        wrong.append(f"{answer['module']} does not contain {answer['has']!r}")
    return wrong


def check() -> list[str]:
    """A sentence for each mistake of the quiz."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    quiz = (DOCS / "quiz.md").read_text(encoding="utf-8")
    answers = tomllib.loads((DOCS / "quiz.toml").read_text(encoding="utf-8"))
    questions = re.findall(r"^(\d+)\. ", quiz, re.M)
    sentences = []
    if questions != list(answers):
        sentences.append("questions and answers have different numbers")
    for number, answer in answers.items():
        wrong = mistakes(answer, PACKAGE, page)
        sentences += [f"answer {number}: {sentence}" for sentence in wrong]
    return sentences


def main() -> int:
    sentences = check()
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
