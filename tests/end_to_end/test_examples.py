"""Each script in examples/ runs to its end, from another folder, and prints what it found.

They train for few steps here, in this process, and one of them as its reader would run it.
TIGHTBOUND_LONG=1 runs every one as a program with the steps that it is written with.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tightbound.components.posteriors import clusters

ROOT = Path(__file__).parents[2]
# Run by tests/exporting/test_export_page.py, with the export that it reads.
WITH_AN_EXPORT = "decode_without_torch.py"
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").glob("*.py"))
    if path.name != WITH_AN_EXPORT
]
SHORT = {"TIGHTBOUND_EXAMPLE_STEPS": "25", "TIGHTBOUND_EXAMPLE_EPOCHS": "2"}
AS_PROGRAM = "new_prior"
FIGURES = {  # what a fully trained example prints: a pattern of its figures
    "clustering": r"normalised mutual information ([\d.]+)",
    "conditional": r"of \d+ other digits .* (\d+)% are rebuilt",
    "missing_data": r"pixels: ([\d.]+) of 16 levels; by the mean of each pixel ([\d.]+)",
}
CLAIMS: dict[str, Callable[..., bool]] = {
    "clustering": lambda agreement: agreement > 0.4,
    "conditional": lambda share: share > 50,
    "missing_data": lambda error, plain: error < 0.8 * plain,
}


def written_by(script: Path, folder: Path) -> None:
    """The pictures that a script names in its first lines are there, and no others."""
    promised = re.findall(r"writes ([\w-]+\.png)", script.read_text(encoding="utf-8"))
    assert {path.name for path in folder.glob("*.png")} == set(promised)


def run_as_program(script: Path, folder: Path, **variables: str) -> str:
    """Run an example in a process of its own; returns its output."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "TIGHTBOUND_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=env | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() and "Traceback" not in done.stderr
    written_by(script, folder)
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if script.stem == AS_PROGRAM:
        run_as_program(script, tmp_path, **SHORT)
        return
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(clusters, "STEPS", 50)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(script.parent)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()
    written_by(script, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="long: TIGHTBOUND_LONG=1"
)
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_finds_what_it_shows(script: Path, tmp_path: Path) -> None:
    output = run_as_program(script, tmp_path)
    if script.stem in FIGURES:
        found = re.search(FIGURES[script.stem], output)
        assert found is not None, output
        assert CLAIMS[script.stem](*map(float, found.groups())), output
