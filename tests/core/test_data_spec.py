"""DataSpec: raw units and model units, and how densities change between them."""

from __future__ import annotations

import math

import pytest
import torch
from support.core_cases import context, spec_of
from torch import Tensor

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.core.data_spec import DataSpec

LAYOUTS = [
    ("vector", (7,), (7,)),
    ("hw", (1, 3, 5), (3, 5)),
    ("chw", (3, 4, 5), (3, 4, 5)),
    ("hwc", (3, 4, 5), (4, 5, 3)),
    ("hwc", (1, 4, 5), (4, 5, 1)),
    ("l", (1, 5), (5,)),
    ("lc", (3, 5), (5, 3)),
    ("cl", (3, 5), (3, 5)),
    ("dhw", (1, 2, 3, 5), (2, 3, 5)),
    ("dhwc", (4, 2, 3, 5), (2, 3, 5, 4)),
    ("cdhw", (4, 2, 3, 5), (4, 2, 3, 5)),
]


@pytest.mark.parametrize(("layout", "shape", "raw_shape"), LAYOUTS)
@pytest.mark.parametrize("divisor", [1.0, 16.0])
def test_raw_and_domain_units_are_inverse(
    layout: str, shape: tuple[int, ...], raw_shape: tuple[int, ...], divisor: float
) -> None:
    spec = DataSpec(
        shape=shape, domain="unit", levels=17, layout=layout, divisor=divisor
    )
    raw = torch.randint(0, 17, (4, *raw_shape), dtype=torch.uint8)
    x = spec.to_model(raw)
    assert x.shape == (4, *shape) and x.dtype == torch.float32
    assert (
        torch.allclose(spec.to_raw(x), raw.float(), atol=1e-5)
        and spec.to_raw(x).shape == raw.shape
    )
    assert spec.to_model(raw[:0]).shape == (0, *shape)


def test_channels_last_lands_channel_first() -> None:
    raw = torch.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    x = DataSpec(shape=(3, 4, 5), domain="levels", levels=256, layout="hwc").to_model(
        raw
    )
    assert x[1, 2, 3, 4] == raw[1, 3, 4, 2] and x[0, 0, 1, 2] == raw[0, 1, 2, 0]


def test_unit_and_levels_are_the_same_data() -> None:
    """mean and std follow, both ways; raw data map to the same place."""
    levels = spec_of("levels", (1, 2, 3))
    unit = levels.as_domain("unit")
    assert (unit.domain, unit.divisor, unit.levels) == ("unit", 16.0, 17)
    raw = torch.randint(0, 17, (50, 1, 2, 3)).float()
    x = DataSpec(
        shape=levels.shape, domain="unit", divisor=16.0, layout="chw"
    ).to_model(raw)
    assert x.min() >= 0 and x.max() <= 1
    assert torch.allclose(unit.centre, levels.centre / 16) and torch.allclose(
        unit.spread, levels.spread / 16
    )
    back = unit.as_domain("levels")
    assert (
        back.divisor == 1
        and torch.allclose(back.centre, levels.centre)
        and back.domain == "levels"
    )
    assert (
        torch.allclose(back.spread, levels.spread)
        and levels.as_domain("levels") is levels
    )
    assert (
        DataSpec(shape=(3,), domain="levels", levels=17).as_domain("unit").mean is None
    )


def test_densities_change_by_the_jacobian_and_by_nothing_else() -> None:
    """log p of x / 16 is log p of x plus D log 16, for one model read in both units."""
    real = spec_of("levels", (7,)).model_copy(update={"domain": "real"})
    unit = real.model_copy(update={"domain": "levels"}).as_domain("unit")
    x, y = torch.randint(0, 17, (5, 7)).float(), torch.randn(5, 2, 7)

    def log_px(spec: DataSpec, at: Tensor) -> Tensor:
        torch.manual_seed(0)
        return LIKELIHOODS["gaussian"](spec, scale="predicted")(
            y, context(5), None
        ).log_prob(at)

    assert torch.allclose(
        log_px(unit, x / 16), log_px(real, x) + 7 * math.log(16), rtol=1e-4
    )
    scaled = [
        (x - s.centre * k) / (s.spread * k) for s, k in ((real, 1.0), (unit, 16.0))
    ]
    assert torch.allclose(
        scaled[0], scaled[1], atol=1e-5
    )  # the encoder's input does not change


def test_spread_is_per_column_for_vectors_and_one_for_all_pixels_of_an_image() -> None:
    std = torch.tensor([0.0, 2.0, 3.0])
    vector = DataSpec(shape=(3,), domain="real", std=std)
    assert vector.spread.tolist() == [1.0, 2.0, 3.0]
    image = DataSpec(shape=(1, 1, 3), domain="real", std=std)
    assert torch.allclose(image.spread, torch.full((1, 1, 3), math.sqrt(13 / 3)))
    blank = DataSpec(shape=(1, 1, 3), domain="real", std=torch.zeros(3))
    assert torch.equal(blank.spread, torch.ones(1, 1, 3))
    unknown = DataSpec(shape=(3,), domain="real")
    assert torch.equal(unknown.centre, torch.zeros(3)) and torch.equal(
        unknown.spread, torch.ones(3)
    )


def test_centre_and_spread_are_copies() -> None:
    """A model writes into its buffers and parameters; the data's own statistics must stay."""
    spec = spec_of("real", (3,))
    for name, source in (("centre", spec.mean), ("spread", spec.std)):
        getattr(spec, name).fill_(77.0)
        assert not (source == 77.0).any(), name


def test_properties() -> None:
    image = spec_of("levels", (3, 4, 5))
    assert image.dims == 60 and image.is_image and image.discrete
    vector = spec_of("unit", (7,))
    assert vector.dims == 7 and not vector.is_image and not vector.discrete
    assert (
        DataSpec.model_validate_json(image.model_dump_json())
        .model_copy(update={"mean": image.mean})
        .dims
        == 60
    )
