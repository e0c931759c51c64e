"""Annealed importance sampling and bidirectional Monte Carlo: known answers, and what makes them
bounds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from support.latent_cases import examples, folded, wavy
from support.linear_gaussian import PATHS, deep, problem
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.evaluation.estimators import ais as annealing
from tightbound.evaluation.estimators import estimate as estimates
from tightbound.evaluation.estimators.ais import (
    Schedule,
    Settings,
    pilot,
    run_chains,
    sigmoid_schedule,
)
from tightbound.evaluation.estimators.annealing import (
    AnnealedTarget,
    ChainNoise,
    energy,
    leapfrog,
    move,
)
from tightbound.evaluation.estimators.bdmc import bdmc, simulate
from tightbound.evaluation.estimators.estimate import Estimate, log_mean_exp
from tightbound.evaluation.estimators.methods import METHODS, best, log_px
from tightbound.runtime.errors import TightboundError

B, C = 5, 3
QUICK = {"ais-q": {"temperatures": 20}, "ais-prior": {"temperatures": 50}}


# ---- the bridge: its ends, and the Jacobian


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("start", ["q", "prior"])
def test_both_ends_of_the_bridge_are_the_densities_they_should_be(
    path: str, start: str
) -> None:
    """pi_1(u) is p(x, z(u)) |dz/du| and pi_0(u) is start(z(u)) |dz/du|, with the Jacobian taken by
    brute force.
    """
    lg = problem(path).spoil()
    x, _ = lg.data(1)
    target = AnnealedTarget(lg.model, x, start)
    u = torch.randn(1, 1, target.d, dtype=torch.float64)

    def latents(v: Tensor) -> Tensor:
        parts = dict(
            zip(target.sites, v.reshape(1, -1).split(target.widths, -1), strict=True)
        )
        sites = lg.model(
            Batch(x), Draw(source=target.source, noise=lambda name, _: parts[name])
        ).latents
        return torch.cat([sites[name].z for name in target.sites], -1)[0]

    jacobian = torch.autograd.functional.jacobian(latents, u.reshape(-1))
    log_det = torch.linalg.slogdet(jacobian)[1]
    z = latents(u)
    at = dict(zip(target.sites, z[None].split(target.widths, -1), strict=True))
    normal = -(u.square().sum() + target.d * math.log(2 * math.pi)) / 2
    end = normal + target.log_weight(u)[0, 0]
    assert torch.allclose(end, lg.model.joint(Batch(x), at)[0] + log_det)
    sites = lg.model(Batch(x), Draw(given=at)).latents
    start_density = sum(
        (s.q if start == "q" else s.p).log_prob(s.z)[0] for s in sites.values()
    )
    assert torch.allclose(normal, start_density + log_det)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("start", ["q", "prior"])
def test_the_noise_of_a_given_z_makes_that_z(path: str, start: str) -> None:
    lg = problem(path).spoil()
    batch, z, noise = simulate(lg.model, B)
    x = batch.x
    target = AnnealedTarget(lg.model, x, start)
    parts = dict(
        zip(
            target.sites,
            target.noise_of(z, noise).split(target.widths, -1),
            strict=True,
        )
    )
    sites = lg.model(
        Batch(x), Draw(source=target.source, noise=lambda name, _: parts[name])
    ).latents
    for name, value in z.items():
        assert torch.allclose(sites[name].z, value)


# ---- Hamiltonian moves


def _set_out(
    path: str = "top-down", start: str = "prior"
) -> tuple[AnnealedTarget, Tensor, Tensor, Tensor]:
    lg = problem(path).spoil()
    target = AnnealedTarget(lg.model, lg.data(B)[0], start)
    u, momentum = torch.randn(2, C, B, target.d, dtype=torch.float64)
    return target, u, momentum, torch.linspace(0.1, 1, B, dtype=torch.float64)


def test_bug_4_4_leapfrog_is_reversible_and_keeps_volume_and_energy() -> None:
    """Pythae's HVAE moves z with the old momentum: its Jacobian was 1.48, its energy error 28 times
    as large.
    """
    target, u, momentum, t = _set_out()
    step = torch.full((B,), 0.05, dtype=torch.float64)
    start = target.at(u)
    end, speed = leapfrog(target, start, momentum, t, step, 7)
    back, slow = leapfrog(target, end, -speed, t, step, 7)
    assert (end.u - u).abs().max() > 0.1
    assert torch.allclose(back.u, u, atol=1e-9) and torch.allclose(
        -slow, momentum, atol=1e-9
    )
    errors = []
    for size in (0.02, 0.01):
        end, speed = leapfrog(target, start, momentum, t, step * size, round(1 / size))
        errors.append(
            float((energy(end, speed, t) - energy(start, momentum, t)).abs().mean())
        )
    assert 3 < errors[0] / errors[1] < 5, "second order"

    def once(both: Tensor) -> Tensor:
        at, speed = both.reshape(2, 1, 1, -1).unbind()
        end, speed = leapfrog(one, one.at(at), speed, t[-1:], step[-1:] * 6, 3)
        return torch.cat([end.u.reshape(-1), speed.reshape(-1)])

    one = AnnealedTarget(target.model, target.x[:1], "prior")
    both, h = torch.cat([u[0, 0], momentum[0, 0]]), 1e-5
    columns = [
        (once(both + h * e) - once(both - h * e)) / (2 * h)
        for e in torch.eye(len(both), dtype=torch.float64)
    ]
    assert abs(float(torch.linalg.det(torch.stack(columns, 1))) - 1) < 1e-5


@pytest.mark.parametrize("start", ["q", "prior"])
def test_a_move_leaves_its_temperature_unchanged(start: str) -> None:
    """Draws from pi_1, which is normal here and known, stay draws from it, at a step that rejects a
    good part.
    """
    lg = problem("flat").spoil()
    batch, exact, noise = simulate(lg.model, 800)
    x = batch.x
    target = AnnealedTarget(lg.model, x, start)
    u = target.noise_of(exact, noise)[None]
    state, chain = target.at(u), ChainNoise(0, "test", x, 1, target.d)
    one = torch.ones(800, dtype=torch.float64)
    rates = []
    for _ in range(4):
        state, rate = move(target, state, one, 0.9 * one, 2, chain)
        rates.append(float(rate.mean()))
    assert 0.3 < np.mean(rates) < 0.93
    parts = dict(zip(target.sites, state.u[0].split(target.widths, -1), strict=True))
    z = (
        lg.model(
            Batch(x), Draw(source=target.source, noise=lambda name, _: parts[name])
        )
        .latents["z"]
        .z
    )
    weight, offset, cov = lg.chain.conditional("z", ["x"])
    scaled = (z.detach().numpy() - x.numpy() @ weight.T - offset) / np.sqrt(
        np.diag(cov)
    )
    assert stats.kstest(scaled.ravel(), "norm").pvalue > 0.001
    assert (state.u[0] - u[0]).abs().mean() > 0.3


# ---- log p(x)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", QUICK)
def test_ais_with_a_wrong_q_is_within_three_standard_errors_on_every_path(
    path: str, method: str
) -> None:
    lg = problem(path).spoil(0.3, 0.2)
    x, exact = lg.data(60)
    result = log_px(lg.model, x, method, **QUICK[method])
    off = result.values - torch.from_numpy(exact)
    short = (
        result.diagnostic["log_w_sd"].square().mean() / 32
    )  # the bias that the chains themselves show
    assert abs(float(off.mean() + short)) < 3 * result.noise, (
        float(off.mean()),
        float(short),
        result.noise,
    )
    assert (
        result.kind == "lower"
        and 0.4 < float((off / result.se).square().mean().sqrt()) < 1.7
    )
    assert (
        not any("acceptance" in text for text in result.warnings)
        and float(off.std()) < 1.0
    )


@pytest.mark.parametrize("path", ["top-down", "bottom-up"])
def test_ais_of_three_layers_of_latents_moves_them_jointly(path: str) -> None:
    lg = deep(path)
    x, exact = lg.data(50)
    assert AnnealedTarget(lg.model, x, "q").d == 6 and len(lg.model.sites) == 3
    for method in QUICK:
        result = log_px(lg.model, x, method, temperatures=60)
        short = float(result.diagnostic["log_w_sd"].square().mean()) / 32
        assert abs(result.mean + short - exact.mean()) < 3 * result.noise


@pytest.mark.parametrize("make", [wavy, folded])
def test_ais_agrees_with_quadrature_where_nothing_is_linear(make: object) -> None:
    model, x = make(2), examples(40)
    exact = log_px(model, x, "quadrature", tolerance=1e-4).values
    for method in QUICK:
        result = log_px(model, x, method, **QUICK[method])
        short = float(result.diagnostic["log_w_sd"].square().mean()) / 32
        assert abs(result.mean + short - float(exact.mean())) < 3 * result.noise


def test_more_temperatures_tighten_the_bound() -> None:
    lg = problem("top-down").spoil(0.8, 0.4)
    x, exact = lg.data(40)
    means = [
        annealing.ais(lg.model, x, start="prior", temperatures=n, chains=4).mean
        for n in (1, 6, 40)
    ]
    assert means[0] < means[1] - 0.3 < means[2] - 0.3 and means[2] < exact.mean() + 0.1


def test_one_temperature_is_importance_sampling_and_one_chain_has_no_error() -> None:
    lg = problem("flat").spoil()
    x, _ = lg.data(B)
    result = annealing.ais(lg.model, x, temperatures=1, chains=C)
    target = AnnealedTarget(lg.model, x, "q")
    log_w = target.log_weight(ChainNoise(0, "there", x, C, target.d).normal())
    assert torch.allclose(result.values, log_mean_exp(log_w))
    assert annealing.ais(lg.model, x, temperatures=3, chains=1).se.isnan().all()


# ---- what keeps it a bound


def test_nothing_adapts_inside_the_measured_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every step size and temperature of the measured chains is the plan's, there and back."""
    lg = problem("flat").spoil()
    x, _ = lg.data(B)
    settings = Settings(temperatures=9, chains=C)
    target = AnnealedTarget(lg.model, x, "q")
    plan = pilot(target, settings, lambda: None)
    other = pilot(target, Settings(temperatures=9, chains=C, seed=1), lambda: None)
    assert not torch.equal(plan.step, other.step), "the pilot has noise"
    used: list[tuple[Tensor, Tensor]] = []

    def spy(
        target: AnnealedTarget, state: object, t: Tensor, step: Tensor, *others: object
    ) -> object:
        used.append((t, step))
        return move(target, state, t, step, *others)

    monkeypatch.setattr(annealing, "move", spy)
    for exact in (None, torch.zeros(B, target.d, dtype=torch.float64)):
        used.clear()
        run_chains(target, plan, settings, lambda: None, exact)
        order = range(1, 9) if exact is None else range(8, 0, -1)
        assert len(used) == 8
        for (t, step), k in zip(used, order, strict=True):
            assert torch.equal(t, plan.t[k]) and torch.equal(step, plan.step[k])
    assert (
        (plan.t.diff(dim=0) > 0).all()
        and (plan.t[0] == 0).all()
        and (plan.t[-1] == 1).all()
    )


