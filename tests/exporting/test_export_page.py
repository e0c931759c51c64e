"""docs/export.md: its commands and its Python run as they stand, also where torch is missing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tightbound.cli import main
from tightbound.models.recipes import RECIPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
# torch cannot be imported, as where it is not installed
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_commands_and_python_run_and_a_digit_is_decoded_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("onnxruntime", "onnxscript"):
        pytest.importorskip(module, reason="needs the extra [export]")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^(tightbound .+)", PAGE, re.M)
    assert len(commands) == 7
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    printed = capsys.readouterr().out
    difference = re.search(r"the largest difference is (\S+) of", printed)
    assert difference is not None and float(difference[1]) <= 1e-4
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "export.md", "exec"), {})
        (comment,) = re.findall(r"print\(.*\)  # (.+)", block)
        assert capsys.readouterr().out.strip() == comment
    (script,) = re.findall(r"^python (examples/\S+) digits-onnx", PAGE, re.M)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / script), "digits-onnx"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    picture = done.stdout.splitlines()[:8]
    assert {len(row) for row in picture} == {16} and set("".join(picture)) - {" "}
    header, _, pixels = Path("digit.pgm").read_bytes().partition(b"\n")
    assert header == b"P5 8 8 255" and len(pixels) == 64 and max(pixels) > 100


def test_the_recipes_that_the_page_refuses_exist() -> None:
    (refused,) = re.findall(r"\*\*Refused\.\*\* Recipes `(.+)` and `(.+)`, whose", PAGE)
    assert set(refused) == {
        name for name, r in RECIPES.items() if r.posterior.name in refused
    }
