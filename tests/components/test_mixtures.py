"""Mixture priors: their density, and those made of the model's own posteriors."""

from __future__ import annotations

import copy

import pytest
import torch
from support.core_cases import B, model_of, plain, rows, spec_of
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Context, Draw
from tightbound.distributions import Mixture, from_noise, noise_like
from tightbound.exporting.graphs import exportable
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError
from tightbound.training.step.module import Step

SHAPE = (6,)


def mixture(
    m: int = 4, d: int = 3, n: int = 5, scale: float = 1.0
) -> tuple[Mixture, MixtureSameFamily]:
    """Ours, and torch's own in float64."""
    loc, sd, weight = (
        3 * torch.randn(m, d),
        scale * (torch.rand(m, d) + 0.2),
        torch.randn(m),
    )
    parts = Independent(Normal(loc.double(), sd.double()), 1)
    return Mixture(loc, sd, weight, n), MixtureSameFamily(
        Categorical(logits=weight.double()), parts
    )


@pytest.mark.parametrize("scale", [1.0, 0.003])
def test_mixture_density_is_the_one_of_torch_also_for_very_narrow_components(
    scale: float,
) -> None:
    """The squares are multiplied out, which would cancel in float32 where |z| / scale is 1000."""
    ours, known = mixture(n=7, scale=scale)
    z = from_noise(ours, noise_like(ours))[0]
    assert torch.allclose(
        ours.log_prob(z).double(), known.log_prob(z.double()), atol=1e-5
    )
    assert torch.allclose(ours.mean[0].double(), known.mean, atol=1e-5)
    assert torch.allclose(ours.variance[0].double(), known.variance, atol=1e-5)


def test_mixture_draws_components_by_their_weight() -> None:
    p = Mixture(
        torch.tensor([[-9.0], [0.0], [9.0]]),
        torch.full((3, 1), 0.1),
        torch.tensor([0.2, 0.5, 0.3]).log(),
        20_000,
    )
    z = from_noise(p, noise_like(p))[0]
    share = torch.stack(
        [(z < -4).float().mean(), (z.abs() < 4).float().mean(), (z > 4).float().mean()]
    )
    assert (
        (share - torch.tensor([0.2, 0.5, 0.3])).abs() < 5 * (0.25 / 20_000) ** 0.5
    ).all()


def test_peers_4_12_vamp_densities_are_normal_densities() -> None:
    """A peer divides the log-variance by the variance; here each component is the posterior of a
    pseudo-input.
    """
    model, _ = model_of(plain(prior=part("vamp", components=5)), spec_of("real", SHAPE))
    trace = model(Batch(rows("real", SHAPE, B)), Draw(3))
    q = model.hierarchy.prior.codes(model.hierarchy.prior.inputs)
    each = Independent(Normal(q.mean, q.stddev), 1).log_prob(
        trace.latents["z"].z.unsqueeze(1)
    )
    known = each.logsumexp(1) - torch.tensor(5.0).log()
    assert torch.allclose(trace.latents["z"].log_p.flatten(), known, atol=1e-4)


def test_vamp_pseudo_inputs_start_at_data_get_gradients_and_stay_in_range() -> None:
    model, objective = model_of(
        plain(prior=part("vamp", components=7)), spec_of("levels", (1, 3, 4))
    )
    data, prior, step = (
        rows("levels", (1, 3, 4), 30),
        model.hierarchy.prior,
        Step(model, objective),
    )
    step.prepare(lambda n: (data[:n], torch.arange(n)))
    domain = prior.inputs * model.spread + model.centre
    assert torch.allclose(domain, data[:7], atol=1e-4)
    losses, sums = step(Batch(data), Clock())
    losses["all"].backward()
    assert (
        prior.inputs.grad is not None
        and (prior.inputs.grad.flatten(1).abs().sum(1) > 0).all()
    )
    with torch.no_grad():
        prior.inputs += torch.randn_like(prior.inputs) * 50
    step.after_step(sums)
    domain = prior.inputs * model.spread + model.centre
    assert domain.min() > -1e-3 and domain.max() < 16 + 1e-3 and domain.max() > 15


@pytest.mark.parametrize("name", ["vamp", "exemplar"])
def test_fewer_examples_than_inputs_are_repeated(name: str) -> None:
    model, objective = model_of(plain(prior=part(name)), spec_of("real", SHAPE))
    data = rows("real", SHAPE, 3)
    Step(model, objective).prepare(lambda n: (data[:n], torch.arange(3)))
    assert torch.allclose(
        model.hierarchy.prior.inputs[:3], model.hierarchy.prior.inputs[3:6]
    )


