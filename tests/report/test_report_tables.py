"""Report of a table: columns, printed values, marginals and nearest rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.report_pages import Page, untrained

from tightbound import evaluation, report
from tightbound.core.batch import Batch
from tightbound.core.data_spec import Column, DataSpec
from tightbound.data.loading import load
from tightbound.data.tables.encoding import codes
from tightbound.data.tables.table import Table
from tightbound.evaluation.diagnosis.table_distances import distance, in_columns
from tightbound.report.content import nearest_neighbours
from tightbound.report.content.data_samples import fingerprint
from tightbound.report.content.gather import conditions
from tightbound.report.content.table_format import GridOptions, TableFormat
from tightbound.report.content.table_marginals import (
    column_fits,
    marginals,
)
from tightbound.report.page.text import LANGUAGES, Text
from tightbound.report.sections.columns import edges
from tightbound.runs.run import Run


def shown(runs: list[Run], tmp_path: Path, **options: Any) -> str:
    """The report of runs without a diagnosis."""
    evaluations = [
        evaluation.evaluate(run, k=4, limit=8, subset=0, diagnosis=False)
        for run in runs
    ]
    return report.write(
        runs, tmp_path / "report.html", evaluations=evaluations, **options
    ).read_text(encoding="utf-8")


CITIES = ("Busan", "<b>Daegu</b>", "Seoul")
FIELDS = (
    Column(name="height", kind="real"),
    Column(name="member", kind="binary", values=(False, True), type="bool"),
    Column(name="city", kind="categorical", values=CITIES, type="str"),
    Column(name="visits", kind="count", type="int64"),
)


def people(folder: Path, n: int = 90) -> str:
    """A CSV of a real, a truth value, a category and a count."""
    rng = np.random.default_rng(0)
    rows = zip(
        rng.normal(170, 9, n).round(1),
        rng.random(n) < 0.4,
        rng.integers(0, 3, n),
        rng.negative_binomial(2, 0.3, n),
        strict=True,
    )
    lines = [
        "height,member,city,visits",
        *(f"{a},{str(b).lower()},{CITIES[c]},{d}" for a, b, c, d in rows),
    ]
    (folder / "people.csv").write_text("\n".join(lines))
    return str(folder / "people.csv")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_table_is_shown_by_its_names_and_values(lang: str, tmp_path: Path) -> None:
    run = untrained(people(tmp_path), "mixed")
    html = shown([run], tmp_path, lang=lang)
    parsed = Page(html)
    assert (
        "marginals" in parsed.ids
        and "<b>Daegu" not in html
        and "<b>Daegu</b>" in parsed.text
    )
    cells = [tuple(parsed.text[parsed.text.index("height") :].split())]
    assert {"height", "member", "city", "visits", "Seoul", "true", "false"} <= set(
        cells[0]
    )
    first = run.data.test.raw(torch.arange(1))[0]
    assert (
        f"{float(first[0]):.1f}" in cells[0]
    )  # the first test row, printed as it was written
    assert (
        html.count('<table class="grid">') >= 7
        and html.count('<ul class="shares">') == 2
    )
    assert Text(lang)("page.standard") not in parsed.text


def test_a_gap_of_a_category_is_shown_as_one(tmp_path: Path) -> None:
    source = Path(people(tmp_path))
    head, *rows = source.read_text().splitlines()
    source.write_text(
        "\n".join(
            [
                head,
                *(
                    f"{row.split(',')[0]},,{','.join(row.split(',')[2:])}"
                    if i % 2
                    else row
                    for i, row in enumerate(rows)
                ),
            ]
        )
    )
    run = untrained(str(source), "missing-data", **{"data.allow_missing": True})
    held_out = run.data.test.examples(torch.arange(len(run.data.test)))
    columns = marginals(run, run.data.columns, held_out, held_out)
    assert len(columns[1].real) < len(held_out) == len(columns[0].real)
    assert " · " in " ".join(Page(shown([run], tmp_path)).text.split())


CASES: dict[str, tuple[list[tuple[str, dict[str, Any]]], bool]] = {
    "numbers with names": ([("vae", {}), ("ae", {})], True),
    "missing values": ([("missing-data", {"data.allow_missing": True})], True),
    "no names": ([("vae", {"data.header": False})], False),
}


@pytest.mark.parametrize("name", CASES)
def test_tables_of_plain_numbers(name: str, tmp_path: Path) -> None:
    recipes, named = CASES[name]
    rng = np.random.default_rng(1)
    rows = [[str(v) for v in row] for row in rng.normal(3, 2, (80, 25)).round(3)]
    if name == "missing values":
        for row in rows:
            row[int(rng.integers(20))] = ""
    head = [] if name == "no names" else [",".join(f"column-{i}" for i in range(25))]
    (tmp_path / "plain.csv").write_text(
        "\n".join([*head, *(",".join(row) for row in rows)])
    )
    runs = [
        untrained(str(tmp_path / "plain.csv"), recipe, **values)
        for recipe, values in recipes
    ]
    parsed = Page(shown(runs, tmp_path))
    assert ("marginals" in parsed.ids) == named
    if named:
        assert "column-19" in parsed.text and "column-20" not in parsed.text
        assert "The table has 25 columns; the first 20 are shown." in parsed.text
    assert (" · " in " ".join(parsed.text.split())) == (name == "missing values")
    if name == "numbers with names":
        assert "an autoencoder has no prior" in parsed.text


def test_marginals_are_those_of_the_model_and_of_the_data(tmp_path: Path) -> None:
    """With all weights at zero, draws have the training shares of each value."""
    run = untrained(people(tmp_path, 400), "mixed")
    for p in run.model.hierarchy.parameters():
        p.zero_()
    held_out, train = (
        run.data.splits[k].examples(torch.arange(len(run.data.splits[k])))
        for k in ("test", "train")
    )
    columns = marginals(run, run.data.columns, held_out, train)
    assert [m.column.name for m in columns] == ["height", "member", "city", "visits"]
    assert all(
        len(m.real) == len(held_out) and len(m.drawn) == len(train) for m in columns
    )
    assert set(columns[2].drawn) == {0, 1, 2} and set(columns[1].drawn) == {0, 1}
    assert (columns[3].drawn == np.rint(columns[3].drawn)).all() and columns[
        3
    ].drawn.min() >= 0
    share = float(train.x[:, 1].mean())
    assert columns[1].drawn.mean() == pytest.approx(
        share, abs=4 * (share * (1 - share) / len(train)) ** 0.5
    )
    again = marginals(run, run.data.columns, held_out, train)
    assert all((a.drawn == b.drawn).all() for a, b in zip(columns, again, strict=True))


def test_draws_of_a_conditional_model_have_the_conditions_of_the_held_out_rows(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    x = rng.normal(size=(90, 2))
    lines = [
        "a,b,label",
        *(f"{v[0]:.3f},{v[1]:.3f},{'xy'[k]}" for v, k in zip(x, labels, strict=True)),
    ]
    (tmp_path / "labelled.csv").write_text("\n".join(lines))
    run = untrained(
        str(tmp_path / "labelled.csv"),
        "conditional",
        **{"data.condition": "labels", "data.label": "label"},
    )
    given: list[torch.Tensor] = []
    sample_prior = run.predictor.sample_prior

    def watched(
        n: int, temperature: float = 1.0, c: Any = None, y: Any = None
    ) -> Batch:
        given.append(c)
        return sample_prior(n, temperature, c, y)

    run.predictor.sample_prior = watched  # type: ignore[method-assign]
    held_out = run.data.test.examples(torch.arange(len(run.data.test)))
    marginals(
        run, run.data.columns, held_out, run.data.train.examples(torch.arange(50))
    )
    assert (
        held_out.c is not None
        and torch.equal(given[0][: len(held_out)], held_out.c)
        and len(given[0]) == 50
    )
    html = shown([run], tmp_path)
    assert "conditions of the held-out rows" in Page(html).text
    classes = conditions(run, 8).argmax(1).tolist()
    assert "".join(f'<th scope="col">{"xy"[k]}</th>' for k in classes) in html, (
        "each sample stands under its class"
    )


def test_distances_of_shares_are_known() -> None:
    a = np.array([0.0, 0.0, 1.0, 2.0])
    b = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    assert distance(a, b, ordered=False) == pytest.approx((0.3 + 0.55 + 0.25) / 2)
    assert distance(a, b, ordered=True) == pytest.approx(
        0.3
    )  # F - G: 0.5 - 0.2 at 0, 0.75 - 1 at 1
    assert distance(a, a, ordered=True) == 0 and np.isnan(
        distance(a, b[:0], ordered=True)
    )


def test_what_is_kept_is_known() -> None:
    x = np.array([[1.0, 0, 2, 5], [3, 1, 2, 5], [5, 0, 0, 5]])
    rebuilt = np.array([[1.0, 0, 2, 5], [3, 0, 0, 5], [3, 0, 0, 5]])
    number, truth, city, constant = column_fits(FIELDS, x, rebuilt, x)
    assert number.value == pytest.approx(0.5) and number.majority is None
    assert (truth.value, truth.majority) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (city.value, city.majority) == (
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    ) and np.isnan(constant.value)


def test_cells_are_as_the_user_wrote_them() -> None:
    table = Table(
        "t",
        {
            "height": np.array([171.25, 163.5]),
            "member": np.array([True, False]),
            "city": np.array(["Seoul", "Busan"], object),
            "visits": np.array([1200, 3]),
        },
    )
    raw = codes(table, FIELDS, masked=False)
    table_format = TableFormat.of(FIELDS, raw)
    assert [[table_format.print(i, v) for i, v in enumerate(row)] for row in raw] == [
        ["171.25", "true", "Seoul", "1,200"],
        ["163.50", "false", "Busan", "3"],
    ]
    assert (
        table_format.print(0, float("nan")) == "·"
        and table_format.print(0, -1.5) == "−1.50"
    )
    grid = table_format.grid(
        raw, ["1", "2"], "", GridOptions(reference=raw[::-1], mark_differences=True)
    )
    assert [cell.differs for cell in grid.lines[2][1]] == [
        True,
        True,
    ] and not grid.lines[0][1][0].differs


def test_bins_of_whole_numbers_hold_equally_many() -> None:
    few = edges(np.array([0.0, 3.0]), np.array([0.0, 4.0]), whole=True)
    assert few.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    many = edges(np.array([0.0, 100.0]), np.array([0.0]), whole=True)
    assert (
        len(set(np.diff(many))) == 1
        and many[0] == -0.5
        and many[-1] >= 100.5
        and many[1] % 1 == 0.5
    )


def test_rows_in_columns_are_whole_where_their_values_are() -> None:
    spec = DataSpec(shape=(6,), domain="mixed", fields=FIELDS)
    x = torch.tensor(
        [[170.26, 0.7, 0.1, 0.2, 0.7, 3.6], [160.0, 0.2, 0.5, 0.4, 0.1, 0.2]]
    )
    assert in_columns(spec, FIELDS, x) == pytest.approx(
        np.array([[170.26, 1, 2, 4], [160, 0, 0, 0]]), abs=1e-4
    )


def test_the_nearest_row_is_found_among_rows_with_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gap adds its expected square, so rows with many gaps are near to nothing."""
    rng = np.random.default_rng(0)
    rows = rng.random((50, 6)).astype("float32")
    queries = rng.random((7, 6)).astype("float32")
    rows[rng.random(rows.shape) < 0.3] = np.nan
    rows[3] = np.nan
    same: Any = SimpleNamespace(unit=lambda x: x)
    for whole in (False, True):
        x = np.nan_to_num(rows, nan=0.5) if whole else rows
        monkeypatch.setattr(
            nearest_neighbours,
            "read_batches",
            lambda *a, x=x: enumerate(torch.from_numpy(x).split(25)),
        )
        neighbours = nearest_neighbours.nearest(None, same, queries)
        mean = np.nanmean(x[:25], 0)
        variance = np.nanvar(x[:25], 0)
        each = np.where(
            np.isnan(x),
            (queries[:, None] - mean) ** 2 + variance,
            (queries[:, None] - x) ** 2,
        )
        far = np.sqrt(each.sum(-1))
        assert (
            np.allclose(neighbours.distance, far.min(1), atol=1e-4)
            and neighbours.searched == 50
        )
        assert np.array_equal(
            neighbours.example, x[far.argmin(1)], equal_nan=True
        ) and 3 not in far.argmin(1)


def test_times_are_printed_as_times() -> None:
    days = Column(name="day", kind="real", type="datetime64[us]", step=86400.0)
    hours = Column(name="at", kind="real", type="datetime64[ns]", step=3600.0)
    table = TableFormat((days, hours), (0, 0))
    assert table.print(0, 86400.0 * 366) == "1971-01-02"
    assert table.print(1, 1_700_000_000.4) == "2023-11-14 22:13:20"
    assert table.print(1, float("nan")) == "·"
    assert table.print(0, 1e300), "far beyond the calendar"


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e15])
def test_data_sets_are_told_apart_at_any_size(size: float) -> None:
    rows = np.random.default_rng(0).uniform(1, 2, (30, 3))
    other = rows.copy()
    other[:, 1] *= 1.1
    first, same, second = (
        fingerprint(load(size * x)) for x in (rows, rows * (1 + 1e-12), other)
    )
    assert first == same != second
