"""Every value comes back, and a message is as long as the density says at the drawn latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from support.exports import source_of, tiny_run

pytest.importorskip("constriction")

import tightbound as tb
from tightbound.compression import (
    blocks,
    compress_run,
    container,
    decompress,
    file_size,
)
from tightbound.compression import exact as exact_room
from tightbound.compression.container import CODED, unpack
from tightbound.compression.values import Values
from tightbound.core.data_spec import DataSpec
from tightbound.data import Split
from tightbound.runs.inputs import read_split
from tightbound.runs.run import Run

RECIPES = (
    "vae",
    "hvae",
    "ladder",
    "iwae-2",
    "vamp",
    "exemplar",
    "mixture-prior",
    "hvae-vamp",
    "conditional",
    "m2",
    "categorical-vae",
    "vq-vae",
    "vq-conv",
    "rq-vae",
    "fsq",
    "sigma-vae",
    "vae-colour",
    "nb-vae",
)


@pytest.fixture(autouse=True)
def always_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few examples are shorter as they are: here they are coded all the same."""
    monkeypatch.setattr(blocks, "QUICK", 0.0)


def few(run: Run, name: str, n: int = 90) -> Split:
    """Some examples of the kind that a recipe is for."""
    split = read_split(source_of(name), run.spec, run.config.data)
    return split.select(torch.arange(min(n, len(split))))


def same(split: Split, x: torch.Tensor) -> bool:
    """Whether all values, and their type, are those of a split."""
    raw = split.raw(torch.arange(len(split)))
    return x.dtype == raw.dtype and torch.equal(x, raw)


@pytest.mark.parametrize("name", RECIPES)
def test_examples_come_back_at_the_cost_of_the_bound(name: str, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", name)
    split = few(run, name, 40 if name in ("nb-vae", "vae-colour") else 90)
    compressed = compress_run(run, split, measure=True)
    decoded = decompress(compressed.data, run)
    assert same(split, decoded.x)
    header, parts = unpack(compressed.data, "F.tb")
    assert [block.kind for block in parts] == [CODED]
    assert header.n == len(split)
    if name == "conditional":
        assert decoded.c is not None
        assert torch.equal(decoded.c, split.c)
    else:
        assert decoded.c is None
    # 0.5 % of the density at the drawn latents, which the expectation of is the ELBO
    assert compressed.elbo is not None
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    assert compressed.parts["messages"] == pytest.approx(compressed.ideal, abs=64)
    assert compressed.bits == pytest.approx(sum(compressed.parts.values()))


def test_grey_images_by_a_mixture_of_logistics_come_back(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "vae", likelihood="logistic-mixture")
    split = few(run, "vae", 60)
    compressed = compress_run(run, split, measure=True)
    assert compressed.stored == 0
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    assert same(split, decompress(compressed.data, run).x)


def test_the_first_bits_are_few_with_many_latents(tmp_path: Path) -> None:
    """Batches grow with the bits that are there, so that one example needs them, not all."""
    run = tiny_run(tmp_path / "run", "vae", latent=40)
    compressed = compress_run(run, few(run, "vae", 180))
    assert compressed.parts["initial"] <= 544


def test_bit_swap_begins_with_the_bits_of_one_latent(tmp_path: Path) -> None:
    """Two latents of 40 features need no more bits at the start than one does."""
    one = tiny_run(tmp_path / "one", "vae", latent=40)
    two = tiny_run(tmp_path / "two", "iwae-2", latent=[40, 40])
    of_one = compress_run(one, few(one, "vae", 20)).parts["initial"]
    of_two = compress_run(two, few(two, "vae", 20)).parts["initial"]
    assert of_two <= of_one + 128


def test_blocks_are_independent_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "BLOCK", 70)
    run = tiny_run(tmp_path / "run", "vae")
    split = few(run, "vae", 180)
    compressed = compress_run(run, split)
    written = unpack(compressed.data, "F")[1]
    assert [block.n for block in written] == [70, 70, 40]
    assert all(block.kind == CODED for block in written)
    assert same(split, decompress(compressed.data, run).x)


