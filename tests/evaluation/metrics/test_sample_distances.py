"""Distances of samples: scipy and plain loops, and cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg

from tightbound.evaluation.metrics.sample_distances import (
    frechet,
    frechet_of,
    kernel_distance,
    manifolds,
)
from tightbound.evaluation.metrics.scattering import Scattering, gaussian, morlet
from tightbound.evaluation.metrics.stamp import (
    SpaceValue,
    Stamp,
    check_comparable,
    from_json,
)
from tightbound.runtime.errors import TightboundError


def test_frechet_is_that_of_scipy_and_of_known_normals() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    b = rng.normal(size=(150, 6)) + rng.normal(size=6)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cross = linalg.sqrtm(s @ t).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * cross)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
    # N(0, I) and N(m, s^2 I): |m|^2 + d (1 - s)^2
    mean = np.array([3.0, 4.0, 0.0])
    of_normals = frechet_of(np.zeros(3), np.eye(3), mean, 4 * np.eye(3))
    assert of_normals == pytest.approx(25 + 3)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_that_of_a_plain_loop_and_unbiased() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 3)), rng.normal(1, 1, size=(5, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within_a = [kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j]
    within_b = [kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    expected = np.mean(within_a) + np.mean(within_b) - 2 * np.mean(across)
    assert kernel_distance(a, b) == pytest.approx(expected)
    same = [
        kernel_distance(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)))
        for _ in range(400)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / 20


def _loops(real: np.ndarray, drawn: np.ndarray, k: int) -> dict[str, float]:
    """Precision, recall, density and coverage, pair by pair."""

    def radius(x: np.ndarray, i: int) -> float:
        return sorted(math.dist(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]

    around_real = [radius(real, i) for i in range(len(real))]
    around_drawn = [radius(drawn, j) for j in range(len(drawn))]
    in_real = [
        [math.dist(real[i], y) <= around_real[i] for y in drawn]
        for i in range(len(real))
    ]
    in_drawn = [
        [math.dist(x, drawn[j]) <= around_drawn[j] for j in range(len(drawn))]
        for x in real
    ]
    inside = np.array(in_real)
    return {
        "precision": inside.any(0).mean(),
        "recall": np.array(in_drawn).any(1).mean(),
        "density": inside.sum() / (k * len(drawn)),
        "coverage": inside.any(1).mean(),
    }


def test_manifolds_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(2)
    real, drawn = rng.normal(size=(40, 3)), rng.normal(0.8, 0.7, size=(30, 3))
    assert manifolds(real, drawn, 4) == pytest.approx(_loops(real, drawn, 4))


def test_identical_and_disjoint_sets() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 4))
    identical = manifolds(x, x.copy(), 5)
    # each row lies in its own ball, and on average in those of k others
    density = pytest.approx(6 / 5)
    assert identical == {
        "precision": 1,
        "recall": 1,
        "density": density,
        "coverage": 1,
    }
    disjoint = manifolds(x, x + 1000, 5)
    assert set(disjoint.values()) == {0.0}
    # one mode of two is found: all samples are good, and half of the data is covered
    both = np.concatenate([x, x + 1000])
    half = manifolds(both, x, 5)
    assert half["precision"] == 1 and half["recall"] == 0.5 == half["coverage"]


def test_values_compare_in_one_space_alone() -> None:
    stamp = Stamp("pixels@12ab34cd", 500, "test@99ff00aa")
    a, b = SpaceValue("FD", 3.0, stamp), SpaceValue("FD", 2.0, stamp)
    assert b < a and a >= b and a != b and a - b == 1.0
    assert a.label == "FD[pixels@12ab34cd, n=500, test@99ff00aa]"
    assert from_json("FD", a.to_json(), stamp) == a
    others = (
        SpaceValue("KID", 2.0, stamp),
        SpaceValue("FD", 2.0, Stamp("pixels@00000000", 500, "test@99ff00aa")),
        SpaceValue("FD", 2.0, Stamp("pixels@12ab34cd", 499, "test@99ff00aa")),
        SpaceValue("FD", 2.0, Stamp("pixels@12ab34cd", 500, "test@00000000")),
    )
    for other in others:
        for compare in (
            lambda x: a < x,
            lambda x: a <= x,
            lambda x: a > x,
            lambda x: a >= x,
            lambda x: a == x,
            lambda x: a - x,
            lambda x: check_comparable([b, a, x]),
        ):
            with pytest.raises(TightboundError, match="cannot be compared"):
                compare(other)


def test_scattering_is_that_of_plain_sums() -> None:
    """Circular convolutions by sums over all pixels, of one order 1 and one order 2 path."""
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.uniform(size=(1, 1, 16, 16)))
    network = Scattering.of(16, 16)
    assert (network.scales, network.cells) == (2, 4)
    border, size = 4, 24
    padded = np.pad(x[0, 0].numpy(), border, mode="reflect")
    waves = network._waves(size, size)
    phi = gaussian(size, 0.8 * 2, 0.0) / gaussian(size, 0.8 * 2, 0.0)[0]
    low = phi[:, None] * phi

    def convolved(image: np.ndarray, spectrum: torch.Tensor) -> np.ndarray:
        kernel = torch.fft.ifft2(spectrum.double()).numpy()
        out = np.zeros_like(kernel)
        for i in range(size):
            for j in range(size):
                out += image[i, j] * np.roll(kernel, (i, j), (0, 1))
        return out

    def pooled(image: np.ndarray) -> np.ndarray:
        smooth = convolved(image, low).real[border:-border, border:-border]
        return smooth.reshape(4, 4, 4, 4).mean((1, 3)).ravel()

    first = abs(convolved(padded, waves[1][1]))
    second = abs(convolved(first, waves[6][1]))
    coefficients = network(x)[0].numpy().reshape(-1, 16)
    # order: x; then each wave of scale 0 with its four of scale 1; then those of scale 1
    assert len(coefficients) == 1 + 8 + 16
    for number, path in ((0, padded), (1 + 5, first), (1 + 5 + 1 + 2, second)):
        assert coefficients[number] == pytest.approx(pooled(path), rel=1e-4)


def test_scattering_sees_no_constant_and_keeps_small_shifts() -> None:
    flat = torch.full((1, 1, 28, 28), 0.7, dtype=torch.float64)
    network = Scattering.of(28, 28)
    coefficients = network(flat)[0].reshape(-1, 16)
    assert coefficients[0].tolist() == pytest.approx([0.7] * 16)
    assert coefficients[1:].abs().max() < 1e-6
    assert abs(morlet(36, 36, 1, 0.3)[0, 0]) < 1e-12
    square = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    square[..., 8:18, 8:18] = 1
    moved = square.roll(1, -1)
    apart = (network(square) - network(moved)).norm() / network(square).norm()
    in_pixels = (square - moved).norm() / square.norm()
    assert apart < 0.5 * in_pixels
