"""Output in parts: parquet files written atomically by several processes."""

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
from tightbound.runtime.reading import Tree

PATTERN = "part-*.parquet"
KEY = b"tightbound"  # of the identity in the metadata
FORMAT = 1
GROUP_VALUES = 4_000_000  # of a row group: what is held before it is written


class Parts:
    """The parts of one result, shared out over the processes of a launch.

    A part is named F-NUMBER-of-ALL.parquet. Its metadata hold `identity`, everything that its
    rows depend on: existing parts of the same identity are kept, others are refused, or with
    --overwrite replaced.

    columns: name -> int, float (of 32 bits) or str.
    """

    def __init__(
        self,
        out: Target,
        columns: Mapping[str, type],
        identity: Mapping[str, object],
        data: Ordered,
        launch: LaunchContext,
    ) -> None:
        self.has_own_folder = "*" not in out.path.name
        self.folder = out.path if self.has_own_folder else out.path.parent
        pattern = PATTERN if self.has_own_folder else out.path.name
        self.head, self.tail = pattern.split("*")
        self.out = out
        self.columns = columns
        self.data = data
        self.launch = launch
        self.n = len(data)
        self.tag = {
            "format": FORMAT,
            **{key: _short(value) for key, value in identity.items()},
            "parts": self.n,
        }

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"{self.head}{part:05d}-of-{self.n:05d}{self.tail}"

    def write(
        self,
        make: Callable[[int], Iterator[dict[str, object]]],
        tick: Callable[..., None],
    ) -> tuple[int, int, int]:
        """Write the missing parts of this process's share.

        Args:
            make: Gives the columns of a part, some rows at a time.
            tick: Called with the progress of this process.

        Returns:
            The numbers of rows, of parts, and of parts that existed before.
        """
        make_folder(self.folder)
        with self._lock():
            done = self.launch.on_rank_zero(self._existing)
            missing = [part for part in range(self.n) if part not in done]
            share = missing[self.launch.rank :: self.launch.world_size]
            count = Count(len(share), self.data, tick)
            for part in share:
                fill = partial(self._fill, part=part, rows=make(part), count=count)
                write_atomic(self.path(part), fill)
                count.part()
            self.launch.gather(len(share))  # waits until all parts are written
            return self.launch.on_rank_zero(self._rows), self.n, len(done)

    def _lock(self) -> AbstractContextManager[object]:
        if self.launch.is_rank_zero:
            return RunLock(self.folder, "writing", self.head)
        return nullcontext()

    def _fill(
        self, file: BinaryIO, part: int, rows: Iterator[dict[str, object]], count: Count
    ) -> None:
        """Write one part to an open file, a row group at a time."""
        import pyarrow
        from pyarrow import parquet

        schema = self._schema(part)
        with parquet.ParquetWriter(file, schema) as writer:
            group: list[Any] = []

            def flush() -> None:
                if group:
                    writer.write_table(pyarrow.concat_tables(group).combine_chunks())
                    group.clear()

            for columns in rows:
                group.append(pyarrow.table(columns, schema=schema))
                count.rows(group[-1].num_rows)
                if sum(table.num_rows for table in group) * len(schema) >= GROUP_VALUES:
                    flush()
            flush()

    def _schema(self, part: int) -> Any:
        """Names and types of the columns, with the identity as metadata."""
        import pyarrow

        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float32()}
        fields = [(name, types[kind]) for name, kind in self.columns.items()]
        tag = json.dumps({**self.tag, "part": part}).encode()
        return pyarrow.schema(fields).with_metadata({KEY: tag})

    def _existing(self) -> set[int]:
        """The parts that exist; those of another result are refused or removed."""
        name = re.compile(
            rf"{re.escape(self.head)}(\d{{5,}})-of-\d{{5,}}{re.escape(self.tail)}"
        )
        done: set[int] = set()
        paths = sorted(self.folder.iterdir())
        self._refuse_others([path for path in paths if not name.fullmatch(path.name)])
        for path in paths:
            match = name.fullmatch(path.name)
            if match is None:
                continue
            tag = _tag(path)
            reason = self._difference(tag)
            if reason is None and tag["part"] == int(match[1]):
                done.add(tag["part"])
            elif self.out.overwrite:
                remove(path)
            else:
                raise TightboundError(
                    f"{path} {reason or 'is not the part that its name says'}: add "
                    "--overwrite to replace what is there, or choose another --out"
                )
        return done

    def _refuse_others(self, others: list[Path]) -> None:
        """Refuse a folder that holds files of another kind."""
        names = [path.name for path in others if not path.name.startswith(".")]
        if self.has_own_folder and names and not self.out.overwrite:
            raise TightboundError(
                f"{self.folder} is a folder with files already, such as {min(names)}: add "
                "--overwrite to write beside them, or choose another --out"
            )

    def _difference(self, tag: Tree) -> str | None:
        """The first difference from this result, as the end of a sentence."""
        if not tag:
            return "is damaged, or was not written by this command"
        for key, value in self.tag.items():
            if tag.get(key) != value:
                return f"belongs to another result, which differs in {key}"
        return None

    def _rows(self) -> int:
        """The number of rows of all parts."""
        from pyarrow import parquet

        paths = [self.path(part) for part in range(self.n)]
        for path in paths:
            if not path.exists():
                raise TightboundError(
                    f"{path} is not seen by all processes: let --out be a folder "
                    "that they share"
                )
        return sum(parquet.read_metadata(path).num_rows for path in paths)


class Count:
    """The progress of one process: in rows, or in parts of an unknown size."""

    def __init__(self, parts: int, data: Ordered, tick: Callable[..., None]) -> None:
        self.tick = tick
        self.counts_rows = data.total is not None
        self.done = 0
        self.total = parts
        if data.total is not None:
            rows_of_a_part = -(-data.total // max(1, len(data)))
            self.total = min(data.total, parts * rows_of_a_part)

    def rows(self, n: int) -> None:
        """Count rows."""
        if self.counts_rows:
            self.done += n
            self.tick(self.done, self.total)

    def part(self) -> None:
        """Count a part."""
        if not self.counts_rows:
            self.done += 1
            self.tick(self.done, self.total, "shard")


def _tag(path: Path) -> dict[str, object]:
    """The identity in a part's metadata; empty where it cannot be read."""
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.read_schema(path).metadata or {}
        tag = json.loads(metadata[KEY])
    except (ArrowException, OSError, KeyError, ValueError):
        return {}
    if isinstance(tag, dict):
        return tag
    return {}


def _short(value: object) -> object:
    """A value as it is, or its hash where it is long."""
    text = json.dumps(value, sort_keys=True)
    if len(text) <= 100:
        return value
    return hashlib.sha256(text.encode()).hexdigest()[:32]
