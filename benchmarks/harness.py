"""Compares the speed of variants fairly: all are live, take turns in short windows, and are
compared within a round.

A round gives each variant one window; the order turns from round to round. A window in which other
programs used more than 0.12 of a core is repeated, up to a limit; after that its quietest try
stands and is counted as loaded. A ratio is taken between two windows of the same round, and
reported as the median over rounds with its least and greatest value.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
QUIET, TRIES, WINDOW, ROUNDS = 0.12, 5, 0.5, 5


class Variant(Protocol):
    """One way to do some work; `run` works for at least so long and says how much it did, in how
    long.
    """

    name: str

    def setup(self) -> None: ...
    def run(self, seconds: float) -> tuple[float, float]: ...
    def teardown(self) -> None: ...


@dataclass(frozen=True)
class Window:
    """work: examples or whatever is counted.  foreign: cores that others used.

    tries: how often it was measured.
    """

    work: float
    seconds: float
    foreign: float
    tries: int

    @property
    def rate(self) -> float:
        return self.work / self.seconds


Round = dict[str, Window]


@dataclass(frozen=True)
class Spread:
    """The median over rounds, the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 0 if abs(self.median) >= 100 else 2
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


# ---- foreign load


class Load:
    """Cores that other programs use, between `start` and `foreign`: all processors' busy and stolen
    time, less our own.

    Ours is this process, its descendants, and children that have ended. Read from /proc (Linux);
    elsewhere nothing is known, `foreign` is 0 and `known` False.
    """

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.proc, self.clock = proc, clock
        self.known = (proc / "stat").exists()
        self.tick = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

    def start(self) -> None:
        self.before = self._read()

    def foreign(self) -> float:
        busy, own, now = (b - a for a, b in zip(self.before, self._read(), strict=True))
        return (
            max(0.0, (busy - own) / self.tick / now) if self.known and now > 0 else 0.0
        )

    def _read(self) -> tuple[float, float, float]:
        if not self.known:
            return 0.0, 0.0, self.clock()
        # user, nice, system, idle, iowait, irq, softirq, steal
        fields = [
            int(v)
            for v in (self.proc / "stat").read_text().splitlines()[0].split()[1:9]
        ]
        return sum(fields) - fields[3] - fields[4], self._own(), self.clock()

    def _own(self) -> int:
        times, parent = {}, {}
        for place in self.proc.iterdir():
            if not place.name.isdigit():
                continue
            try:
                words = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            pid = int(place.name)
            parent[pid] = int(words[1])
            times[pid] = int(words[11]) + int(words[12])
            if pid == os.getpid():
                times[pid] += int(words[13]) + int(words[14])
        return sum(spent for pid, spent in times.items() if _descends(pid, parent))


def _descends(pid: int, parent: dict[int, int]) -> bool:
    while pid in parent and pid != os.getpid():
        pid = parent[pid]
    return pid == os.getpid()


# ---- taking turns


def order(names: Sequence[str], number: int) -> list[str]:
    """The turn of each variant in a round: who begins moves on, and every second round runs
    backwards.
    """
    first = number // 2 % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned


def interleave(
    variants: Sequence[Variant],
    rounds: int,
    window: float,
    load: Load,
    say: Callable[[str], None] = lambda line: None,
    tries: int = TRIES,
) -> list[Round]:
    """One window per variant and round, taken in turns; variants are set up already."""
    by_name = {v.name: v for v in variants}
    found: list[Round] = []
    for number in range(rounds):
        turn = {
            name: _quiet(by_name[name], window, load, tries)
            for name in order(list(by_name), number)
        }
        found.append(turn)
        say(
            f"round {number + 1}: "
            + ", ".join(f"{name} {turn[name].rate:,.0f}/s" for name in by_name)
        )
    return found


def _quiet(variant: Variant, window: float, load: Load, tries: int) -> Window:
    best: Window | None = None
    for number in range(1, tries + 1):
        load.start()
        work, seconds = variant.run(window)
        seen = Window(work, seconds, load.foreign(), number)
        best = seen if best is None or seen.foreign < best.foreign else best
        if best.foreign <= QUIET:
            break
    return Window(best.work, best.seconds, best.foreign, number)


# ---- what came out


def rates(rounds: Sequence[Round]) -> dict[str, Spread]:
    """Work per second of each variant."""
    return {name: Spread.of([r[name].rate for r in rounds]) for name in rounds[0]}


def ratios(rounds: Sequence[Round], base: str) -> dict[str, Spread]:
    """Each variant's rate over the base's in the same round."""
    return {
        name: Spread.of([r[name].rate / r[base].rate for r in rounds])
        for name in rounds[0]
    }


def load_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """How quiet the machine was: windows, how many were measured again, how many stand though
    others were at work.
    """
    windows = [w for r in rounds for w in r.values()]
    return {
        "windows": len(windows),
        "repeated": sum(w.tries > 1 for w in windows),
        "loaded": sum(w.foreign > QUIET for w in windows),
        "foreign_median": round(statistics.median(w.foreign for w in windows), 3),
        "foreign_most": round(max(w.foreign for w in windows), 3),
    }


