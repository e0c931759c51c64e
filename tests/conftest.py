"""What every test has: one thread, one seed, a cache of its own, and no way out to a network."""

from __future__ import annotations

import os
import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is neither read nor written, and only this machine can be reached.

    Files are not forced to the disk: that matters where a machine loses its power, which no
    test does, and takes a fifth of the time of a short training.
    """
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise OSError(f"a test tried to reach {address[0]}: tests use no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIGHTBOUND_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(socket.socket, "connect", local)
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of `TIGHTBOUND_DATA`; the test is skipped without it."""
    root = os.environ.get("TIGHTBOUND_DATA")
    if not root:
        pytest.skip(
            "needs TIGHTBOUND_DATA, a folder with mnist/, fashion_mnist/ and binarized_mnist/"
        )
    return Path(root)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out the tests in slow.txt"
    )


def slow_functions() -> dict[str, float]:
    """The test functions that scripts/slow_tests.py listed, with their seconds."""
    text = (Path(__file__).parent / "slow.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name: float(seconds) for name, seconds in rows}


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Run files with slow tests first; with `--quick`, deselect the slow tests."""
    slow = slow_functions()
    name_of = {item: getattr(item, "originalname", "") for item in items}
    listed = [item for item in items if name_of[item] in slow]
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=listed)
        items[:] = [item for item in items if name_of[item] not in slow]
        return
    functions = {(item.path, name_of[item]) for item in listed}
    seconds: dict[Path, float] = defaultdict(float)
    for path, name in sorted(functions):
        seconds[path] += slow[name]
    items.sort(key=lambda item: -seconds[item.path])
