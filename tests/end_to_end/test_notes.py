"""docs/notes.md and docs/notes.ko.md: every command in them runs, and what a row says is to be seen
is there.
"""

from __future__ import annotations

import html
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from support.short_reports import blank_pictures, coarse_grids, no_report_of_training
from support.small import few_temperatures

import tightbound as tb
from tightbound.cli import main

DOCS = Path(__file__).parents[2] / "docs"
NAMES = {"en": "notes.md", "ko": "notes.ko.md"}
REPORTS = {"en": ("notes.html", "bayes.html"), "ko": ("notes.ko.html", "bayes.ko.html")}
CODE, QUOTE = re.compile(r"`([^`]+)`"), re.compile(r"“([^”]+)”")


@dataclass(frozen=True)
class Row:
    """A statement, what shows it (a command, or the letter of a block) and what to see."""

    name: str
    statement: str
    equation: str
    shown: str
    see: str


@dataclass(frozen=True)
class Notes:
    """One of the two pages: commands and blocks in their order, and the rows."""

    commands: list[str]
    blocks: dict[str, str]
    rows: list[Row]


def parse(name: str) -> Notes:
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = dict(
        re.findall(r"^### .*?\b([A-Z])\b.*?\n+```python\n(.*?)```", text, re.M | re.S)
    )
    commands = [
        line
        for shell in re.findall(r"```sh\n(.*?)```", text, re.S)
        for line in shell.splitlines()
    ]
    rows = []
    for line in text.splitlines():
        cells = [
            cell.strip().replace(r"\|", "|")
            for cell in re.split(r"(?<!\\)\|", line)[1:-1]
        ]
        if not cells or not re.fullmatch(r"\d+(\.\d+)+", cells[0]):
            continue
        assert len(cells) == 5, f"{name}: row {cells[0]} has {len(cells)} cells"
        block, command = re.match(r"\[.*?([A-Z])\]\(#", cells[3]), CODE.match(cells[3])
        assert block or command, f"{name}: row {cells[0]} names no command"
        shown = block[1] if block else command[1] if command else ""
        rows.append(Row(*cells[:3], shown, cells[4]))
        commands += [] if block else [shown]
    return Notes(list(dict.fromkeys(commands)), blocks, rows)


def english(text: str) -> str:
    """A Korean row's command, and the files it names, as in the English row."""
    return (
        text.replace("--lang ko ", "")
        .replace("notes.ko.", "notes.")
        .replace("bayes.ko.", "bayes.")
    )


def test_both_languages_have_the_same_rows_and_commands() -> None:
    en, ko = parse(NAMES["en"]), parse(NAMES["ko"])
    assert en.commands == ko.commands and len(en.commands) > 15
    assert en.blocks == ko.blocks and sorted(en.blocks) == ["A", "B", "C"]
    assert [(r.name, r.equation) for r in en.rows] == [
        (r.name, r.equation) for r in ko.rows
    ]
    assert {r.shown for r in en.rows if len(r.shown) == 1} == set(en.blocks)
    assert [r.shown for r in en.rows] == [english(r.shown) for r in ko.rows]
    assert [set(CODE.findall(r.see)) for r in en.rows] == [
        set(CODE.findall(english(r.see))) for r in ko.rows
    ]
    assert not any("not there yet" in r.statement for r in en.rows + ko.rows)


