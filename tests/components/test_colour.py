"""The mixture of discretised logistics over colour pixels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from support.core_cases import grads_ok, model_of, plain, rows, shake, spec_of

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import DiscretizedLogistic
from tightbound.distributions.logistic import light_mean, moments
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError

B, K, N, L = 5, 3, 40_000, 4


def pixels(
    n: int = 1, height: int = 1, width: int = 1, components: int = 3
) -> LogisticMixture:
    shape = (1, components, 3, height, width)
    loc, log_scale = 1.5 + 1.5 * torch.randn(shape), torch.randn(shape) / 2 - 0.5
    logits, slope = torch.randn(1, components, height, width), torch.randn(shape).tanh()
    return LogisticMixture(
        *(t.expand(n, *t.shape[1:]) for t in (logits, loc, log_scale, slope)), levels=L
    )


def every() -> torch.Tensor:
    return (
        torch.tensor(list(itertools.product(range(L), repeat=3)))
        .float()
        .reshape(-1, 3, 1, 1)
    )


def test_mass_of_all_colours_is_one_and_samples_follow_it() -> None:
    px = pixels()
    mass = px.log_prob(every().unsqueeze(1)).squeeze(1).double().exp()
    assert abs(mass.sum().item() - 1) < 1e-5
    drawn = pixels_like(px).sample().flatten(1)
    assert (
        torch.equal(drawn, drawn.round()) and drawn.min() >= 0 and drawn.max() <= L - 1
    )
    share = (
        torch.bincount((drawn @ torch.tensor([16.0, 4.0, 1.0])).long(), minlength=64)
        / N
    )
    assert ((share - mass).abs() < 5 * (mass * (1 - mass) / N).sqrt() + 1e-4).all()


def pixels_like(px: LogisticMixture) -> LogisticMixture:
    """The same distribution in N rows."""
    return LogisticMixture(
        *(
            t.expand(N, *t.shape[1:])
            for t in (px.logits, px.loc, px.log_scale, px.slope)
        ),
        levels=L,
    )


def test_without_slopes_and_with_one_component_channels_are_independent() -> None:
    px = pixels(components=1)
    px.slope = torch.zeros_like(px.slope)
    each = DiscretizedLogistic(px.loc[:, 0], px.inverse[:, 0], L)
    x = every()
    assert torch.allclose(px.log_prob(x), each.log_prob(x).sum((1, 2, 3)), atol=1e-5)
    assert torch.allclose(px.mean, each.mean, atol=1e-5)


def test_green_depends_on_red_as_the_equation_says() -> None:
    """mean of green = loc + slope_0 (red - 3/2); of blue = loc + slope_1 (red - 3/2) + slope_2
    (green - 3/2).
    """
    px = pixels(components=1)
    x = torch.tensor([3.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
    loc, slope = px.loc[0, 0, :, 0, 0], px.slope[0, 0, :, 0, 0]
    means = torch.stack(
        [loc[0], loc[1] + 1.5 * slope[0], loc[2] + 1.5 * slope[1] - 0.5 * slope[2]]
    )
    known = DiscretizedLogistic(means, px.inverse[0, 0, :, 0, 0], L).log_prob(
        x.flatten()
    )
    assert torch.allclose(px.log_prob(x), known.sum(), atol=1e-5)


def test_log_terms_gradients_and_shapes() -> None:
    model = shake(
        model_of(
            plain(likelihood=part("logistic-mixture", components=4)),
            spec_of("levels", (3, 4, 5)),
        )[0]
    )
    trace = model(Batch(rows("levels", (3, 4, 5), B)), Draw(K))
    assert trace.log_px.shape == trace.log_w.shape == (
        K,
        B,
    ) and trace.px.event_shape == (3, 4, 5)
    assert (
        trace.px.mean.shape
        == trace.px.variance.shape
        == trace.px.sample().shape
        == (K * B, 3, 4, 5)
    )
    assert (trace.px.variance >= 0).all() and trace.px.variance.mean() > 1
    trace.log_px.mean().backward()
    grads_ok(model.likelihood)


def brute_force(px: LogisticMixture) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of one pixel, (3,) each, as sums over all L^3 colours."""
    levels = torch.arange(px.levels, dtype=torch.float64)
    weight = px.logits[0, :, 0, 0].double().softmax(0)
    shift = levels - (px.levels - 1) / 2
    first, second = torch.zeros(2, 3, dtype=torch.float64)
    for k in range(len(weight)):
        loc, slope = px.loc[0, k, :, 0, 0].double(), px.slope[0, k, :, 0, 0].double()
        inverse = px.inverse[0, k, :, 0, 0].double()

        def mass(
            mean: torch.Tensor, i: int, inverse: torch.Tensor = inverse
        ) -> torch.Tensor:
            """P(x) of all levels, (*mean.shape, L)."""
            mean = mean[..., None].expand(*mean.shape, px.levels)
            return (
                DiscretizedLogistic(mean, inverse[i].expand_as(mean), px.levels)
                .log_prob(levels.expand_as(mean))
                .exp()
            )

        red = mass(loc[0], 0)
        both = red[:, None] * mass(loc[1] + slope[0] * shift, 1)
        sums = [red @ levels, both.sum(0) @ levels]
        squares = [red @ levels**2, both.sum(0) @ levels**2]
        blue = torch.zeros(2, dtype=torch.float64)
        for r in range(px.levels):
            given = mass(loc[2] + slope[1] * shift[r] + slope[2] * shift, 2)
            blue += torch.stack([both[r] @ given @ levels**power for power in (1, 2)])
        first += weight[k] * torch.stack([*sums, blue[0]])
        second += weight[k] * torch.stack([*squares, blue[1]])
    return first, second - first.square()


