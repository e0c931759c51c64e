"""What every test has: one thread, one seed, a cache of its own, and no way out to a network."""

from __future__ import annotations

import inspect
import os
import random
import socket
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
TESTS = Path(__file__).parent


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


def slow_functions() -> tuple[dict[str, float], set[str]]:
    """The test functions that scripts/slow_tests.py listed.

    Returns:
        All with their seconds, and those whose fixtures are slow.
    """
    text = (Path(__file__).parent / "slow.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    seconds = {row[0]: float(row[1]) for row in rows}
    return seconds, {row[0] for row in rows if row[2:] == ["setup"]}


def shared_fixtures(item: pytest.Item) -> set[object]:
    """The fixtures of a test that it shares with others, but for those of all tests."""
    if not isinstance(item, pytest.Function):
        return set()
    last = [defined[-1] for defined in item._fixtureinfo.name2fixturedefs.values()]
    return {fixture for fixture in last if _is_of_some_tests(fixture)}


@cache
def _is_of_some_tests(fixture: pytest.FixtureDef[object]) -> bool:
    """True for a fixture of our own that is made for several tests, but not for all."""
    file = Path(inspect.getfile(fixture.func))
    return (
        fixture.scope != "function"
        and file.is_relative_to(TESTS)
        and file != Path(__file__)
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Run files with slow tests first.

    With `--quick`, deselect the slow tests, and those that share a fixture which made one slow:
    the first test that uses it pays for it, whichever that is.
    """
    slow, slow_by_fixtures = slow_functions()
    name_of = {item: getattr(item, "originalname", "") for item in items}
    listed = [item for item in items if name_of[item] in slow]
    if config.getoption("--quick"):
        costly: set[object] = set()
        for item in listed:
            if name_of[item] in slow_by_fixtures:
                costly |= shared_fixtures(item)
        left_out = {*listed, *(i for i in items if costly & shared_fixtures(i))}
        config.hook.pytest_deselected(items=[i for i in items if i in left_out])
        items[:] = [item for item in items if item not in left_out]
        return
    functions = {(item.path, name_of[item]) for item in listed}
    seconds: dict[Path, float] = defaultdict(float)
    for path, name in sorted(functions):
        seconds[path] += slow[name]
    items.sort(key=lambda item: -seconds[item.path])
