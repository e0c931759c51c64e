"""Find the column of a table that holds the labels of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tightbound.data.settings import DataSettings
from tightbound.data.source import is_gap, is_gap_text
from tightbound.runtime.errors import TightboundError, listed, nearest, shortened

NO_LABEL = "none"
# names of columns that hold labels if their values are classes, and the largest number of
# different whole numbers that are classes
_NAMES = {"label": 100, "class": 100, "y": 20, "target": 20}


@dataclass(frozen=True)
class LabelColumn:
    """The column of labels of a table.

    Attributes:
        number: its number, or None without one.
        notices: messages for the user.
        resolved: the setting by which later data are read in the same way.
    """

    number: int | None
    notices: tuple[str, ...]
    resolved: dict[str, object]


def find_label(
    where: Path | str,
    names: Sequence[str],
    values: Callable[[int], np.ndarray],
    settings: DataSettings,
) -> LabelColumn:
    """The column that `data.label` names, or one called label, class, y or target.

    A column that is not named by the setting is one of labels only where its values are
    classes: texts, truth values or whole numbers of which few are different.

    Args:
        where: the name of the table.
        names: the names of its columns.
        values: the values of a column, by its number.
        settings: the data settings.

    Raises:
        TightboundError: where there is no column that `data.label` names.
    """
    if settings.label == NO_LABEL:
        return LabelColumn(None, (), _resolved(NO_LABEL))
    if settings.label is not None:
        if settings.label not in names and not settings.label_required:
            return LabelColumn(None, (), _resolved(settings.label))
        number = named_column(where, names, settings.label, "label")
        return LabelColumn(number, (), _resolved(names[number]))
    notices: list[str] = []
    for name in _NAMES:
        if list(names).count(name) != 1 or len(names) == 1 or _is_used(name, settings):
            continue
        number = list(names).index(name)
        if are_classes(values(number), _NAMES[name]):
            notice = (
                f"column {shortened(name)} holds the labels (--set data.label=NAME for another, "
                "none for no column)"
            )
            return LabelColumn(number, (*notices, notice), _resolved(name))
        notices.append(
            f"column {shortened(name)} is read as a feature, its values are no classes (--set "
            f"data.label={name} if they are labels)"
        )
    return LabelColumn(None, tuple(notices), _resolved(NO_LABEL))


def _resolved(label: str | int) -> dict[str, object]:
    return {"label": label, "label_required": False}


def _is_used(name: str, settings: DataSettings) -> bool:
    """True for a column that the settings use as a condition or a feature."""
    condition = settings.condition
    conditions = condition if isinstance(condition, tuple) else (condition,)
    return name in conditions or name in settings.fields


def are_classes(values: np.ndarray, most: int) -> bool:
    """Whether values are classes: texts, truth values, or few different whole numbers.

    Whole numbers are classes where at most `most` of them are different, each of them is
    in two rows on average, and none is below -1, which stands for an unknown label.
    """
    if values.dtype.kind in "USb":
        return True
    if values.dtype.kind == "O":
        filled = np.array([value for value in values if not is_gap(value)], object)
        are_words = [isinstance(value, str | bool | np.bool_) for value in filled]
        if any(are_words):
            return all(are_words)
        try:
            values = filled.astype(np.float64)
        except (TypeError, ValueError):
            return False
    return values.dtype.kind in "iuf" and _are_class_numbers(values, most)


def _are_class_numbers(values: np.ndarray, most: int) -> bool:
    """Whether numbers, which may have gaps, are classes: see `are_classes`."""
    present = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not len(present) or (present != np.round(present)).any() or present.min() < -1:
        return False
    different = len(np.unique(present))
    return different <= most and 2 * different <= len(present)


def with_unknown(name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of a file with None for words such as NA, and the notice that says so."""
    if values.dtype.kind != "O":
        return values, ()
    is_word = np.array(
        [isinstance(value, str) and is_gap_text(value) for value in values], bool
    )
    if not is_word.any():
        return values, ()
    known = values.copy()
    known[is_word] = None
    words = sorted(set(values[is_word].tolist()) - {""})
    return known, unknown_notice(name, words)


def unknown_notice(name: str, words: Sequence[str]) -> tuple[str, ...]:
    """The notice that names words for missing among labels, if there are any."""
    if not words:
        return ()
    return (
        f"column {shortened(name)}: {listed(words)} among the labels stands for an "
        "unknown label",
    )


def named_column(
    where: Path | str, names: Sequence[str], wanted: str | int, key: str
) -> int:
    """The number of a column that a setting gives by its name or its number from 0."""
    is_number = wanted not in names and str(wanted).lstrip("-").isdigit()
    if isinstance(wanted, int) or is_number:
        if not -len(names) <= int(wanted) < len(names):
            raise TightboundError(
                f"data.{key}={wanted}, but {where} has {len(names)} columns, counted from 0"
            )
        return int(wanted) % len(names)
    if wanted not in names:
        raise TightboundError(
            f"{where} has no column {shortened(wanted)} for data.{key}: "
            f"{nearest(wanted, names)}"
        )
    return list(names).index(wanted)
