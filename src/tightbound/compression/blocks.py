"""Blocks of examples: coded as one message, checked by decoding it, or stored as they are."""

from __future__ import annotations

import hashlib
import lzma
import math
import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tightbound.compression.coder import (
    Stack,
    Uncodable,
    Weights,
    Words,
    whole_weights,
)
from tightbound.compression.container import (
    CODED,
    MOST_BYTES,
    STORED,
    Block,
    Damaged,
    Reader,
    varint,
)
from tightbound.compression.schedules import Job, Measured, Schedule, schedule_of
from tightbound.compression.values import Decoded
from tightbound.core.data_spec import Condition
from tightbound.data.conform import raw_shape
from tightbound.runtime.errors import TightboundError

DIGEST_WORDS = 8
LEAST_BITS = 32  # that stay on the stack after each pop
CAUTION = 0.85  # share of the bits on the stack that a batch is planned to pop
QUICK = 2.0  # how much shorter LZMA may be than the quickest packing
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6}]


class Different(Exception):
    """A block does not decode to what its checksum says."""


@dataclass(frozen=True)
class Account:
    """Where the bits of coded blocks went; sums over blocks by `+`.

    Attributes:
        elbo: Minus the sum of log p(x, z) - log q(z|x) at the drawn z, in bits.
        ideal: The same by the integer probabilities of the bins.
        message: Bits of the messages above their initial ones.
        initial: Bits that the messages began with, the checksums among them.
        conditions: Bits of the conditions.
        widths: Minus the logarithm of the steps of real numbers, in bits.
        n: Examples that were coded.
        stored: Examples that were stored as they are.
    """

    elbo: float = 0.0
    ideal: float = 0.0
    message: float = 0.0
    initial: float = 0.0
    conditions: float = 0.0
    widths: float = 0.0
    n: int = 0
    stored: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(
            self.elbo + other.elbo,
            self.ideal + other.ideal,
            self.message + other.message,
            self.initial + other.initial,
            self.conditions + other.conditions,
            self.widths + other.widths,
            self.n + other.n,
            self.stored + other.stored,
        )