@pytest.mark.parametrize("levels", [2, 4, 17, 256])
@pytest.mark.parametrize("scale", [0.05, 0.4, 2.0, 20.0])
def test_mean_and_variance_are_sums_over_all_colours(levels: int, scale: float) -> None:
    """Exact up to 16 levels; within 0.05 levels and 4 % of the spread for more."""
    shape = (1, 2, 3, 1, 1)
    g = torch.Generator().manual_seed(levels)
    loc = (levels - 1) / 2 + levels / 2 * torch.randn(shape, generator=g)
    log_scale = math.log(scale) + 0.3 * torch.randn(shape, generator=g)
    slope = torch.randn(shape, generator=g).tanh()
    px = LogisticMixture(
        torch.randn(1, 2, 1, 1, generator=g), loc, log_scale, slope, levels
    )
    mean, variance = brute_force(px)
    exact = levels <= 16
    off = (px.mean.flatten() - mean).abs().max()
    assert off < (1e-5 if exact else 0.05)
    spread = (
        px.variance.flatten().double().sqrt() - variance.clamp(min=0).sqrt()
    ).abs()
    assert (
        spread < (1e-3 if exact else 0.04) * variance.clamp(min=0).sqrt() + 1e-3
    ).all()


def test_the_moments_of_one_logistic_are_its_sums_for_any_loc_and_scale() -> None:
    for levels, scale in itertools.product(
        (5, 17, 40, 256), (0.02, 0.5, 0.8, 3.0, 90.0)
    ):
        loc = torch.linspace(-levels, 2 * levels, 301, dtype=torch.float64)
        px = DiscretizedLogistic(loc, torch.full_like(loc, 1 / scale), levels)
        first, second = moments(loc, torch.tensor(scale), levels)
        assert torch.allclose(first, px.mean, atol=2e-4)
        assert torch.allclose(second, px.variance + px.mean**2, atol=2e-4 * levels)


@pytest.mark.parametrize("levels", [5, 16, 17, 33, 256])
def test_the_mean_of_a_logistic_in_graphs_is_within_1e_4_of_the_range(
    levels: int,
) -> None:
    for scale in (0.001, 0.1, 0.3, 0.5, 0.67, 1.0, 1.5, 3.0, 10.0, 90.0, 9000.0):
        loc = torch.linspace(-levels, 2 * levels, 601, dtype=torch.float64)
        exact = DiscretizedLogistic(loc, torch.full_like(loc, 1 / scale), levels).mean
        light = light_mean(loc.float(), torch.tensor(scale), levels)
        assert (light - exact).abs().max() < 1e-4 * (levels - 1)


