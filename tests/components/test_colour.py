"""The mixture of discretised logistics over colour pixels."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.core_cases import grads_ok, model_of, plain, rows, shake, spec_of

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import DiscretizedLogistic
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
    assert (trace.px.variance > 0).all()
    trace.log_px.mean().backward()
    grads_ok(model.likelihood)


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


@pytest.mark.parametrize("shape", [(1, 8, 8), (7,), (4, 3, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TightboundError, match="colour images"):
        model_of(plain(likelihood=part("logistic-mixture")), spec_of("levels", shape))