def quietness(load: dict[str, Any]) -> str:
    return (
        f"{load['windows']} windows, {load['repeated']} measured again, "
        f"{load['loaded']} stand under foreign load "
        f"(median {load['foreign_median']:.2f}, most {load['foreign_most']:.2f} cores)"
    )


def table(rounds: Sequence[Round], base: str, unit: str) -> str:
    """A line per variant: its rate and its ratio to the base."""
    speed, ratio = rates(rounds), ratios(rounds, base)
    wide = max(map(len, speed))
    lines = [f"{'':<{wide}}  {unit + '/s':>28}  {'ratio to ' + base:>26}"]
    lines += [
        f"{name:<{wide}}  {speed[name]!s:>28}  {ratio[name]!s:>26}" for name in speed
    ]
    return "\n".join(lines)


def record(rounds: Sequence[Round], base: str) -> dict[str, Any]:
    """All windows, rates, ratios and the load, as plain JSON."""
    return {
        "base": base,
        "rates": {name: asdict(s) for name, s in rates(rounds).items()},
        "ratios": {name: asdict(s) for name, s in ratios(rounds, base).items()},
        "load": load_of(rounds),
        "rounds": [{name: asdict(w) for name, w in r.items()} for r in rounds],
    }


# ---- variants


class Local:
    """A step in this process: a function that does some work and returns how much."""

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name, self.step, self.clock = name, step, clock

    def setup(self) -> None:
        for _ in range(2):
            self.step()

    def run(self, seconds: float) -> tuple[float, float]:
        start, work = self.clock(), 0.0
        while (spent := self.clock() - start) < seconds or not work:
            work += self.step()
        return work, spent

    def teardown(self) -> None: ...


class Missing(Exception):
    """A variant cannot run here; the message says why."""


class Remote:
    """A whole training run of `worker.py` in a process of its own, held at its gate between
    windows.

    clock: "seconds" of the wall; or "cpu", of the processor, which with one thread others on the
    machine change little.
    root: a checkout of the repository whose package and worker are run; this one where None.
    """

    def __init__(
        self,
        name: str,
        spec: dict[str, Any],
        python: str = sys.executable,
        threads: int = 1,
        clock: str = "seconds",
        root: Path | None = None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.python = python
        self.threads = threads
        self.clock = clock
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None
        self.memory, self.started = (
            0.0,
            0.0,
        )  # MiB at most between windows; seconds until it was warm

    def begin(self) -> None:
        """Starts the process; `setup` waits until it is warm."""
        down, up = os.pipe(), os.pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by teardown)
        worker = HERE if self.root is None else self.root / "benchmarks"
        command = [
            self.python,
            str(worker / "worker.py"),
            json.dumps(self.spec),
            str(down[0]),
            str(up[1]),
        ]
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
        }
        if self.root is not None:
            environment["PYTHONPATH"] = str(self.root / "src")
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=(down[0], up[1]),
        )
        os.close(down[0])
        os.close(up[1])
        self.to, self.back = os.fdopen(down[1], "w"), os.fdopen(up[0])

    def setup(self) -> None:
        since = time.perf_counter()
        if self.process is None:
            self.begin()
        self._answer()
        self.started = time.perf_counter() - since

    def run(self, seconds: float) -> tuple[float, float]:
        print(json.dumps(seconds), file=self.to, flush=True)
        found = self._answer()
        self.memory = max(self.memory, found["memory"])
        return found["work"], found[self.clock]

    def _answer(self) -> dict[str, Any]:
        text = self.back.readline()
        found = json.loads(text) if text else {"error": self._last_words()}
        if "error" in found:
            raise Missing(found["error"])
        return found

    def _last_words(self) -> str:
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()
        return words[-1] if words else "the process ended without a word"

    def teardown(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.to.close()
            self.back.close()
            self.log.close()
            self.process = None


def compete(
    variants: Sequence[Variant],
    rounds: int,
    window: float,
    say: Callable[[str], None],
    load: Load | None = None,
    tries: int = TRIES,
    together: bool = False,
) -> tuple[list[Round], dict[str, str]]:
    """Sets variants up, lets them take turns, tears them down; also says which could not run, and
    why.

    together: starts all processes at once, where there are cores enough.
    """
    missing: dict[str, str] = {}
    try:
        for v in variants if together else ():
            v.begin()  # type: ignore[attr-defined]
        for v in variants:
            try:
                v.setup()
            except Missing as why:
                missing[v.name] = str(why)
                say(f"{v.name} is left out: {why}")
        ready = [v for v in variants if v.name not in missing]
        return (
            interleave(ready, rounds, window, load or Load(), say, tries)
            if ready
            else []
        ), missing
    finally:
        for v in variants:
            v.teardown()
