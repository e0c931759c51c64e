"""Data larger than memory: files read in pieces and shuffled; .h5, .zarr and .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tightbound.data as td
from tightbound.data import on_disk as ondisk
from tightbound.data.on_disk import ExcludingIndex, OnDisk, random_rows, spread
from tightbound.data.prepare.binarize import bernoulli
from tightbound.data.prepare.split import Transform
from tightbound.data.streams.interleave import Blocks, InterleavedReader, reader_count
from tightbound.runtime.errors import TightboundError
from tightbound.training.batches import InterleavedBatches, batches

S = td.DataSettings
SMALL = S(memory=1)  # MB: what is larger stays on the disk
CPU = torch.device("cpu")
N = 3000


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ondisk, "PIECE", 1 << 15)


def numbered(n: int = N, width: int = 400) -> np.ndarray:
    """uint8 rows that each tell their number in their first two bytes."""
    x = np.random.RandomState(0).randint(0, 256, (n, width)).astype(np.uint8)
    x[:, 0], x[:, 1] = np.arange(n) // 256, np.arange(n) % 256
    return x


def numbers(rows: Tensor) -> list[int]:
    return (rows[:, 0].long() * 256 + rows[:, 1].long()).tolist()


# ---- rows on a disk


class Counting:
    """An array that counts how often each row was read."""

    def __init__(self, array: Tensor) -> None:
        self.array, self.read = array, torch.zeros(len(array), dtype=torch.long)

    def __call__(self, start: int, stop: int) -> Tensor:
        self.read[start:stop] += 1
        return self.array[start:stop]


@pytest.mark.parametrize("block", [1, 7, 100])
def test_rows_on_a_disk_are_those_of_the_tensor(block: int) -> None:
    array = torch.from_numpy(numbered(500))
    counting = Counting(array)
    rows = OnDisk(tuple(array.shape), array.dtype, counting, block)
    some = torch.randperm(500)[:90]
    assert torch.equal(rows[some], array[some]) and torch.equal(rows[3:13], array[3:13])
    assert (
        torch.equal(torch.cat(list(rows.split(64))), array) and len(rows[500:600]) == 0
    )
    assert torch.equal(rows.narrow(0, 20, 30)[torch.arange(5)], array[20:25])
    assert torch.equal(
        rows.map(lambda x: x[:, :4].float())[some], array[some, :4].float()
    )
    with pytest.raises(IndexError):
        rows[torch.tensor([500])]
    counting.read.zero_()
    fresh = OnDisk(tuple(array.shape), array.dtype, counting, block)
    fresh[torch.arange(500).flip(0)]
    assert counting.read.max() <= (1 if block > 1 else 2), (
        "a chunk that serves several rows is decoded once"
    )


def test_without_is_the_rest_in_order_and_costs_nothing() -> None:
    taken = torch.tensor([0, 3, 4, 9])
    rest = [1, 2, 5, 6, 7, 8]
    index = ExcludingIndex(10, taken)
    assert len(index) == 6 and index[torch.arange(6)].tolist() == rest
    assert [int(i) + 4 for i in index.inside(4, 8)] == [5, 6, 7]
    cut = ExcludingIndex(10, taken, limit=3)
    assert (
        len(cut) == 3
        and cut.inside(0, 10).tolist() == [1, 2, 5]
        and cut.inside(5, 10).tolist() == [0]
    )
    whole = ExcludingIndex(
        10**12, torch.tensor([7])
    )  # 8 TB of row numbers, if they were held
    assert whole[torch.tensor([6, 7, 10**11])].tolist() == [6, 8, 10**11 + 1]


def test_scattered_and_spread_rows_are_different_and_from_many_places() -> None:
    for n, piece, k in (
        (10_000, 100, 300),
        (10_000, 1, 300),
        (1000, 400, 999),
        (50, 60, 50),
    ):
        rows = random_rows(n, piece, k, 0)
        assert (
            len(rows.unique()) == k == len(rows)
            and int(rows.max()) < n
            and int(rows.min()) >= 0
        )
        assert not torch.equal(rows, random_rows(n, piece, k, 1)), (
            "a function of the seed"
        )
    places = random_rows(10**9, 1000, 5000, 0) // 1000
    assert 200 <= len(places.unique()) <= 256, (
        "few enough places to read, enough to represent the file"
    )
    for n, piece, k in (
        (10**6, 100, 5000),
        (1000, 100, 500),
        (100, 10, 7),
        (10, 20, 30),
    ):
        rows = spread(n, piece, k)
        assert (
            len(rows.unique()) == len(rows) == min(n, k)
            and (rows.diff() > 0).all()
            and int(rows.max()) <= n - 1
        )
        assert int(rows[0]) == 0 and int(rows[-1]) >= n - max(piece, n // k)


# ---- a file larger than data.memory


def on_disk(tmp_path: Path, settings: S = SMALL, **changes: Any) -> td.Data:
    path = tmp_path / "x.npy"
    np.save(path, numbered(**changes))
    return td.load(path, settings)


def test_a_large_npy_is_parted_as_a_small_one_is(tmp_path: Path) -> None:
    data = on_disk(tmp_path)
    assert isinstance(data.train.x, OnDisk) and isinstance(
        data.train.index, ExcludingIndex
    )  # type: ignore[union-attr]
    parts = [
        numbers(s.raw(torch.arange(len(s))))
        for s in (data.train, data.valid, data.test)
    ]  # type: ignore[union-attr,arg-type]
    assert sorted(row for part in parts for row in part) == list(range(N))
    assert [len(part) for part in parts] == [2400, 300, 300]
    assert isinstance(data.valid.x, Tensor), "what is evaluated is held in memory"
    assert "read as they are needed" in data.notices[0]
    assert len(td.load(tmp_path / "x.npy", S(memory=1, limit=70)).train) == 70
    assert len(td.load(tmp_path / "x.npy", S(memory=1, valid=17)).valid) == 17
    small = td.load(tmp_path / "x.npy")
    assert isinstance(small.train.x, Tensor) and torch.allclose(
        small.spec.std, data.spec.std, atol=12
    )  # type: ignore[union-attr]


def test_a_map_given_in_python_is_read_in_place(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", numbered())
    data = td.load(np.load(tmp_path / "x.npy", mmap_mode="r"), SMALL)
    assert isinstance(data.train.x, OnDisk) and len(data.train) == 2400


def test_each_row_once_an_epoch_resumed_anywhere_whatever_the_processes(
    tmp_path: Path,
) -> None:
    data = on_disk(tmp_path)
    train = data.train
    assert isinstance(train, td.Split)
    reading = InterleavedReader(Blocks(train), 16, 5, shuffle_buffer=160)
    assert (
        reading.total == 16
        and len({len(reader.chosen) for reader in reading.readers}) <= 2
    )
    seen: dict[int, list[int]] = {reader.number: [] for reader in reading.readers}
    steps = [reading() for _ in range(500)]
    for rows in steps:
        for number, row in zip(seen, numbers(rows), strict=True):
            seen[number].append(row)
    every: list[int] = []
    for reader in reading.readers:
        taken, own = seen[reader.number], len(set(seen[reader.number]))
        epochs = [sorted(taken[i : i + own]) for i in range(0, own * 2, own)]
        assert epochs[0] == epochs[1] == sorted(set(taken)), (
            "each epoch has each row once"
        )
        assert taken[:own] != taken[own : 2 * own] and taken[:own] != epochs[0], (
            "mixed, and anew each time"
        )
        every += epochs[0]
    assert sorted(every) == sorted(train.index[torch.arange(len(train))].tolist()), (
        "every row, in one reader"
    )  # type: ignore[index]
    assert torch.equal(steps[3], _after(train, 3, 1)) and not torch.equal(
        steps[0], steps[150]
    )
    for world in (2, 4, 8):
        assert torch.equal(steps[37], _after(train, 37, world)), (
            "the batch of all processes together"
        )
    halves = [
        InterleavedReader(Blocks(train), 16, 5, rank=r, world=2, shuffle_buffer=160)
        for r in range(2)
    ]
    for half in halves:
        for _ in range(333):
            half()
    state = halves[0].state_dict() | halves[1].state_dict()
    for world in (1, 2, 4):
        parts = [
            InterleavedReader(
                Blocks(train), 16, 5, rank=r, world=world, shuffle_buffer=160
            )
            for r in range(world)
        ]
        for part in parts:
            part.load_state_dict(state)
        for at in range(333, 345):
            assert torch.equal(torch.cat([part() for part in parts]), steps[at]), (
                "2 processes resume as 1, 2 or 4"
            )


def _after(train: td.Split, steps: int, world: int) -> Tensor:
    parts = [
        InterleavedReader(Blocks(train), 16, 5, rank=r, world=world, shuffle_buffer=160)
        for r in range(world)
    ]
    for _ in range(steps):
        for part in parts:
            part()
    return torch.cat([part() for part in parts])


def test_lanes_are_as_many_as_the_batch_and_the_pieces_allow() -> None:
    assert [reader_count(100, b, 1, "x") for b in (128, 100, 7)] == [16, 4, 1]
    assert [reader_count(p, 128, 1, "x") for p in (1, 3, 9)] == [
        1,
        2,
        8,
    ] and reader_count(100, 96, 3, "x") == 3
    with pytest.raises(TightboundError, match="too few for 4 processes"):
        reader_count(3, 128, 4, "x")


def test_binarised_on_the_disk(tmp_path: Path) -> None:
    dynamic = on_disk(tmp_path, S(memory=1, binarize="dynamic", domain="levels")).train
    assert isinstance(dynamic, td.Split)
    rows = torch.tensor([5, 900, 6])
    fixed = dynamic.batch(rows)
    assert torch.equal(fixed, dynamic.batch(rows)) and torch.equal(
        fixed[[0, 2]], dynamic.batch(rows[[0, 2]])
    )
    mean = dynamic.batch(torch.arange(1000)).mean()
    grey = dynamic.x[torch.arange(1000)].float().mean() / 255  # type: ignore[index]
    assert abs(mean - grey) < 0.005 and set(fixed.unique().tolist()) == {0, 1}
    static = td.load(
        tmp_path / "x.npy", S(memory=1, binarize="static", domain="levels")
    ).train
    assert torch.equal(static.batch(rows), fixed), "both views are the one fixed draw"
    steps = [
        b(0).x
        for b in (
            batches(dynamic, 32, 0, CPU),
            batches(dynamic, 32, 0, CPU),
            batches(dynamic, 32, 1, CPU),
        )
    ]
    assert isinstance(batches(dynamic, 32, 0, CPU), InterleavedBatches) and steps[
        0
    ].shape == (
        32,
        400,
    )
    assert torch.equal(steps[0], steps[1]) and not torch.equal(steps[0], steps[2])


def test_random_numbers_are_those_of_the_whole_batch() -> None:
    x = torch.randint(0, 256, (12, 8, 8), dtype=torch.uint8)
    change = Transform(256, ("flip", "shift"), 2)

    def seed() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    whole = change(x, "hw", seed())
    for of in (2, 3):
        parts = [
            change(part, "hw", seed(), (i, of)) for i, part in enumerate(x.chunk(of))
        ]
        assert torch.equal(torch.cat(parts), whole)
    levels = [
        bernoulli(part // 16, 17, seed(), (i, 4)) for i, part in enumerate(x.chunk(4))
    ]
    assert torch.equal(torch.cat(levels), bernoulli(x // 16, 17, seed()))


def test_a_bad_value_is_named_when_it_is_read(tmp_path: Path) -> None:
    x = np.zeros((60_000, 6), np.float32)
    x[::7] = 0.5
    x[54_321, 4] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(TightboundError, match="row 54321") as told:
        train = td.load(tmp_path / "x.npy", SMALL).train
        steps = batches(train, 64, 0, CPU)
        for step in range(1000):
            steps(step)
    assert "nan" in str(told.value)


def test_a_batch_that_cannot_be_shared_out(tmp_path: Path) -> None:
    train = td.load(np.zeros((40, 3), np.uint8)).train
    with pytest.raises(TightboundError, match=r"train.batch = 30 .* 4 processes.*32"):
        batches(train, 30, 0, CPU, (0, 4))
    parts = [batches(train, 8, 0, CPU, (r, 4)) for r in range(4)]
    assert torch.equal(
        torch.cat([p(3).x for p in parts]), batches(train, 8, 0, CPU)(3).x
    )
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.zeros(40, 3)), batch_size=8
    )
    with pytest.raises(TightboundError, match="map-style"):
        batches(td.load(loader).train, 8, 0, CPU, (0, 2))


# ---- .h5, .zarr, .parquet


def write(kind: str, path: Path, arrays: dict[str, np.ndarray], chunk: int) -> Path:
    file = path / f"x.{kind}"
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(file, "w") as made:
            for name, array in arrays.items():
                made.create_dataset(
                    name, data=array, chunks=(min(chunk, len(array)), *array.shape[1:])
                )
    else:
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(str(file), mode="w")
        for name, array in arrays.items():
            group.create_array(
                name, data=array, chunks=(min(chunk, len(array)), *array.shape[1:])
            )
    return file


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_arrays_in_chunks(kind: str, tmp_path: Path) -> None:
    x, y = numbered(), np.arange(N) % 5
    file = write(kind, tmp_path, {"x": x, "y": y, "other": x[:3]}, 70)
    near, far = td.load(file), td.load(file, SMALL)
    assert (
        torch.equal(near.train.y, torch.from_numpy(y)[near.train.index])
        and far.test.y is not None
    )  # type: ignore[union-attr]
    assert (
        isinstance(far.train.x, OnDisk)
        and far.train.x.block == 70
        and far.train.x.piece % 70 == 0
    )  # type: ignore[union-attr]
    rows = torch.tensor([2999, 0, 1234])
    assert torch.equal(far.train.x[rows], torch.from_numpy(x)[rows])  # type: ignore[union-attr]
    assert numbers(far.test.raw(torch.arange(300))) and near.digest != far.digest
    assert (
        far.test.raw(torch.arange(300))[:, 1].long() % 1 == 0
    ).all() and torch.equal(
        far.test.y, torch.tensor(numbers(far.test.raw(torch.arange(300)))) % 5
    )
    assert len(td.load(file, S(key="other")).train) == 1  # type: ignore[arg-type]
    encoded = td.read(file, near.spec, SMALL)
    assert len(encoded) == N and numbers(encoded.batch(torch.tensor([7, 2000]))) == [
        7,
        2000,
    ]
    with pytest.raises(TightboundError, match=r"no array 'oter' for data.key.*other"):
        td.load(file, S(key="oter"))


@pytest.mark.parametrize("kind", ["h5", "zarr"])
def test_published_splits_and_damage_in_chunks(kind: str, tmp_path: Path) -> None:
    x = numbered()
    file = write(kind, tmp_path, {"train": x, "valid": x[:40], "test": x[40:90]}, 500)
    data = td.load(file, SMALL)
    assert [len(data.train), len(data.valid), len(data.test)] == [N, 40, 50]
    if kind == "h5":
        for cut in (len(x) * 50, 20):
            damaged = (
                tmp_path / f"{cut}.h5"
            )  # a file that is open already would be served from its cache
            damaged.write_bytes(file.read_bytes()[:cut])
            with pytest.raises(
                TightboundError, match=r"\d.h5.*(truncated|cannot be read)"
            ):
                td.load(damaged, SMALL)
    else:
        chunks = [
            p
            for p in (file / "train").rglob("*")
            if p.is_file() and "zarr" not in p.name
        ]
        for chunk in chunks:
            chunk.write_bytes(b"no chunk")
        with pytest.raises(
            TightboundError, match=r"x.zarr: rows .* of dataset 'train' cannot be read"
        ):
            td.load(file, SMALL)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    x, y = numbered(), np.array(["cat", "dog", "eel"])[np.arange(N) % 3]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 400)
    table = pa.table({"x": lists, "label": y})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=450)
    near, far = td.load(tmp_path / "x.parquet"), td.load(tmp_path / "x.parquet", SMALL)
    assert near.label_names == ("cat", "dog", "eel") and torch.equal(
        far.test.y, torch.tensor(numbers(far.test.raw(torch.arange(300)))) % 3
    )
    rows = torch.tensor([2999, 449, 450])
    assert numbers(far.train.x[rows]) == rows.tolist() and far.train.x.block == 450
    folder = tmp_path / "many.parquet"
    folder.mkdir()
    for i in range(3):
        parquet.write_table(table.slice(i * 1000, 1000), folder / f"part-{i}.parquet")
    assert numbers(td.read(folder, near.spec).batch(rows)) == rows.tolist()
    columns = {"a": np.arange(30.0), "b": np.arange(30.0) ** 2, "y": np.arange(30) % 2}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    numbers_only = td.load(tmp_path / "t.parquet")
    assert numbers_only.spec.shape == (2,) and numbers_only.train.y is not None
    for bad, match in (
        ({"a": [1.0, None, 3.0]}, r"row 1 .*column 'a' is empty"),
        (
            {"a": [1.0, 2.0, 3.0], "b": [{"u": 1}, {"u": 2}, {"u": 3}]},
            "holds object values",
        ),
        ({"x": [[1, 2], [3], [4, 5, 6]]}, "different lengths"),
    ):
        parquet.write_table(pa.table(bad), tmp_path / "bad.parquet")
        with pytest.raises(TightboundError, match=match):
            td.load(tmp_path / "bad.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(TightboundError, match="not a parquet file"):
        td.load(tmp_path / "bad.parquet")
