"""Objectives are functions of a trace; what is reported never depends on them.

Step: what a pass hands out.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.core_cases import (
    grads_ok,
    losses_of,
    model_of,
    plain,
    rows,
    shake,
    shared,
    spec_of,
)
from support.linear_gaussian import inverse_soft_clip
from torch import Tensor
from torch.distributions import Normal

from tightbound.components.objectives import (
    OBJECTIVES,
    Capacity,
    Distortion,
    Elbo,
    Iwae,
)
from tightbound.components.posteriors.normal import WIDEST
from tightbound.core.batch import Batch
from tightbound.core.component import Objective
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.distributions import kl_per_dimension
from tightbound.models.recipes import Recipe, part
from tightbound.models.vae import VAE
from tightbound.training.step.module import Step

B, K, D = 5, 3, 6
FIXED = part("gaussian", scale="fixed", value=1.0)
HIERARCHY = Recipe(
    hierarchy="bottom-up", latent=(3, 2), network="mlp", likelihood="gaussian"
)

UNTOLD = {
    n: cls for n, cls in OBJECTIVES.items() if not cls.learns_from_labels
}  # those with labels: models/test_labelled.py
WHOLE_BATCH = [
    n for n, cls in UNTOLD.items() if cls.per_example is False or n == "elbo"
]


def trace_of(
    objective: str = "elbo", k: int = K, **changes: object
) -> tuple[VAE, Trace]:
    model = shake(model_of(plain(objective, **changes), spec_of("real", (D,)))[0])
    assert isinstance(model, VAE)
    return model, model(Batch(rows("real", (D,), B)), Draw(k))


def case(name: str, **changes: object) -> tuple[VAE, Objective, int]:
    """A small model with this objective and its defaults, and a K that it can share out."""
    k = shared(OBJECTIVES[name], K)  # type: ignore[arg-type]
    model, objective = model_of(plain(name, k=k, **changes), spec_of("real", (D,)))
    return shake(model), objective, k  # type: ignore[return-value]


@pytest.mark.parametrize("name", UNTOLD)
def test_every_objective_is_a_finite_loss_that_reaches_every_parameter(
    name: str,
) -> None:
    served = OBJECTIVES[name].compatible_posteriors
    free = served in (None, "all") or "normal" in served
    model, objective, k = case(name, **({"prior": part("learned")} if free else {}))
    losses = losses_of(objective, model(Batch(rows("real", (D,), B)), Draw(k)))
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    assert set(losses) == {"all"} or set(losses) == set(model.groups())
    sum(losses.values()).backward()
    grads_ok(model)


@pytest.mark.parametrize("name", UNTOLD)
def test_a_loss_that_says_it_is_per_example_may_be_cut_anywhere(name: str) -> None:
    """The mean over the batch, weighted by how many: so gradient accumulation and sharding change
    nothing.
    """
    model, objective, k = case(name)
    if (
        name == "capacity"
    ):  # the absolute value bends only where some batches are above it and some below
        objective = Capacity(
            capacity=float(
                model(Batch(rows("real", (D,), 500)), Draw(k)).rate.mean().detach()
            )
        )
    x, noise, slices = rows("real", (D,), B), torch.randn(k, B, 3), torch.randn(50, 3)

    def loss(at: slice) -> dict[str, Tensor]:
        cut = noise[:, at].reshape(-1, 3)
        return losses_of(
            objective,
            model(
                Batch(x[at]),
                Draw(k, noise=lambda n, d: slices if n == "slices" else cut),
            ),
        )

    whole, first, second = loss(slice(0, B)), loss(slice(0, 2)), loss(slice(2, B))
    same = [
        torch.allclose(whole[g], (2 * first[g] + 3 * second[g]) / B, rtol=1e-5)
        for g in whole
    ]
    assert all(same) == objective.per_example  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    [*WHOLE_BATCH, "free bits"],
)
def test_a_loss_over_the_batch_gathers_the_rows_of_all_processes(name: str) -> None:
    """Two processes with unequal parts: their losses, averaged as their gradients are, are that of
    the whole batch.
    """
    model, objective, _ = case("elbo" if name in ("elbo", "free bits") else name)
    if name in ("elbo", "free bits"):
        objective = Elbo(free_bits=0.4)
    x, noise, slices = rows("real", (D,), B), torch.randn(K, B, 3), torch.randn(50, 3)

    def loss(
        at: slice, others: list[Tensor] | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        asked: list[Tensor] = []

        def gather(own: Tensor) -> Tensor:
            asked.append(own)
            return own if others is None else torch.cat([own, others[len(asked) - 1]])

        cut = noise[:, at].reshape(-1, 3)
        trace = model(
            Batch(x[at]), Draw(K, noise=lambda n, d: slices if n == "slices" else cut)
        )
        trace.gather = gather
        value = losses_of(objective, trace)
        assert asked, "it never asked for the rows of the others"
        return value, asked

    one, two = slice(0, 2), slice(2, B)
    first, second = loss(one, loss(two)[1])[0], loss(two, loss(one)[1])[0]
    for group, whole in loss(slice(0, B))[0].items():
        assert torch.allclose(
            (2 * first[group] + 3 * second[group]) / B, whole, rtol=1e-5
        )


@pytest.mark.parametrize(
    "name", [n for n in UNTOLD if n not in WHOLE_BATCH or n == "elbo"]
)
def test_losses_are_nats_summed_over_dimensions_and_averaged_over_the_batch(
    name: str,
) -> None:
    """The field's most repeated question: neither a mean over pixels nor a sum over the batch."""
    model, objective, k = case(name)
    x, noise = rows("real", (D,), 2), torch.randn(k * 2, 3)
    one = losses_of(objective, model(Batch(x), Draw(k, noise=lambda n, d: noise)))
    again = noise.reshape(k, 2, 3).repeat(1, 4, 1).reshape(-1, 3)
    four = losses_of(
        objective, model(Batch(x.repeat(4, 1)), Draw(k, noise=lambda n, d: again))
    )
    assert all(torch.allclose(one[group], four[group], rtol=1e-5) for group in one)