def test_a_bad_plan_still_gives_a_bound_and_says_that_it_is_bad() -> None:
    lg = problem("flat").spoil(0.8, 0.3)
    x, exact = lg.data(80)
    settings = Settings(temperatures=6)
    target = AnnealedTarget(lg.model, x, "q")
    for size in (0.001, 4.0):
        t = sigmoid_schedule(6)[:, None].expand(-1, 80)
        log_w, rate = run_chains(
            target, Schedule(t, torch.full_like(t, size)), settings, lambda: None
        )
        assert float(log_mean_exp(log_w).mean()) < exact.mean() + 0.02
        assert ((rate < 0.4) | (rate > 0.95)).double().mean() > 0.5
        warned = annealing.chains_estimate(settings, "lower", log_w, rate).warnings
        assert any("acceptance" in text for text in warned)


def test_cuts_order_and_neighbours_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lg = problem("bottom-up").spoil()
    x, _ = lg.data(7)
    few = {"temperatures": 6, "chains": C, "pilot_temperatures": 4}
    whole = log_px(lg.model, x, "ais-q", **few)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    turned = log_px(lg.model, x[order], "ais-q", **few)
    monkeypatch.setattr(estimates, "VALUES_AT_ONCE", 7 * 2 * C)
    parts = log_px(lg.model, x, "ais-q", **few)
    assert torch.allclose(turned.values, whole.values[order], atol=1e-6)
    assert torch.allclose(parts.values, whole.values, atol=1e-6)
    joined = Estimate.join(
        [log_px(lg.model, part, "ais-q", **few) for part in x.split(3)]
    )
    assert torch.allclose(joined.values, whole.values, atol=1e-6)
    assert not torch.allclose(
        log_px(lg.model, x, "ais-q", seed=1, **few).values, whole.values
    )


