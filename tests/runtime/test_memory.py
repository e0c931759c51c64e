"""Memory between steps: kept while a training runs, given back after it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tightbound.runtime import memory as heap
from tightbound.runtime.memory import kept_memory

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc",
    reason="only glibc's malloc is told to keep memory",
)
LARGE = 64 << 20
COUNT = f"""
import json, os, resource, torch
from pathlib import Path
from tightbound.runtime.memory import kept_memory

def faults():
    # glibc sets splinters of a block aside, seven of a size, before it uses the whole again
    for _ in range(10):
        torch.zeros({LARGE} // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros({LARGE} // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

outside = faults()
with kept_memory():
    inside = faults()
    large, small = torch.zeros({LARGE} // 4), [torch.zeros(4) for _ in range(9)]
    del large
    held = resident()
print(json.dumps({{"outside": outside, "inside": inside, "given back": held - resident()}}))
"""


def counted(**settings: str) -> dict[str, int]:
    """Pages that the system hands out for four blocks of 64 MiB, and bytes given back: by a process
    of its own.
    """
    environment = {
        k: v for k, v in os.environ.items() if k not in heap.SETTINGS
    } | settings
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_glibc
def test_large_blocks_are_used_again_inside_and_go_back_at_the_end() -> None:
    found = counted()
    assert found["inside"] < found["outside"] / 20, (
        "each block was got from the system anew"
    )
    assert found["given back"] > LARGE / 2


@needs_glibc
def test_the_settings_of_a_user_are_left_alone() -> None:
    found = counted(MALLOC_TRIM_THRESHOLD_="131072")
    assert found["inside"] > found["outside"] / 2


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the allocator is told from here on."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(
        heap, "_keep", lambda mapped, trim: found.append((mapped, trim))
    )
    return found


KEEP, BACK = (heap.KEPT, heap.NEVER), (heap.USUAL, 2 * heap.USUAL)


def test_only_the_outermost_block_ends_it_and_an_error_does_too(
    told: list[tuple[int, int]],
) -> None:
    with pytest.raises(ValueError, match="of the user"), kept_memory():
        with kept_memory():
            pass
        assert told == [KEEP]
        raise ValueError("of the user")
    assert told == [KEEP, BACK]


def test_a_training_runs_inside(told: list[tuple[int, int]], tmp_path: Path) -> None:
    import tightbound as tb

    tb.train(
        "digits",
        "vae",
        out=tmp_path / "run",
        settings={"train.steps": 2},
        display="none",
        report=False,
    )
    assert told == [KEEP, BACK]


@pytest.mark.parametrize("largest", [32 << 20, 2**31 - 1])
def test_an_older_allocator_takes_what_it_can(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """glibc of 2021 refuses a threshold above 32 MiB; the other setting alone would fix it where it
    is, at 128 KiB.
    """
    set_to: dict[int, int] = {}

    def option(name: int, value: int) -> int:
        if name == heap.MAPPED and value > largest:
            return 0
        set_to[name] = value
        return 1

    monkeypatch.setattr(heap, "_glibc", lambda: (option, lambda pad: 1))
    with kept_memory():
        assert set_to == {heap.MAPPED: min(largest, heap.KEPT), heap.TRIM: heap.NEVER}
    assert set_to == {heap.MAPPED: heap.USUAL, heap.TRIM: 2 * heap.USUAL}
