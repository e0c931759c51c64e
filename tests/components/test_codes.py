"""Discrete latents: categories, codebooks and grids."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from support.core_cases import context, grads_ok, model_of, plain, rows, shake, spec_of
from torch import Tensor

from tightbound.components.posteriors.codes import LevelGrid, OneHot, VectorTables
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.distributions import Codes, Quantized, from_noise, kl, noise_like, point
from tightbound.models.recipes import RECIPES, part
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError
from tightbound.training.step.module import Step

B, K, N, SHAPE = 5, 3, 8_000, (6,)
CASES = {
    "categorical": {"classes": 3},
    "vector-quantized": {"codes": 4, "dim": 3},
    "finite-scalar": {"levels": [3, 4, 2]},
}
RESIDUAL = ("vector-quantized", {"codes": 4, "dim": 3, "levels": 3})
EVERY = [*CASES.items(), RESIDUAL]


def build(
    name: str, options: dict[str, object], latent: int = 6
) -> tuple[VAE, Step, Tensor]:
    """A small model with such codes, its step, and data that its codebook has seen."""
    objective = part("commitment" if name == "vector-quantized" else "elbo")
    recipe = plain(
        objective=objective,
        posterior=part(name, **options),
        prior=part("codes"),
        latent=latent,
    )
    model, loss = model_of(recipe, spec_of("real", SHAPE))
    data = rows("real", SHAPE, 40)
    step = Step(model, loss)
    step.prepare(lambda n: (data[:n], None))
    return model, step, data


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_log_terms_bound_and_gradients(name: str, options: dict[str, object]) -> None:
    model, _, data = build(name, options)
    trace = model(Batch(data[:B]), Draw(K))
    site = trace.latents["z"]
    codes = model.hierarchy.posterior.codebook
    assert (
        trace.bound
        and trace.log_w.shape == site.log_p.shape == site.log_q.shape == (K, B)
    )
    assert torch.allclose(
        site.log_p, torch.full((K, B), -codes.groups * math.log(codes.size))
    )
    assert torch.allclose(site.log_q.flatten(), site.q.log_prob(site.z), atol=1e-5)
    assert point(site.q).shape == (K * B, 6)
    shake(model)
    trace = model(Batch(data), Draw(K))
    q = trace.latents["z"].q
    (
        trace.elbo.mean() - (q.commitment.mean() if isinstance(q, Quantized) else 0)
    ).backward()
    grads_ok(model)


@pytest.mark.parametrize(("name", "options"), CASES.items())
def test_numbers_and_vectors_are_two_names_of_one_code_and_mass_sums_to_one(
    name: str, options: dict[str, object]
) -> None:
    """Over all K^N codes: each vector has its own number, and the prior's masses and q's sum to
    one.
    """
    model, _, data = build(name, options)
    codes = model.hierarchy.posterior.codebook
    if codes.groups * math.log(codes.size) > 9:
        pytest.fail("too many codes to count: make the case smaller")
    every = torch.tensor(
        list(itertools.product(range(codes.size), repeat=codes.groups))
    )
    z = codes.vectors(every)
    assert z.shape == (len(every), 6) and torch.equal(codes.index(z), every)
    assert len({tuple(row) for row in z.tolist()}) == len(every)
    p = model.generate(len(every), Draw(source="p", given={"z": z})).latents["z"]
    assert abs(p.log_p.double().exp().sum().item() - 1) < 1e-5
    q = (
        model(Batch(data[:1].expand(len(every), -1)), Draw(source="point"))
        .latents["z"]
        .q
    )
    assert abs(q.log_prob(z).double().exp().sum().item() - 1) < 1e-4


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_prior_draws_every_code_alike_and_a_cooled_one_is_a_code_too(
    name: str, options: dict[str, object]
) -> None:
    model, _, _ = build(name, options)
    codes = model.hierarchy.posterior.codebook
    p = model.hierarchy.prior(context(N), Draw(source="p"), None)
    z, log_p = from_noise(p, noise_like(p))
    assert torch.allclose(log_p, torch.full((N,), -codes.groups * math.log(codes.size)))
    share = torch.bincount(codes.index(z)[:, 0], minlength=codes.size) / N
    if options.get("levels") != 3:
        assert ((share - 1 / codes.size).abs() < 5 * (1 / codes.size / N) ** 0.5).all()
        assert torch.equal(codes.vectors(codes.index(z)), z)


def test_closed_form_kls_equal_monte_carlo_and_cost_what_they_should() -> None:
    logits = torch.randn(1, 4, 3).expand(N, -1, -1)
    q, p = (
        Codes(logits, OneHot(4, 3)),
        Codes(torch.randn(1, 4, 3).expand(N, -1, -1), OneHot(4, 3)),
    )
    z, log_q = from_noise(q, noise_like(q))
    sampled, closed = log_q - p.log_prob(z), kl(q, p)
    assert (
        closed is not None
        and abs(sampled.mean() - closed[0]) < 5 * sampled.std() / N**0.5
    )
    share = z.mean(0).unflatten(0, (4, 3))
    assert ((share - logits[0].softmax(-1)).abs() < 5 * 0.5 / N**0.5).all()
    assert torch.allclose(q.mean[0], logits[0].softmax(-1).flatten())
    assert ((z.var(0) - q.variance[0]).abs() < 5 * 0.5 / N**0.5).all()
    model, _, data = build(*RESIDUAL)
    trace = model(Batch(data), Draw())
    assert torch.allclose(trace.rate, torch.full((40,), 6 * math.log(4.0)))


def test_gumbel_softmax_value_is_the_code_and_gradient_that_of_the_relaxation() -> None:
    logits = torch.randn(5, 2, 3, requires_grad=True)
    noise, weight = torch.rand(5, 2, 3), torch.randn(6)
    z = from_noise(Codes(logits, OneHot(2, 3), relax=0.7), noise)[0]
    assert torch.allclose(z.sum(-1), torch.full((5,), 2.0)) and torch.allclose(
        z, z.round(), atol=1e-6
    )
    soft = ((logits - (-noise.log()).log()) / 0.7).softmax(-1).flatten(1)
    ours, known = (
        torch.autograd.grad((t * weight).sum(), logits, retain_graph=True)[0]
        for t in (z, soft)
    )
    assert torch.allclose(ours, known, atol=1e-6)


def exact_bound(log_q: Tensor, k: int) -> Tensor:
    """E[log (1/K) sum_k p(z_k) / q(z_k)] by a sum over all K-tuples of categories, p uniform."""
    total = torch.zeros(())
    for codes in itertools.product(range(len(log_q)), repeat=k):
        log_w = torch.stack([-math.log(len(log_q)) - log_q[c] for c in codes])
        total = total + torch.stack([log_q[c] for c in codes]).sum().exp() * (
            log_w.logsumexp(0) - math.log(k)
        )
    return total


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("path_alone", [False, True])
def test_log_q_of_a_relaxed_code_has_a_path_so_that_bounds_rise_where_they_should(
    k: int, path_alone: bool
) -> None:
    """Read off the code's number, log q had its score alone: the gradient of the K-sample bound
    pointed backwards.
    """
    n, logits = 40_000, torch.tensor([[[1.0, 0.0, -1.0, 0.5]]], requires_grad=True)
    (exact,) = torch.autograd.grad(
        exact_bound(logits.flatten().log_softmax(0), k), logits
    )
    q = Codes(logits.expand(k * n, -1, -1), OneHot(1, 4), relax=1.0)
    z, log_q = from_noise(q, noise_like(q))
    assert torch.allclose(log_q, q.log_mass(q.codebook.index(z)), atol=1e-6)
    if path_alone:
        log_q = Codes(
            logits.detach().expand(k * n, -1, -1), OneHot(1, 4), relax=1.0
        ).log_prob(z)
    log_w = (-math.log(4) - log_q).reshape(k, n)
    own = log_w.detach().softmax(0) ** 2 if path_alone else None
    bound = log_w.logsumexp(0) if own is None else (own * log_w).sum(0)
    (found,) = torch.autograd.grad(bound.mean(), logits)
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), 0) > 0.8
    assert 0.3 < found.norm() / exact.norm() < 3


def test_relaxed_codes_are_not_trained_with_a_prior_that_reads_numbers() -> None:
    changes = {
        "posterior": part("categorical"),
        "prior": part("pixelcnn"),
        "latent": 20,
    }
    with pytest.raises(
        TightboundError, match="no gradient to train by: train with another and fit it"
    ):
        model_of(plain(**changes), spec_of("real", SHAPE))
    model_of(plain("vimco", **changes), spec_of("real", SHAPE))


def test_nearest_codes_are_chosen_and_the_gradient_goes_straight_through() -> None:
    model, _, data = build("vector-quantized", CASES["vector-quantized"])
    posterior = model.hierarchy.posterior
    h = model.features(data)
    q = posterior(h, context(len(h), h), None)
    far = torch.cdist(q.raw.flatten(0, 1), posterior.codebook.table[0])
    assert torch.equal(q.code.index.flatten(), far.argmin(-1))
    assert torch.allclose(
        q.commitment, far.amin(-1).square().reshape(40, 2).sum(1), atol=1e-4
    )
    assert torch.equal(q.through, q.code.vector)
    raw = posterior.head(h.detach())
    (posterior(h.detach(), context(len(h)), None).through * 2).sum().backward()
    assert torch.allclose(posterior.head.bias.grad, torch.full_like(raw[0], 80.0))


def test_each_level_of_a_residual_codebook_leaves_less() -> None:
    model, _, data = build("vector-quantized", {"codes": 16, "dim": 3, "levels": 3})
    q = model(Batch(data), Draw()).latents["z"].q
    _, left = q.codebook.quantise(q.raw)
    sizes = left.square().sum(-1).mean((1, 2))
    assert sizes[1] < sizes[0] and sizes[2] < sizes[1]
    assert torch.allclose(
        q.codebook.vectors(q.code.index), (q.raw - left[-1]).flatten(1), atol=1e-5
    )


def test_codebook_follows_the_mean_of_what_chose_it() -> None:
    """At decay 0 an entry is the mean of its encodings after one step; sums add over processes."""
    model, step, data = build("vector-quantized", {"codes": 4, "dim": 3, "decay": 0.0})
    codes = model.hierarchy.posterior.codebook
    _, sums = step(Batch(data), Clock())
    q = model(Batch(data), Draw()).latents["z"].q
    raw, index = q.raw.flatten(0, 1), q.code.index.flatten()
    halves = [step(Batch(part), Clock())[1] for part in data.chunk(2)]
    for key in ("codes/count", "codes/total"):
        assert torch.allclose(halves[0][key] + halves[1][key], sums[key], atol=1e-4)
    step.after_step(sums)
    for k in range(4):
        if (index == k).sum() >= 1:
            assert torch.allclose(codes.table[0, k], raw[index == k].mean(0), atol=1e-4)


def test_a_dead_code_starts_again_at_an_encoding() -> None:
    model, step, data = build("vector-quantized", {"codes": 4, "dim": 3})
    codes = model.hierarchy.posterior.codebook
    with torch.no_grad():
        codes.table[0, 2] = codes.total[0, 2] = 1e4
        codes.count[0] = torch.tensor([5.0, 5.0, 1e-4, 5.0])
    step.after_step(step(Batch(data), Clock())[1])
    raw = model(Batch(data), Draw()).latents["z"].q.raw.flatten(0, 1)
    assert torch.cdist(codes.table[0, 2:3], raw).min() < 1e-3 and codes.count[0, 2] > 1


def test_a_dead_code_starts_at_an_encoding_of_one_part_of_a_step_not_between_two() -> (
    None
):
    """Of encodings in two heaps far apart, their mean over eight parts would lie in neither."""
    torch.manual_seed(2)
    codes = VectorTables(parts=1, size=64, dim=2, levels=1, decay=0.99)
    sums: dict[str, Tensor] = {}
    for _ in range(8):
        raw = (20.0 * (torch.arange(40) % 2) - 10 + torch.randn(2, 40) / 10).T.reshape(
            40, 1, 2
        )
        trace: Any = SimpleNamespace(latents={"z": SimpleNamespace(q=codes(raw))})
        found = codes.statistics(trace)
        sums = {name: value + sums.get(name, 0) for name, value in found.items()}
    fresh = (sums["codes/fresh"] / sums["codes/lot"]).flatten(0, 1)
    heaps = torch.tensor([[-10.0, -10.0], [10.0, 10.0]])
    assert (torch.cdist(fresh, heaps).amin(1) < 1).float().mean() > 0.7


def test_training_lowers_the_loss_and_uses_the_codes() -> None:
    model, step, data = build("vector-quantized", {"codes": 8, "dim": 3})
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(80):
        found, sums = step(Batch(data), Clock())
        optimiser.zero_grad()
        found["all"].backward()
        optimiser.step()
        step.after_step(sums)
        losses.append(found["all"].item())
    used = model(Batch(data), Draw()).latents["z"].q.code.index.unique()
    assert losses[-1] < losses[0] - 1 and len(used) >= 6


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5, 5, 5), (4, 2, 7)])
def test_grid_levels_are_as_many_as_asked_for_and_all_can_be_reached(
    levels: tuple[int, ...],
) -> None:
    codes = LevelGrid(1, levels)
    from tightbound.components.posteriors.codes import FiniteScalarPosterior

    posterior = FiniteScalarPosterior(len(levels), len(levels), list(levels))
    with torch.no_grad():
        posterior.head.weight.copy_(torch.eye(len(levels)))
        posterior.head.bias.zero_()
    h = torch.linspace(-6, 6, 3001).unsqueeze(1).expand(-1, len(levels))
    z = posterior(h, context(len(h), h), None).through
    assert [len(z[:, d].unique()) for d in range(len(levels))] == list(levels)
    assert torch.equal(codes.vectors(codes.index(z)), z) and z.abs().max() <= 1


@pytest.mark.parametrize("name", ["categorical-vae", "vq-vae", "rq-vae", "fsq"])
def test_recipes_save_and_load_bit_for_bit(name: str) -> None:
    spec, x = spec_of("levels", (1, 8, 8)), rows("levels", (1, 8, 8), B)
    one, two = (model_of(RECIPES[name], spec)[0] for _ in range(2))
    two.load_state_dict(load(save(one.state_dict())))

    def noise(site: str, d: Any) -> Tensor:
        drawn: Tensor = d.noise_form.draw(torch.Generator().manual_seed(1))
        return drawn

    first, second = (m(Batch(x), Draw(K, noise=noise)) for m in (one, two))
    assert torch.equal(first.log_w, second.log_w) and first.log_w.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"posterior": part("categorical"), "latent": 7},
            ["latent = 7", "10 classes", "multiple of 10"],
        ),
        (
            {"posterior": part("vector-quantized"), "latent": 9},
            ["latent = 9", "multiple of 8"],
        ),
        (
            {"posterior": part("finite-scalar", levels=[4, 1]), "latent": 8},
            ["one level"],
        ),
        (
            {"posterior": part("vector-quantized"), "prior": part("standard")},
            ["different spaces", "set prior codes"],
        ),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(TightboundError) as caught:
        model_of(plain(**{"prior": part("codes"), **changes}), spec_of("real", SHAPE))
    assert all(word in str(caught.value) for word in words), str(caught.value)