@pytest.mark.parametrize("name", ["vamp", "exemplar"])
def test_a_copy_reads_its_own_encoder_and_what_is_kept_follows_the_weights(
    name: str,
) -> None:
    model, _ = model_of(plain(prior=part(name)), spec_of("real", SHAPE))
    other, z = copy.deepcopy(model).eval(), torch.randn(B, 3)

    def density(m: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            return m.generate(B, Draw(source="p", given={"z": z})).latents["z"].log_p

    model.eval()
    first = density(other)
    assert torch.equal(density(model), first)
    with torch.no_grad():
        other.hierarchy.posterior.mean.weight += 0.3
    assert torch.equal(density(model), first) and not torch.allclose(
        density(other), first
    )
    other.load_state_dict(model.state_dict())
    assert torch.equal(density(other), first)
    assert not any(
        "_model" in key or key.startswith("path.prior.encoder")
        for key in model.state_dict()
    )


@pytest.mark.parametrize("training", [False, True])
def test_an_exemplar_is_left_out_of_its_own_prior(training: bool) -> None:
    """Row i is training example i: with all exemplars in use, its prior is the mean over the
    others.
    """
    model, objective = model_of(
        plain(prior=part("exemplar", count=4)), spec_of("real", SHAPE)
    )
    data = rows("real", SHAPE, 4)
    Step(model, objective).prepare(lambda n: (data[:n], torch.tensor([7, 3, 9, 5])))
    model.train(training)
    noise = torch.randn(8, 3)
    own, free = (
        model(Batch(data, index=index), Draw(2, noise=lambda *_: noise)).latents["z"]
        for index in (torch.tensor([7, 3, 9, 5]), None)
    )
    prior = model.hierarchy.prior
    mean = prior.codes(prior.inputs).mean
    each = Independent(Normal(mean, torch.ones_like(mean)), 1).log_prob(
        own.z.unsqueeze(1)
    )
    left_out = each.masked_fill(torch.eye(4).bool().repeat(2, 1), -torch.inf)
    assert torch.allclose(
        own.log_p.flatten(), left_out.logsumexp(1) - torch.tensor(3.0).log(), atol=1e-4
    )
    assert torch.allclose(
        free.log_p.flatten(), each.logsumexp(1) - torch.tensor(4.0).log(), atol=1e-4
    )


def test_training_sees_a_random_part_of_the_exemplars_that_the_seed_decides() -> None:
    model, _ = model_of(
        plain(prior=part("exemplar", count=50, step=10)), spec_of("real", SHAPE)
    )
    x, noise = rows("real", SHAPE, B), torch.randn(B, 3)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(
            model(Batch(x), Draw(noise=lambda *_: noise)).latents["z"].log_p.detach()
        )
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"prior": part("vamp"), "posterior": part("planar")},
            ["'vamp'", "'planar'", "set posterior normal"],
        ),
        (
            {"prior": part("vamp"), "hierarchy": "bottom-up", "latent": (3, 2)},
            ["'vamp'", "bottom-up", "top-down"],
        ),
        (
            {"posterior": part("von-mises-fisher")},
            ["different spaces", "set prior sphere"],
        ),
        ({"prior": part("sphere")}, ["different spaces", "set prior standard"]),
        (
            {"posterior": part("wrapped-normal"), "prior": part("sphere")},
            ["set prior wrapped-normal"],
        ),
        (
            {"posterior": part("residual"), "prior": part("flow")},
            ["'residual'", "'flow'", "standard or learned"],
        ),
        (
            {"posterior": part("ladder"), "hierarchy": "bottom-up", "latent": (3, 2)},
            ["'ladder'", "bottom-up"],
        ),
        (
            {
                "posterior": part("power-spherical"),
                "prior": part("sphere"),
                "hierarchy": "top-down",
                "latent": (3, 2),
            },
            ["one latent", "set hierarchy flat"],
        ),
        (
            {
                "posterior": part("von-mises-fisher"),
                "prior": part("sphere"),
                "latent": 1,
            },
            ["latent = 2 or more"],
        ),
    ],
)
def test_latents_that_do_not_fit_are_refused_in_a_sentence(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(TightboundError) as caught:
        model_of(plain(**changes), spec_of("real", SHAPE))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_flow_on_exemplars_has_the_density_of_mapped_codes() -> None:
    """|det dT/dz| times the mixture around T(codes) at T(z), with the row's own left out."""
    recipe = plain(prior=part("exemplar", count=4, flow=2, width=8))
    model, objective = model_of(recipe, spec_of("real", SHAPE))
    data = rows("real", SHAPE, 4)
    Step(model, objective).prepare(lambda n: (data[:n], torch.tensor([7, 3, 9, 5])))
    prior = model.hierarchy.prior
    with torch.no_grad():
        for parameter in prior.maps.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.eval()
    trace = model(Batch(data, index=torch.tensor([7, 3, 9, 5])), Draw())
    z = trace.latents["z"].z.detach()
    maps = prior.maps(None)
    centres = maps.call_and_ladj(prior.codes(prior.inputs).mean)[0]
    each = Independent(Normal(centres, torch.ones_like(centres)), 1)
    left_out = each.log_prob(maps(z).unsqueeze(1)).masked_fill(
        torch.eye(4).bool(), -torch.inf
    )
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda v: maps(v[None])[0], row)
            for row in z
        ]
    )
    known = left_out.logsumexp(1) - torch.tensor(3.0).log()
    known = known + jacobian.det().abs().log()
    assert torch.allclose(trace.latents["z"].log_p.flatten(), known, atol=1e-4)
    assert not torch.allclose(maps(z), z, atol=0.1)
    graph_prior = exportable(model).hierarchy.prior
    p = prior(Context(3), Draw(source="p"), None)
    fixed = graph_prior(Context(3), Draw(source="p"), None)
    assert torch.allclose(fixed.log_prob(z[:3]), p.log_prob(z[:3]), atol=1e-5)
    assert not hasattr(graph_prior, "inputs")
    drawn, log_p = from_noise(p, noise_like(p))
    assert torch.allclose(p.log_prob(drawn), log_p, atol=1e-3)
