"""Posteriors that look at log p(x, z): their maps keep volume and can be run back, and their
weights are exact.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.linear_gaussian import DIMS, problem
from support.report_pages import untrained
from torch import Tensor
from torch.distributions import Independent, Normal

from tightbound.components.posteriors import POSTERIORS
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import Euclidean, Hamiltonian, Riemannian
from tightbound.evaluation.estimators.ais import ais
from tightbound.evaluation.estimators.amortization_gap import Search, best_bound
from tightbound.evaluation.estimators.exact_terms import three_terms
from tightbound.evaluation.estimators.methods import log_px
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

D, N = 3, 4
ROWS = 20_000
KINDS = ("hamiltonian", "riemannian")


def motion(kind: str) -> Euclidean | Riemannian:
    if kind == "hamiltonian":
        return Euclidean()
    made = torch.Generator().manual_seed(1)
    centres, factors = (
        torch.randn(5, D, *more, generator=made, dtype=torch.float64)
        for more in ((), (D,))
    )
    return Riemannian(centres, factors.tril(), reach=1.5, least=0.1)


def log_joint(z: Tensor) -> Tensor:
    """Bent and skewed, so that no two of its slopes are alike."""
    return (
        -0.5 * (z[:, 0] - z[:, 1].square() / 2).square()
        - z.square().sum(-1) / 3
        + z[:, 2].sin() * z[:, 0]
    )


def steps_of(
    kind: str, *, step: float = 0.4, cool: float = 1.0, steps: int = 3
) -> Hamiltonian:
    zero = torch.zeros(N, D, dtype=torch.float64)
    start = Independent(Normal(zero, zero + 1), 1)
    lengths = step * torch.tensor([1.0, 0.7, 1.3], dtype=torch.float64)
    return Hamiltonian(
        start,
        log_joint,
        motion(kind),
        lengths,
        torch.tensor(cool, dtype=torch.float64),
        steps,
    )


def state(kind: str) -> tuple[Tensor, Tensor]:
    """A state and its momentum that `start` could have made, away from anything special."""
    moves, made = motion(kind), torch.Generator().manual_seed(2)
    z, noise = (
        torch.randn(N, D * n, generator=made, dtype=torch.float64)
        for n in (1, moves.noise)
    )
    return moves.start(z, noise)[:2]


@pytest.mark.parametrize("cool", [1.0, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_leapfrog_keeps_volume_up_to_the_tempering_that_is_known(
    kind: str, cool: float
) -> None:
    """The Jacobian determinant of (z, r) -> (z, r) by autograd: 1, or `cool` in each dimension."""
    q, (z, r) = steps_of(kind, cool=cool), state(kind)
    both, (copies, d) = torch.stack([z, r], 1), z.shape[1:]

    def mapped(rows: Tensor) -> Tensor:
        return torch.stack(q.moved(*rows.unbind(1)), 1)

    jacobian: Any = torch.autograd.functional.jacobian(mapped, both)
    for row in range(N):
        size = 2 * copies * d
        each = jacobian[row, :, :, :, row].reshape(size, size)
        assert (each - torch.eye(size)).abs().max() > 0.1  # it does move
        assert math.isclose(torch.linalg.det(each).item(), cool**d, rel_tol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_leapfrog_runs_back_to_where_it_came_from(kind: str) -> None:
    q, (z, r) = steps_of(kind), state(kind)
    there, momentum = q.moved(z, r)
    back, turned = q.moved(there, -momentum)
    assert torch.allclose(back, z, atol=1e-10) and torch.allclose(
        turned, -r, atol=1e-10
    )
    assert (there - z).abs().amax((1, 2)).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_peers_4_4_position_moves_by_the_new_momentum_and_the_energy_error_is_of_second_order(
    kind: str,
) -> None:
    """A drift along the old momentum has an error of first order in the step, and a determinant
    other than 1.
    """
    moves, (z, r) = motion(kind), state(kind)
    z, r = (
        t.mean(1, keepdim=True).expand_as(t) for t in (z, r)
    )  # copies that stand together follow the true motion

    def energy(z: Tensor, r: Tensor) -> Tensor:
        z, r = (t.mean(1, keepdim=True).expand_as(t) for t in (z, r))
        return -log_joint(z[:, 0]) - moves.log_prob(z, r)

    def error(steps: int) -> Tensor:
        q = steps_of(kind, step=0.4 / steps, steps=steps)
        return (energy(*q.moved(z, r)) - energy(z, r)).abs()

    assert (error(64) < error(8) / 40).all() and error(8).max() < 0.02


def refined(kind: str, **options: Any) -> tuple[VAE, Tensor, Tensor]:
    """A linear-Gaussian model whose spoiled q is refined, two examples, and their exact log
    p(x).
    """
    exact = problem("flat").spoil(0.3, 0.2)
    x, known = exact.data(2)
    model, start = exact.model, exact.model.hierarchy.posterior
    spec = {"spec": model.spec, "count": 8} if kind == "riemannian" else {}
    posterior: Any = POSTERIORS[kind](DIMS, D, **spec, **options).double()
    posterior.start = start
    if kind == "riemannian":
        posterior.attach(model)
        data = exact.data(50)[0]
        with torch.no_grad():
            posterior.prepare(lambda n: (data[:n], None))
            posterior.factor.weight.normal_(std=0.1)
    model.hierarchy.posterior = posterior
    return model.requires_grad_(False), x, torch.as_tensor(known)


@pytest.mark.parametrize("cool", [0.7, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_exact_with_the_momentum_and_the_tempering(
    kind: str, cool: float
) -> None:
    """E[exp log_w] = p(x), from a q that is wrong, at steps so long that no energy is kept."""
    model, x, known = refined(kind)
    model.hierarchy.posterior.cool.fill_(math.log(cool / (1 - cool)))
    with torch.no_grad():
        trace = model(Batch(x), Draw(ROWS))
    weight = (trace.log_w - known).exp()
    assert weight.shape == (ROWS, 2)
    error = weight.std(0) / len(weight) ** 0.5
    assert (error < 0.04).all() and ((weight.mean(0) - 1).abs() < 4 * error).all()
    assert (trace.log_w.mean(0) < known).all()
    assert torch.allclose(
        trace.elbo, trace.log_w.mean(0)
    )  # rate takes no closed form for what it cannot know


def test_steps_along_the_gradient_bring_a_wrong_q_closer() -> None:
    """And cooling is what does most of it: along a motion that keeps its energy the bound is what
    it was.
    """
    model, x, known = refined("hamiltonian")
    with torch.no_grad():
        plain = problem("flat").spoil(0.3, 0.2).model(Batch(x), Draw(4000)).elbo
        moved = model(Batch(x), Draw(4000)).elbo
        model.hierarchy.posterior.cool.fill_(12.0)
        warm = model(Batch(x), Draw(4000)).elbo
    assert ((moved - plain).mean() > 0.2 * (known - plain).mean()) and (
        moved > warm
    ).all()


@pytest.mark.parametrize("recipe", ["vae-planar", "riemannian"])
def test_a_q_without_a_density_of_its_own_is_evaluated_like_any_other(
    recipe: str,
) -> None:
    """Exact log p(x), AIS from both starts, the parts of the gap; q beside p(z|x) is refused in a
    sentence.
    """
    values: dict[str, Any] = {
        "posterior.steps": 1,
        "network": "mlp",
        "network.width": 8,
        "network.depth": 1,
    }
    values |= {"posterior.count": 5} if recipe == "riemannian" else {}
    run = untrained("digits", recipe, latent=2, **values)
    x = run.data.test.batch(torch.arange(2))
    exact = log_px(run.model, x, "quadrature").values
    for start in ("q", "prior"):
        chains = ais(
            run.model, x, start=start, chains=4, temperatures=8, pilot_temperatures=4
        )
        assert ((chains.values - exact).abs() < 6 * chains.se + 1.5).all()
    bounds = best_bound(run, x, 0, Search(rounds=1, steps=2, k=32, judge=8))
    assert (bounds["elbo"] < exact + 1).all() and (
        bounds["best"] - bounds["elbo"] > -1
    ).all()
    with pytest.raises(TightboundError, match="beside"):
        three_terms(run.model, x[:1])
