"""Operators and maps in place of those that ONNX lacks equal those of torch and zuko."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tightbound.distributions import zuko_maps
from tightbound.exporting import decompositions
from tightbound.exporting.flow_maps import TracedMaps


@pytest.mark.parametrize(("d", "m"), [(5, 3), (4, 4), (6, 1), (1, 1), (2, 2)])
def test_qr_is_that_of_torch_with_its_signs(d: int, m: int) -> None:
    matrix = torch.randn(20, d, m)
    for actual, expected in zip(
        decompositions.qr(matrix), torch.linalg.qr(matrix), strict=True
    ):
        assert torch.allclose(actual, expected, atol=1e-5)


def test_a_triangle_is_solved() -> None:
    matrix = torch.randn(7, 4, 4).tril() + 3 * torch.eye(4)
    target = torch.randn(7, 4, 2)
    expected = torch.linalg.solve_triangular(matrix, target, upper=False)
    actual = decompositions.solve_triangular(matrix, target, upper=False)
    assert torch.allclose(actual, expected, atol=1e-5)


def test_edges_below_a_value_are_counted() -> None:
    edges = torch.tensor([[0.1, 0.5, 1.0]]).expand(4, -1).contiguous()
    values = torch.tensor([[0.05], [0.1], [0.7], [2.0]])
    expected = torch.searchsorted(edges, values)
    assert torch.equal(decompositions.searchsorted(edges, values), expected)


def test_the_distribution_function_of_a_normal() -> None:
    x = torch.linspace(-5, 5, 101)
    expected = torch.special.ndtr(x)
    assert torch.allclose(decompositions.ndtr(x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["coupling", "affine", "spline"])
@pytest.mark.parametrize("latent", [1, 3, 4])
@pytest.mark.parametrize("context", [0, 2])
def test_maps_are_those_of_zuko(kind: str, latent: int, context: int) -> None:
    maps = zuko_maps(kind, latent, 2, 16, context)
    with torch.no_grad():
        for p in maps.parameters():
            p.add_(0.3 * torch.randn(p.shape))
        c = torch.randn(50, context) if context else None
        x = 3 * torch.randn(50, latent)  # of a spline also outside of its interval
        expected = maps(c)
        actual = TracedMaps(maps)(c)
        same(actual.call_and_ladj(x), expected.call_and_ladj(x))
        same(actual.inv.call_and_ladj(x), expected.inv.call_and_ladj(x))
        same(actual.inv.inv.call_and_ladj(x), expected.call_and_ladj(x))


def same(actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
