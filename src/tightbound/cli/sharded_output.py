"""Parts: many parquet files that are made together, each written whole; an interrupted command goes
on from them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tightbound.cli.outputs import Target
from tightbound.data import Ordered
from tightbound.runtime.atomic_files import make_folder, remove, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext
from tightbound.runtime.lock import RunLock

PATTERN = "part-*.parquet"
KEY, FORMAT = b"tightbound", 1
GROUP_VALUES = 4_000_000  # of a row group: what is held before it is written


class Parts:
    """The parts of one result, dealt out over processes.

    Each part is named F-NUMBER-of-ALL.parquet and says in its metadata what it is a function of,
    `identity`; parts of another identity are refused, or with --overwrite replaced, and those of
    this one are kept.  columns: name -> int, float (of 32 bits) or str.
    """

    def __init__(
        self,
        out: Target,
        columns: Mapping[str, type],
        identity: Mapping[str, Any],
        data: Ordered,
        launch: LaunchContext,
    ) -> None:
        many = "*" in out.path.name
        self.folder, pattern = (
            (out.path.parent, out.path.name) if many else (out.path, PATTERN)
        )
        self.head, self.tail = pattern.split("*")
        self.alone, self.out, self.columns = not many, out, columns
        self.data, self.launch, self.n = data, launch, len(data)
        self.tag = {
            "format": FORMAT,
            **{key: _short(value) for key, value in identity.items()},
            "parts": self.n,
        }

    def path(self, part: int) -> Path:
        """Where a part is written."""
        return self.folder / f"{self.head}{part:05d}-of-{self.n:05d}{self.tail}"

    def write(
        self, made: Callable[[int], Iterator[dict[str, Any]]], tick: Callable[..., None]
    ) -> tuple[int, int, int]:
        """Writes the parts that are missing, this process its share; returns rows, parts, and parts
        from before.

        made: part -> its columns, some rows at a time.
        """
        make_folder(self.folder)
        with self._lock():
            done = self.launch.on_rank_zero(self._settle)
            own = [part for part in range(self.n) if part not in done][
                self.launch.rank :: self.launch.world_size
            ]
            count = Count(own, self.data, tick)
            for part in own:
                write_atomic(
                    self.path(part),
                    partial(self._fill, part=part, made=made(part), count=count),
                )
                count.part()
            self.launch.gather(len(own))
            return self.launch.on_rank_zero(self._rows), self.n, len(done)

    def _lock(self) -> AbstractContextManager[Any]:
        return (
            RunLock(self.folder, "writing", self.head)
            if self.launch.is_rank_zero
            else nullcontext()
        )

    def _fill(
        self, file: BinaryIO, part: int, made: Iterator[dict[str, Any]], count: Count
    ) -> None:
        """One part to an open file, a row group at a time."""
        import pyarrow
        from pyarrow import parquet

        schema = self._schema(part)
        with parquet.ParquetWriter(file, schema) as writer:
            held: list[Any] = []
            for columns in made:
                held.append(pyarrow.table(columns, schema=schema))
                count.rows(held[-1].num_rows)
                if sum(table.num_rows for table in held) * len(schema) >= GROUP_VALUES:
                    writer.write_table(pyarrow.concat_tables(held).combine_chunks())
                    held = []
            if held:
                writer.write_table(pyarrow.concat_tables(held).combine_chunks())

    def _schema(self, part: int) -> Any:
        """Names and types of the columns, and what the part is."""
        import pyarrow

        words = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float32()}
        tag = json.dumps({**self.tag, "part": part}).encode()
        return pyarrow.schema(
            [(n, words[t]) for n, t in self.columns.items()]
        ).with_metadata({KEY: tag})

    def _settle(self) -> set[int]:
        """The parts that are there; those of another result are refused or removed."""
        form = re.compile(
            rf"{re.escape(self.head)}(\d{{5,}})-of-\d{{5,}}{re.escape(self.tail)}"
        )
        found = {
            path: m
            for path in sorted(self.folder.iterdir())
            if (m := form.fullmatch(path.name))
        }
        strange = [
            p.name
            for p in self.folder.iterdir()
            if p not in found and not p.name.startswith(".")
        ]
        if self.alone and strange and not self.out.overwrite:
            raise TightboundError(
                f"{self.folder} is a folder with files already, such as "
                f"{min(strange)}: add --overwrite to write "
                "beside them, or choose another --out"
            )
        done: set[int] = set()
        for path, match in found.items():
            tag = _tag(path)
            reason = self._differs(tag)
            if reason is None and tag["part"] == int(match[1]):
                done.add(tag["part"])
            elif self.out.overwrite:
                remove(path)
            else:
                raise TightboundError(
                    f"{path} {reason or 'is not the part that its name says'}: "
                    "add --overwrite to replace what is "
                    "there, or choose another --out"
                )
        return done

    def _differs(self, tag: dict[str, Any]) -> str | None:
        if not tag:
            return "is damaged, or was not written by this command"
        other = [key for key, value in self.tag.items() if tag.get(key) != value]
        return (
            f"belongs to another result, which differs in {other[0]}" if other else None
        )

    def _rows(self) -> int:
        """How many rows all parts have."""
        from pyarrow import parquet

        if lost := [
            path for part in range(self.n) if not (path := self.path(part)).exists()
        ]:
            raise TightboundError(
                f"{lost[0]} is not seen by all processes: let --out be a folder that they share"
            )
        return sum(
            parquet.read_metadata(self.path(part)).num_rows for part in range(self.n)
        )


class Count:
    """Tells `tick` how far this process is: rows of all of its own, or where their number is not
    known, parts.
    """

    def __init__(
        self, own: list[int], data: Ordered, tick: Callable[..., None]
    ) -> None:
        self.tick, self.known, self.done = tick, data.total is not None, 0
        each = -(-(data.total or 0) // max(1, len(data)))
        self.total = (
            min(data.total, len(own) * each) if data.total is not None else len(own)
        )

    def rows(self, n: int) -> None:
        if self.known:
            self.done += n
            self.tick(self.done, self.total)

    def part(self) -> None:
        if not self.known:
            self.done += 1
            self.tick(self.done, self.total, "shard")


def _tag(path: Path) -> dict[str, Any]:
    """What a part says that it is; nothing where it cannot be read or says nothing."""
    from pyarrow import ArrowException, parquet

    try:
        found = json.loads((parquet.read_schema(path).metadata or {})[KEY])
        return found if isinstance(found, dict) else {}
    except (ArrowException, OSError, KeyError, ValueError):
        return {}


def _short(value: Any) -> Any:
    """A value as it is, or where it is long, its hash."""
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= 100 else hashlib.sha256(text.encode()).hexdigest()[:32]
