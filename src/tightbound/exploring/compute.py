"""Networks that the server computes for a page: one at a time, in a bounded queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.exploring.graphs import PageGraph
from tightbound.runtime.foreign_errors import first_line

MOST_ROWS = 4096
MOST_BODY = 16_000_000  # bytes
MOST_VALUES = 64_000_000  # of all outputs
MOST_WAITING = 16  # requests

_BYTES = {"float64": 8}  # of a value in a body; all other dtypes are sent as float32
_FLOAT32 = 4


class Refused(Exception):
    """A request that is not computed.

    Args:
        status: Of the answer.
        sentence: Why.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def inputs_of(
    graph: PageGraph, rows: int, body: bytes, classes: int | None
) -> list[Tensor]:
    """The inputs of a graph from the bytes of a request.

    Args:
        graph: The graph.
        rows: Number of rows.
        body: The inputs in their order, one after another, little endian: float64 where the
            graph takes float64, else float32.
        classes: Number of classes of an integer condition.

    Raises:
        Refused: The size is wrong, or a value is not finite or no class.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise Refused(413, f"rows is {rows}, and must be 1 to {MOST_ROWS}")
    outputs = rows * sum(_values(port) for port in graph.outputs)
    if outputs > MOST_VALUES:
        raise Refused(413, f"{rows} rows give {outputs} numbers: ask for fewer")
    sizes = [
        rows * _values(port) * _BYTES.get(str(port["dtype"]), _FLOAT32)
        for port in graph.inputs
    ]
    if len(body) != sum(sizes):
        raise Refused(
            400, f"the body has {len(body)} bytes, and {sum(sizes)} were expected"
        )
    tensors = []
    start = 0
    for port, size in zip(graph.inputs, sizes, strict=True):
        tensors.append(_tensor(port, rows, body[start : start + size], classes))
        start += size
    return tensors


def _shape(port: Mapping[str, object]) -> list[int]:
    shape = port["shape"]
    assert isinstance(shape, list)
    return [int(size) for size in shape[1:]]


def _values(port: Mapping[str, object]) -> int:
    """Values of one row of a tensor."""
    return math.prod(_shape(port))


def _tensor(
    port: Mapping[str, object], rows: int, content: bytes, classes: int | None
) -> Tensor:
    dtype = str(port["dtype"])
    number = "<f8" if dtype == "float64" else "<f4"
    values = np.frombuffer(content, number).reshape(rows, *_shape(port))
    name = str(port["name"])
    may_be_missing = name == "x"
    if np.isinf(values).any() or (np.isnan(values).any() and not may_be_missing):
        raise Refused(422, f"{name} has a value that is not finite")
    if dtype != "int64":
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))
    whole = (values == np.round(values)) & (values >= 0)
    if classes is not None:
        whole &= values < classes
    if not whole.all():
        raise Refused(422, f"{name} has a value that is no class number")
    return torch.from_numpy(values.astype(np.int64))


def answer(graph: PageGraph, inputs: Sequence[Tensor]) -> bytes:
    """The outputs of a graph in their order, one after another, as raw float32."""
    device = next(iter(graph.module.model.parameters())).device
    with torch.no_grad():
        outputs = graph.module.outputs(*(value.to(device) for value in inputs))
    pieces = [value.detach().cpu().float().numpy() for value in outputs.values()]
    return b"".join(np.ascontiguousarray(piece, "<f4").tobytes() for piece in pieces)


@dataclass(eq=False)
class _Job:
    """A request that has not begun."""

    graph: PageGraph
    inputs: Sequence[Tensor]
    page: str
    answer: asyncio.Future[bytes]


class Worker:
    """Computes one request after another in a thread of its own.

    A later request of the same page for the same thing replaces one that has not begun.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tightbound-compute")
        self._jobs: list[_Job] = []
        self._running: asyncio.Task[None] | None = None

    async def compute(
        self, graph: PageGraph, inputs: Sequence[Tensor], page: str
    ) -> bytes:
        """The answer to a request, when its turn comes.

        Args:
            graph: The graph.
            inputs: Its inputs.
            page: Id of the page and of what it asks for; "" where no request replaces another.

        Raises:
            Refused: A later request has replaced it, or too many are waiting.
        """
        self._replace(page)
        if len(self._jobs) >= MOST_WAITING:
            raise Refused(503, f"{MOST_WAITING} requests are waiting: ask again later")
        loop = asyncio.get_running_loop()
        job = _Job(graph, inputs, page, loop.create_future())
        self._jobs.append(job)
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        try:
            return await job.answer
        finally:
            if job in self._jobs:
                self._jobs.remove(job)

    def _replace(self, page: str) -> None:
        for job in [job for job in self._jobs if page and job.page == page]:
            self._jobs.remove(job)
            refused = Refused(409, "a later request has replaced this one")
            if not job.answer.done():
                job.answer.set_exception(refused)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._jobs:
            job = self._jobs.pop(0)
            try:
                content = await loop.run_in_executor(
                    self._thread, answer, job.graph, job.inputs
                )
            except Exception as error:
                if not job.answer.done():
                    reason = f"the network failed: {first_line(error)[:200]}"
                    job.answer.set_exception(Refused(500, reason))
            else:
                if not job.answer.done():
                    job.answer.set_result(content)

    def close(self) -> None:
        """End the thread when its request is finished."""
        self._thread.shutdown(wait=False, cancel_futures=True)
