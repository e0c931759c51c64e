"""The public surface: every name is documented, every example runs, and types are strict."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.short_reports import blank_pictures, coarse_grids, short_first_look

import tightbound as tb

ROOT = Path(__file__).parents[2]
PUBLIC = {
    name: getattr(tb, name)
    for name in tb.__all__
    if inspect.isclass(getattr(tb, name)) or inspect.isfunction(getattr(tb, name))
}


def test_every_name_is_there_and_listed_by_dir() -> None:
    assert set(tb.__all__) <= set(dir(tb)) and len(set(tb.__all__)) == len(tb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = tb.trian  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_public_name_runs(
    name: str, monkeypatch: Any, tmp_path: Path
) -> None:
    """Each has an `Example:` that calls it; a wrong value in it fails here."""
    monkeypatch.chdir(tmp_path)
    blank_pictures(monkeypatch)
    coarse_grids(monkeypatch)
    short_first_look(monkeypatch)
    public = PUBLIC[name]
    first = (inspect.getdoc(public) or "").splitlines()[0]
    assert 0 < len(first) <= 79, first
    module = importlib.import_module(public.__module__)
    examples = doctest.DocTestFinder().find(public, name, module=module, globs={})
    first_level = next(example for example in examples if example.name == name)
    assert first_level.examples, f"tb.{name} has no example"
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.failures == 0, f"an example of tb.{name} failed, see above"


def test_the_public_surface_is_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/support/public_surface.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
