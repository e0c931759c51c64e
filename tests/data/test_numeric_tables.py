"""Tables of numbers: matched by name, and given back with names, types, order and index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.small import small_run

import tightbound as tb
from tightbound import data as data_room
from tightbound.cli import main
from tightbound.data import DataSettings
from tightbound.data.tables.times import seconds, times
from tightbound.estimator import VAEEstimator
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError

N = 120
START = 1_700_000_000


def numbers(n: int = N, seed: int = 0) -> pd.DataFrame:
    """Four columns of reals on different scales."""
    r = np.random.default_rng(seed)
    x = r.normal(size=(n, 4)) * [1, 2, 3, 4] + [0, 10, 20, 30]
    return pd.DataFrame(x, columns=list("abcd"))


def every_type(n: int = N) -> pd.DataFrame:
    """A column of each type that numbers and times come in, with an index of names."""
    r = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "stamp": START + r.integers(0, 100, n),
            "x": r.normal(size=n),
            "small": r.integers(-100, 100, n).astype(np.int8),
            "fixed": 1.7e9,
            "single": r.normal(size=n).astype(np.float32),
            "huge": 2**60 + r.integers(0, 2**40, n),
            "when": pd.date_range("2021-01-01", periods=n, freq="h").as_unit("ns"),
            "zone": pd.date_range("2021-01-01", periods=n, freq="D", tz="Asia/Seoul"),
            "span": pd.to_timedelta(r.integers(0, 1000, n), unit="min"),
        },
        index=[f"id{i}" for i in range(n)],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(small_run(tmp_path_factory.mktemp("t") / "r", "vae", numbers()))


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(small_run(tmp_path_factory.mktemp("t") / "r", "vae", every_type()))


def written(frame: pd.DataFrame, kind: str, folder: Path) -> Any:
    """The same table from each door."""
    path = folder / f"t.{kind}"
    if kind == "dict":
        return {name: frame[name].to_numpy() for name in frame}
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        return frame
    return path


DOORS = ["frame", "dict", "csv", "tsv", "parquet"]


# ---- columns are matched by name


@pytest.mark.parametrize("kind", DOORS)
def test_new_data_in_another_order_are_put_in_order(
    run: Run, kind: str, tmp_path: Path
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    table = numbers(9, seed=5)
    codes = run.encode(table)
    turned = written(table[["d", "b", "a", "c"]], kind, tmp_path)
    assert torch.equal(run.encode(turned), codes)
    assert np.allclose(run.reconstruct(turned), run.reconstruct(table))
    assert list(run.read(turned).columns) == list("abcd")
    assert np.array_equal(run.read(turned), table)
    with pytest.raises(TightboundError, match=r"has no column 'a'.*trained on"):
        run.encode(written(table.rename(columns={"a": "e"}), kind, tmp_path))
    with pytest.raises(TightboundError, match="no column 'b', nor 'c', 'd'"):
        run.encode(written(table[["a"]].assign(z=1.0), kind, tmp_path))


def test_other_columns_are_left_out_with_a_notice(run: Run) -> None:
    table = numbers(9, seed=5)
    more = table.assign(note="text", e=1.0)[["e", "d", "note", "c", "b", "a"]]
    assert torch.equal(run.encode(more), run.encode(table))
    split = data_room.read(more, run.spec, run.config.data)
    assert any("columns 'e', 'note' are not used" in line for line in split.notices)
    assert not data_room.read(table, run.spec, run.config.data).notices


def test_what_has_no_names_is_taken_by_place(run: Run, tmp_path: Path) -> None:
    table = numbers(9, seed=5)
    codes = run.encode(table)
    table.to_csv(tmp_path / "x.csv", index=False, header=False)
    for x in (table.to_numpy(), pd.DataFrame(table.to_numpy()), tmp_path / "x.csv"):
        assert torch.equal(run.encode(x), codes)
    assert torch.allclose(run.encode(table.iloc[3]), codes[3:4], atol=1e-6)
    with pytest.raises(TightboundError, match=r"shape \(3,\)"):
        run.encode(table.to_numpy()[:, :3])
    plain = data_room.load(table.to_numpy())
    assert not plain.spec.fields, "an array stays an array"


def test_numbered_columns_are_taken_by_place_only_from_0_up() -> None:
    table = pd.DataFrame(numbers().to_numpy())
    data = data_room.load(table)
    rows = torch.arange(9)

    def read(new: Any) -> np.ndarray:
        return data_room.read(new, data.spec, data.settings).raw(rows).numpy()

    few = table[:9]
    assert np.array_equal(read(few), few)
    assert np.array_equal(read(few[[2, 0, 3, 1]]), few)
    assert np.array_equal(read(few.set_axis(list("abcd"), axis=1)), few)
    for new in ([0, 1, 3, 4], ["a", "1", "2", "3"], [1, 2, 3, 4]):
        with pytest.raises(TightboundError, match=r"has no column '[02]'"):
            read(few.set_axis(new, axis=1))


def test_numbered_columns_on_the_disk_are_taken_by_place_only_where_all_are(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pyarrow")
    table = numbers(60_000)
    path = tmp_path / "t.parquet"
    table.set_axis(list("0123"), axis=1).to_parquet(path)
    data = data_room.load(table[["a", "b", "c"]])
    with pytest.raises(TightboundError, match="has no column 'a', nor 'b', 'c'"):
        data_room.read(path, data.spec, DataSettings(memory=1))


def test_separate_splits_are_put_in_order() -> None:
    table = numbers()
    turned = table[["d", "b", "a", "c"]]
    one = data_room.load(table, valid=table[:20], test=table[20:50])
    two = data_room.load(table, valid=turned[:20], test=turned[20:50])
    for a, b in ((one.valid, two.valid), (one.test, two.test)):
        rows = torch.arange(len(a))
        assert torch.equal(a.batch(rows), b.batch(rows))
    with pytest.raises(TightboundError, match="has no column 'a'"):
        data_room.load(table, test=table.rename(columns={"a": "e"}))


def test_parquet_that_stays_on_the_disk_is_matched_by_name(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = numbers(60_000)
    table.to_parquet(tmp_path / "a.parquet", row_group_size=10_000)
    table[["d", "b", "a", "c"]].to_parquet(
        tmp_path / "b.parquet", row_group_size=10_000
    )
    settings = DataSettings(memory=1)
    data = data_room.load(str(tmp_path / "a.parquet"), settings)
    assert [(f.name, f.type) for f in data.spec.fields] == [
        (name, "float64") for name in "abcd"
    ]
    rows = torch.tensor([3, 59_999])
    a, b = (
        data_room.read(str(tmp_path / f"{name}.parquet"), data.spec, settings)
        for name in "ab"
    )
    assert a.table is None and torch.equal(a.batch(rows), b.batch(rows))
    assert np.allclose(a.batch(rows), table.iloc[rows.numpy()], rtol=1e-6)


def test_parquet_of_numbers_keeps_its_types_names_and_digits(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.parquet"
    whole = 2**53 + 1 + np.arange(20, dtype=np.int64)
    single = np.linspace(0, 1, 20, dtype=np.float32)
    frame = pd.DataFrame({"whole": whole, "single": single, "y2": single * 2.0})
    frame.to_parquet(path, row_group_size=7)
    data = data_room.load(path)
    assert [f.type for f in data.spec.fields] == ["int64", "float32", "float32"]
    found = data_room.read(path, data.spec, data.settings).table
    assert all(found.columns[name].dtype == frame[name].dtype for name in frame)
    assert found.columns["whole"].tolist() == whole.tolist()
    rows = data_room.read(path, data.spec, data.settings).raw(torch.arange(20))
    assert np.array_equal(rows, frame.to_numpy(dtype=np.float64))


def test_parquet_of_one_column_is_matched_by_name(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = numbers(20)[["a"]]
    frame.to_parquet(tmp_path / "a.parquet")
    frame.rename(columns={"a": "b"}).to_parquet(tmp_path / "b.parquet")
    data = data_room.load(tmp_path / "a.parquet")
    assert [f.name for f in data.spec.fields] == ["a"]
    with pytest.raises(TightboundError, match="has no column 'a'"):
        data_room.read(tmp_path / "b.parquet", data.spec, data.settings)
    lists = pd.DataFrame({"a": [[float(value)] for value in range(20)]})
    lists.to_parquet(tmp_path / "c.parquet")
    assert not data_room.load(tmp_path / "c.parquet").spec.fields


def test_the_index_of_a_parquet_file_is_no_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = numbers()
    kept = table[table["a"] > 0]  # whose index is written as a column of numbers
    kept.to_parquet(path := tmp_path / "t.parquet")
    data = data_room.load(str(path))
    assert data.spec.shape == (4,) and [f.name for f in data.spec.fields] == list(
        "abcd"
    )
    split = data_room.read(str(path), data.spec)
    assert split.names == [str(i) for i in kept.index]
    assert split.table is not None and split.table.index.equals(kept.index)


# ---- what comes out


def test_types_zones_order_and_index_come_back(typed: Run) -> None:
    table = every_type()
    assert typed.spec.domain == "real"
    assert typed.read(table).equals(table), "every cell as it was given"
    drawn, rebuilt = typed.sample(20), typed.reconstruct(table)
    for made in (drawn, rebuilt, typed.decode(typed.encode(table))):
        assert made.dtypes.to_dict() == table.dtypes.to_dict()
        assert list(made.columns) == list(table.columns)
    assert rebuilt.index.equals(table.index)
    assert (drawn["when"] == drawn["when"].dt.floor("h")).all(), "whole hours"
    assert (drawn["fixed"] == 1.7e9).all()
    head = typed.reconstruct(table.iloc[5:8])
    assert head.index.tolist() == ["id5", "id6", "id7"]
    assert (
        data_room.load(table)
        .notices[0]
        .endswith("columns 'when', 'zone', 'span' read as time, in seconds")
    )


def test_whole_numbers_come_out_whole_and_inside_their_type(tmp_path: Path) -> None:
    r = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "byte": np.where(r.random(N) < 0.5, 0, 255).astype(np.uint8),
            "gaps": np.where(r.random(N) < 0.2, np.nan, r.integers(-50, 300, N)),
            "Int": pd.array([None, *r.integers(0, 900, N - 1)], dtype="Int64"),
            "real": r.normal(size=N),
        }
    )
    made = load(small_run(tmp_path / "r", "missing-data", table)).sample(300)
    assert made.dtypes.to_dict() == table.dtypes.to_dict()
    assert (made["gaps"] == made["gaps"].round()).all()
    assert (made["real"] != made["real"].round()).all()
    spec = data_room.load(table, DataSettings(allow_missing=True)).spec
    beyond = torch.tensor([[-40.0, 1.0, 2.0, 0.5], [999.0, 1.0, 2.0, 0.5]])
    assert data_room.frame(beyond, spec.fields)["byte"].tolist() == [0, 255]


def test_draws_of_tables_and_vectors_have_the_spread_of_the_data(
    tmp_path: Path,
) -> None:
    table = numbers(400) * [1, 1, 10, 1]
    for name, x in (("t", table), ("a", table.to_numpy())):
        made = load(small_run(tmp_path / name, "vae", x, steps=150))
        drawn = np.asarray(made.sample(1000, pixels="auto"))
        assert (drawn.std(0) / table.std(ddof=0).to_numpy() > 0.75).all()
        mean = np.asarray(made.sample(1000, pixels="mean"))
        assert (mean.std(0) < drawn.std(0)).all()
    digits = load(small_run(tmp_path / "d", "vae", "digits", steps=2))
    assert torch.equal(digits.sample(4), digits.sample(4, pixels="mean")), "images"


def test_names_that_are_numbers_stay_numbers(tmp_path: Path) -> None:
    for names in ([0, 1, 2, 3], [2021, 2019, 2020, 7]):
        table = numbers().set_axis(names, axis=1)
        made = load(small_run(tmp_path / str(names[0]), "vae", table))
        assert made.sample(3).columns.tolist() == names
        turned = table[names[::-1]]
        assert torch.equal(made.encode(turned), made.encode(table))
    empty = numbers().rename(columns={"a": ""})
    assert load(small_run(tmp_path / "r", "vae", empty)).sample(2).columns[0] == ""


def test_categories_that_are_numbers_are_categories(tmp_path: Path) -> None:
    r = np.random.default_rng(3)
    table = numbers().assign(
        k=pd.Categorical(r.choice([10, 20, 30], N)),
        s=pd.array(r.choice(["x", "y", "z"], N), dtype="string"),
        b=pd.array(r.random(N) < 0.5, dtype="boolean"),
    )
    made = load(small_run(tmp_path / "r", "vae", table)).sample(9)
    assert made.dtypes.to_dict() == table.dtypes.to_dict()
    assert set(made["k"]) <= {10, 20, 30}


def arrow_types() -> pd.DataFrame:
    """Columns of Arrow types, with gaps, beside a column of float64."""
    pa = pytest.importorskip("pyarrow")
    n = 40
    whole = (2**53 + 1 + 2 * np.arange(n)).tolist()
    columns = {
        "n": pa.array([None, *whole[1:]], pa.int64()),
        "x": pa.array([None, *np.linspace(0, 1, n)[1:]], pa.float64()),
        "b": pa.array([None, *(np.arange(1, n) % 2 == 0)], pa.bool_()),
        "s": pa.array([None, *np.array(["u", "v"])[np.arange(1, n) % 2]], pa.string()),
        "d": pa.array(["k", "m", "m", "k"] * 10).dictionary_encode(),
        "t": pa.array(pd.date_range("2020-01-01", periods=n, freq="h")),
    }
    frame = pd.DataFrame({"r": np.random.default_rng(0).normal(size=n)})
    for name, cells in columns.items():
        frame[name] = pd.Series(pd.array(cells, dtype=pd.ArrowDtype(cells.type)))
    return frame


def test_columns_of_arrow_types_are_read_as_those_of_pandas() -> None:
    frame = arrow_types()
    data = data_room.load(frame, DataSettings(allow_missing=True))
    kinds = {f.name: (f.kind, f.type) for f in data.spec.fields}
    assert kinds == {
        "r": ("real", "float64"),
        "n": ("real", "Int64"),
        "x": ("real", "float64"),
        "b": ("binary", "boolean"),
        "s": ("binary", "string"),
        "d": ("binary", "category"),
        "t": ("real", str(frame["t"].to_numpy().dtype)),
    }
    split = data_room.read(frame, data.spec, data.settings)
    raw = split.raw(torch.arange(40))
    kept = data_room.filled_frame(raw, data.spec.fields, split.table)
    for name in ("n", "x", "b", "s", "d", "t"):
        assert kept[name].isna().equals(frame[name].isna())
        assert kept[name].dropna().tolist() == frame[name].dropna().tolist()
    whole = frame.dropna().reset_index(drop=True)
    columns = ["r", "s", "b", "d"]
    plain = whole[columns].astype({"s": "string", "b": "boolean", "d": "category"})
    values = {"recipe.size": "s", "validate_n": 4, "validate_k": 2}
    made = VAEEstimator(latent=2, steps=2, random_state=0, settings=values)
    features = made.fit(whole[columns]).transform(whole[columns])
    assert np.array_equal(features, made.transform(plain))


# ---- numbers between the data and the output


def test_observed_cells_are_copied_from_the_input(tmp_path: Path) -> None:
    table = every_type()
    r = np.random.default_rng(4)
    for name in ("stamp", "x", "when", "zone", "span", "single"):
        table[name] = table[name].mask(r.random(N) < 0.2)
    made = load(small_run(tmp_path / "r", "missing-data", table))
    found = made.impute(table, k=10, draws=2)
    for filled in (found.x, *found.draws, made.reconstruct(table)):
        assert filled.index.equals(table.index)
        assert filled.dtypes.to_dict() == table.dtypes.to_dict()
        assert not filled.isna().any().any()
        observed = table.notna()
        assert filled.where(observed).equals(table)
    assert list(found.sd.columns) == list(table.columns)
    rest = table.isna()["when"]
    assert found.x["when"][rest].between("2020-12-01", "2021-03-01").all()
    assert (found.sd["when"][rest] > 3600).all(), "a spread, in seconds, without offset"


@pytest.mark.parametrize("dtype", ["Int64", "UInt64"])
def test_whole_numbers_with_gaps_keep_all_digits(dtype: str) -> None:
    whole = 2**53 + 1 + 2 * np.arange(40)
    cells = pd.array(whole, dtype=dtype)
    cells[::4] = pd.NA
    table = numbers(40).assign(n=cells)
    settings = DataSettings(allow_missing=True)
    data = data_room.load(table, settings)
    split = data_room.read(table, data.spec, data.settings)
    raw = split.raw(torch.arange(40)).double()
    kept = data_room.filled_frame(raw, data.spec.fields, split.table)
    assert kept.equals(table), "gaps that stay"
    filled = data_room.filled_frame(raw.nan_to_num(7.0), data.spec.fields, split.table)
    expected = np.where(np.arange(40) % 4 == 0, 7, whole)
    assert filled["n"].dtype == table["n"].dtype
    assert filled["n"].tolist() == expected.tolist()
    part = split.select(torch.tensor([9, 4]))
    few = data_room.filled_frame(raw[[9, 4]], data.spec.fields, part.table)
    assert few["n"].tolist() == [int(whole[9]), pd.NA]


def test_observed_cells_of_an_array_are_copied_from_it(tmp_path: Path) -> None:
    r = np.random.default_rng(5)
    x = np.stack([START + r.integers(0, 10**7, N) + 0.25, r.normal(1e5, 5, N)], 1)
    x[r.random(x.shape) < 0.2] = np.nan
    made = load(small_run(tmp_path / "r", "missing-data", x))
    found = made.impute(x, k=10, draws=2)
    seen = ~np.isnan(x)
    assert isinstance(found.x, torch.Tensor) and found.x.dtype == torch.float64
    assert np.array_equal(found.x.numpy()[seen], x[seen])
    assert np.array_equal(found.draws.numpy()[:, seen], np.stack([x[seen]] * 2))
    single = x.astype(np.float32)
    assert made.impute(single, k=5).x.dtype == torch.float64, "beyond float32"


def test_files_have_all_digits(run: Run, typed: Run, tmp_path: Path) -> None:
    table = numbers(7, seed=8) * 12345.678901
    table.to_csv(tmp_path / "x.csv", index=False)
    spec = ["--out", str(tmp_path / "y.csv")]
    assert main(["reconstruct", str(run.folder), str(tmp_path / "x.csv"), *spec]) == 0
    rebuilt = run.reconstruct(str(tmp_path / "x.csv"))
    written = pd.read_csv(tmp_path / "y.csv", dtype=str).astype(float)
    assert written.equals(rebuilt)
    assert main(["sample", str(typed.folder), "-n", "5", *spec, "--overwrite"]) == 0
    drawn = typed.sample(5)
    made = pd.read_csv(tmp_path / "y.csv", parse_dates=["when", "zone"], dtype=str)
    for name in ("huge", "x"):
        assert made[name].astype(drawn[name].dtype).equals(drawn[name]), name
    assert (made["when"] == drawn["when"]).all()
    pytest.importorskip("pyarrow")
    spec = ["--out", str(tmp_path / "y.parquet")]
    assert main(["sample", str(typed.folder), "-n", "5", *spec]) == 0
    again = pd.read_parquet(tmp_path / "y.parquet")
    assert again.dtypes.to_dict() == drawn.dtypes.to_dict() and again.equals(drawn)


def test_columns_of_any_name_are_written(tmp_path: Path) -> None:
    table = (
        numbers().rename(columns={"a": "file", "b": "x/y"}).assign(k=["u", "v"] * 60)
    )
    folder = small_run(tmp_path / "r", "vae", table)
    out = tmp_path / "s.npz"
    assert main(["sample", str(folder), "-n", "4", "--out", str(out)]) == 0
    with np.load(out) as arrays:
        assert set(arrays.files) == {"file", "x/y", "c", "d", "k"}
        assert arrays["file"].shape == (4,)


@pytest.mark.parametrize("as_array", [False, True])
def test_a_column_far_from_0_is_learned(as_array: bool, tmp_path: Path) -> None:
    r = np.random.default_rng(6)
    z = r.normal(size=300)
    table = pd.DataFrame({"stamp": 1.7e9 + 100 * z, "v": z + 0.1 * r.normal(size=300)})
    x = table.to_numpy() if as_array else table
    made = load(small_run(tmp_path / "r", "vae", x, steps=400, latent=1))
    assert 1.7e9 - 200 < made.spec.offset[0] < 1.7e9 + 200 and made.spec.offset[1] == 0
    rebuilt = np.asarray(made.reconstruct(x))[:, 0]
    assert np.corrcoef(rebuilt, table["stamp"])[0, 1] > 0.9
    assert 60 < np.std(np.asarray(made.sample(500))[:, 0]) < 150
    px = made.likelihood(made.encode(x))
    mean, sd = px.mean.numpy(), np.sqrt(px.variance.numpy())
    raw = table.to_numpy()
    expected = -0.5 * ((raw - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    found = px.log_prob(made.read(x))
    assert np.allclose(found, expected.sum(1), rtol=1e-4, atol=1e-3), "in raw units"


def test_images_far_from_0_are_learned() -> None:
    x = np.random.default_rng(7).normal(1e7, 1, (60, 8, 8))
    data = data_room.load(x, DataSettings(domain="real"))
    rows = torch.arange(5)
    model_units = data.spec.to_model(data.train.raw(rows))
    assert len(data.spec.offset) == 1 and float(model_units.std()) > 0.5
    raw = data.spec.to_raw(model_units)
    assert float((raw - data.train.raw(rows)).abs().max()) < 1e-6
    assert not data_room.load(x - 1e7, DataSettings(domain="real")).spec.offset


def test_usual_numbers_have_no_offset() -> None:
    r = np.random.default_rng(8)
    table = numbers().assign(
        year=r.integers(1950, 2020, N), kelvin=r.normal(293, 5, N), fixed=5.0
    )
    data = data_room.load(table, DataSettings(domain="real"))
    assert data.spec.offset == ()
    rows = torch.arange(9)
    assert torch.equal(data.train.batch(rows), data.train.raw(rows).float())


def test_values_that_float32_cannot_tell_apart_are_named() -> None:
    r = np.random.default_rng(9)
    far = np.where(r.random(N) < 0.5, 0.5, 1.7e9 + r.integers(0, 50, N))
    data = data_room.load(numbers().assign(far=far))
    (notice,) = [line for line in data.notices if "32 bits" in line]
    assert "column 'far' keeps 2 of" in notice
    assert not [line for line in data_room.load(numbers()).notices if "32 bits" in line]
    for scale, verb in ((1e30, "divide"), (1e-30, "multiply")):
        with pytest.raises(TightboundError, match=f"column 'a' .* {verb} it"):
            data_room.load(numbers() * [scale, 1, 1, 1])


def test_times_are_seconds_and_back() -> None:
    for unit in ("s", "ms", "us", "ns", "D", "m"):
        for kind in "Mm":
            values = np.array([-3, 0, 7, 19_000], dtype=np.int64)
            values = np.append(
                values.astype(f"{kind}8[{unit}]"), np.array("NaT", f"{kind}8")
            )
            found = times(seconds(values), str(values.dtype))
            assert np.array_equal(found[:-1], values[:-1]) and np.isnat(found[-1])
    day = np.array(["1970-01-02"], "M8[D]")
    assert seconds(day).tolist() == [86400.0]
    assert not np.isnat(times(np.array([1e30]), "datetime64[ns]"))[0]


# ---- conditions


REGION = {"data.condition": "region"}


def regions() -> pd.DataFrame:
    r = np.random.default_rng(10)
    g = r.choice(["north", "south"], 200)
    v = r.normal(size=200) + 6 * (g == "south")
    return pd.DataFrame({"v": v, "w": r.normal(3, 1, 200), "region": g})


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
def test_a_column_of_texts_is_a_condition(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    table = regions()
    source = written(table, kind, tmp_path)
    made = load(small_run(tmp_path / "r", "conditional", source, steps=150, **REGION))
    assert made.spec.condition.names == ("north", "south")
    assert list(made.sample(1).columns) == ["v", "w"]
    south, north = (made.sample(60, condition=name) for name in ("south", "north"))
    assert 4 < south["v"].mean() - north["v"].mean() < 8
    codes = made.encode(table)
    turned = table[["region", "w", "v"]]
    assert torch.equal(made.encode(turned), codes), "the condition by its name"
    given = made.encode(table[["v", "w"]], condition=table["region"].tolist())
    assert torch.equal(given, codes)
    with pytest.raises(TightboundError, match="without their condition"):
        made.encode(table[["v", "w"]])
    with pytest.raises(TightboundError, match="none that the model was trained on"):
        made.encode(table.assign(region="east"))


def test_what_is_no_condition_is_one_sentence() -> None:
    table = regions()
    for changed, condition, said in (
        (table, ("region", "w"), "column 'region' of data.condition holds no numbers"),
        (table, "regoin", "has no column 'regoin' for data.condition"),
        (table[["region"]], "region", "no column beside"),
        (table.assign(region=None), "region", "column 'region' is missing"),
    ):
        with pytest.raises(TightboundError, match=said):
            data_room.load(changed, DataSettings(condition=condition))
    both = data_room.load(table, DataSettings(condition=("v", "w")))
    assert both.spec.condition.names == ("v", "w") and both.spec.condition.mean
    with pytest.raises(TightboundError, match="has a condition that"):
        data_room.load(
            table,
            DataSettings(condition="region"),
            test=table.assign(region="east"),
        )


@pytest.mark.parametrize("kind", ["frame", "array"])
def test_conditions_far_from_0_keep_their_differences(kind: str) -> None:
    when = START + np.arange(40)
    source: Any = numbers(40).assign(when=when)
    condition = "when"
    if kind == "array":
        source = (numbers(40).to_numpy(), np.stack([when, when % 7 + 0.5], 1))
        condition = "labels"
    data = data_room.load(source, DataSettings(condition=condition))
    raw = data.train.c
    assert set(raw[:, 0].tolist()) <= set(when.tolist())
    c = data.train.examples(torch.arange(len(data.train))).c
    assert c.dtype == torch.float32
    expected = (raw - raw.mean(0)) / raw.std(0)
    assert torch.allclose(c.double(), expected, rtol=0, atol=1e-6)
    again = data.spec.condition.read(raw[3].tolist(), 1)
    assert torch.equal(again[0], c[3])


# ---- the estimator


def test_the_estimator_keeps_a_frame_of_numbers() -> None:
    table = numbers().set_index(pd.Index([f"r{i}" for i in range(N)]))
    vae = VAEEstimator(
        steps=20, latent=2, random_state=0, settings={"recipe.size": "s"}
    )
    z = vae.fit(table).transform(table)
    assert z.dtype == np.float64 and vae.feature_names_in_.tolist() == list("abcd")
    assert list(vae.sample(3).columns) == list("abcd")
    assert list(vae.inverse_transform(z[:2]).columns) == list("abcd")
    for other in (table[["d", "b", "a", "c"]], table.rename(columns={"a": "e"})):
        with pytest.raises(ValueError, match="feature names should match"):
            vae.transform(other)
    with (
        pytest.warns(UserWarning, match="not have valid feature names"),
        pytest.raises(ValueError, match="3 features"),
    ):
        vae.transform(table.to_numpy()[:, :3])
    array = VAEEstimator(
        steps=20, latent=2, random_state=0, settings={"recipe.size": "s"}
    )
    assert np.allclose(array.fit_transform(table.to_numpy()), z, atol=1e-6)
    assert isinstance(array.sample(3), np.ndarray)
    times_too = table.assign(
        when=pd.Timestamp("2021-01-01") + pd.to_timedelta(np.arange(N), "h")
    )
    drawn = vae.fit(times_too).sample(2)
    assert drawn.dtypes.to_dict() == times_too.dtypes.to_dict()


def test_commands_name_rows_by_the_index(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = numbers(5).set_index(pd.Index(list("vwxyz"), name="who"))
    table.to_parquet(tmp_path / "t.parquet")
    for command in ("encode", "score"):
        out = tmp_path / f"{command}.csv"
        words = [
            command,
            str(run.folder),
            str(tmp_path / "t.parquet"),
            "--out",
            str(out),
        ]
        assert main(words) == 0
        assert pd.read_csv(out)["name"].tolist() == list("vwxyz")
    codes = pd.read_csv(tmp_path / "encode.csv")
    names = [f"z_{i + 1}" for i in range(run.model.site_widths["z"])]
    given = run.encode(table).numpy()
    assert np.array_equal(codes[names].to_numpy(np.float32), given)
    turned = table[["d", "b", "a", "c"]]
    one, two = (tb.evaluate(run, x, k=5).terms["elbo"].mean for x in (table, turned))
    assert one == two