@dataclass(frozen=True)
class Coder:
    """The coder of the blocks of a file.

    Args:
        job: What both sides share.
        dtype: Type of raw values.
        measure: Whether to keep account of the bits.
        check: Whether to decode each coded block before it is kept.
    """

    job: Job
    dtype: torch.dtype
    measure: bool = False
    check: bool = True
    schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", schedule_of(self.job))

    @property
    def condition(self) -> Condition | None:
        """The condition of a conditional model."""
        condition: Condition | None = self.job.model.spec.condition
        return condition

    # ---- to a block

    def encode(self, examples: Decoded) -> tuple[Block, Account]:
        """Code examples, and store them as they are where that is shorter or needed.

        Raises:
            TightboundError: For a real number that is not a multiple of its precision.
        """
        n = len(examples.x)
        content = _content(examples)
        numbers = self.job.values.to_numbers(examples.x)
        coded = self._coded_or_none(examples, numbers, content)
        if coded and QUICK * len(coded[0].payload) < len(zlib.compress(content, 1)):
            return coded
        plain = Block(STORED, n, _stored(content))
        if coded and len(coded[0].payload) < len(plain.payload):
            return coded
        if self.check and _content(self.decode(plain)) != content:
            raise TightboundError(
                "examples that are stored do not come back bit for bit: the memory of this "
                "machine is not to be trusted"
            )
        return plain, Account(stored=n)

    def _coded_or_none(
        self, examples: Decoded, numbers: Tensor, content: bytes
    ) -> tuple[Block, Account] | None:
        """The coded block, or None where examples do not come back from one."""
        n = len(examples.x)
        back = self.job.values.to_raw(numbers, self.dtype)
        if _content(Decoded(back, examples.c)) != content:
            return None  # such as -0.0, and levels beyond those of the model
        digest = hashlib.sha256(content).digest()
        try:
            payload, account = self._coded(numbers, examples.c, digest)
        except Uncodable:
            return None
        if self.check and not self._is_whole(payload, content, n):
            return None
        return Block(CODED, n, payload), account

    def _is_whole(self, payload: bytes, content: bytes, n: int) -> bool:
        """Whether a coded block decodes to its content, for whatever reason it does not."""
        try:
            return _content(self._decode_coded(payload, n)) == content
        except MemoryError:
            raise
        except Exception:
            return False

    def _coded(
        self, numbers: Tensor, c: Tensor | None, digest: bytes
    ) -> tuple[bytes, Account]:
        """The message of a block, with as few initial bits as it needs."""
        count = DIGEST_WORDS
        while True:
            stack = Stack(_initial(digest, count), sealed=True)
            if self.measure:
                stack.ideal = 0.0
            initial = stack.bits
            done = self._push_all(stack, numbers, c)
            if done is not None:
                break
            count += max(4, count // 8)
        stack, ramp, measured = done
        ideal = stack.ideal or 0.0
        before = stack.bits
        side = _push_conditions(stack, c, self.condition)
        words = stack.words().astype("<u4").tobytes()
        head = varint(len(ramp)) + b"".join(varint(size) for size in ramp)
        account = Account(
            elbo=-measured.elbo / math.log(2.0),
            widths=-measured.widths / math.log(2.0),
            ideal=ideal,
            message=before - initial,
            initial=initial,
            conditions=stack.bits - before + 8 * len(side),
            n=len(numbers),
        )
        return head + side + words, account

    def _push_all(
        self, stack: Stack, numbers: Tensor, c: Tensor | None
    ) -> tuple[Stack, list[int], Measured] | None:
        """Push all examples in batches that grow with the bits on the stack.

        Returns:
            The stack, sizes of the batches before the first full one, and the measured
            ELBO; None where the initial bits are too few.
        """
        ramp: list[int] = []
        elbo = 0.0
        widths = 0.0
        start = 0
        size = 1
        given = self._encoded(c)
        while start < len(numbers):
            size = min(size, len(numbers) - start)
            at = slice(start, start + size)
            before = stack.copy()
            stack.least = stack.bits
            part = None if given is None else given[at]
            term = self.schedule.encode(stack, numbers[at], part, self.measure)
            if stack.least < LEAST_BITS:
                if size == 1 or sum(ramp) < start:  # after a full batch
                    return None
                stack = before
                size //= 2
                continue
            elbo += term.elbo
            widths += term.widths
            popped = before.bits - stack.least
            has_full = sum(ramp) < start
            start += size
            if has_full or size == self.job.rows:
                size = self.job.rows
            else:
                ramp.append(size)
                size = self._next(size, popped, stack.bits)
        return stack, ramp, Measured(elbo, widths)

    def _next(self, size: int, popped: int, bits: int) -> int:
        """Examples of the next batch, by the bits that this one popped and those left."""
        full = self.job.rows
        if popped <= 0:
            return full
        return max(1, min(full, int(CAUTION * (bits - LEAST_BITS) * size / popped)))

    def _encoded(self, c: Tensor | None) -> Tensor | None:
        """Conditions as the model reads them, (n, C)."""
        if c is None or self.condition is None:
            return None
        return self.condition.encode(c)

    # ---- from a block

    def decode(self, block: Block) -> Decoded:
        """The examples of a block.

        Raises:
            Damaged: Its bytes are not those of a block.
            Different: This machine computes other probabilities than the one that wrote it.
        """
        if block.kind == STORED:
            return self._read_stored(block.payload, block.n)
        return self._decode_coded(block.payload, block.n)

    def _decode_coded(self, payload: bytes, n: int) -> Decoded:
        self._check_size(n)
        reader = Reader(payload)
        ramp = [reader.varint() for _ in range(min(reader.varint(), n))]
        sizes = _sizes(ramp, self.job.rows, n)
        side = _read_conditions(reader, self.condition)
        words = np.frombuffer(_whole_words(reader.rest()), dtype="<u4")
        try:
            stack = Stack(words.astype(np.uint32))
        except ValueError as error:  # the last word is 0
            raise Damaged("a message ends in nothing") from error
        c = _pop_conditions(stack, side, n, self.condition)
        given = self._encoded(c)
        parts: list[Tensor] = []
        end = n
        for size in reversed(sizes):
            at = slice(end - size, end)
            part = None if given is None else given[at]
            try:
                parts.append(self.schedule.decode(stack, size, part))
            except Uncodable:
                raise Different from None
            end -= size
        numbers = torch.cat(parts[::-1])
        examples = Decoded(self.job.values.to_raw(numbers, self.dtype), c)
        self._compare(stack, examples)
        return examples

    def _check_size(self, n: int) -> None:
        """Refuse a block of more raw values than one can have, before they are decoded."""
        row = math.prod(raw_shape(self.job.model.spec)) * self.dtype.itemsize
        if n > 1 and n * row > MOST_BYTES:
            raise Damaged("a block has more examples than one can have")

    def _compare(self, stack: Stack, examples: Decoded) -> None:
        """The bits that are left must be the checksum that the message began with."""
        digest = hashlib.sha256(_content(examples)).digest()
        try:
            left = stack.words(sealed=True)
        except (ValueError, AssertionError, RuntimeError) as error:
            raise Different from error
        if len(left) < DIGEST_WORDS or not np.array_equal(
            left, _initial(digest, len(left))
        ):
            raise Different

    def _read_stored(self, payload: bytes, n: int) -> Decoded:
        spec = self.job.model.spec
        shape = (n, *raw_shape(spec))
        x_bytes = math.prod(shape) * self.dtype.itemsize
        self._check_size(n)
        c_bytes = 0
        c_shape: tuple[int, ...] = ()
        c_dtype = torch.int64
        if self.condition is not None:
            c_shape = (n,)
            if self.condition.mean:
                c_shape = (n, self.condition.width)
                c_dtype = torch.float64
            c_bytes = 8 * int(np.prod(c_shape))
        content = _unpacked(payload, x_bytes + c_bytes + hashlib.sha256().digest_size)
        data, digest = content[:-32], content[-32:]
        if hashlib.sha256(data).digest() != digest:
            raise Damaged("a stored block does not match its checksum")
        x = torch.frombuffer(bytearray(data[:x_bytes]), dtype=self.dtype).reshape(shape)
        if self.condition is None:
            return Decoded(x)
        c = torch.frombuffer(bytearray(data[x_bytes:]), dtype=c_dtype).reshape(c_shape)
        return Decoded(x, c)


def _content(examples: Decoded) -> bytes:
    """The bytes of raw rows and conditions."""
    data: bytes = examples.x.contiguous().numpy().tobytes()
    if examples.c is None:
        return data
    return data + examples.c.contiguous().numpy().tobytes()


def _stored(content: bytes) -> bytes:
    """A block as it is, with its checksum, packed by LZMA."""
    digest = hashlib.sha256(content).digest()
    return lzma.compress(content + digest, lzma.FORMAT_RAW, filters=FILTERS)


def _unpacked(payload: bytes, size: int) -> bytes:
    """Exactly `size` bytes of LZMA; no more are ever made."""
    try:
        content = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS).decompress(
            payload, size + 1
        )
    except (lzma.LZMAError, EOFError) as error:
        raise Damaged("a stored block cannot be unpacked") from error
    if len(content) != size:
        raise Damaged("a stored block has another size")
    return content


