"""A run that goes on where bits differ says what differs; where nothing does, nothing is said."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from support.small import trained

import tightbound as tb
from tightbound.training.arithmetic import arithmetic, differences
from tightbound.training.checkpoint import StateStore
from tightbound.training.console import Quiet


class Said(Quiet):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def resumed(folder: Path) -> list[str]:
    show = Said()
    tb.train(out=folder, resume=True, display=show, report=False)
    return [line for line in show.lines if "goes on with" in line]


def edit(folder: Path, **changes: str | int) -> None:
    """Let the newest state say that it was computed elsewhere; without changes, nothing."""
    loaded = StateStore(folder / "state").load()
    assert loaded is not None
    state, _ = loaded
    if changes:
        state["arithmetic"] |= changes
    else:
        del state["arithmetic"]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / "state" / f"state-{state['step']}.pt"
    path.write_bytes(content + hashlib.sha256(content).digest())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = trained(tmp_path_factory.mktemp("run") / "run", "vae", steps=6)
    assert run.folder is not None
    return run.folder


def test_equal_arithmetic_says_nothing(folder: Path) -> None:
    assert resumed(folder) == []


def test_another_torch_and_thread_count_are_named(folder: Path) -> None:
    threads = torch.get_num_threads()
    edit(folder, torch="1.0.0", threads=threads + 1)
    (line,) = resumed(folder)
    assert f"torch {torch.__version__} instead of 1.0.0" in line
    assert f"threads {threads} instead of {threads + 1}" in line
    assert "not to the bit" in line and "device" not in line
    assert line in (folder / "log.jsonl").read_text()


def test_each_fact_is_compared() -> None:
    facts = arithmetic(torch.device("cpu"))
    assert differences(facts, facts) == ""
    for name, value in facts.items():
        words = differences({**facts, name: "other"}, facts)
        assert words == f"{name} {value} instead of other"


def test_a_state_of_before_the_record_is_resumed(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "vae", steps=6)
    assert run.folder is not None
    edit(run.folder)
    assert resumed(run.folder) == []
