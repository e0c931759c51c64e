"""The rows of the table: what is trained, for how long, and the figures it is held against."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tightbound.runtime.errors import TightboundError, nearest

ROWS = Path(__file__).with_name("rows.toml")
Settings = dict[str, Any]
UNITS = ("nats", "bits/dim")


@dataclass(frozen=True)
class Stage:
    """A part of a training: its share of the minutes, and settings beside those of the row.

    A later stage starts from the weights of the one before it.
    """

    share: float = 1.0
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: Name of the row on the command line.
        title: What is modelled, and by what.
        source: Where the published figure stands, and whether it was read there or recalled.
        data: Data set by its name, or a file of the folder TIGHTBOUND_DATA.
        recipe: Recipe of the package.
        settings: Settings by their keys, as in `--set`.
        minutes: Minutes of training on two cores.
        minutes_gpu: Minutes of training on one GPU.
        seeds: Seeds, one training each.
        paper: The published figure; None where there is none to hold against.
        goal: The figure to reach on two cores; None for none.
        goal_gpu: The same on one GPU.
        unit: nats (-log p(x)) or bits/dim.
        k: Samples of importance sampling; 0: as the protocol says.
        images: Test images, spread evenly; 0: as the protocol says.
        obligatory: Whether the table is incomplete without it.
        stages: Parts of the training, one after another.
        differs: What differs from the paper.
    """

    name: str
    title: str
    source: str
    data: str
    recipe: str
    settings: Settings
    minutes: float = 30.0
    minutes_gpu: float = 6.0
    seeds: tuple[int, ...] = (0,)
    paper: float | None = None
    goal: float | None = None
    goal_gpu: float | None = None
    unit: str = "nats"
    k: int = 0
    images: int = 0
    obligatory: bool = False
    stages: tuple[Stage, ...] = (Stage(),)
    differs: str = ""

    def file(self) -> str:
        """The data as `tb.train` takes them.

        Raises:
            TightboundError: They are a file and TIGHTBOUND_DATA is not set.
        """
        if "." not in self.data:
            return self.data
        root = os.environ.get("TIGHTBOUND_DATA")
        if not root:
            raise TightboundError(
                f"row {self.name!r} reads {self.data} in the folder TIGHTBOUND_DATA, which is "
                "not set: set it"
            )
        return str(Path(root) / self.data)

    def settings_of(self, stage: int) -> Settings:
        """The settings of one stage."""
        return {**self.settings, **self.stages[stage].settings}


def read(path: Path = ROWS) -> dict[str, Row]:
    """The rows of a TOML file by name, with the settings of their group.

    Raises:
        TightboundError: A key is unknown, or the shares of the stages are not 1 together.
    """
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    groups = tree.get("groups", {})
    return {
        name: _row(name, values, groups.get(values.get("group", ""), {}))
        for name, values in tree["rows"].items()
    }


def _row(name: str, values: Mapping[str, Any], group: Mapping[str, Any]) -> Row:
    merged = {**group, **values}
    merged["settings"] = {**group.get("settings", {}), **values.get("settings", {})}
    merged.pop("group", None)
    known = [each.name for each in fields(Row)]
    for key in merged:
        if key not in known:
            raise TightboundError(
                f"row {name!r} has an unknown key {key!r}: {nearest(key, known)}"
            )
    merged["seeds"] = tuple(merged.get("seeds", (0,)))
    merged["stages"] = _stages(name, merged.get("stages", ()))
    if merged.get("unit", "nats") not in UNITS:
        raise TightboundError(
            f"row {name!r} has unit {merged['unit']!r}: it is one of {', '.join(UNITS)}"
        )
    return Row(name=name, **merged)


def _stages(name: str, stages: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    if not stages:
        return (Stage(),)
    if abs(sum(stage["share"] for stage in stages) - 1) > 1e-6:
        raise TightboundError(
            f"the shares of the stages of row {name!r} are not 1 together: correct them"
        )
    return tuple(Stage(stage["share"], stage.get("settings", {})) for stage in stages)


def pick(rows: Mapping[str, Row], name: str) -> Row:
    """The row of a name; raises TightboundError for an unknown one."""
    if name not in rows:
        raise TightboundError(f"there is no row {name!r}: {nearest(name, rows)}")
    return rows[name]
