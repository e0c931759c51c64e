"""Requests for networks wait in a bounded queue, and the latest one of a page wins."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tightbound.exploring import compute
from tightbound.exploring.compute import MOST_WAITING, Refused, Worker


class Gate:
    """Computations that wait until they are let through, in the order in which they began."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[str] = []

    def answer(self, graph: Any, inputs: Any) -> bytes:
        self.begun.append(graph)
        assert self.open.wait(20)
        return str(graph).encode()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(compute, "answer", gate.answer)
    return gate


async def started(worker: Worker, graph: Any, page: str) -> asyncio.Task[bytes]:
    task = asyncio.create_task(worker.compute(graph, [], page))
    await asyncio.sleep(0)
    return task


async def begun(gate: Gate) -> None:
    """Wait until the first computation has begun."""
    while not gate.begun:
        await asyncio.sleep(0.001)


def test_a_later_request_of_a_page_replaces_one_that_has_not_begun(gate: Gate) -> None:
    async def story() -> list[object]:
        worker = Worker()
        first = await started(worker, "first", "a")
        await begun(gate)
        others = [await started(worker, name, "a") for name in ("second", "third")]
        other_page = await started(worker, "other", "b")
        gate.open.set()
        tasks = [first, *others, other_page]
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third, other = asyncio.run(story())
    assert (first, third, other) == (b"first", b"third", b"other")
    assert isinstance(second, Refused) and second.status == 409
    assert gate.begun == ["first", "third", "other"]


def test_the_queue_is_bounded(gate: Gate) -> None:
    async def story() -> list[object]:
        worker = Worker()
        tasks = [await started(worker, 0, "")]
        await begun(gate)
        for i in range(MOST_WAITING + 1):
            tasks.append(await started(worker, i + 1, ""))
        gate.open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *answered, last = asyncio.run(story())
    assert answered == [str(i).encode() for i in range(MOST_WAITING + 1)]
    assert isinstance(last, Refused) and last.status == 503


def test_a_request_that_was_given_up_is_not_computed(gate: Gate) -> None:
    async def story() -> bytes:
        worker = Worker()
        first = await started(worker, "first", "")
        await begun(gate)
        second = await started(worker, "second", "")
        second.cancel()
        third = await started(worker, "third", "")
        gate.open.set()
        await first
        return await third

    assert asyncio.run(story()) == b"third"
    assert gate.begun == ["first", "third"]


def test_a_network_that_fails_is_a_refusal_and_the_next_one_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(graph: Any, inputs: Any) -> bytes:
        if graph == "bad":
            raise RuntimeError("no such weights\nand more")
        return b"good"

    monkeypatch.setattr(compute, "answer", answer)

    async def story() -> tuple[object, bytes]:
        worker = Worker()
        bad = await started(worker, "bad", "")
        (failed,) = await asyncio.gather(bad, return_exceptions=True)
        return failed, await worker.compute("good", [], "")  # a name stands for a graph

    failed, good = asyncio.run(story())
    assert isinstance(failed, Refused) and failed.status == 500
    assert failed.sentence == "the network failed: no such weights" and good == b"good"