@pytest.mark.parametrize("values", ["all the same", "noise", "one"])
def test_values_that_the_model_does_not_expect_come_back(
    values: str, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    x = np.full((70, 8, 8), 16, np.uint8)
    if values == "noise":
        x = np.random.default_rng(0).integers(0, 17, (70, 8, 8), np.uint8)
    x = x[:1] if values == "one" else x
    compressed = tb.compress(run, x)
    assert compressed.stored == 0
    decoded = tb.decompress(compressed.data, run).x
    assert isinstance(decoded, torch.Tensor)
    assert np.array_equal(decoded.numpy(), x)


def test_large_integers_keep_their_digits() -> None:
    """float32, in which models compute, has 24 binary digits."""
    values = Values.of(DataSpec(shape=(2,), domain="count"), {})
    raw = torch.tensor([[3, 2**24 + 1], [2**40 - 1, 0]])
    numbers = values.to_numbers(raw)
    assert numbers.tolist() == raw.tolist()
    assert values.to_raw(numbers, torch.int64).tolist() == raw.tolist()


def test_conditions_that_are_numbers_come_back(tmp_path: Path) -> None:
    made = np.random.default_rng(0)
    x = (made.random((120, 12)) < 0.4).astype(np.uint8)
    c = made.normal(1e9, 3.0, (120, 2))
    run = tiny_run(tmp_path / "run", "conditional", (x, c))
    compressed = compress_run(run, read_split((x, c), run.spec, run.config.data))
    assert compressed.stored == 0
    examples = tb.decompress(compressed.data, run)
    assert np.array_equal(np.asarray(examples.x), x)
    assert np.array_equal(np.asarray(examples.condition), c)


def test_conditions_that_are_classes_come_back_by_name(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "conditional")
    split = few(run, "conditional")
    compressed = compress_run(run, split)
    assert compressed.stored == 0
    examples = tb.decompress(compressed.data, run)
    assert split.c is not None
    assert examples.condition == [str(int(c)) for c in split.c]


# ---- tables


def table(n: int = 300) -> pandas.DataFrame:
    """Columns of every kind, two of real numbers with one and three decimals."""
    made = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "height": made.normal(170, 10, n).round(1),
            "age": made.integers(18, 90, n),
            "sex": made.choice(["f", "m"], n),
            "city": made.choice(["a", "b", "c", "d"], n),
            "visits": made.poisson(3, n),
            "when": pandas.to_datetime("2020-01-01")
            + pandas.to_timedelta(made.integers(0, 900, n), unit="D"),
            "weight": made.normal(0, 1, n).round(3),
        }
    )


def test_columns_that_depend_on_categories_come_back(tmp_path: Path) -> None:
    """A rare category moves the numbers and the other categories of its row."""
    made = np.random.default_rng(0)
    city = made.choice(["a", "b", "c"], 300, p=[0.9, 0.07, 0.03])
    height = made.normal(0, 1, 300) + 10 * (city == "b") - 10 * (city == "c")
    frame = pandas.DataFrame(
        {
            "city": city,
            "height": height.round(1) + 0.0,
            "side": np.where(city == "a", made.choice(["x", "y"], 300), "y"),
            "kind": np.where(city == "c", "t", made.choice(["t", "u", "v"], 300)),
            "flag": made.choice([True, False], 300),
        }
    )
    settings = {"recipe.size": "s", "steps": 20, "likelihood.depends": "all"}
    out = tmp_path / "run"
    run = tb.train(
        frame, "mixed", out=out, display="none", report=False, settings=settings
    )
    split = read_split(frame, run.spec, run.config.data)
    compressed = compress_run(run, split, precision={"height": 0.1}, measure=True)
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    again = tb.decompress(compressed.data, run).x
    assert isinstance(again, pandas.DataFrame)
    pandas.testing.assert_frame_equal(again, frame)


PRECISION = {"height": 0.1, "weight": 0.001}
MIXED = {"data.fields": {"visits": "count"}}


def test_a_table_of_mixed_columns_comes_back(tmp_path: Path) -> None:
    frame = table()
    run = tiny_run(tmp_path / "run", "mixed", frame, **MIXED)
    split = read_split(frame, run.spec, run.config.data)
    compressed = compress_run(run, split, precision=PRECISION, measure=True)
    assert compressed.stored == 0
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    again = tb.decompress(compressed.data, run).x
    assert isinstance(again, pandas.DataFrame)
    pandas.testing.assert_frame_equal(again, frame)


def skewed(n: int = 400) -> pandas.DataFrame:
    """Columns above 0, with exact zeros, and of both signs with exact zeros."""
    made = np.random.default_rng(0)
    paid = made.lognormal(3, 1, n).round(2) * (made.random(n) < 0.6)
    change = made.normal(0, 20, n).round(1) * (made.random(n) < 0.5)
    return pandas.DataFrame(
        {
            "income": made.lognormal(7, 0.8, n).round(1),
            "paid": paid,
            "change": change + 0.0,
            "visits": np.maximum(made.lognormal(4, 1, n).round(), 1).astype(int),
            "city": made.choice(["a", "b"], n),
        }
    )


