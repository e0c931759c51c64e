"""Moments of discretised logistics: sums over all levels, also in an exported graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tightbound.distributions.logistic import moments

LEVELS = 256


class Moments(nn.Module):
    """The moments as a module that can be exported."""

    def forward(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return moments(loc, scale, LEVELS)


def by_sums(loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """E[x] and E[x^2] term by term over all inner edges, in float64."""
    edges = torch.arange(LEVELS - 1, dtype=torch.float64) + 0.5
    above = torch.sigmoid((loc.double()[:, None] - edges) / scale.double()[:, None])
    return above.sum(-1), (2 * edges * above).sum(-1)


@pytest.mark.parametrize("smallest", [0.02, 0.5, 3.0])
def test_moments_in_and_out_of_a_graph_are_the_sums(smallest: float) -> None:
    loc = torch.linspace(-3, 258, 64)
    scale = smallest * torch.linspace(1, 20, 64)
    exported = torch.export.export(Moments(), (loc, scale)).module()
    right = by_sums(loc, scale)
    for computed in (moments(loc, scale, LEVELS), exported(loc, scale)):
        for value, exact in zip(computed, right, strict=True):
            torch.testing.assert_close(value, exact, rtol=1e-5, atol=1e-3)