def test_ticks_add_up_to_the_examples() -> None:
    lg = problem("flat").spoil()
    x, _ = lg.data(7)
    for method, settings in (
        ("ais-q", {"temperatures": 8}),
        ("importance", {"k": 30}),
        ("quadrature", {"tolerance": 0.01}),
    ):
        ticks: list[float] = []
        log_px(lg.model, x, method, tick=ticks.append, **settings)
        assert sum(ticks) == pytest.approx(7)


# ---- bidirectional Monte Carlo


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("start", ["q", "prior"])
def test_log_px_lies_between_the_two_bounds(path: str, start: str) -> None:
    """Settings so poor that the bounds are far apart, so that a bound on the wrong side would be
    seen.
    """
    lg = problem(path).spoil(0.8, 0.4)
    result = bdmc(lg.model, 200, start=start, temperatures=3, chains=2)
    exact = torch.from_numpy(lg.chain.log_density(x=result.x.numpy()))
    below, above = exact - result.lower.values, result.upper.values - exact
    for side in (below, above):
        assert float(side.mean()) > 3 * float(side.std()) / 200**0.5
    assert torch.allclose(result.gap, below + above) and result.mean > 3 * result.se > 0
    assert (result.lower.kind, result.upper.kind) == ("lower", "upper")
    same = log_px(lg.model, result.x, f"ais-{start}", temperatures=3, chains=2)
    assert torch.allclose(same.values, result.lower.values), (
        "the BDMC gap is of the settings used on data"
    )


