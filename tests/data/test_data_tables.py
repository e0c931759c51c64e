"""Tables of mixed columns: inferred kinds, names and types, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small import small_run

from tightbound import api
from tightbound import data as data_room
from tightbound.data import DataSettings
from tightbound.data.source import read_labels
from tightbound.data.tables import table as table_module
from tightbound.data.tables.frames import back
from tightbound.estimator import VAEEstimator
from tightbound.runs.run import load
from tightbound.runtime.errors import TightboundError

pd = pytest.importorskip("pandas")
N = 90


def people(n: int = N, seed: int = 0) -> Any:
    """A table with a column of every kind, and constants."""
    r = np.random.default_rng(seed)
    group = r.integers(0, 3, n)
    group[:3] = np.arange(3)[:n]
    return pd.DataFrame(
        {
            "height": r.normal(170 + 5 * group, 5),
            "colour": np.array(["red", "green", "blue"])[group],
            "smokes": r.random(n) < 0.4,
            "visits": r.negative_binomial(2, 0.3, n),
            "born": r.integers(1950, 2000, n),
            "sex": np.array(["f", "m"])[np.arange(n) % 2],
            "grade": pd.Categorical(
                np.array(["low", "high"])[np.arange(n) % 2], ["low", "mid", "high"]
            ),
            "unit": "cm",
            "fixed": 1.5,
        }
    )


def fields(source: Any, **settings: Any) -> dict[str, str]:
    data = data_room.load(source, DataSettings(**settings))
    return {f.name: f.kind for f in data.spec.fields}


KINDS = {
    "height": "real",
    "colour": "categorical",
    "smokes": "binary",
    "visits": "count",
    "born": "real",
    "sex": "binary",
    "grade": "categorical",
    "unit": "categorical",
    "fixed": "real",
}


def test_columns_are_what_they_look_like_or_what_is_said() -> None:
    assert fields(people()) == KINDS
    asked = fields(
        people(), fields={"visits": "real", "born": "skip", "sex": "categorical"}
    )
    assert asked == {
        k: v
        for k, v in (KINDS | {"visits": "real", "sex": "categorical"}).items()
        if k != "born"
    }


def test_tables_of_one_kind_are_read_as_before() -> None:
    r = np.random.default_rng(0)
    for x, domain in (
        (r.normal(size=(40, 3)), "real"),
        (r.integers(0, 2, (40, 3)), "binary"),
        (r.integers(0, 17, (40, 3)), "levels"),
    ):
        frame = pd.DataFrame(x, columns=["a", "b", "c"])
        data = data_room.load(frame)
        assert [f.name for f in data.spec.fields] == ["a", "b", "c"]
        assert data.spec.domain == domain and not data_room.load(x).spec.fields
        assert torch.equal(
            data.train.batch(torch.arange(5)),
            data_room.load(x).train.batch(torch.arange(5)),
        )
    frame = pd.DataFrame({"a": r.normal(size=40), "b": np.arange(40) % 2})
    assert data_room.load(frame).spec.domain == "mixed"
    assert data_room.load(frame, DataSettings(domain="real")).spec.domain == "real"


@pytest.mark.parametrize("kind", ["frame", "csv", "parquet"])
def test_the_same_table_from_memory_csv_and_parquet(kind: str, tmp_path: Path) -> None:
    table = people()
    source: Any = table
    if kind == "csv":
        table.to_csv(source := tmp_path / "t.csv", index=False)
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(source := tmp_path / "t.parquet")
    data = data_room.load(source)
    found = {f.name: f.kind for f in data.spec.fields}
    text_files_know_no_unused_category = {"grade": "binary"} if kind == "csv" else {}
    assert found == KINDS | text_files_know_no_unused_category
    assert any("is read as a table of real: height" in line for line in data.notices)
    split = data_room.read(source, data.spec)
    given = back(data.spec.to_raw(split.batch(torch.arange(N))), data.spec.fields)
    for name in table.columns:
        cells = np.asarray(table[name])
        if name == "height":  # a model computes with float32
            cells = cells.astype(np.float32)
        assert np.array_equal(given[name], cells), name
    assert (
        given["visits"].dtype == np.int64
        and given["smokes"].dtype == bool
        and given["height"].dtype == np.float64
    )


def test_the_step_of_floats_is_found_without_a_loop_over_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(cell: object) -> bool:
        raise AssertionError(f"cell {cell!r} is looked at alone")

    monkeypatch.setattr(table_module, "is_gap", refuse)
    columns = {
        "whole": np.array([1.0, np.nan, 3.0]),
        "part": np.array([1.0, np.nan, 3.5], dtype=np.float32),
        "gaps": np.full(3, np.nan),
    }
    table = table_module.Table("t", columns)
    steps = [table_module.number_column(table, name, "real").step for name in columns]
    assert steps == [1.0, 0.0, 1.0]


def test_to_domain_has_a_one_for_each_category_and_back() -> None:
    data = data_room.load(people())
    spec, x = data.spec, data.train.batch(torch.arange(7))
    assert (
        spec.shape
        == x.shape[1:]
        == (sum(f.width for f in spec.fields),)
        == (6 + 3 + 3 + 1,)
    )
    at = dict(zip([f.name for f in spec.fields], spec.places, strict=True))
    assert torch.equal(x[:, at["colour"]].sum(1), torch.ones(7)) and set(
        x[:, at["colour"]].unique().tolist()
    ) == {0, 1}
    assert torch.allclose(
        spec.to_raw(x).double(), data.train.raw(torch.arange(7)), rtol=1e-6
    )
    assert torch.equal(x[:, at["unit"]], torch.ones(7, 1))


def test_gaps_are_gaps_in_every_unit() -> None:
    table = people().astype({"visits": "Int64", "smokes": object})
    table.loc[3, ["colour", "visits", "smokes", "height", "grade"]] = None
    data = data_room.load(table, DataSettings(allow_missing=True))
    splits = [
        (split, (split.index == 3).nonzero())
        for split in (data.train, data.valid, data.test)
    ]
    split, at = next((split, at) for split, at in splits if len(at))
    x = split.examples(at[0]).x
    names = [f.name for f in data.spec.fields]
    gone = {
        name
        for name, place in zip(names, data.spec.places, strict=True)
        if bool(x[0, place].isnan().all())
    }
    assert (
        gone == {"colour", "visits", "smokes", "height", "grade"}
        and int(x.isnan().sum()) == 3 + 1 + 1 + 1 + 3
    )
    again = back(data.spec.to_raw(x), data.spec.fields)
    assert {name for name, values in again.items() if pd.isna(values[0])} == gone
    assert again["sex"][0] == table["sex"][3] and again["born"][0] == table["born"][3]


def with_cell(column: str, row: int, value: Any) -> Any:
    table = people().astype({column: object})
    table.at[row, column] = value
    return table


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (
            lambda: with_cell("colour", 4, None),
            {},
            "row 4 (counting from 0), column 'colour' is missing",
        ),
        (
            lambda: with_cell("height", 5, float("nan")),
            {},
            "row 5 (counting from 0), column 'height' is missing",
        ),
        (
            lambda: with_cell("height", 6, "tall"),
            {},
            "row 6 (counting from 0), column 'height' holds 'tall'",
        ),
        (lambda: with_cell("unit", 2, (1, 2)), {}, "column 'unit' holds a tuple"),
        (
            lambda: (
                people()
                .assign(id=[f"p{i}" for i in range(N)] * 1)
                .loc[:, ["id", "height"]]
                .pipe(lambda t: pd.concat([t, t.assign(id=t.id + "x")]))
            ),
            {},
            "180 different texts",
        ),
        (
            lambda: people().assign(when=pd.Timestamp("2020-01-01")),
            {"fields": {"when": "count"}},
            "column 'when' holds times: it can be real, not count",
        ),
        (people, {"fields": {"colour": "real"}}, "column 'colour' holds no numbers"),
        (people, {"fields": {"hight": "real"}}, "did you mean 'height'?"),
        (people, {"fields": {"height": "count"}}, "not a count"),
        (people, {"fields": {"colour": "binary"}}, "has 3 values: it cannot be binary"),
        (people, {"fields": dict.fromkeys(KINDS, "skip")}, "has no column left"),
        (people, {"domain": "real"}, "data.domain is not for it"),
        (lambda: people(1), {}, "at least 3 are needed"),
        (lambda: people(0), {}, "is empty"),
        (
            lambda: np.zeros((9, 2, 2)),
            {"fields": {"a": "real"}},
            "data.fields is for tables of columns",
        ),
        (lambda: pd.concat([people(), people()], axis=1), {}, "two columns 'height'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    make: Any, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(TightboundError) as error:
        data_room.load(make(), DataSettings(**settings))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_bad_cell_of_a_csv_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1.5,x\n2.5,y\noops,x\n3.5,y\n")
    with pytest.raises(TightboundError, match="line 4, column 'a' is 'oops'"):
        data_room.load(path)
    path.write_text("a,b\n1.5,x\n2.5,y\n2.5,\n3.5,y\n")
    with pytest.raises(TightboundError, match="line 4, column 'b' is missing"):
        data_room.load(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(
        tmp_path_factory.mktemp("tables") / "run", "vae", people(), latent=3
    )


def test_samples_and_reconstructions_are_tables_like_the_data(trained: Path) -> None:
    run, table = load(trained), people()
    assert run.spec.domain == "mixed" and run.config.recipe.likelihood.name == "fields"
    for made in (
        run.sample(5),
        run.reconstruct(table.head(5)),
        run.decode(torch.zeros(5, 3)),
        run.vary(table.head(1), 5),
    ):
        assert list(made.columns) == list(table.columns) and len(made) == 5
        assert [made[c].dtype.kind for c in ("height", "smokes", "visits", "born")] == [
            "f",
            "b",
            "i",
            "i",
        ]
        assert set(made["colour"]) <= {"red", "green", "blue"} and set(
            made["unit"]
        ) == {"cm"}
        assert (
            list(made["grade"].cat.categories) == ["low", "mid", "high"]
            and (made["visits"] >= 0).all()
        )
    assert run.sample(5, seed=3).equals(load(trained).sample(5, seed=3))
    assert not run.sample(5, seed=3).equals(run.sample(5, seed=3, pixels="mean"))
    assert run.encode(table).shape == (N, 3)
    assert torch.equal(
        run.encode(table[table.columns[::-1]].assign(more=1)), run.encode(table)
    ), "order, other columns"


def test_new_data_that_the_model_does_not_know(trained: Path) -> None:
    run, table = load(trained), people(6, seed=1)
    for bad, said in (
        (
            table.assign(colour="violet"),
            "row 0 (counting from 0), column 'colour' has 'violet', which the training data",
        ),
        (table.drop(columns="height"), "has no column 'height'"),
        (table.assign(height="tall"), "column 'height' is 'tall', not a number"),
        (table.assign(visits=-1), "column 'visits' is -1, not a count"),
        (np.zeros((4, 3)), "examples of shape (3,)"),
        (
            np.full((4, 9), 7.0),
            "column 'colour' has 7.0, which the training data did not have",
        ),
    ):
        with pytest.raises(TightboundError) as error:
            run.encode(bad)
        assert said in str(error.value), error.value
    plain = small_run(
        trained.parent / "plain", "vae", np.random.default_rng(0).normal(size=(60, 9))
    )
    with pytest.raises(TightboundError, match="trained on numbers"):
        load(plain).encode(table)


def test_a_run_reads_its_table_again(tmp_path: Path) -> None:
    """Its fields are kept in the config, so that they are the same though nothing is
    guessed again.
    """
    people().assign(
        flag=(np.arange(N) % 2).astype(float), other=1.0 - np.arange(N) % 2
    ).to_csv(path := tmp_path / "t.csv", index=False)
    run = load(small_run(tmp_path / "run", "vae", str(path), steps=4))
    assert (
        run.data.spec.fields == run.spec.fields
        and run.config.data.fields["visits"] == "count"
    )
    again = api.train(out=tmp_path / "run", resume=True, display="none", report=False)
    assert again.spec.fields == run.spec.fields


@pytest.mark.parametrize("cell", ["1", "x"])
def test_columns_of_one_name_are_refused(cell: str, tmp_path: Path) -> None:
    (path := tmp_path / "t.csv").write_text(f"a,a\n1.5,0\n2.5,{cell}\n3.5,0\n")
    with pytest.raises(TightboundError, match="two columns 'a': rename one"):
        data_room.load(path)


def test_the_account_of_a_table(trained: Path) -> None:
    found = api.evaluate(trained, people(40, seed=2), k=20, subset=2)
    assert found.terms["elbo"].mean <= found.terms["log_px"].mean
    assert not found.bits_per_dim, (
        "a product of densities and mass functions has no bits per dimension"
    )


def test_commands_write_tables_with_their_columns(
    trained: Path, tmp_path: Path
) -> None:
    from tightbound.cli import main

    people(7).to_csv(tmp_path / "new.csv", index=False)
    for words in (
        ["sample", str(trained), "-n", "4", "--out", str(tmp_path / "s.csv")],
        [
            "reconstruct",
            str(trained),
            str(tmp_path / "new.csv"),
            "--out",
            str(tmp_path / "r.csv"),
        ],
        ["sample", str(trained), "-n", "4", "--out", str(tmp_path / "s.npz")],
        [
            "encode",
            str(trained),
            str(tmp_path / "new.csv"),
            "--out",
            str(tmp_path / "e.csv"),
        ],
        [
            "score",
            str(trained),
            str(tmp_path / "new.csv"),
            "-k",
            "5",
            "--out",
            str(tmp_path / "scores.csv"),
        ],
    ):
        assert main(words) in (0, None), words
    made = pd.read_csv(tmp_path / "s.csv")
    assert (
        list(made.columns) == list(KINDS)
        and len(made) == 4
        and made["visits"].dtype.kind == "i"
    )
    assert (
        len(pd.read_csv(tmp_path / "r.csv"))
        == len(pd.read_csv(tmp_path / "scores.csv"))
        == 7
    )
    assert set(np.load(tmp_path / "s.npz")["colour"]) <= {"red", "green", "blue"}
    assert (
        main(["sample", str(trained), "-n", "4", "--out", str(tmp_path / "s.png")]) == 2
    )


def test_separate_validation_and_test_tables_are_read_by_the_training_data(
    tmp_path: Path,
) -> None:
    data = data_room.load(people(), valid=people(8, seed=3), test=people(9, seed=4))
    assert [len(data.train), len(data.valid), len(data.test)] == [N, 8, 9]
    with pytest.raises(
        TightboundError, match="'violet', which the training data did not have"
    ):
        data_room.load(
            people(), test=people(9).assign(colour="violet"), valid=people(8)
        )


def test_estimator_takes_a_frame_of_mixed_columns() -> None:
    table = people()
    vae = VAEEstimator(
        steps=20, latent=2, k=5, random_state=0, settings={"recipe.size": "s"}
    ).fit(table)
    z = vae.transform(table)
    assert (
        z.shape == (N, 2) and np.isfinite(vae.score(table)) and vae.n_features_in_ == 9
    )
    assert (
        list(vae.sample(3).columns)
        == list(vae.inverse_transform(z[:2]).columns)
        == list(table.columns)
    )
    assert list(vae.feature_names_in_) == list(table.columns)


def test_labels_may_have_gaps_of_every_kind() -> None:
    for labels in (
        ["a", None, "b"],
        ["a", float("nan"), "b"],
        pd.array(["a", pd.NA, "b"], dtype="string"),
        pd.Categorical(["a", None, "b"]),
    ):
        y, names = read_labels(labels, 3, "x", [])
        assert y is not None and y.tolist() == [0, -1, 1] and names == ("a", "b")
    y, names = read_labels(np.array([1, None, 0], dtype=object), 3, "x", [])
    assert y is not None and y.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([f"id-{i}" for i in range(150)], "skip"),
        (["12%", "15%", "20%"] * 50, "categorical"),
        (["2020-01-01", "2020-01-02", "2020-01-03"] * 50, "categorical"),
        (["007", "008", "012"] * 50, "real"),
        (["A", "1", "B"] * 50, "categorical"),
    ],
)
def test_new_data_are_read_by_the_fields_of_training(
    cells: list[str], kind: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(150, 2))
    frame = pd.DataFrame(x, columns=["u", "v"]).assign(k=cells)
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    settings = DataSettings(fields={"k": kind})
    data = data_room.load(path, settings)
    raw = data_room.read(path, data.spec, data.settings).raw(torch.arange(150))
    assert raw.shape[1] == 3 - (kind == "skip")
    assert np.array_equal(raw[:, 0], x[:, 0])
    column = data.spec.fields[-1]
    if kind == "categorical":
        codes = [column.values.index(cell) for cell in cells]
        assert raw[:, 2].tolist() == codes
    if kind == "real":
        assert raw[:, 2].tolist() == [float(cell) for cell in cells]
    if kind == "skip":
        assert column.name == "v"


def test_categories_that_are_digits_are_known_in_a_file_of_digits_only(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text("k,v\n" + "1,0.5\n2,1.5\nx,2.5\n" * 20)
    (tmp_path / "b.csv").write_text("k,v\n1,0.5\n2,1.5\n")
    made = load(
        small_run(
            tmp_path / "run",
            "vae",
            str(tmp_path / "a.csv"),
            steps=2,
            **{"data.fields.k": "categorical"},
        )
    )
    assert list(
        made.reconstruct(str(tmp_path / "b.csv"))["k"].isin(["1", "2", "x"])
    ) == [True, True]