SKEWED = {
    "income": "positive",
    "paid": "zero-inflated",
    "change": "zero-inflated-real",
    "visits": "positive",
}


@pytest.mark.parametrize("depends", ["none", "all"])
def test_a_table_of_skewed_columns_comes_back(depends: str, tmp_path: Path) -> None:
    """At the cost of the density that evaluation takes, times the width of a step."""
    frame = skewed()
    settings = {"data.fields": SKEWED, "likelihood.depends": depends}
    run = tiny_run(tmp_path / "run", "mixed", frame, **settings)
    assert [column.kind for column in run.spec.fields[:4]] == list(SKEWED.values())
    split = read_split(frame, run.spec, run.config.data)
    with pytest.raises(tb.TightboundError, match=r"precision \(income, paid, change\)"):
        compress_run(run, split)
    precision = {"income": 0.1, "paid": 0.01, "change": 0.1}
    compressed = compress_run(run, split, precision=precision, measure=True)
    assert compressed.stored == 0
    assert compressed.elbo is not None
    assert compressed.widths is not None
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    # of the density of evaluation the measured ELBO is one draw
    elbo = tb.evaluate(run, data=frame, k=200, seed=0, diagnosis=False).terms["elbo"]
    size = file_size(run, split, elbo.mean, precision=precision)
    bits = (compressed.widths / len(frame)) - elbo.mean / np.log(2)
    assert size.elbo == pytest.approx(bits)
    assert size.parts["sampling"] == pytest.approx(0.0, abs=0.02 * size.elbo)
    again = tb.decompress(compressed.data, run).x
    assert isinstance(again, pandas.DataFrame)
    pandas.testing.assert_frame_equal(again, frame)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_a_table_of_numbers_comes_back_also_far_from_0(
    likelihood: str, tmp_path: Path
) -> None:
    made = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "height": made.normal(170, 10, 120).round(1),
            "second": made.integers(10**9, 10**9 + 50, 120),
        }
    )
    run = tiny_run(tmp_path / "run", "vae", frame, likelihood=likelihood)
    assert run.spec.domain == "real"
    assert run.spec.offset[1] > 1e8
    split = read_split(frame, run.spec, run.config.data)
    compressed = compress_run(run, split, precision={"height": 0.1}, measure=True)
    assert compressed.ideal == pytest.approx(compressed.elbo, rel=5e-3)
    again = tb.decompress(compressed.data, run).x
    assert isinstance(again, pandas.DataFrame)
    pandas.testing.assert_frame_equal(again, frame)


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        (
            {},
            r"no stated precision \(height, weight\): state it, --precision NAME=STEP",
        ),
        ({"height": 0.1}, r"no stated precision \(weight\)"),
        ({**PRECISION, "weight": 0.01}, "weight: .* is not a multiple of 0.01"),
        ({**PRECISION, "width": 1.0}, "there is no column 'width' of real numbers"),
        ({**PRECISION, "weight": 0.0}, "give a number above 0"),
        ({**PRECISION, "weight": 1e-300}, r"more than 2\*\*52 steps of 1e-300 from 0"),
    ],
)
def test_real_numbers_need_a_precision_that_they_have(
    precision: dict[str, float], reason: str, tmp_path: Path
) -> None:
    frame = table()
    run = tiny_run(tmp_path / "run", "mixed", frame, **MIXED)
    with pytest.raises(tb.TightboundError, match=reason):
        tb.compress(run, frame, precision=precision)


# ---- what cannot be coded


REFUSED = {
    "ae": "it has no bound on log p\\(x\\)",
    "missing-data": "its data have missing values",
    "flow-prior": "a flow prior does not factorise",
    "svae": "its prior is a SphereUniform",
    "biva": "inferred both upwards and downwards",
    "vae-full": "its posterior is a normal with full covariance",
    "vae-planar": "its posterior is a Flow",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_coded_is_refused_with_the_reason(
    name: str, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", name)
    with pytest.raises(tb.TightboundError, match=REFUSED[name]):
        compress_run(run, few(run, name))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"likelihood": "continuous-bernoulli", "data.domain": "unit"},
            "a density on \\[0, 1\\]",
        ),
        ({"data.domain": "real"}, "real numbers of no stated precision"),
    ],
)
def test_densities_without_steps_are_refused(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).random((100, 5))
    run = tiny_run(tmp_path / "run", "vae", x, **settings)
    with pytest.raises(tb.TightboundError, match=reason):
        compress_run(run, read_split(x, run.spec, run.config.data))


