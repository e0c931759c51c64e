"""The processes of one launch, forked from this one: nothing is imported again in them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Launched:
    """What the processes of a launch printed, rank after rank."""

    stdout: str
    stderr: str


def launch(
    work: Callable[[], object], folder: Path, processes: int = 2, timeout: float = 600
) -> Launched:
    """Do the same work in several processes that can join each other, as torchrun's can.

    torchrun itself, whose processes import torch anew, is tested in test_elastic,
    test_scale_page and test_sharded_output.

    Args:
        work: Called in each process, with the environment that torchrun sets.
        folder: For files of what the processes print.
        processes: Number of them.
        timeout: Seconds after which all are killed.

    Raises:
        AssertionError: One of them fails, with what it printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sys.stdout.flush()
    sys.stderr.flush()
    running = {
        _forked(work, folder, rank, processes, port): rank for rank in range(processes)
    }
    ends = time.monotonic() + timeout
    failed: list[int] = []
    while running and not failed and time.monotonic() < ends:
        time.sleep(0.02)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                rank = running.pop(pid)
                failed += [rank] if status else []
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    texts = [_printed(folder, rank) for rank in range(processes)]
    assert not failed and not running, (failed, list(running.values()), texts)
    return Launched(*("".join(text) for text in zip(*texts, strict=True)))


def _printed(folder: Path, rank: int) -> tuple[str, str]:
    """Standard output and standard error of a process."""
    out = (folder / f"out-{rank}.txt").read_text(encoding="utf-8")
    return out, (folder / f"err-{rank}.txt").read_text(encoding="utf-8")


def _forked(
    work: Callable[[], object], folder: Path, rank: int, processes: int, port: int
) -> int:
    """Start a process of the launch; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
        os.environ |= {name: str(value) for name, value in variables.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        sys.stdout = (folder / f"out-{rank}.txt").open("w", encoding="utf-8")
        sys.stderr = (folder / f"err-{rank}.txt").open("w", encoding="utf-8")
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
