"""Rows in several splits: counted, kept together, left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tightbound.data as td
from tightbound.data.prepare.duplicates import row_hashes
from tightbound.runtime.errors import TightboundError

S = td.DataSettings


def rows_of(split: object) -> set[tuple[float, ...]]:
    assert isinstance(split, td.Split)
    raw = split.raw(torch.arange(len(split)))
    return {tuple(row) for row in raw.flatten(1).tolist()}


def distinct(n: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randn(n, 5).astype(np.float32)


def published(path: Path, **splits: np.ndarray) -> str:
    names = {"train": "x_train", "valid": "x_valid", "test": "x_test"}
    np.savez(path, **{names[name]: x for name, x in splits.items()})
    return str(path)


def test_rows_of_a_published_test_split_in_training_are_counted(
    tmp_path: Path,
) -> None:
    train, test = distinct(200), distinct(50, 1)
    test[:7] = train[10:17]
    file = published(tmp_path / "x.npz", train=train, test=test)
    data = td.load(file, S(split_seed=3))
    assert data.overlap is not None
    hidden = rows_of(data.valid) & {tuple(row) for row in test[:7].tolist()}
    assert data.overlap.test_in_train + data.overlap.test_in_valid == 7
    assert data.overlap.test_in_valid == len(hidden)
    assert data.overlap.is_complete and not data.overlap.by_nature
    said = [line for line in data.notices if "equal to a training row" in line]
    assert len(said) == 1 and "duplicates=drop" in said[0]
    assert f"{7 - len(hidden)} of 50 test rows" in said[0]
    dropped = td.load(file, S(duplicates="drop", split_seed=3))
    assert rows_of(dropped.test) == rows_of(data.test)
    assert not rows_of(dropped.train) & rows_of(dropped.test)
    assert not rows_of(dropped.valid) & rows_of(dropped.test)
    assert len(dropped.train) == len(data.train) - (7 - len(hidden))  # type: ignore[arg-type]
    assert dropped.overlap is not None and dropped.overlap.test_in_train == 0
    assert dropped.digest != data.digest
    again = td.load(file, dropped.settings)
    assert again.digest == dropped.digest and rows_of(again.train) == rows_of(
        dropped.train
    )


def test_a_test_split_that_is_all_in_training(tmp_path: Path) -> None:
    x = distinct(60)
    data = td.load(x, test=x[:20], valid=x[20:30].astype(np.float64))
    assert data.overlap is not None
    assert (data.overlap.test_in_train, data.overlap.valid_in_train) == (20, 10)
    dropped = td.load(x, S(duplicates="drop"), test=x[:20], valid=x[20:30])
    assert rows_of(dropped.train) == {tuple(row) for row in x[30:].tolist()}
    with pytest.raises(TightboundError, match="leaves none: use data"):
        td.load(x, S(duplicates="drop"), test=x, valid=distinct(5, 2))


def test_equal_rows_are_drawn_into_one_split() -> None:
    x = np.repeat(distinct(100), 3, 0)
    kept = td.load(x)
    assert kept.overlap is not None and kept.overlap.test_in_train > 10
    data = td.load(x, S(duplicates="together"))
    splits = [rows_of(split) for split in data.splits.values()]
    assert sum(map(len, splits)) == 100 == len(set.union(*splits))
    assert [len(s) for s in data.splits.values()] == [240, 30, 30]  # type: ignore[arg-type]
    assert not any("equal to" in notice for notice in data.notices)


def test_together_without_equal_rows_changes_nothing() -> None:
    x = distinct(57)
    for kept, grouped in zip(
        td.load(x).splits.values(),
        td.load(x, S(duplicates="together")).splits.values(),
        strict=True,
    ):
        assert isinstance(kept, td.Split) and isinstance(grouped, td.Split)
        rows = torch.arange(len(kept))
        assert torch.equal(kept.raw(rows), grouped.raw(rows))


def test_rows_of_few_values_repeat_by_nature() -> None:
    x = np.random.RandomState(0).randint(0, 2, (500, 3))
    data = td.load(x)
    assert [len(s) for s in data.splits.values()] == [400, 50, 50]  # type: ignore[arg-type]
    said = [line for line in data.notices if "equal to" in line]
    assert len(said) == 1 and "8 different ones among 400" in said[0]
    assert "no sign of a leak" in said[0] and "--set" not in said[0]
    with pytest.raises(TightboundError, match="has 2 different rows, too few for 3"):
        td.load(np.arange(40)[:, None] % 2, S(duplicates="together"))


def test_rows_on_the_disk(tmp_path: Path) -> None:
    x = np.random.RandomState(0).randn(1200, 300).astype(np.float32)
    x[600:] = x[:600]
    np.save(tmp_path / "x.npy", x)
    settings = S(memory=1, valid=40, test=40)
    data = td.load(str(tmp_path / "x.npy"), settings)
    assert data.overlap is not None and data.overlap.test_in_train > 20
    dropped = td.load(
        str(tmp_path / "x.npy"), settings.model_copy(update={"duplicates": "drop"})
    )
    assert isinstance(dropped.train, td.Split)
    assert not isinstance(dropped.train.x, torch.Tensor), "the rows stay on the disk"
    held_out = rows_of(dropped.valid) | rows_of(dropped.test)
    assert not rows_of(dropped.train) & held_out
    assert rows_of(dropped.train) | held_out == {tuple(row) for row in x.tolist()}


def test_a_sample_of_many_rows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tightbound.data.prepare.duplicates._MOST_ROWS", 100)
    x = np.repeat(distinct(300), 2, 0)
    data = td.load(x)
    assert data.overlap is not None and data.overlap.checked == 100
    assert any("(100 of 480 training rows compared)" in line for line in data.notices)


def test_streams_have_no_rows_to_keep_apart() -> None:
    loader = torch.utils.data.DataLoader(torch.randn(40, 3), batch_size=8)
    data = td.load(loader)
    assert data.overlap is not None and data.overlap.test_in_train == 0
    with pytest.raises(TightboundError, match="duplicates=drop needs rows that stay"):
        td.load(loader, S(duplicates="drop"))


def test_hashes_of_rows() -> None:
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [float("nan"), 0.0]])
    a, b, c, d = row_hashes(iter([x[:3], x[3:]]), torch.float32)
    assert a == b and len({a, c, d}) == 3
    assert row_hashes(iter([-x[3:]]), torch.float32)[0] == d
    levels = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, 3)
    assert len(set(row_hashes(iter([levels]), torch.uint8))) == 256
    as_reals = row_hashes(iter([levels]), torch.float64)
    assert (as_reals == row_hashes(iter([levels.int()]), torch.float64)).all()
