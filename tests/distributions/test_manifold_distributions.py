"""Distributions on spheres and in hyperbolic space against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import beta, kstest, vonmises_fisher
from torch import Tensor

from tightbound.distributions import (
    PowerSpherical,
    SphereUniform,
    VonMisesFisher,
    WrappedNormal,
    from_noise,
    kl,
    noise_like,
)
from tightbound.distributions.bessel import log_iv, ratio_iv
from tightbound.distributions.poincare import add
from tightbound.distributions.sphere import Zonal, log_area

N = 4000


def zonal(
    cls: type[Zonal],
    d: int,
    kappa: float,
    n: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Zonal:
    loc = torch.nn.functional.normalize(torch.linspace(-1, 2, d, dtype=dtype), dim=0)
    return cls(loc.expand(n, -1), torch.full((n,), kappa, dtype=dtype))


@pytest.mark.parametrize("d", [2, 3, 4, 5, 8, 20, 64, 129, 512])
def test_bessel_functions_against_scipy(d: int) -> None:
    """log(I_v(x) / x^v) and I_{v+1} / I_v for v = d/2 - 1, from x near 0 to 1e5, with the
    derivative of each.
    """
    order, at = d / 2 - 1, np.array([1e-6, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5])
    x = torch.tensor(at, requires_grad=True)
    with np.errstate(all="ignore"):
        exact = np.log(ive(order, at)) + at - order * np.log(at)
        ratio = ive(order + 1, at) / ive(order, at)
    seen, known = np.isfinite(exact), np.isfinite(ratio)
    assert seen.sum() > 3 and known.sum() > 3
    assert np.allclose(
        log_iv(order, x).detach().numpy()[seen], exact[seen], rtol=0, atol=1e-9
    )
    assert np.allclose(
        ratio_iv(order, x).detach().numpy()[known], ratio[known], rtol=1e-9
    )
    slope = torch.autograd.grad(log_iv(order, x).sum(), x)[0]
    assert torch.allclose(slope, ratio_iv(order, x), rtol=1e-12)
    low, high = (ratio_iv(order, x.detach() * (1 + s)) for s in (-1e-5, 1e-5))
    slope = torch.autograd.grad(ratio_iv(order, x).sum(), x)[0]
    assert torch.allclose(
        slope, (high - low) / (2e-5 * x.detach()), rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("kappa", [0.1, 3.0, 50.0, 2000.0])
@pytest.mark.parametrize("d", [2, 3, 10, 50])
def test_von_mises_fisher_against_scipy(d: int, kappa: float) -> None:
    q = zonal(VonMisesFisher, d, kappa)
    known = vonmises_fisher(q.loc[0].numpy(), kappa)
    z = torch.nn.functional.normalize(torch.randn(20, d, dtype=torch.float64), dim=-1)
    assert np.allclose(q.log_prob(z).numpy(), known.logpdf(z.numpy()), atol=1e-7)
    closed = kl(q, SphereUniform(q.loc))
    assert (
        closed is not None
        and abs(closed.item() - (log_area(d) - known.entropy())) < 1e-7
    )
    single = zonal(VonMisesFisher, d, kappa, dtype=torch.float32)
    assert np.allclose(
        single.log_prob(z.float()).numpy(),
        known.logpdf(z.numpy()),
        atol=1e-3 + 1e-6 * kappa,
    )


@pytest.mark.parametrize(
    ("d", "kappa"),
    [(2, 1.0), (3, 5.0), (3, 500.0), (10, 2.0), (10, 200.0), (100, 30.0), (512, 1e3)],
)
def test_von_mises_fisher_cosines_follow_their_distribution(
    d: int, kappa: float
) -> None:
    """Against the distribution function of w = loc'z, summed on a fine grid of the angle."""
    q = zonal(VonMisesFisher, d, kappa, N)
    w = (from_noise(q, noise_like(q))[0] * q.loc).sum(-1).numpy()
    angle = np.linspace(0, np.pi, 400_001)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_f = (d - 2) * np.log(np.sin(angle)) if d > 2 else np.zeros_like(angle)
    f = np.exp(log_f + kappa * np.cos(angle) - np.nanmax(log_f + kappa * np.cos(angle)))
    below = np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2)])
    assert (
        kstest(
            w, lambda at: 1 - np.interp(np.arccos(at), angle, below / below[-1])
        ).pvalue
        > 1e-3
    )
    mean, variance = (m[0].item() for m in q.cosine)
    assert abs(w.mean() - mean) < 5 * (variance / N) ** 0.5