def outputs(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each command and block writes to the screen; runs them in the folder we are in.

    The plots of the Korean reports are those of the English ones, and are left empty.
    """
    found: dict[str, str] = {}
    for command in notes.commands:
        words = shlex.split(command)
        assert words[0] == "tightbound", command
        with (
            redirect_stdout(StringIO()) as screen,
            redirect_stderr(screen),
            monkeypatch.context() as patch,
        ):
            if "--lang" in words:
                blank_pictures(patch)
            status = main(words[1:])
        found[command] = screen.getvalue()
        assert status == 0, f"{command}\n{found[command]}"
    for letter, source in notes.blocks.items():
        with redirect_stdout(StringIO()) as screen:
            exec(compile(source, f"block {letter}", "exec"), {})
        found[letter] = screen.getvalue()
    return found


def seen(row: Row, notes: Notes, found: dict[str, str]) -> str:
    """All that a person can look at who does what a row says: screen, source of a block, inside of
    a written file.
    """
    texts = [found[row.shown], notes.blocks.get(row.shown, ""), *notes.commands]
    files = (Path(word) for word in row.shown.split() if Path(word).is_file())
    for path in files:
        if path.suffix == ".npz":
            texts += np.load(path).files
        elif path.suffix == ".csv":
            texts.append(path.read_text().splitlines()[0])
    return " ".join(" ".join(texts).split())


def text_of(page: str) -> str:
    return " ".join(
        html.unescape(
            re.sub(r"<[^>]+>", " ", Path(page).read_text(encoding="utf-8"))
        ).split()
    )


def faults(language: str, notes: Notes, found: dict[str, str]) -> list[str]:
    """The rows that promise something that is not there."""
    page, wrong = " ".join(map(text_of, REPORTS[language])), []
    for row in notes.rows:
        text = seen(row, notes, found)
        wrong += [
            f"{row.name}: {c!r}"
            for c in CODE.findall(row.see)
            if not Path(c).exists() and c not in text
        ]
        wrong += [
            f"{row.name}: “{q}” in the report"
            for q in QUOTE.findall(row.see)
            if q not in page
        ]
    return wrong


def figures(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern + r"[\s≥]*(-?[\d.]+)", text)]


def check_closer(found: dict[str, str]) -> None:
    """What the rows say of the figures that come closer than importance sampling."""
    run = "tightbound evaluate runs/notes-"
    two = found[f"{run}2d -k 100 --limit 12"]
    assert (
        "log p(x), nats per example" in two
        and "exact\n" in two
        and figures(r"quadrature +12 +-[\d.]+ ± [\d.]+", two)[0] > -0.01
    )
    assert "≥" not in two.split("inference gap")[1]
    gap = found[f"{run}vae -k 500 --gap --limit 20 --subset 6"]
    third, parts = (
        figures(r"\ninference gap +≥", gap),
        figures("amortisation gap", gap),
    )
    rest = figures("approximation gap +≥", gap)
    assert (
        third[0] == pytest.approx(rest[0] + parts[0], abs=0.02)
        and 0 < parts[0] < third[0]
    )
    ais = found[f"{run}vae -k 500 --ais --limit 20 --subset 3"]
    assert (
        figures(r"ais-q +3 +-[\d.]+ ± [\d.]+", ais)[0] > -0.1
        and figures("BDMC gap of ais-q:", ais)[0] < 2
    )


def check_facts(found: dict[str, str]) -> None:
    """What the rows say of the figures."""
    evaluate = "tightbound evaluate runs/notes-"
    vae, one, ppca = (
        found[evaluate + rest] for rest in ("vae -k 500", "vae -k 1", "ppca -k 500")
    )
    terms = {
        name: figures(rf"\b{name}", vae)[0]
        for name in ("distortion", "rate", "elbo", "log_px", "gap")
    }
    assert terms["elbo"] == pytest.approx(
        -terms["distortion"] - terms["rate"], abs=0.02
    )
    assert terms["elbo"] < terms["log_px"] and terms["gap"] > 1
    assert figures(r"\bgap", one)[0] < 0.5 * terms["gap"] > figures(r"\bgap", ppca)[0]
    assert figures("distortion", one)[0] == pytest.approx(terms["distortion"], abs=1)
    assert (
        np.load("codes-ae.npz")["std"].max() == 0
        and np.load("codes.npz")["std"].min() > 0
    )
    vae_run, ae_run = (tb.load(f"runs/notes-{name}") for name in ("vae", "ae"))
    digit = vae_run.read("digits")[:1]
    assert (
        ae_run.vary(digit, 16).std(0).max()
        < 1e-4
        < vae_run.vary(digit, 16).std(0).max()
    )
    exact, drawn = (
        figures(r"second term:", found["A"])[0],
        figures("in closed form,", found["A"])[0],
    )
    assert drawn == pytest.approx(exact, abs=0.5)
    assert (
        figures("at the first draw,", found["A"])[0]
        > figures(r"log p\(z\):", found["A"])[0]
    )
    log_px, total = (
        figures(r"log p\(x\):", found["B"])[0],
        figures(r"\d\s+=", found["B"])[0],
    )
    assert total == pytest.approx(log_px, abs=0.02)
    prior = figures(r"from the prior, \d+ draws: log p\(x\) =", found["C"])
    encoder = figures(r"from the encoder, \d+ draws: log p\(x\) =", found["C"])
    assert (
        prior == sorted(prior) and prior[-1] - prior[0] > 5 and prior[-2] < encoder[0]
    )


def test_every_command_runs_and_shows_what_its_row_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few_temperatures(monkeypatch, 100)
    no_report_of_training(monkeypatch)
    coarse_grids(monkeypatch)
    notes = parse(NAMES["en"])
    found = outputs(notes, monkeypatch)
    assert faults("en", notes, found) + faults("ko", parse(NAMES["ko"]), found) == []
    check_facts(found)
    check_closer(found)