def test_distortion_is_half_the_squared_error_and_its_constant_summed_over_dimensions() -> (
    None
):
    _, trace = trace_of("distortion", k=1, likelihood=FIXED)
    assert isinstance(trace, Trace)
    error = (trace.batch.x - trace.px.mean).square().sum(-1)
    constant = D / 2 * torch.log(torch.tensor(2 * torch.pi))
    assert torch.allclose(trace.distortion, error / 2 + constant)
    assert torch.allclose(
        trace.distortion, -Normal(trace.px.mean, 1.0).log_prob(trace.batch.x).sum(-1)
    )
    assert torch.allclose(Distortion()(trace, Clock()), trace.distortion.mean())


def test_autoencoder_and_vae_distortions_are_on_one_scale() -> None:
    """Peer bug 4.7: the AE's loss was twice the VAE's for the same weights."""
    spec = spec_of("real", (D,))
    ae, distortion = model_of(plain("distortion", likelihood=FIXED), spec)
    vae, elbo = model_of(plain("elbo", likelihood=FIXED), spec)
    missing = vae.load_state_dict(ae.state_dict(), strict=False)
    assert set(missing.missing_keys) == {
        "hierarchy.posterior.log_scale.weight",
        "hierarchy.posterior.log_scale.bias",
    }
    assert not missing.unexpected_keys
    x = Batch(rows("real", (D,), B))
    a, v = ae(x, Draw()), vae(x, Draw(source="point"))
    assert torch.equal(a.distortion, v.distortion)
    sharp = vae(x, Draw(noise=lambda name, dist: torch.zeros(B, 3)))
    assert torch.equal(sharp.distortion, a.distortion)
    gap = elbo(sharp, Clock()) - distortion(a, Clock())
    assert torch.allclose(gap, sharp.rate.mean(), atol=1e-5)


