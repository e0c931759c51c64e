"""Signals and volumes, from the file to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.small import SMALL

import tightbound as tb
from tightbound import data as td
from tightbound.cli import outputs
from tightbound.core.data_spec import DataSpec
from tightbound.data import DataSettings
from tightbound.report.figures.display_scale import slice_grid
from tightbound.report.figures.line_grid import STEPS, draw
from tightbound.runtime.errors import TightboundError

RNG = np.random.RandomState(0)
READ: list[tuple[tuple[int, ...], dict[str, Any], str, tuple[int, ...], str]] = [
    ((20, 40), {"kind": "signal"}, "l", (1, 40), ""),
    ((20, 40), {"layout": "l"}, "l", (1, 40), ""),
    ((20, 9, 3), {"kind": "signal"}, "lc", (3, 9), ""),
    ((20, 1, 9), {"kind": "signal"}, "cl", (1, 9), ""),
    ((20, 9, 2), {"kind": "signal"}, "lc", (2, 9), "data.layout=lc or cl"),
    ((20, 200, 3), {}, "lc", (3, 200), "signals"),
    ((20, 200, 3), {"kind": "image"}, "hw", (1, 200, 3), ""),
    ((20, 9, 3), {}, "hw", (1, 9, 3), "data.layout=lc for signals"),
    ((20, 24, 6), {}, "hw", (1, 24, 6), "read as images of 24 x 6 pixels"),
    ((20, 24, 24), {}, "hw", (1, 24, 24), ""),
    ((20, 5, 6, 7), {}, "dhw", (1, 5, 6, 7), "volumes"),
    ((20, 5, 6, 7), {"kind": "image"}, "chw", (5, 6, 7), "data.layout=hwc or chw"),
    ((20, 3, 6, 7), {"kind": "volume"}, "dhw", (1, 3, 6, 7), ""),
    ((20, 5, 6, 7, 1), {}, "dhwc", (1, 5, 6, 7), ""),
    ((20, 2, 5, 6, 7), {}, "cdhw", (2, 5, 6, 7), "data.layout=dhwc or cdhw"),
]


@pytest.mark.parametrize(("shape", "settings", "layout", "example", "notice"), READ)
def test_how_a_shape_is_read(
    shape: tuple[int, ...],
    settings: dict[str, Any],
    layout: str,
    example: tuple[int, ...],
    notice: str,
) -> None:
    data = td.load(RNG.randn(*shape), DataSettings(**settings))
    assert (data.spec.layout, data.spec.shape) == (layout, example)
    assert data.settings.kind == data.spec.kind, "no auto is left"
    assert (notice in data.notices[0]) if notice else not data.notices
    x = data.train.batch(torch.arange(4))
    assert torch.equal(data.spec.to_raw(x), data.train.raw(torch.arange(4)).float())
    again = td.read(data.train.raw(torch.arange(4)).numpy(), data.spec, data.settings)
    assert torch.equal(again.batch(torch.arange(4)), x), (
        "new data of the same shape are read alike"
    )


REFUSED: list[tuple[tuple[int, ...], dict[str, Any], str]] = [
    ((20, 7), {"kind": "image"}, r"data.kind=image does not fit .* \(20, 7\)"),
    ((20, 7, 5), {"kind": "volume"}, r"volumes are \(N, D, H, W\)"),
    ((20, 7, 5), {"kind": "signal", "layout": "hw"}, "data.kind=signal does not fit"),
    ((20, 7, 5), {"layout": "dhw"}, "data.layout=dhw does not fit"),
    ((20, 2, 2, 2, 2, 2), {}, "channels first or last"),
]


@pytest.mark.parametrize(("shape", "settings", "said"), REFUSED)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, ...], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(TightboundError, match=said):
        td.load(np.zeros(shape), DataSettings(**settings))


def test_a_folder_of_images_is_no_signal(tmp_path: Path) -> None:
    for i in range(12):
        Image.fromarray(RNG.randint(0, 256, (6, 5)).astype(np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    with pytest.raises(TightboundError, match="layout chw"):
        td.load(str(tmp_path), DataSettings(kind="signal"))


def test_each_channel_of_a_signal_has_a_unit() -> None:
    std = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    spread = DataSpec(shape=(2, 2), domain="real", std=std).spread
    assert torch.allclose(spread, torch.tensor([[5.0**0.5] * 2, [500.0**0.5] * 2]))
    pixels = DataSpec(shape=(1, 2, 2), domain="real", std=std[None]).spread
    assert torch.allclose(pixels, std.square().mean().sqrt().expand(1, 2, 2))


def waves(n: int = 120) -> np.ndarray[Any, Any]:
    """Two channels of 48 steps, of units that differ by 100."""
    t, phase = np.linspace(0, 4, 48), RNG.rand(n, 1) * 6
    return np.stack(
        [np.sin(t + phase), 100 * np.cos(2 * t + phase)], -1
    ) + 0.01 * RNG.randn(n, 48, 2)


def balls(n: int = 120) -> np.ndarray[Any, Any]:
    """Grey volumes 6 x 7 x 8 with a ball somewhere."""
    at = np.indices((6, 7, 8)).transpose(1, 2, 3, 0)
    centre = RNG.randint(2, 5, (n, 1, 1, 1, 3))
    return np.clip(255 - 40 * np.linalg.norm(at - centre, axis=-1), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("kind", ["signal", "volume"])
def test_from_data_to_outputs(kind: str, network: str, tmp_path: Path) -> None:
    x = waves() if kind == "signal" else balls()
    settings = {
        **SMALL,
        "steps": 20,
        "network": network,
        "data.kind": kind,
        "validate_every": 10,
    }
    run = tb.train(
        x, out=tmp_path / "run", display="none", report=False, settings=settings
    )
    run = tb.load(tmp_path / "run")
    assert run.spec.kind == kind and run.spec.layout == (
        "lc" if kind == "signal" else "dhw"
    )
    assert run.reconstruct(x[:3]).shape == x[:3].shape and run.sample(5).shape == (
        5,
        *x.shape[1:],
    )
    assert run.encode(x[0]).shape == (1, 4), (
        "one example may come without its first axis"
    )
    np.save(tmp_path / "x.npy", x)
    picture = "svg" if kind == "signal" else "png"
    for name in (f"s.{picture}", "s.npz", "s.csv"):
        outputs.write(
            run, run.sample(5), outputs.target(tmp_path / name, outputs.EXAMPLES, False)
        )
    out = outputs.target(tmp_path / f"r.{picture}", outputs.EXAMPLES, False)
    outputs.reconstruct(run, str(tmp_path / "x.npy"), out, 3)
    assert np.load(tmp_path / "s.npz")["x"].shape == (5, *x.shape[1:])
    if kind == "signal":
        assert (tmp_path / "r.svg").read_text().count("<polyline") == 3 * 2 * 2, (
            "input and output, two channels"
        )
    else:
        with Image.open(tmp_path / "r.png") as image:
            tile = image.size
        assert abs(tile[0] / tile[1] - 3 * 26 / (2 * 15)) < 0.15, (
            "six slices of 7 x 8 as two rows of three"
        )
    wrong = outputs.target(
        tmp_path / f"w.{'png' if kind == 'signal' else 'svg'}", outputs.EXAMPLES, False
    )
    with pytest.raises(TightboundError, match=f"{kind}s of .* name --out F.{picture}"):
        outputs.write(run, run.sample(2), wrong)


def test_a_report_shows_curves(tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 20, "data.kind": "signal"}
    tb.train(waves(), out=tmp_path / "run", display="none", settings=settings)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "signal" in page and "image/svg+xml" in page


def test_slices_go_row_by_row_and_the_rest_is_white() -> None:
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1, 1) / 10
    assert np.allclose(
        slice_grid(x)[0, 0], [[0, 1, 0.1, 1, 0.2], [1] * 5, [0.3, 1, 0.4, 1, 1]]
    )
    assert slice_grid(np.zeros((2, 1, 100, 3, 4), np.float32)).shape == (2, 1, 11, 14)
    assert slice_grid(np.zeros((2, 3, 4, 5), np.float32)).shape == (2, 3, 4, 5), (
        "images are as they are"
    )


def test_a_long_curve_keeps_its_extremes() -> None:
    x = np.zeros((1, 1, 100_000), np.float32)
    x[0, 0, 777] = 5.0
    svg, _, _ = draw(x, 1, None)
    points = svg.split('points="')[1].split('"')[0].split()
    assert (
        len(points) == 2 * STEPS and min(float(p.split(",")[1]) for p in points) == 4.0
    )


def test_conv_of_a_vector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TightboundError, match=r"data\.kind=signal"):
        tb.train(
            RNG.randn(60, 9),
            out=tmp_path / "run",
            display="none",
            settings={"network": "conv", "steps": 2},
        )