# ---- exactness


def test_a_block_that_is_not_reproduced_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    split = few(run, "vae")
    decode = blocks.Coder._decode_coded

    def other(self: blocks.Coder, payload: bytes, n: int) -> Any:
        decoded = decode(self, payload, n)
        return dataclasses.replace(decoded, x=decoded.x + 1)

    monkeypatch.setattr(blocks.Coder, "_decode_coded", other)
    compressed = compress_run(run, split)
    assert compressed.stored == len(split)
    assert "stored as they are" in "\n".join(compressed.lines())
    assert same(split, decompress(compressed.data, run).x)


def test_a_machine_that_computes_otherwise_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that differ by 0.1 % stand for a machine with other arithmetic."""
    run = tiny_run(tmp_path / "run", "vae")
    data = compress_run(run, few(run, "vae")).data
    original = exact_room.exact_model

    def elsewhere(run: Run) -> Any:
        model = original(run)
        for p in model.parameters():
            p.mul_(1.001)
        return model

    monkeypatch.setattr("tightbound.compression.compress.exact_model", elsewhere)
    with pytest.raises(
        tb.TightboundError,
        match=r"block 1 of 1 of the file does not decode .* on another kind of processor",
    ):
        decompress(data, run)


def test_other_versions_are_named_where_they_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    data = compress_run(run, few(run, "vae")).data
    header, parts = unpack(data, "F.tb")
    versions = header.versions.split()
    versions[1] = "2.0.1"
    older = header.model_copy(update={"versions": " ".join(versions)})
    damaged = dataclasses.replace(parts[0], payload=parts[0].payload[:-4])
    with pytest.raises(
        tb.TightboundError,
        match=r"written with torch 2\.0\.1 \(.* here\), where probabilities",
    ):
        decompress(container.pack(older, [damaged]), run)


def test_a_model_without_numbers_stores_its_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coder's own failure would end the program, and not as an Exception."""
    x = (np.random.default_rng(0).random((90, 12)) < 0.4).astype(np.uint8)
    run = tiny_run(tmp_path / "run", "vae", x)
    split = read_split(x, run.spec, run.config.data)
    coded = compress_run(run, split).data
    original = exact_room.exact_model

    def elsewhere(run: Run) -> Any:
        model = original(run)
        for p in model.parameters():
            p.fill_(float("nan"))
        return model

    monkeypatch.setattr("tightbound.compression.compress.exact_model", elsewhere)
    compressed = compress_run(run, split)
    assert compressed.stored == len(split)
    assert same(split, decompress(compressed.data, run).x)
    with pytest.raises(tb.TightboundError, match="does not decode to its checksum"):
        decompress(coded, run)


@pytest.mark.parametrize("far", [2**40, 2**50])
def test_values_too_far_for_a_code_are_stored(far: int, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "nb-vae")
    split = few(run, "nb-vae", 40)
    x = split.raw(torch.arange(40)).long()
    x[3, 0] = far
    compressed = compress_run(run, read_split(x.numpy(), run.spec, run.config.data))
    assert compressed.stored == 40
    decoded = decompress(compressed.data, run).x
    assert torch.equal(decoded.long(), x)


def test_differences_in_the_last_digits_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that differ as sums in another order do, some units in the last place."""
    run = tiny_run(tmp_path / "run", "vae")
    split = few(run, "vae")
    data = compress_run(run, split).data
    original = exact_room.exact_model

    def elsewhere(run: Run) -> Any:
        model = original(run)
        generator = torch.Generator().manual_seed(0)
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator).double()
            p.mul_(1 + 4e-16 * noise)
        return model

    monkeypatch.setattr("tightbound.compression.compress.exact_model", elsewhere)
    assert same(split, decompress(data, run).x)


def test_the_number_of_threads_is_as_before_and_changes_nothing(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    split = few(run, "vae")
    data = compress_run(run, split).data
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert compress_run(run, split).data == data
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_random_state_is_as_before(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    split = few(run, "vae")
    state = torch.get_rng_state()
    data = compress_run(run, split).data
    assert torch.equal(torch.get_rng_state(), state)
    assert compress_run(run, split).data == data