def test_elbo_with_beta_and_warmup_weighs_the_rate_only() -> None:
    _, trace = trace_of()
    d, r = trace.distortion.mean(), trace.rate.mean()
    assert torch.allclose(Elbo()(trace, Clock()), -trace.elbo.mean())
    assert torch.allclose(Elbo()(trace, Clock(0.0)), d + r)
    assert torch.allclose(Elbo(beta=4.0)(trace, Clock()), d + 4 * r)
    assert torch.allclose(Elbo(beta=4.0, warmup=0.2)(trace, Clock(0.05)), d + r)
    assert torch.allclose(
        Elbo(warmup=0.2)(trace, Clock(torch.tensor(0.1))), d + 0.5 * r
    )
    assert torch.allclose(Elbo(warmup=0.2)(trace, Clock(0.0)), d)
    assert torch.allclose(Elbo(warmup=0.2)(trace, Clock(0.9)), d + r)


def test_ramp_rises_to_one_and_stays() -> None:
    shares = [0.0, 0.1, 0.2, 0.4, 1.0]
    assert [Clock(s).ramp(0.4) for s in shares] == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert [float(Clock(torch.tensor(s)).ramp(0.4)) for s in shares] == [
        0.0,
        0.25,
        0.5,
        1.0,
        1.0,
    ]
    assert Clock(0.0).ramp(0.0) == 1.0 and Clock().ramp(1.0) == 1.0


@pytest.mark.parametrize(
    "objective", [Elbo(beta=9.0), Elbo(warmup=0.9), Elbo(free_bits=2.0), Iwae()]
)
def test_reported_figures_never_see_the_objective(objective: Elbo | Iwae) -> None:
    model, fresh = trace_of()
    noise = torch.randn(K * B, 3)

    def figures(loss: Elbo | Iwae | None) -> list[Tensor]:
        trace = model(fresh.batch, Draw(K, noise=lambda n, d: noise))
        if loss:
            loss(trace, Clock(0.1)).backward()
            model.zero_grad()
        return [trace.elbo, trace.rate, trace.distortion, trace.log_w, trace.log_p_hat]

    assert all(
        torch.equal(a, b)
        for a, b in zip(figures(None), figures(objective), strict=True)
    )


def collapse(model: VAE, means: Tensor) -> None:
    """q(z|x) = N(means, 1) for every x: KL per feature is means^2 / 2."""
    posterior = model.hierarchy.posterior
    with torch.no_grad():
        for linear, bias in (
            (posterior.mean, means),
            (posterior.log_scale, inverse_soft_clip(np.zeros(3), WIDEST)),
        ):
            linear.weight.zero_()
            linear.bias.copy_(bias)


def test_free_bits_cost_nothing_below_the_floor_and_pull_nothing() -> None:
    model, trace = trace_of()
    collapse(model, torch.tensor([0.2, 2.0, 0.0]))  # 0.02, 2 and 0 nats
    trace = model(trace.batch, Draw(K))
    assert torch.allclose(trace.rate.mean(), torch.tensor(2.02), atol=1e-3)
    loss = Elbo(free_bits=0.5)(trace, Clock()) - trace.distortion.mean()
    assert torch.allclose(loss, torch.tensor(3.0), atol=1e-3)
    grad = torch.autograd.grad(loss, model.hierarchy.posterior.mean.bias)[0]
    assert grad[0] == 0 and grad[2] == 0 and abs(grad[1] - 2.0) < 1e-3


def test_free_bits_are_counted_on_the_batch_mean_of_each_feature() -> None:
    """Kingma et al. 2016, eq. 15: the minibatch mean is clamped, not each example."""
    _, trace = trace_of()
    q, p = trace.latents["z"].q, trace.latents["z"].p
    assert q is not None and p is not None
    each = kl_per_dimension(q, p)
    assert each is not None
    floor = (
        each.mean(0).median().item()
    )  # some features are below it, some above; and examples on both sides
    expected = each.mean(0).clamp(min=floor).sum()
    loss = Elbo(free_bits=floor)(trace, Clock()) - trace.distortion.mean()
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert not torch.allclose(loss, each.clamp(min=floor).mean(0).sum(), rtol=1e-4)
    assert torch.allclose(
        Elbo(beta=3.0, free_bits=floor)(trace, Clock()),
        trace.distortion.mean() + 3 * expected,
    )


