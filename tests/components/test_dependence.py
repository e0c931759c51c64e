"""Columns that depend on categories: densities, draws, moments, and the fit before training."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from support.core_cases import context, shake
from torch import Tensor
from torch.distributions import Normal

from tightbound.components.likelihoods.fields import FieldsLikelihood
from tightbound.components.likelihoods.product import Chain
from tightbound.core.data_spec import Column, ColumnKind, DataSpec
from tightbound.distributions import point

GROUP = Column(name="group", kind="categorical", values=("a", "b", "c"))
SEX = Column(name="sex", kind="binary", values=("f", "m"))
KINDS: tuple[ColumnKind, ...] = (
    "real",
    "count",
    "positive",
    "zero-inflated",
    "zero-inflated-real",
)


def spec_of(columns: tuple[Column, ...], raw: Tensor) -> DataSpec:
    width = sum(column.width for column in columns)
    spec = DataSpec(shape=(width,), domain="mixed", fields=columns)
    x = spec.to_model(raw)
    return spec.model_copy(update={"mean": x.mean(0), "std": x.std(0)})


def rows(kind: ColumnKind, n: int = 60) -> Tensor:
    """Rows of group, a number of a kind, and sex."""
    number = {
        "real": torch.randn(n),
        "count": torch.poisson(torch.full((n,), 3.0)),
        "positive": torch.randn(n).exp(),
        "zero-inflated": torch.randn(n).exp() * (torch.arange(n) % 2),
        "zero-inflated-real": torch.randn(n) * (torch.arange(n) % 2),
    }[kind]
    return torch.stack([torch.arange(n) % 3, number, torch.arange(n) % 2], 1)


def chained(kind: ColumnKind, n: int = 2, **options: Any) -> tuple[DataSpec, Chain]:
    """A likelihood in which each column depends on all that it may depend on."""
    torch.manual_seed(0)
    number = Column(name="number", kind=kind)
    spec = spec_of((GROUP, number, SEX), rows(kind))
    likelihood = shake(FieldsLikelihood(spec, **options), 0.5)
    assert isinstance(likelihood, FieldsLikelihood)
    assert likelihood.dependence is not None
    likelihood.dependence.allow(4)
    px = likelihood(torch.randn(n, likelihood.params, 5), context(n), None)
    assert isinstance(px, Chain)
    return spec, px


def integral(spec: DataSpec, px: Chain, kind: ColumnKind) -> Tensor:
    """The sum of p over categories and numbers, (n,)."""
    total = torch.zeros(2, dtype=torch.float64)
    for group, sex in itertools.product(range(3), range(2)):
        grid = {
            "real": torch.linspace(-600, 600, 120_001).double(),
            "count": torch.arange(600).double(),
            "positive": torch.linspace(-80, 80, 60_001).double().exp(),
            "zero-inflated": torch.linspace(-80, 80, 60_001).double().exp(),
            "zero-inflated-real": torch.linspace(-600, 600, 120_000).double(),
        }[kind]
        cells = torch.tensor([group, sex]).expand(len(grid), 2).double()
        raw = torch.stack([cells[:, 0], grid, cells[:, 1]], 1)
        x = spec.to_model(raw).unsqueeze(1).expand(-1, 2, -1)
        p = px.log_prob(x).double().exp()
        total += p.sum(0) if kind == "count" else torch.trapezoid(p, grid, dim=0)
        if kind.startswith("zero-inflated"):
            zero = spec.to_model(torch.tensor([[group, 0, sex]]))
            total += px.log_prob(zero.expand(2, -1)).double().exp()
    return total


@pytest.mark.parametrize("scale", ["learned", "predicted"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_a_row_integrates_to_one(kind: ColumnKind, scale: str) -> None:
    spec, px = chained(kind, scale=scale)
    with torch.no_grad():
        total = integral(spec, px, kind)
    assert torch.allclose(total, torch.ones_like(total), atol=2e-3)


@pytest.mark.parametrize("kind", ["real", "count"])
def test_draws_have_the_moments_and_moments_are_sums_over_categories(
    kind: ColumnKind,
) -> None:
    _, px = chained(kind)
    drawn = px.sample((40_000,))
    assert drawn.shape == (40_000, 2, 5)
    with torch.no_grad():
        error = (px.variance / 40_000).sqrt()
        assert ((drawn.mean(0) - px.mean).abs() < 5 * error).all()
        assert torch.allclose(drawn.var(0), px.variance, rtol=0.1)
        ten = px.log_prob(drawn[:10])
        assert torch.equal(ten, torch.stack([px.log_prob(x) for x in drawn[:10]]))
    assert torch.equal(drawn[..., :3].sum(-1), torch.ones(40_000, 2))


def test_draws_of_numbers_follow_the_drawn_category() -> None:
    """The mean of the number among draws of a category is that of the number given it."""
    spec, px = chained("real")
    with torch.no_grad():
        drawn = px.sample((40_000,))[:, 0]
        for group, sex in itertools.product(range(3), range(2)):
            chosen = (drawn[:, group] == 1) & (drawn[:, 4] == sex)
            row = spec.to_model(torch.tensor([[group, 0.0, sex]])).expand(2, -1)
            dist = px.given(row)
            error = float(dist.variance[0, 3] / chosen.sum()) ** 0.5
            apart = float(drawn[chosen, 3].mean() - dist.mean[0, 3])
            assert abs(apart) < 5 * error


def test_the_central_value_is_a_row_that_goes_together() -> None:
    """The number is that of the most likely category, not of the mean of all."""
    _, px = chained("real")
    with torch.no_grad():
        central = point(px)
        x = torch.zeros(2, 5)
        x[torch.arange(2), px.mean[:, :3].argmax(1)] = 1
        x[:, 4] = px.given(x).mean[:, 4].round()
        assert torch.allclose(central[:, 3], px.given(x).mean[:, 3])
        assert not torch.allclose(central[:, 3], px.mean[:, 3], atol=1e-3)


def test_moments_of_many_categories_come_from_draws_and_are_the_same_each_time() -> (
    None
):
    _, px = chained("real")
    with torch.no_grad():
        exact = px.mean
        px.MOST = 1  # type: ignore[misc]
        state = torch.get_rng_state()
        drawn = px.mean
        assert torch.equal(drawn, px.mean)
        assert torch.equal(state, torch.get_rng_state())
        spread = px.variance.sqrt()
    assert ((drawn - exact).abs() < 5 * spread / px.DRAWS**0.5).all()


def general_location(n: int) -> tuple[DataSpec, Tensor]:
    """Rows whose number depends on a rare group and not on sex, and a number on neither."""
    torch.manual_seed(1)
    group = (torch.rand(n) < 0.02).long() * 2
    sex = (torch.rand(n) < 0.5).long()
    x = torch.randn(n) + 6.0 * (group == 2)
    raw = torch.stack([group, x, sex, torch.randn(n)], 1)
    columns = (
        GROUP,
        Column(name="x", kind="real"),
        SEX,
        Column(name="w", kind="real"),
    )
    return spec_of(columns, raw), raw


@pytest.mark.parametrize("depends", ["rare", "all"])
def test_the_fit_before_training_finds_what_depends_and_nothing_else(
    depends: str,
) -> None:
    spec, raw = general_location(3000)
    likelihood = FieldsLikelihood(spec, depends=depends)  # type: ignore[arg-type]
    x = spec.to_model(raw)
    likelihood.prepare(lambda n: (x[:n], None))
    dependence = likelihood.dependence
    assert dependence is not None
    weight = (dependence.shift * dependence.mask).detach()[0]
    slots = dependence.get_buffer("slots").tolist()
    given = dict.fromkeys(range(3), 0.0)
    for s, dim in enumerate(slots):
        if dependence.mask[s, 3]:
            given[dim] = float(spec.std[3]) * weight[s, 3].item()
    assert abs(given[2] - given[0] - 6.0) < 0.5
    assert not dependence.mask[:, [4, 5]].any()
    assert all(p.grad is None for p in likelihood.parameters())
    assert dependence.order == [slice(0, 3)]


def test_a_fitted_model_without_latents_has_the_density_of_the_groups() -> None:
    spec, raw = general_location(3000)
    likelihood = FieldsLikelihood(spec)
    x = spec.to_model(raw)
    likelihood.prepare(lambda n: (x[:n], None))
    px = likelihood(torch.zeros(1, 1, 6), context(1), None)
    with torch.no_grad():
        for value in (0.0, 6.0):
            row = torch.tensor([[2.0, value, 0.0, 0.0]])
            dist = px.given(spec.to_model(row))
            rare = raw[raw[:, 0] == 2, 1]
            assert abs(float(dist.mean[0, 3]) - float(rare.mean())) < 0.5
            scale = float(dist.variance[0, 3].sqrt())
            known = Normal(float(dist.mean[0, 3]), scale).log_prob(torch.tensor(value))
            each = dist.log_prob_each(spec.to_model(row))[0, 3]
            assert torch.allclose(each, known, atol=1e-4)


def test_columns_stay_independent_without_categories_and_with_missing_values() -> None:
    reals = (Column(name="a", kind="real"), Column(name="b", kind="real"))
    spec = spec_of(reals, torch.randn(9, 2))
    assert FieldsLikelihood(spec).dependence is None
    spec, _ = general_location(60)
    assert FieldsLikelihood(spec).dependence is not None
    assert FieldsLikelihood(spec, depends="none").dependence is None
    missing = spec.model_copy(update={"missing": True})
    assert FieldsLikelihood(missing).dependence is None


def test_the_column_with_the_rarest_category_comes_first_wherever_it_stands() -> None:
    torch.manual_seed(0)
    n = 4000
    is_rare = (torch.rand(n) < 0.02).long()
    sex = torch.where(is_rare == 1, 1, (torch.rand(n) < 0.3).long())
    group = torch.where(is_rare == 1, 2, torch.randint(0, 2, (n,)))
    raw = torch.stack([sex, group], 1)
    spec = spec_of((SEX, GROUP), raw)
    likelihood = FieldsLikelihood(spec)
    x = spec.to_model(raw)
    likelihood.prepare(lambda n: (x[:n], None))
    assert likelihood.dependence is not None
    assert likelihood.dependence.order == [slice(1, 4)]
    px = likelihood(torch.zeros(1, 1, 4), context(1), None)
    with torch.no_grad():
        drawn = px.sample((20_000,))[:, 0]
    rare = drawn[:, 3] == 1
    assert 0.01 < rare.float().mean() < 0.03
    assert drawn[rare, 0].mean() > 0.9 and drawn[~rare, 0].mean() < 0.4


def test_many_categories_take_a_bounded_number_of_slots() -> None:
    """Of 200 categories those that other columns depend on most are kept."""
    torch.manual_seed(0)
    values = tuple(str(i) for i in range(200))
    code = torch.randint(0, 200, (3000,))
    number = torch.randn(3000) + 9.0 * (code == 130)
    columns = (
        Column(name="code", kind="categorical", values=values),
        Column(name="number", kind="real"),
    )
    raw = torch.stack([code, number], 1)
    spec = spec_of(columns, raw)
    likelihood = FieldsLikelihood(spec)
    x = spec.to_model(raw)
    likelihood.prepare(lambda n: (x[:n], None))
    assert likelihood.dependence is not None
    slots = likelihood.dependence.get_buffer("slots")
    assert len(slots) == 64 and 130 in slots.tolist()
    assert likelihood.dependence.mask[slots.tolist().index(130), 200] == 1