def test_good_settings_close_the_gap() -> None:
    result = bdmc(problem("top-down").spoil(0.2, 0.2).model, 60, temperatures=40)
    assert abs(result.mean) < 0.03 + 3 * result.se and result.se < 0.05


def test_simulated_examples_are_the_models_own() -> None:
    lg = problem("bottom-up")
    batch, z, _ = simulate(lg.model, 3000)
    x = batch.x
    mean, cov = lg.chain.moments(["x"])
    assert (
        stats.kstest((x.numpy()[:, 0] - mean[0]) / cov[0, 0] ** 0.5, "norm").pvalue
        > 0.001
    )
    assert z.keys() == {"z1", "z2"} and torch.equal(x, simulate(lg.model, 3000)[0].x)


def test_what_ais_cannot_do_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lg = problem("flat")
    x, _ = lg.data(2)
    with pytest.raises(
        TightboundError, match="chains = 0 cannot be used: give a whole number from 1"
    ):
        log_px(lg.model, x, "ais-q", chains=0)
    with pytest.raises(
        TightboundError, match=r"no setting 'temperature'.*temperatures"
    ):
        log_px(lg.model, x, "ais-prior", temperature=5)

    def unknown(dist: object, z: Tensor) -> Tensor:
        raise NotImplementedError("Flow cannot say which noise makes a given z")

    monkeypatch.setattr("tightbound.evaluation.estimators.annealing.to_noise", unknown)
    with pytest.raises(TightboundError, match=r"Flow cannot say.*set start to prior"):
        bdmc(lg.model, 2, temperatures=3)
    assert set(METHODS) >= {"quadrature", "importance", "ais-q", "ais-prior"}


# ---- the best of several


def _made(method: str, values: Tensor, seed: int, kind: str = "lower") -> Estimate:
    return Estimate(
        method, kind, values, torch.full_like(values, 0.1), settings={"seed": seed}
    )  # type: ignore[arg-type]


def test_the_best_is_chosen_without_looking_at_its_own_noise() -> None:
    """The larger of two equal bounds is too high by 0.56 of their error on average; one chosen by
    pilots is not.
    """
    n = 4000
    noise = 0.1 * torch.randn(4, n, dtype=torch.float64)
    measured = [_made(name, noise[i], 0) for i, name in enumerate("ab")]
    result = best(
        measured, [_made(name, noise[2 + i], 1) for i, name in enumerate("ab")]
    )
    assert (
        abs(result.mean)
        < 4 * 0.1 / n**0.5
        < float(torch.maximum(noise[0], noise[1]).mean())
    )
    assert result.kind == "lower" and set(result.diagnostic["chosen"].tolist()) <= {
        0,
        1,
    }


def test_the_best_takes_another_method_where_it_is_clearly_ahead() -> None:
    a, b = (
        torch.zeros(10, dtype=torch.float64),
        torch.full((10,), -1.0, dtype=torch.float64),
    )
    b[3], b[4] = 1.0, 0.2  # clearly ahead; ahead by no more than its error
    result = best(
        [_made("a", a, 0), _made("b", b, 0)], [_made("a", a, 1), _made("b", b, 1)]
    )
    assert result.diagnostic["chosen"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert result.values[3] == 1.0 and result.settings["methods"] == ["a", "b"]
    exact = best(
        [_made("a", a, 0), _made("q", b, 0, "exact")],
        [_made("a", a, 1), _made("q", b, 1, "exact")],
    )
    assert (
        torch.equal(exact.values, b)
        and exact.kind == "exact"
        and (exact.diagnostic["chosen"] == 1).all()
    )
    with pytest.raises(ValueError, match="another seed"):
        best([_made("a", a, 0)], [_made("a", a, 0)])


def test_the_best_of_importance_and_ais_where_q_is_bad_is_ais() -> None:
    lg = problem("flat").spoil(1.0, -0.5)
    x, exact = lg.data(30)
    quick = {"importance": {"k": 30}, "ais-q": {"temperatures": 25}}
    runs = [
        [log_px(lg.model, x, m, seed=seed, **s) for m, s in quick.items()]
        for seed in (0, 1)
    ]
    result = best(*runs)
    noise = float(result.se.nan_to_num(1.0).square().sum().sqrt()) / len(x)
    assert (
        result.mean > runs[0][0].mean + 0.3
        and abs(result.mean - exact.mean()) < 0.1 + 3 * noise
    )
    assert float((result.diagnostic["chosen"] == 1).double().mean()) > 0.8