def test_free_bits_of_zero_and_next_to_zero_agree_on_every_path() -> None:
    """A floor that nothing reaches changes nothing: the rate of a hierarchy is the same
    either way.
    """
    model = shake(model_of(HIERARCHY, spec_of("real", (D,)))[0])
    trace = model(Batch(rows("real", (D,), 200)), Draw(K))
    assert torch.allclose(
        Elbo(free_bits=1e-9)(trace, Clock()), Elbo()(trace, Clock()), rtol=1e-5
    )


def test_importance_objective_weighs_samples_by_their_normalised_weight() -> None:
    """d/dtheta of the bound is sum_k w~_k d log w_k (peer bug 4.11: the worst sample had most
    weight).
    """
    _, trace = trace_of("iwae")
    grad = torch.autograd.grad(Iwae()(trace, Clock()), trace.log_w, retain_graph=True)[
        0
    ]
    assert torch.allclose(grad, -trace.log_w.softmax(0) / B, atol=1e-6)


@pytest.mark.parametrize(
    "objective", [Elbo(), Elbo(beta=7.0, warmup=0.5, free_bits=1.0), Iwae()]
)
def test_step_sums_over_the_batch_whatever_the_objective(
    objective: Elbo | Iwae,
) -> None:
    model, trace = trace_of()
    x, noise = trace.batch.x, torch.randn(K * B, 3)
    step = Step(model, objective, K)
    losses, sums = step(Batch(x), Clock(0.1), lambda n, d: noise)
    reference = model(Batch(x), Draw(K, noise=lambda n, d: noise))
    assert set(sums) == {"n", "distortion", "rate", "elbo"} and sums["n"].item() == B
    assert torch.equal(losses["all"], objective(reference, Clock(0.1)))
    for name in ("distortion", "rate", "elbo"):
        assert (
            torch.allclose(sums[name], getattr(reference, name).sum())
            and not sums[name].requires_grad
        )
    halves = [
        step(
            Batch(x[at]),
            Clock(),
            lambda n, d, at=at: noise.reshape(K, B, 3)[:, at].reshape(-1, 3),
        )[1]
        for at in (slice(0, 2), slice(2, B))
    ]
    assert all(
        torch.allclose(halves[0][key] + halves[1][key], sums[key], rtol=1e-5)
        for key in sums
    )


def test_step_of_an_autoencoder_has_no_bound_to_report() -> None:
    model, trace = trace_of("distortion", k=1)
    losses, sums = Step(model, Distortion())(trace.batch, Clock())
    assert set(sums) == {"n", "distortion"} and torch.allclose(
        losses["all"] * B, sums["distortion"]
    )


def test_step_draws_k_samples_and_passes_on_one_loss_per_group() -> None:
    model, trace = trace_of()
    seen: list[int] = []

    def objective(t: Trace, clock: Clock) -> dict[str, Tensor]:
        seen.append(t.k)
        return {"inference": -t.elbo.mean(), "generative": t.distortion.mean()}

    losses, _ = Step(model, objective, 4)(trace.batch, Clock())
    assert seen == [4] and set(losses) == set(model.groups())


@pytest.mark.parametrize(
    "recipe",
    [plain(), HIERARCHY, HIERARCHY.model_copy(update={"hierarchy": "top-down"})],
)
def test_groups_partition_the_parameters(recipe: Recipe) -> None:
    model, _ = model_of(recipe, spec_of("real", (D,)))
    groups = model.groups()
    ids = [id(p) for group in groups.values() for p in group]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}
    trace = model(Batch(rows("real", (D,), B)), Draw(source="p"))
    trace.log_px.sum().backward()
    assert all(p.grad is None for p in groups["inference"])
    assert all(
        p.grad is not None for p in groups["generative"]
    )  # and nothing of q among them