@pytest.mark.parametrize("levels", [2, 16, 17, 256])
@pytest.mark.parametrize(
    "scales", [(0.02, 1.0), (0.5, 10.0), (10.0, 400.0), (0.02, 9000.0)]
)
def test_the_mean_of_colours_in_graphs_is_within_1e_4_of_the_range(
    levels: int, scales: tuple[float, float]
) -> None:
    shape = (100, 1, 3, 1, 1)
    loc = (1.4 * torch.rand(shape) - 0.2) * (levels - 1)
    low, high = map(math.log, scales)
    log_scale = low + (high - low) * torch.rand(shape)
    slope = torch.randn(shape).tanh()
    px = LogisticMixture(torch.randn(100, 1, 1, 1), loc, log_scale, slope, levels)
    off = (px.light_mean() - px.mean).abs().max()
    assert off < 1e-4 * (levels - 1)
    mixed = LogisticMixture(
        torch.randn(10, 10, 1, 1),
        *(t.reshape(10, 10, 3, 1, 1) for t in (loc, log_scale, slope)),
        levels=levels,
    )
    assert (mixed.light_mean() - mixed.mean).abs().max() < 1e-4 * (levels - 1)


def test_pixels_add_up() -> None:
    px, x = pixels(2, 3, 4), torch.randint(0, L, (2, 3, 3, 4)).float()
    single = [
        LogisticMixture(
            *(
                t[..., i : i + 1, j : j + 1]
                for t in (px.logits, px.loc, px.log_scale, px.slope)
            ),
            levels=L,
        )
        for i, j in itertools.product(range(3), range(4))
    ]
    places = [
        x[..., i : i + 1, j : j + 1] for i, j in itertools.product(range(3), range(4))
    ]
    total = sum(one.log_prob(at) for one, at in zip(single, places, strict=True))
    assert torch.allclose(px.log_prob(x), total, atol=1e-4)


def grey(components: int = 3) -> LogisticMixture:
    """A mixture over one grey pixel of 17 levels."""
    shape = (1, components, 1, 1, 1)
    loc = 8 + 6 * torch.randn(shape)
    logits = torch.randn(1, components, 1, 1)
    log_scale = torch.randn(shape) / 2
    return LogisticMixture(logits, loc, log_scale, torch.zeros(shape), 17)


def test_a_grey_pixel_is_a_mixture_of_logistics() -> None:
    torch.manual_seed(0)
    px = grey()
    levels = torch.arange(17.0)
    weight = px.logits.flatten().softmax(0)
    each = DiscretizedLogistic(px.loc.flatten(), px.inverse.flatten(), 17)
    mass = (each.log_prob(levels.unsqueeze(1)).exp() * weight).sum(1)
    assert torch.allclose(
        px.log_prob(levels.reshape(-1, 1, 1, 1)), mass.log(), atol=1e-5
    )
    assert abs(float(mass.sum()) - 1) < 1e-5
    mean = float((mass * levels).sum())
    assert float(px.mean) == pytest.approx(mean, abs=1e-4)
    variance = float((mass * (levels - mean).square()).sum())
    assert float(px.variance) == pytest.approx(variance, rel=1e-4)
    drawn = px.sample((4000,)).flatten()
    share = torch.bincount(drawn.long(), minlength=17) / 4000
    assert ((share - mass).abs() < 5 * (mass * (1 - mass) / 4000).sqrt() + 1e-4).all()


def test_a_model_of_grey_images_has_gradients() -> None:
    likelihood = part("logistic-mixture", components=2)
    model = shake(
        model_of(plain(likelihood=likelihood), spec_of("levels", (1, 4, 5)))[0]
    )
    trace = model(Batch(rows("levels", (1, 4, 5), B)), Draw(K))
    assert trace.px.mean.shape == (K * B, 1, 4, 5)
    trace.log_px.mean().backward()
    grads_ok(model.likelihood)


@pytest.mark.parametrize("shape", [(2, 8, 8), (7,), (4, 3, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TightboundError, match="is for images"):
        model_of(plain(likelihood=part("logistic-mixture")), spec_of("levels", shape))


def test_the_light_mean_of_grey_images_is_near_the_exact_one() -> None:
    torch.manual_seed(0)
    shape = (2, 5, 1, 4, 4)
    px = LogisticMixture(
        torch.randn(2, 5, 4, 4),
        255 * torch.rand(shape),
        torch.randn(shape) + 1,
        torch.zeros(shape),
        256,
    )
    assert px.mean.shape == (2, 1, 4, 4)
    assert (px.light_mean() - px.mean).abs().max() < 1e-4 * 255
