"""Raw units at the surface: what `Run.read` returns is what all other methods take and return."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support.report_pages import untrained

from tightbound import data as data_room
from tightbound.core.batch import Batch
from tightbound.models.recipes import RECIPES
from tightbound.runs.run import Run

RNG = np.random.default_rng(0)
N = 60


def _table() -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "size": RNG.normal(5.0, 3.0, N),
            "visits": RNG.poisson(3.0, N),
            "colour": RNG.choice(["red", "green", "blue"], N),
            "member": RNG.choice([True, False], N),
        }
    )


# domain: (source, settings, least and greatest raw value)
DOMAINS: dict[str, tuple[Any, dict[str, Any], tuple[float, float]]] = {
    "binary": (RNG.integers(0, 2, (N, 8, 8)).astype(np.uint8), {}, (0, 1)),
    "binarised levels": ("digits", {"data.binarize": "static"}, (0, 1)),
    "levels": (RNG.integers(0, 256, (N, 8, 8, 3)).astype(np.uint8), {}, (0, 255)),
    "levels read as unit": (
        "digits",
        {"likelihood": "gaussian"},
        (-math.inf, math.inf),
    ),
    "levels in [0, 1]": ("digits", {"likelihood": "continuous-bernoulli"}, (0, 16)),
    "categorical": (
        RNG.integers(0, 5, (N, 7)),
        {"data.domain": "categorical", "data.levels": 5},
        (0, 4),
    ),
    "unit": (RNG.uniform(0, 1, (N, 6)), {"data.domain": "unit"}, (0, 1)),
    "real": (RNG.normal(30.0, 20.0, (N, 6)), {}, (-math.inf, math.inf)),
    "signal": (
        RNG.normal(0.0, 2.0, (N, 16, 2)),
        {"data.kind": "signal", "data.layout": "lc"},
        (-math.inf, math.inf),
    ),
    "count": (RNG.poisson(4.0, (N, 6)), {"data.domain": "count"}, (0, math.inf)),
    "mixed": (_table(), {}, (-math.inf, math.inf)),
}


def raw_rows(run: Run, rows: torch.Tensor) -> Any:
    """The rows of the run's test split as the user has them."""
    raw = run.data.test.raw(rows)
    return data_room.frame(raw, run.spec.fields) if run.spec.fields else raw.numpy()


def numbers(x: Any) -> torch.Tensor:
    """A tensor, or the numeric columns of a table."""
    if isinstance(x, torch.Tensor):
        return x
    return torch.as_tensor(x.select_dtypes("number").to_numpy(dtype=np.float64))


def conditions(run: Run) -> Any:
    """The conditions of the test split, or None."""
    if run.spec.condition is None:
        return None
    return [run.spec.condition.names[int(c)] for c in run.data.test.c]


