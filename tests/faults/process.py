"""One case of the fault campaign, in a process of its own, and what is wrong with it."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tightbound.cli import main as command_line

MEMORY = 500.0  # MiB above what the process had before
WAIT = 20.0  # seconds
LONGEST = 1000  # characters of a sentence
ERROR = "tightbound: error: "


@dataclass(frozen=True)
class Outcome:
    """What a process did: its exit status (negative: a signal), texts, memory and time.

    `status` is None where it did not end within the time. `processor` is the time that it
    computed, which grows little on a busy machine.
    """

    status: int | None
    output: str
    error: str
    memory: float
    seconds: float
    processor: float


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a case, None where nothing is; and whether it was refused."""

    wrong: str | None
    refused: bool


def in_process(work: Callable[[], int], folder: Path, wait: float) -> Outcome:
    """Run a function in a forked process, with its streams in files.

    Args:
        work: Returns the exit status.
        folder: Where the files of the streams are written.
        wait: Seconds after which the process is ended.
    """
    streams = [folder / "stdout.txt", folder / "stderr.txt"]
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _child(work, streams)
    usage = None
    status = None
    before = _private(os.getpid())
    memory = 0.0
    while time.monotonic() - start < wait and usage is None:
        pid, code, child_usage = os.wait4(process, os.WNOHANG)
        if pid:
            usage = child_usage
            status = os.waitstatus_to_exitcode(code)
        else:
            memory = max(memory, _private(process) - before)
            time.sleep(0.005)
    if usage is None:
        os.kill(process, signal.SIGKILL)
        _, _, usage = os.wait4(process, 0)
    output, error = (stream.read_text(errors="replace") for stream in streams)
    processor = usage.ru_utime + usage.ru_stime
    seconds = time.monotonic() - start
    return Outcome(status, output, error, memory, seconds, processor)


def _child(work: Callable[[], int], streams: Sequence[Path]) -> None:
    """The forked process: it never returns."""
    status = 99
    try:
        for descriptor, stream in zip((1, 2), streams, strict=True):
            file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        sys.stdout = os.fdopen(1, "w", closefd=False)  # pytest has replaced them
        sys.stderr = os.fdopen(2, "w", closefd=False)
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _private(process: int) -> float:
    """MiB that a process holds now, without the pages of mapped files.

    The system takes pages of a file back when it needs memory, so they do not count.
    """
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has just ended


def fault(outcome: Outcome, problem: Callable[[], str | None]) -> str | None:
    """What is wrong with an outcome; None where it is right.

    Args:
        outcome: The outcome of a case.
        problem: Says how a result differs from the right one, for exit status 0.
    """
    if outcome.status is None:
        return f"did not end within {outcome.seconds:.0f} s"
    if outcome.processor > WAIT:
        return f"computed for {outcome.processor:.0f} s"
    if outcome.memory > MEMORY:
        return f"took {outcome.memory:.0f} MiB"
    if outcome.status == 0:
        return problem()
    if outcome.status != 2:
        return f"ended with status {outcome.status}: {outcome.error[-400:]}"
    sentences = outcome.error.count(ERROR)
    if sentences != 1 or "Traceback" in outcome.error:
        return f"gave no single sentence: {outcome.error[-400:]}"
    sentence = outcome.error[outcome.error.index(ERROR) :].strip()
    if "\n" in sentence or len(sentence) > LONGEST:
        return f"gave a long text instead of a sentence: {sentence[:400]}"
    return None


def run_command(words: Sequence[str]) -> int:
    """A command of the package in this process."""
    return command_line([str(word) for word in words])