@pytest.mark.parametrize(("d", "kappa"), [(2, 1.0), (3, 50.0), (10, 0.1), (64, 300.0)])
def test_power_spherical_cosines_are_a_beta(d: int, kappa: float) -> None:
    q = zonal(PowerSpherical, d, kappa, N)
    w = (from_noise(q, noise_like(q))[0] * q.loc).sum(-1).numpy()
    assert kstest((1 + w) / 2, beta((d - 1) / 2 + kappa, (d - 1) / 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("cls", [VonMisesFisher, PowerSpherical])
def test_samples_are_a_smooth_function_of_concentration_with_the_right_slope(
    cls: type[Zonal],
) -> None:
    """dz/dkappa at fixed noise, d = 2 to 512, concentrations from nearly uniform to nearly
    a point.
    """
    for d in (2, 3, 16, 512):
        for value in (0.06, 2.0, 300.0, 2900.0):
            kappa = torch.full((50,), value, dtype=torch.float64, requires_grad=True)
            loc = zonal(cls, d, 1.0).loc.expand(50, -1)
            noise = noise_like(cls(loc, kappa))
            angle = torch.acos(
                (from_noise(cls(loc, kappa), noise)[0] * loc).sum(-1).clamp(-1, 1)
            )
            slope = torch.autograd.grad(angle.sum(), kappa)[0]
            step = 1e-4 * value
            with torch.no_grad():
                low, high = (
                    torch.acos(
                        (from_noise(cls(loc, kappa + s), noise)[0] * loc)
                        .sum(-1)
                        .clamp(-1, 1)
                    )
                    for s in (-step, step)
                )
            assert torch.allclose(
                slope, (high - low) / (2 * step), rtol=1e-3, atol=1e-6
            ), (d, value)


def test_sphere_area_and_uniform_density() -> None:
    assert (
        abs(log_area(2) - math.log(2 * math.pi)) < 1e-12
        and abs(log_area(3) - math.log(4 * math.pi)) < 1e-12
    )
    near = kl(zonal(VonMisesFisher, 5, 1e-6), SphereUniform(torch.zeros(1, 5)))
    assert near is not None and abs(near.item()) < 1e-9


def in_ball(z: Tensor, c: float) -> Tensor:
    """exp_0: the point of the Poincare ball with these normal coordinates."""
    r = math.sqrt(c) * z.norm(dim=-1, keepdim=True)
    return torch.tanh(r / 2) / r * z


def moebius(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Addition in the ball, by Mathieu et al. 2019, eq. 2."""
    xy, xx, yy = ((a * b).sum(-1, keepdim=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (
        1 + 2 * c * xy + c**2 * xx * yy
    )


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_addition_in_normal_coordinates_is_that_of_the_ball(c: float) -> None:
    a, b = torch.randn(2, 40, 3, dtype=torch.float64) * 1.5
    b[0], a[1], b[2], b[3] = (
        -a[0],
        0,
        0,
        1e-9 * b[3],
    )  # where sides vanish, or undo each other
    found = add(a, b, c)
    whole = torch.arange(40) > 2
    assert torch.allclose(
        in_ball(found, c)[whole],
        moebius(in_ball(a, c), in_ball(b, c), c)[whole],
        rtol=1e-9,
    )
    assert (
        found[0].norm() < 1e-9
        and torch.allclose(found[1], b[1])
        and torch.allclose(found[2], a[2])
    )
    assert torch.allclose(add(-a, found, c), b, atol=1e-8)
    x, y = in_ball(a, c), in_ball(b, c)
    gap = (x - y).square().sum(-1)
    rest = (1 - c * x.square().sum(-1)) * (1 - c * y.square().sum(-1))
    distance = torch.acosh(1 + 2 * c * gap / rest) / math.sqrt(c)
    assert torch.allclose(add(-a, b, c).norm(dim=-1)[whole], distance[whole], rtol=1e-7)


def test_wrapped_normal_is_the_density_of_its_samples_by_the_change_of_variables() -> (
    None
):
    """log q = log N(u) - log |det dz/du|, the density with respect to dz."""
    loc = torch.randn(6, 3, dtype=torch.float64)
    scale = torch.rand(6, 3, dtype=torch.float64) + 0.3
    noise = torch.randn(6, 3, dtype=torch.float64)
    _, log_q = from_noise(WrappedNormal(loc, scale, 1.5), noise)

    def one(e: Tensor, m: Tensor, s: Tensor) -> Tensor:
        z, _ = from_noise(WrappedNormal(m[None], s[None], 1.5), e[None])
        return z[0]

    jacobian = torch.func.vmap(torch.func.jacrev(one))(noise, loc, scale)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1)
    assert torch.allclose(log_q, normal - torch.linalg.slogdet(jacobian)[1], atol=1e-9)


@pytest.mark.parametrize(
    ("d", "sd"), [(2, 1.0), (8, 5.0), (16, 3.0), (40, 2.0), (128, 1.2), (512, 20.0)]
)
def test_wrapped_normals_keep_their_mass_however_far_out_it_lies(
    d: int, sd: float
) -> None:
    """In the ball, draws were held at its edge and log q was not: log p(x) came out above 0 for a
    mass function.

    At the origin KL(q, p) is that of the normals in tangent space, d / 2 (sd^2 - 1 - log sd^2).
    """
    zero = torch.zeros(4000, d)
    q, p = WrappedNormal(zero, zero + sd, 1.0), WrappedNormal(zero, zero + 1, 1.0)
    z, log_q = from_noise(q, torch.randn(4000, d))
    each = log_q - p.log_prob(z)
    assert torch.allclose(log_q, q.log_prob(z), rtol=1e-4, atol=1e-2)
    assert (
        each.mean() - d / 2 * (sd**2 - 1 - 2 * math.log(sd))
    ).abs() < 5 * each.std() / 4000**0.5 + 1e-3
    away = WrappedNormal(torch.randn(4000, d), zero + sd, 1.0)
    z, log_q = from_noise(away, torch.randn(4000, d))
    assert z.isfinite().all() and log_q.isfinite().all()
    if (
        d <= 16 and sd <= 3
    ):  # beyond, a float's directions are too coarse to tell where u came from
        assert torch.allclose(away.log_prob(z), log_q, rtol=1e-2, atol=0.1)


def test_addition_has_finite_gradients_at_the_origin_and_far_out() -> None:
    a = torch.tensor(
        [[0.0, 0.0], [300.0, 0.0], [1e-12, 0.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    b = torch.tensor(
        [[0.0, 0.0], [-300.0, 1e-3], [-1e-12, 0.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    grads = torch.autograd.grad(add(a, b, 9.0).sum(), (a, b))
    assert all(grad.isfinite().all() for grad in grads)
