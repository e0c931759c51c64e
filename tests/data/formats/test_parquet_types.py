"""Types of columns of a parquet file: decimals, categories, and types with gaps."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tightbound import data as data_room

pytest.importorskip("pyarrow")
N = 40


def table() -> pd.DataFrame:
    x = np.random.default_rng(0).normal(size=N)
    levels = pd.CategoricalDtype(["low", "high", "top"], ordered=True)
    return pd.DataFrame(
        {
            "x": x,
            "price": [Decimal(i) / 4 for i in range(N)],
            "level": pd.Series(np.where(x > 0, "low", "high")).astype(levels),
            "n": pd.array(np.arange(N) % 7, "Int16"),
            "yes": pd.array(x > 0, "boolean"),
            "y": pd.array(x * 2, "Float32"),
        }
    )


def test_types_are_those_of_the_frame_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table().to_parquet(path)
    data = data_room.load(str(path))
    own = data_room.load(table())
    assert [f.model_dump() for f in data.spec.fields] == [
        f.model_dump() for f in own.spec.fields
    ]
    assert [f.type for f in data.spec.fields[2:]] == [
        "ordered category",
        "Int16",
        "boolean",
        "Float32",
    ]
    assert data.spec.fields[2].values == ("low", "high", "top"), "in the order given"
    assert any("decimal numbers" in notice for notice in data.notices)


def test_decimals_beside_numbers_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table()[["x", "price"]].to_parquet(path)
    data = data_room.load(str(path))
    assert [(f.name, f.type, f.digits) for f in data.spec.fields] == [
        ("x", "float64", None),
        ("price", "float64", 2),
    ]