def check_round_trip(run: Run) -> None:
    """`read` is idempotent, and encodes to the codes of the raw rows and of the model's own."""
    rows = torch.arange(len(run.data.test))
    condition = conditions(run)
    given = raw_rows(run, rows)
    read = run.read(given)
    codes = run.encode(read, condition)
    assert torch.equal(codes, run.encode(given, condition))
    assert torch.equal(codes, run.predictor.encode_mean(run.data.test.examples(rows)))
    assert torch.equal(numbers(run.read(read)), numbers(read))
    few = read[:3]
    part = None if condition is None else condition[:3]
    assert torch.allclose(run.encode(few, part), codes[:3], atol=1e-5)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_is_read_encoded_and_reconstructed_in_raw_units(
    domain: str,
) -> None:
    source, settings, (low, high) = DOMAINS[domain]
    run = untrained(source, "vae", **settings)
    check_round_trip(run)
    read = run.read(raw_rows(run, torch.arange(len(run.data.test))))
    z = run.encode(read)
    for x in (
        run.reconstruct(read),
        run.decode(z),
        run.sample(5),
        run.vary(read[:1], 4),
    ):
        assert numbers(x).shape[1:] == numbers(read).shape[1:]
        assert low <= float(numbers(x).min()) and float(numbers(x).max()) <= high
    if run.spec.fields:
        assert list(run.decode(z).columns) == list(read.columns)
        assert (run.decode(z).dtypes == read.dtypes).all()


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_likelihood_is_a_density_of_raw_values(domain: str) -> None:
    source, settings, _ = DOMAINS[domain]
    run = untrained(source, "vae", **settings)
    rows = torch.arange(4)
    read = run.read(raw_rows(run, rows))
    z = run.encode(read)
    px = run.likelihood(z)
    model_units = run.predictor.decode(Batch(z)).log_prob(run.data.test.batch(rows))
    expected = model_units - run.spec.dims * math.log(run.spec.divisor)
    assert torch.allclose(px.log_prob(read), expected, rtol=1e-5)
    torch.manual_seed(0)
    drawn = px.sample()
    assert drawn.shape == (4, *px.event_shape)
    assert torch.isfinite(px.log_prob(drawn)).all()
    assert px.mean.shape == drawn.shape
    assert px.log_prob(drawn[:, None]).shape == (4, 4)


def test_the_density_of_a_scaled_domain_integrates_to_one_over_raw_values() -> None:
    run = untrained(np.arange(N)[:, None] % 17, "vae", likelihood="gaussian")
    assert run.spec.divisor == 16
    px = run.likelihood(torch.zeros(1, 4))
    sd = float(px.variance.sqrt())
    x = float(px.mean) + sd * torch.linspace(-8, 8, 4001)
    total = torch.trapezoid(px.log_prob(x[:, None]).exp(), x)
    assert float(total) == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    assert float(px.sample((20_000,)).std()) == pytest.approx(sd, rel=0.05)


def test_a_gaussian_on_levels_reconstructs_in_the_units_that_it_reads() -> None:
    """Issue 13: values from -0.5 to 12.7 for inputs from 0 to 1, and codes 2.2 away."""
    run = untrained("digits", "vae", likelihood="gaussian")
    x = run.read("digits")
    assert (float(x.min()), float(x.max())) == (0, 16) and x.shape[1:] == (8, 8)
    mean = run.data.train.batch(torch.arange(200)).mean()
    assert float(run.reconstruct(x).mean()) == pytest.approx(16 * float(mean), rel=0.3)


def test_missing_values_stay_missing_when_read_and_are_filled_in_raw_units() -> None:
    x = RNG.normal(30.0, 20.0, (N, 5))
    x[RNG.uniform(size=x.shape) < 0.2] = np.nan
    run = untrained(x, "missing-data")
    read = run.read(x)
    assert torch.equal(read.isnan(), torch.as_tensor(x).isnan())
    assert torch.equal(run.encode(read), run.encode(x))
    filled = run.reconstruct(read)
    observed = ~read.isnan()
    assert torch.allclose(filled[observed], read[observed]) and filled.isfinite().all()


def test_a_table_with_missing_values_is_read_as_a_table_with_missing_values() -> None:
    table = _table()
    table["size"] = table["size"].where(RNG.uniform(size=N) > 0.2)
    run = untrained(table, "missing-data")
    read = run.read(table)
    assert (read["size"].isna() == table["size"].isna()).all()
    assert torch.equal(run.encode(read), run.encode(table))


# Data for the recipes that are made for another kind than digits.
DATA = {"nb-vae": "count", "vae-colour": "levels", "mixed": "mixed"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_encodes_what_it_has_read(recipe: str) -> None:
    source, settings, _ = DOMAINS[DATA[recipe]] if recipe in DATA else ("digits", {}, 0)
    latent = RECIPES[recipe].latent
    if isinstance(latent, tuple):
        settings = settings | {"latent": list(latent)}
    elif latent != "auto":
        settings = settings | {"latent": latent}
    check_round_trip(untrained(source, recipe, **settings))
