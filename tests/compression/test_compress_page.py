"""docs/compress.md: its commands and its Python run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("constriction")

from tightbound.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compress.md").read_text(encoding="utf-8")


def test_commands_and_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^(tightbound .+)", PAGE, re.M)
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, command
    printed = capsys.readouterr().out
    assert "180 examples, equal bit for bit" in printed
    size = re.search(
        r"bytes: 180 examples in (\S+) bits each .*, ELBO (\S+): ", printed
    )
    assert size is not None
    assert 1.0 < float(size[1]) / float(size[2]) < 1.08
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "compress.md", "exec"), {})
    (comment,) = re.findall(r"print\(.*\)  # (.+)", block)
    assert capsys.readouterr().out.strip() == comment
