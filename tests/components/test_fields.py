"""The likelihood of a table: its mass and density, known answers of independent columns, gradients,
draws.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from support.core_cases import context, grads_ok, model_of, plain, shake
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
)

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.components.likelihoods.fields import FieldsLikelihood
from tightbound.components.likelihoods.product import Product
from tightbound.core.batch import Batch
from tightbound.core.data_spec import Column, DataSpec
from tightbound.core.draw import Draw
from tightbound.distributions import point
from tightbound.distributions.reparam import log_prob_of
from tightbound.models.recipes import RECIPES, part
from tightbound.runtime.errors import TightboundError

B, K = 5, 3
COLUMNS = (
    Column(name="size", kind="real"),
    Column(name="colour", kind="categorical", values=("blue", "green", "red")),
    Column(name="alive", kind="binary", values=(False, True)),
    Column(name="visits", kind="count", type="int64"),
    Column(name="place", kind="categorical", values=("here",)),
    Column(name="age", kind="real", type="int64"),
    Column(name="income", kind="positive"),
    Column(name="spent", kind="zero-inflated"),
)


def raw(n: int) -> Tensor:
    columns = (
        torch.randn(n),
        torch.arange(n) % 3,
        torch.arange(n) % 2,
        torch.poisson(torch.full((n,), 4.0)),
        torch.zeros(n),
        40 + 9 * torch.randn(n),
        (3 + torch.randn(n)).exp(),
        torch.randn(n).exp() * (torch.arange(n) % 4 == 0),
    )
    return torch.stack([c.float() for c in columns], 1)


def spec_of(columns: tuple[Column, ...] = COLUMNS) -> DataSpec:
    spec = DataSpec(
        shape=(sum(c.width for c in columns),), domain="mixed", fields=columns
    )
    chosen = [COLUMNS.index(c) for c in columns]
    x = spec.to_model(raw(60)[:, chosen])
    return spec.model_copy(update={"mean": x.mean(0), "std": x.std(0)})


OPTIONS: list[dict[str, Any]] = [
    {},
    {"scale": "predicted"},
    {"real": "laplace", "count": "poisson"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_mass_sums_to_one(options: dict[str, Any]) -> None:
    """Over all categories, truth values and counts of discrete columns, at each of several decoder
    outputs.
    """
    spec = spec_of(COLUMNS[1:5])
    likelihood = shake(LIKELIHOODS["fields"](spec, **options))
    px = likelihood(torch.randn(B, likelihood.params, *spec.shape), context(B), None)
    total = torch.zeros(B, dtype=torch.double)
    cells = torch.tensor(
        list(itertools.product(range(3), range(2), range(400), range(1)))
    )
    for cell in spec.to_model(cells).split(600):
        total += px.log_prob(cell.unsqueeze(1).expand(-1, B, -1)).double().exp().sum(0)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-3)


def test_density_of_independent_columns_is_known() -> None:
    """log p(row) is the sum of what torch says of each column; with y = 0 these are the training
    shares and means.
    """
    spec = spec_of()
    likelihood = LIKELIHOODS["fields"](spec)
    x = raw(B)
    px = likelihood(torch.zeros(B, 1, *spec.shape), context(B), None)
    at = dict(zip((c.name for c in COLUMNS), spec.places, strict=True))
    mean, std = spec.mean, spec.std
    truth = Categorical(mean[at["colour"]]).log_prob(x[:, 1]) + Bernoulli(
        mean[at["alive"]]
    ).log_prob(x[:, 2])
    for name, i in (("size", 0), ("age", 5)):
        truth = truth + Normal(mean[at[name]], 1.01 * std[at[name]]).log_prob(x[:, i])
    visits = mean[at["visits"]]
    truth = truth + NegativeBinomial(torch.ones(1), logits=visits.log()).log_prob(
        x[:, 3]
    )
    for name, i in (("income", 6), ("spent", 7)):
        unit = (1 + (std[at[name]] / mean[at[name]]).square()).log().sqrt()
        centre = mean[at[name]].log() - unit.square() / 2
        above = x[:, i].where(x[:, i] > 0, 1.0)
        term = Normal(centre, 1.01 * unit).log_prob(above.log()) - above.log()
        if name == "spent":  # half of the values are 0, before there are training rows
            term = torch.where(x[:, i] > 0, term, 0.0) + math.log(0.5)
        truth = truth + term
    assert torch.allclose(px.log_prob(spec.to_model(x)), truth, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_draws_lie_in_the_support_and_have_its_moments(options: dict[str, Any]) -> None:
    spec = spec_of(COLUMNS[:6])
    likelihood = shake(LIKELIHOODS["fields"](spec, **options))
    px = likelihood(
        0.3 * torch.randn(2, likelihood.params, *spec.shape), context(2), None
    )
    drawn = px.sample((20_000,)).detach()
    assert (
        drawn.shape == (20_000, 2, spec.dims)
        and px.batch_shape == (2,)
        and px.event_shape == spec.shape
    )
    hot = drawn[..., spec.places[1]]
    assert torch.equal(hot.sum(-1), torch.ones(20_000, 2)) and torch.equal(
        hot, hot.round()
    )
    assert torch.equal(drawn[..., spec.places[4]], torch.ones(20_000, 2, 1)), (
        "a column of one value has that value"
    )
    error = (px.variance / 20_000).sqrt()
    assert ((drawn.mean(0) - px.mean).abs() < 5 * error + 1e-5).all()
    assert torch.allclose(drawn.var(0), px.variance, rtol=0.15, atol=1e-4)
    central = point(px)
    assert torch.equal(
        central[:, spec.places[1]].argmax(1), px.mean[:, spec.places[1]].argmax(1)
    )
    assert torch.equal(central[:, spec.places[0]], px.mean[:, spec.places[0]])


@pytest.mark.parametrize("options", OPTIONS)
def test_every_parameter_of_a_model_gets_a_gradient(options: dict[str, Any]) -> None:
    spec = spec_of(COLUMNS[:4] + COLUMNS[5:])
    model = shake(
        model_of(
            plain(likelihood=part("fields", **options), prior=part("learned")), spec
        )[0]
    )
    assert isinstance(model.likelihood, FieldsLikelihood)
    assert model.likelihood.dependence is not None
    model.likelihood.dependence.allow(4)
    trace = model(Batch(spec.to_model(raw(B)[:, [0, 1, 2, 3, 5, 6, 7]])), Draw(K))
    assert trace.log_w.shape == trace.log_px.shape == (K, B)
    trace.log_w.mean().backward()
    grads_ok(model)


def test_gaps_stay_gaps_and_codes_come_back() -> None:
    spec, x = spec_of(), raw(7)
    assert torch.allclose(spec.to_raw(spec.to_model(x)), x)
    x[2, 1] = x[3, 0] = torch.nan
    gaps = spec.to_model(x).isnan()
    assert gaps[2, spec.places[1]].all() and gaps[3, 0] and gaps.sum() == 3 + 1


def test_mixed_recipe_and_auto_are_for_tables_only() -> None:
    model, _ = model_of(RECIPES["mixed"], spec_of())
    assert type(model.likelihood) is LIKELIHOODS["fields"]
    with pytest.raises(
        TightboundError,
        match="likelihood 'fields' is for mixed data, but these are real",
    ):
        model_of(RECIPES["mixed"], DataSpec(shape=(4,), domain="real"))
    with pytest.raises(TightboundError, match="set likelihood fields"):
        model_of(plain(likelihood=part("gaussian")), spec_of())


@pytest.mark.parametrize("options", OPTIONS)
def test_a_row_of_which_some_is_missing_has_the_density_of_the_rest(
    options: dict[str, Any],
) -> None:
    """Each column alone, read with all others missing, adds up to the whole row: the columns are
    independent.
    """
    spec = spec_of().model_copy(update={"missing": True})
    likelihood = shake(LIKELIHOODS["fields"](spec, **options))
    dist = likelihood(torch.randn(B, likelihood.params, *spec.shape), context(B), None)
    x = spec.to_model(raw(B))
    alone = []
    for place in spec.places:
        mask = torch.zeros(B, spec.dims, dtype=torch.bool)
        mask[:, place] = True
        alone.append(log_prob_of(dist, torch.where(mask, x, 0.0), mask))
    assert torch.allclose(torch.stack(alone).sum(0), dist.log_prob(x), atol=1e-4)
    assert torch.allclose(
        log_prob_of(dist, x, torch.ones_like(x, dtype=torch.bool)),
        dist.log_prob(x),
        atol=1e-4,
    )
    assert len({round(float(term[0].detach()), 4) for term in alone}) > 2


def test_each_log_probability_has_the_precision_of_the_parameters() -> None:
    mean = torch.randn(5, 2, dtype=torch.float64)
    parts = [
        (torch.tensor([0, 1]), Independent(Normal(mean, 2.0), 1)),
        (slice(2, 5), OneHotCategorical(logits=torch.randn(5, 3).double())),
    ]
    product = Product(parts, 5, 5)
    x = torch.cat([torch.randn(5, 2), torch.eye(3)[[0, 1, 2, 0, 1]]], 1)
    each = product.log_prob_each(x)
    assert each.dtype == torch.float64
    normal = Normal(mean, 2.0).log_prob(x[:, :2])
    assert torch.equal(each[:, :2], normal)
    assert each.sum(1).tolist() == pytest.approx(product.log_prob(x).tolist())
