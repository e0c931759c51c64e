"""Which column of a table holds labels: one that is named, or is called so and has classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tightbound import data as data_room
from tightbound.data import DataSettings
from tightbound.data.opening import open_source
from tightbound.estimator import VAEEstimator
from tightbound.runtime.errors import TightboundError

N = 60
RNG = np.random.default_rng(0)
REAL = RNG.normal(size=N)
CLASSES = np.arange(N) % 3
TEXTS = np.array(["cat", "dog", "owl"])[CLASSES]
KINDS = ["frame", "csv", "parquet", "feather"]


def source_of(frame: pd.DataFrame, kind: str, folder: Path) -> Any:
    """The same table as a DataFrame or a file."""
    path = folder / f"t.{kind}"
    if kind == "frame":
        return frame
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        getattr(frame, f"to_{kind}")(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "values", "is_label"),
    [
        ("y", REAL, False),
        ("y", CLASSES, True),
        ("y", np.arange(N), False),
        ("y", np.arange(N) % 25, False),
        ("label", np.arange(N) % 25, True),
        ("class", TEXTS, True),
        ("target", CLASSES == 1, True),
        ("target", REAL, False),
        ("label", np.where(CLASSES == 2, np.nan, CLASSES), True),
        ("label", CLASSES - 2, False),
        ("weight", CLASSES, False),
    ],
)
def test_a_column_is_one_of_labels_only_where_it_has_classes(
    kind: str, name: str, values: np.ndarray, is_label: bool, tmp_path: Path
) -> None:
    source = source_of(
        pd.DataFrame({"x": REAL, "w": REAL, name: values}), kind, tmp_path
    )
    raw = open_source(source, DataSettings(allow_missing=True))
    assert list(raw.table.columns) == (["x", "w"] if is_label else ["x", "w", name])
    y = raw.splits["all"].y
    assert (y is not None) == is_label
    said = " ".join(raw.notices)
    assert ("holds the labels" in said) == is_label
    assert ("read as a feature" in said) == (not is_label and name != "weight")
    if y is not None:
        given = pd.Series(values)
        assert (y.numpy() < 0).tolist() == given.isna().tolist()
        names = [(raw.label_names or ())[i] for i in y.tolist() if i >= 0]
        numbers = {"True": "1", "False": "0"}
        wanted = [str(value).removesuffix(".0") for value in given[given.notna()]]
        assert [numbers.get(name, name) for name in names] == [
            numbers.get(value, value) for value in wanted
        ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("none", ["none", "", -1, False])
def test_no_column_is_one_of_labels_where_the_setting_says_so(
    kind: str, none: Any, tmp_path: Path
) -> None:
    source = source_of(pd.DataFrame({"x": REAL, "label": CLASSES}), kind, tmp_path)
    raw = open_source(source, DataSettings(label=none))
    assert list(raw.table.columns) == ["x", "label"]
    assert raw.splits["all"].y is None and not raw.notices


def test_the_setting_names_any_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": REAL, "y": CLASSES, "kind": TEXTS})
    for label in ("kind", 2, "2"):
        raw = open_source(frame, DataSettings(label=label))
        assert list(raw.table.columns) == ["x", "y"]
        assert raw.label_names == ("cat", "dog", "owl")
    with pytest.raises(TightboundError, match=r"no column 'kinds' for data\.label"):
        open_source(frame, DataSettings(label="kinds"))
    with pytest.raises(TightboundError, match=r"data\.label=3, but .* has 3 columns"):
        open_source(frame, DataSettings(label=3))


def test_columns_with_another_use_are_no_labels() -> None:
    frame = pd.DataFrame({"x": REAL, "y": CLASSES, "z": REAL})
    for settings in ({"fields": {"y": "real"}}, {"condition": "y"}):
        raw = open_source(frame, DataSettings(**settings))
        assert raw.splits["all"].y is None


def test_words_for_missing_are_unknown_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,label\n1.5,A\n2.5,NA\n3.5,?\n4.5,B\n5.5,\n")
    raw = open_source(path, DataSettings())
    assert raw.splits["all"].y.tolist() == [0, -1, -1, 1, -1]
    assert raw.label_names == ("A", "B")
    assert "?, NA among the labels stands for an unknown label" in raw.notices[-1]


def test_dates_and_decimal_commas_are_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x;y\n1.25;0,5\n2.25;1,5\n")
    assert list(open_source(path, DataSettings()).table.columns) == ["x", "y"]
    path.write_text("x;y\n1.25;2020-01-01\n2.25;2020-01-01\n")
    assert list(open_source(path, DataSettings()).table.columns) == ["x", "y"]


def test_new_data_are_read_by_the_label_of_training(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": REAL, "z": REAL * 2, "y": CLASSES})
    data = data_room.load(frame)
    assert data.spec.dims == 2 and data.settings.label == "y"
    for new, labels in ((frame.head(1), [0]), (frame.drop(columns="y").head(2), None)):
        split = data_room.read(new, data.spec, data.settings)
        assert len(split) == len(new)
        assert (None if split.y is None else split.y.tolist()) == labels
    real = pd.DataFrame({"x": REAL, "z": REAL * 2, "y": REAL / 3})
    data = data_room.load(real)
    assert data.spec.dims == 3 and data.settings.label == "none"
    new = real.head(4).assign(y=[1, 1, 0, 0])
    split = data_room.read(new, data.spec, data.settings)
    assert split.y is None and split.x[:, 2].tolist() == [1, 1, 0, 0]


def test_no_column_leaves_the_table_of_the_estimator() -> None:
    frame = pd.DataFrame({"x": REAL, "y": CLASSES.astype(float), "label": TEXTS})
    model = VAEEstimator(steps=2, random_state=0, settings={"recipe.size": "s"})
    model.fit(frame)
    assert model.n_features_in_ == 3
    assert list(model.sample(2).columns) == ["x", "y", "label"]


def test_times_are_classes_by_their_texts() -> None:
    days = np.array(["2021-03-01", "2020-01-01"] * (N // 2), "M8[D]")
    data = data_room.load((REAL[:, None], days), DataSettings(use_labels=True))
    assert data.spec.labels == ("2020-01-01", "2021-03-01")


@pytest.mark.parametrize("y", [REAL + 1j, CLASSES * 1e300], ids=["complex", "huge"])
def test_what_is_no_class_is_not_cast_to_one(y: np.ndarray) -> None:
    data = data_room.load((REAL[:, None], y))
    assert data.train.y is None
    assert "its labels are not classes" in data.notices[0]


def test_labels_of_plus_and_minus_one_are_said_to_be_half_unknown() -> None:
    y = np.where(REAL > 0, 1, -1)
    data = data_room.load((REAL[:, None], y))
    count = int((y == -1).sum())
    assert f"{count} of {N} labels are -1, which is read as unknown" in data.notices[0]
    three = data_room.load((REAL[:, None], CLASSES - 1))
    assert not any("unknown" in notice for notice in three.notices)


def test_numbers_beside_a_frame_are_conditions() -> None:
    frame = pd.DataFrame({"x": REAL, "t": TEXTS})
    settings = DataSettings(condition="labels")
    for y in (REAL, REAL[:, None], pd.Series(REAL), pd.DataFrame({"c": REAL})):
        data = data_room.load((frame, y), settings)
        assert data.spec.condition is not None
        assert data.spec.condition.mean == pytest.approx([REAL.mean()], abs=0.2)
    other = data_room.load((frame, REAL + 1), settings)
    assert other.digest != data.digest
    with pytest.raises(TightboundError, match=r"conditions of shape \(5, 1\)"):
        data_room.load((frame, REAL[:5]), settings)
