"""Completion of commands for shells: installed only where it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tightbound.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_installed_and_names_the_commands(
    shell: str, tmp_path: Path
) -> None:
    env = os.environ | {"HOME": str(tmp_path), "SHELL": f"/bin/{shell}"}
    script = (
        "import sys; sys.argv[0] = 'tightbound'; from tightbound.cli import main; "
        "sys.exit(main(['--install-completion', '--shell', sys.argv[1]]))"
    )
    words = [sys.executable, "-c", script, shell]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = [p for p in tmp_path.rglob("*tightbound*") if p.is_file()]
    assert written
    text = written[0].read_text(encoding="utf-8")
    assert "fit-prior" in text and "--recipe" in text


def test_a_script_does_not_replace_a_file_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "notes.bash"
    kept.write_text("mine")
    words = ["--install-completion", "--shell", "bash", "--out", str(kept)]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err and kept.read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert "fit-prior" in kept.read_text()
