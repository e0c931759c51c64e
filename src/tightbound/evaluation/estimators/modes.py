"""Modes of a posterior density in a few dimensions, by a damped Newton method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 40  # Newton steps at the most
CLOSE = (
    1e-3  # of a step, in standard deviations of the mode, below which a row has arrived
)
SHRINK = 0.25  # of the largest step after one that does not rise
GROW = 2.0  # of the largest step after one that does


@dataclass(frozen=True)
class Modes:
    """Places of high density, r of them, with the curvature of log p there.

    Args:
        at: the places, (r, d).
        width: standard deviation along each axis with the others fixed, (r, d).
        reach: standard deviation along each axis over all the others, (r, d).
    """

    at: Tensor
    width: Tensor
    reach: Tensor


def find_modes(
    log_density: Callable[[Tensor], Tensor], starts: Tensor, scale: Tensor
) -> Modes:
    """Climbs from each start to a mode of log p.

    Each step is |H|^-1 g with gradient g and Hessian H, whose eigenvalues are taken by their
    size, so that it goes up also where log p is not concave (Dauphin et al. 2014,
    arXiv:1406.2572). A step that does not rise is taken back, and the next one is shorter.

    Args:
        log_density: log p of rows z (n, d), (n,), with gradients.
        starts: (r, d).
        scale: the largest step and the largest width along each axis, (d,).
    """
    z = starts.detach().clone()
    most = torch.ones_like(z[:, 0])
    value, grad, hessian = _derivatives(log_density, z, scale)
    for _ in range(STEPS):
        size, axes = _curvature(hessian)
        along = (grad.unsqueeze(1) @ axes).squeeze(1)
        step = ((along / size).unsqueeze(1) @ axes.mT).squeeze(1)
        length = step.norm(dim=1).clamp(min=1e-300)
        step = step * (most / length).clamp(max=1.0)[:, None]
        reached = _derivatives(log_density, z + step * scale, scale)
        rises = reached[0] > value
        z = torch.where(rises[:, None], z + step * scale, z)
        value = torch.where(rises, reached[0], value)
        grad = torch.where(rises[:, None], reached[1], grad)
        hessian = torch.where(rises[:, None, None], reached[2], hessian)
        taken = step.norm(dim=1)
        most = torch.where(rises, (GROW * taken).clamp(max=1.0), SHRINK * taken)
        near = (taken < CLOSE * size.amax(1).rsqrt()) | (most < 1e-12)
        if near.all():
            break
    size, axes = _curvature(hessian)
    precision = (axes.square() * size.unsqueeze(1)).sum(-1)
    variance = (axes.square() / size.unsqueeze(1)).sum(-1)
    return Modes(z, precision.rsqrt() * scale, variance.sqrt() * scale)


def _derivatives(
    log_density: Callable[[Tensor], Tensor], z: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p, its gradient and its Hessian in units of `scale`; -infinity where not finite."""
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        value = log_density(z)
        (grad,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        rows = []
        for i in range(z.shape[1]):
            row = torch.zeros_like(z)
            if grad.requires_grad:  # not where log p is linear in z
                (row,) = torch.autograd.grad(
                    grad[:, i].sum(), z, retain_graph=True, materialize_grads=True
                )
            rows.append(row)
    hessian = torch.stack(rows, 1).detach() * scale * scale[:, None]
    grad = grad.detach() * scale
    finite = value.isfinite() & grad.isfinite().all(1) & hessian.isfinite().all((1, 2))
    value = torch.where(finite, value.detach(), -torch.inf)
    return value, grad.nan_to_num(0, 0, 0), hessian.nan_to_num(0, 0, 0)


def _curvature(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes of the eigenvalues (r, d), at least 1, and the axes (r, d, d) of a Hessian."""
    values, axes = torch.linalg.eigh((hessian + hessian.mT) / 2)
    return values.abs().clamp(min=1.0), axes
