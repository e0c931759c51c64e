"""Coupling layers by slices against zuko's own, to the bit."""

import pytest
import torch
from torch import nn
from zuko.flows import RealNVP

from tightbound.distributions.coupling import split_by_slices


def flow(d: int, context: int, by_slices: bool) -> nn.Module:
    torch.manual_seed(0)
    maps = RealNVP(d, context, transforms=3, hidden_features=(8, 8)).transform
    if by_slices:
        split_by_slices(maps)
    return maps


@pytest.mark.parametrize("d", [2, 5, 6])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_coupling_by_slices_is_that_of_zuko_to_the_bit(
    d: int, context: int, inverted: bool
) -> None:
    results = []
    for by_slices in (False, True):
        maps = flow(d, context, by_slices)
        torch.manual_seed(1)
        x = torch.randn(7, d, requires_grad=True)
        c = torch.randn(7, context, requires_grad=True) if context else None
        at = maps(c)
        if inverted:
            at = at.inv
        y, ladj = at.call_and_ladj(x)
        inputs = [x, *maps.parameters()] + ([] if c is None else [c])
        grads = torch.autograd.grad((y.square().sum() + ladj.sum()), inputs)
        results.append([y, ladj, *grads])
        assert list(maps.state_dict()) == list(flow(d, context, False).state_dict())
    assert all(map(torch.equal, *results))


def test_its_log_determinant_is_that_of_the_jacobian() -> None:
    maps = flow(5, 0, True)
    x = torch.randn(5)
    jacobian = torch.autograd.functional.jacobian(maps(), x)
    _, ladj = maps().call_and_ladj(x)
    torch.testing.assert_close(jacobian.slogdet().logabsdet, ladj)


def test_a_mask_that_does_not_alternate_is_refused() -> None:
    maps = RealNVP(6, 0, transforms=2, hidden_features=(4,)).transform
    mask = torch.tensor([True, True, False, False, True, False])
    next(iter(maps.transforms)).mask.copy_(mask)
    with pytest.raises(ValueError, match="alternate"):
        split_by_slices(maps)