def _initial(digest: bytes, count: int) -> Words:
    """Bits to begin with: the checksum, and more made from it where it is not enough."""
    data = digest
    while len(data) < 4 * count:
        data += hashlib.sha256(digest + len(data).to_bytes(8, "little")).digest()
    return np.frombuffer(data[: 4 * count], dtype="<u4").astype(np.uint32)


def _whole_words(data: bytes) -> bytes:
    if len(data) % 4:
        raise Damaged("a message is no whole number of words")
    return data


def _sizes(ramp: list[int], full: int, n: int) -> list[int]:
    """Examples of each batch: those of the first ones, then as many as fit."""
    left = n - sum(ramp)
    if left < 0 or not all(0 < size <= full for size in ramp):
        raise Damaged("its batches have other sizes")
    rest = [full] * (left // full)
    if left % full:
        rest.append(left % full)
    return ramp + rest


# ---- conditions: classes by their frequency on the stack, numbers beside it


def _push_conditions(
    stack: Stack, c: Tensor | None, condition: Condition | None
) -> bytes:
    """Send conditions; returns what stands beside the message."""
    if c is None or condition is None:
        return b""
    if condition.mean:
        content = c.double().contiguous().numpy().tobytes()
        packed = lzma.compress(content, lzma.FORMAT_RAW, filters=FILTERS)
        return varint(len(packed)) + packed
    counts = torch.bincount(c.long(), minlength=condition.width)
    stack.push(c.long(), _class_weights(counts, len(c)))
    return b"".join(varint(int(count)) for count in counts)


def _class_weights(counts: Tensor, n: int) -> Weights:
    weights = whole_weights(counts.double().unsqueeze(0))
    return np.repeat(weights, n, 0)


def _read_conditions(reader: Reader, condition: Condition | None) -> bytes | Tensor:
    """What stands beside the message: packed numbers, or the count of each class."""
    if condition is None:
        return b""
    if condition.mean:
        return reader.take(reader.varint())
    return torch.tensor([reader.varint() for _ in condition.names])


def _pop_conditions(
    stack: Stack, side: bytes | Tensor, n: int, condition: Condition | None
) -> Tensor | None:
    """Receive conditions: class numbers (n,), or numbers (n, C)."""
    if condition is None:
        return None
    if isinstance(side, Tensor):
        return stack.pop(_class_weights(side, n))
    content = _unpacked(side, 8 * n * condition.width)
    return torch.frombuffer(bytearray(content), dtype=torch.float64).reshape(n, -1)
