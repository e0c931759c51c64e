"""One variant's whole training run, held at a gate between the windows that are timed. Started by
`harness.Remote`.

    python worker.py SPEC DOWN UP     SPEC as JSON; two inherited pipes

A SPEC with "processes" is a run by so many, the first of which starts the others and alone has a
gate: they wait for it where they add up gradients.

The gate is called after each step (or every few) with the number of examples done since it was last
called. It answers when it is warm, then for each number of seconds it reads runs at least so long
and says how much was done.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

WARM_SECONDS, WARM_CALLS = 0.5, 3


class Gate:
    """Lets a run pass while a window is open; the first call starts its clock, so that waking up is
    not timed.
    """

    def __init__(self, down: int, up: int) -> None:
        self.read, self.write = os.fdopen(down), os.fdopen(up, "w")
        self.calls, self.first = 0, 0.0
        self.wanted: float | None = None
        self.start: float | None = None
        self.work = 0.0

    def __call__(self, n: float) -> None:
        if self.wanted is None:
            self._warm()
        elif self.start is None:
            self._wait_for_device()
            self.start, self.cpu = time.perf_counter(), time.process_time()
        else:
            self.work += n
            if time.perf_counter() - self.start >= self.wanted:
                self._wait_for_device()
                spent, cpu = (
                    time.perf_counter() - self.start,
                    time.process_time() - self.cpu,
                )
                self._hold(
                    {
                        "work": self.work,
                        "seconds": spent,
                        "cpu": cpu,
                        "memory": own_memory(),
                    }
                )

    def _warm(self) -> None:
        self.calls += 1
        self.first = self.first or time.perf_counter()
        if self.calls > WARM_CALLS and time.perf_counter() - self.first > WARM_SECONDS:
            self._hold({"ready": True})

    def _hold(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self.write, flush=True)
        text = self.read.readline()
        if not text:
            os._exit(0)
        self.wanted, self.start, self.work = float(json.loads(text)), None, 0.0

    @staticmethod
    def _wait_for_device() -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def own_memory() -> float:
    """MiB that this process holds, without pages of mapped files, which the system takes back when
    it needs them.
    """
    try:
        with open("/proc/self/status") as file:
            return (
                next(
                    int(line.split()[1]) for line in file if line.startswith("RssAnon")
                )
                / 1024
            )
    except (OSError, StopIteration):
        return float("nan")


def start_others(processes: int) -> None:
    """Makes this the first process of a launch, and starts the rest of it; they end when it
    does.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
    }
    for rank in range(1, processes):
        own = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        subprocess.Popen([sys.executable, __file__, sys.argv[1]], env=own)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}


def follow(spec: dict[str, Any]) -> None:
    """A process that is not the first: it ends, without a word, when the first one has ended."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from variants import RUNS

    with suppress(Exception):
        RUNS[spec["run"]](lambda n: None, spec)


def main() -> None:
    spec = json.loads(sys.argv[1])
    if len(sys.argv) == 2:
        return follow(spec)
    gate = Gate(int(sys.argv[2]), int(sys.argv[3]))
    if spec.get("processes", 1) > 1:
        start_others(spec["processes"])
    try:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        from variants import RUNS

        RUNS[spec["run"]](gate, spec)
        answer = "the run ended before it was told to"
    except Exception as error:
        answer = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if os.environ.get("TIGHTBOUND_DEBUG"):
            raise
    print(json.dumps({"error": answer}), file=gate.write, flush=True)


if __name__ == "__main__":
    main()
