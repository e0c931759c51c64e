"""Helpers shared by all sections: headings, panels, and the choice of captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tightbound.report.content.data_samples import DataSample
from tightbound.report.content.gather import Group, RunResult
from tightbound.report.page.blocks import Panel
from tightbound.report.page.text import Text

Results = Sequence[tuple[Group, RunResult]]
Tree = Mapping[str, Any]


def by_code(result: RunResult, key: str) -> str:
    """The key of a caption, or of its variant for a model whose codes are points."""
    return key if result.codes.stochastic else f"{key}_point"


def by_bound(result: RunResult, key: str) -> str:
    """The key of a caption, or of its variant for a model without a prior.

    A quantised code is a point and has a prior.
    """
    return key if result.run.config.recipe.has_bound else f"{key}_point"


def set_nouns(text: Text, group: Group) -> None:
    """Set the words for the group's examples: image, row, signal or volume."""
    kind = group.data.spec.kind
    noun = "row" if kind == "vector" else kind
    text.shared = {"item": text(f"noun.{noun}"), "items": text(f"noun.{noun}s")}


def panels(
    results: Results, text: Text, make: Callable[[Group, RunResult], Panel]
) -> list[Panel]:
    """One panel for each run."""
    built = []
    for group, result in results:
        set_nouns(text, group)
        built.append(make(group, result))
    return built


def heads(
    text: Text, name: str, lead: str = "lead", **values: object
) -> tuple[str, str, str]:
    """A section's heading, its entry in the contents, and its introduction."""
    return (
        text(f"{name}.heading"),
        text(f"{name}.nav"),
        text(f"{name}.{lead}", **values),
    )


def lead_key(results: Results, otherwise: str = "lead") -> str:
    """The key of an introduction, or of its variant for tables."""
    return "lead_table" if results[0][0].data.table is not None else otherwise


def example_name(text: Text, data: DataSample, row: int) -> str:
    """A test example by its number and its label, if it has one."""
    number_of = int(data.test.rows[row])
    label = data.label(row)
    if label:
        return text("walkthrough.named", row=number_of, label=label)
    return text("walkthrough.unnamed", row=number_of)


def measured(values: Tree, name: str) -> tuple[float, float] | None:
    """Mean and standard error of a term, or None where the model has no such term."""
    value = values.get(name)
    if not isinstance(value, Mapping) or value.get("mean") is None:
        return None
    if not np.isfinite(value["mean"]):
        return None
    se = value.get("se")
    if se is None or not np.isfinite(se):
        return float(value["mean"]), 0.0
    return float(value["mean"]), float(se)
