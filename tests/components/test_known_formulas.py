"""Parts against formulas written out here, where a part that agrees with itself could still be
wrong.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.core_cases import (
    PARTS,
    context,
    grads_ok,
    model_of,
    plain,
    prior_of,
    rows,
    spec_of,
    suited,
)
from torch import Tensor

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.components.likelihoods.colour import LogisticMixtureLikelihood
from tightbound.components.objectives import OBJECTIVES
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.batch import Batch
from tightbound.core.component import EncodedData
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock, Context, Draw
from tightbound.distributions import from_noise, noise_like
from tightbound.distributions.flow import zuko_maps
from tightbound.models.build import build, resolve, resolve_domain
from tightbound.models.recipes import RECIPES, Recipe, part
from tightbound.runtime.errors import TightboundError
from tightbound.training.step.module import Step

B, D = 5, 3


# ---- each part is in a contract test, by its kind or by name


def test_no_part_is_left_out_of_the_tests_that_walk_the_tables() -> None:
    """A part that these lists do not hold needs a place in the file that is named."""
    latents = {
        n for n, cls in POSTERIORS.items() if cls.latent_space != "codes"
    }  # components/test_posteriors_and_priors.py
    assert set(POSTERIORS) - latents == {
        "categorical",
        "vector-quantized",
        "finite-scalar",
    }  # components/test_codes.py
    codes = {n for n, cls in PRIORS.items() if cls.latent_space == "codes"}
    assert codes == {
        "codes",
        "pixelcnn",
    }  # components/test_codes.py, runs/test_priors_after.py
    assert set(LIKELIHOODS) - {name for name, _ in PARTS} == {
        "logistic-mixture",
        "fields",
    }  # test_core_colour, _fields
    labels = {n for n, cls in OBJECTIVES.items() if cls.learns_from_labels}
    assert labels == {
        "semi-supervised"
    }  # models/test_labelled.py; all others: components/test_objectives.py


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_not_saved_is_a_constant(name: str) -> None:
    """Buffers outside the weights file; one that is learned, or taken from data, would be lost with
    the process.
    """
    domain = {"nb-vae": "count", "mixed": "mixed"}.get(name, "levels")
    spec = spec_of("levels", (3, 32, 32) if name == "vae-colour" else (1, 8, 8))
    if domain == "mixed":
        spec = DataSpec.model_validate(
            {
                "shape": (1,),
                "domain": "mixed",
                "fields": [{"name": "a", "kind": "real"}],
            }
        )
    elif domain == "count":
        spec = spec_of("count", (7,))
    recipe, spec, _ = resolve_domain(RECIPES[name], suited(RECIPES[name], spec))
    lost(build(resolve(recipe, spec), spec)[0])


@pytest.mark.parametrize(
    "name", [n for n in PRIORS if n not in ("pixelcnn", "conditional", "two-stage")]
)
def test_what_is_not_saved_of_a_prior_is_a_constant(name: str) -> None:
    lost(prior_of(name, 4))


def lost(module: torch.nn.Module) -> None:
    unsaved = {key for key, _ in module.named_buffers()} - set(module.state_dict())
    assert {key.rpartition(".")[2] for key in unsaved} <= {
        "zero",
        "seen",
        "log_weight",
        "at_real",
    }, unsaved


# ---- likelihoods


@pytest.mark.parametrize(
    ("name", "domain"),
    [case for case in PARTS if case[0] in ("poisson", "negative-binomial")],
)
def test_counts_have_the_mean_of_training_times_what_the_decoder_says(
    name: str, domain: str
) -> None:
    """m_d = mean_d exp(y_d), each dimension with its own, and variance m (Poisson) or m +
    m^2 / r.
    """
    spec = DataSpec(
        shape=(3,),
        domain="count",
        mean=torch.tensor([0.5, 4.0, 30.0]),
        std=torch.ones(3),
    )
    likelihood: Any = LIKELIHOODS[name](spec)
    y = torch.randn(B, 1, 3) / 2
    m = torch.tensor([0.5, 4.0, 30.0]) * y.squeeze(1).exp()
    excess: float | Tensor = 0.0
    if name == "negative-binomial":
        r = torch.tensor([0.3, 2.0, 7.0])
        likelihood.log_r.data.copy_(r.log())
        excess = m.square() / r
    px = likelihood(y, context(B), None)
    assert torch.allclose(px.mean, m, rtol=0.02) and torch.allclose(
        px.variance, m + excess, rtol=0.05
    )


def test_what_a_decoder_says_of_colours_is_in_units_of_their_spread() -> None:
    spec = spec_of("levels", (3, 4, 4))
    doubled = spec.model_copy(update={"std": 2 * spec.std})
    y, found = torch.randn(B, 8, 3, 4, 4), []
    for one in (spec, doubled):
        px = LogisticMixtureLikelihood(one, components=2)(y, context(B), None)
        found.append((px.loc - spec.centre, px.inverse))
    (loc, inverse), (loc2, inverse2) = found
    assert torch.allclose(loc2, 2 * loc, rtol=1e-4, atol=1e-4) and torch.allclose(
        inverse, 2 * inverse2, rtol=1e-4
    )


# ---- priors


def test_the_metric_of_a_manifold_is_that_of_the_variances_around_a_code() -> None:
    """log sqrt(det G), G = sum_i w_i S_i^-1 + least exp(-decay |z|^2) I, with whole matrices; eq.

    of section 3.
    """
    prior: Any = prior_of("riemannian", D, centres=6).requires_grad_(False)
    at, sd = torch.randn(30, D), torch.rand(30, D) + 0.2
    prior.fit(EncodedData(at, lambda: (at, sd), 0))
    z, mean, scale = torch.randn(4, D), prior.mean, prior.scale
    known = []
    for one in z:
        inverse = [torch.diag(s.square()).inverse() for s in scale]
        weight = [
            torch.exp(-(one - m) @ p @ (one - m) / prior.rho.square())
            for m, p in zip(mean, inverse, strict=True)
        ]
        metric = sum(w * p for w, p in zip(weight, inverse, strict=True))
        metric = metric + prior.least * torch.exp(
            -prior.decay * one.square().sum()
        ) * torch.eye(D)
        known.append(0.5 * torch.logdet(metric))
    assert torch.allclose(prior.volume(z)[0], torch.stack(known), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maf", "iaf"])
def test_which_way_an_autoregressive_prior_is_one_pass(name: str) -> None:
    """Of each of its two networks: a density takes one for MAF, and a sample d or more; for IAF it
    is a sample.
    """
    prior: Any = prior_of(name, D, steps=2)
    calls: list[int] = []
    for module in prior.maps.modules():
        if hasattr(module, "hyper"):
            module.hyper.register_forward_hook(lambda *_: calls.append(1))
    p = prior(Context(B), Draw(source="p"), None)
    z = from_noise(p, noise_like(p))[0]
    drawn = len(calls)
    p.log_prob(z)
    quick, slow = (
        (len(calls) - drawn, drawn) if name == "maf" else (drawn, len(calls) - drawn)
    )
    assert quick == 2 and slow >= 2 * D


@pytest.mark.parametrize("kind", ["coupling", "affine", "spline"])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_flows_start_near_the_identity_whatever_the_number_of_features(
    kind: str, d: int
) -> None:
    e = torch.randn(500, d)
    for seed in range(5):
        torch.manual_seed(seed)
        z = zuko_maps(kind, d, 6, 32)(None).inv(e)
        assert (z - e).square().mean().sqrt() < 0.5


def test_every_parameter_of_a_pixelcnn_gets_a_gradient() -> None:
    recipe = plain(
        posterior=part("finite-scalar", levels=[3]),
        latent=4,
        prior=part("pixelcnn", width=8, depth=2),
    )
    model: Any = model_of(recipe, spec_of("real", (6,)))[0]
    for p in model.hierarchy.prior.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model(Batch(rows("real", (6,), B)), Draw()).log_w.mean().backward()
    grads_ok(model.hierarchy.prior)


# ---- parts of one's own keep the marks of their classes


class Point(POSTERIORS["delta"]):  # type: ignore[misc]
    """An autoencoder's code under another name."""


class OnSphere(POSTERIORS["normal"]):  # type: ignore[misc]
    latent_space = "sphere"


class Sampler(PRIORS["standard"]):  # type: ignore[misc]
    has_density = False


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"posterior": Point}, "is a point and has no 'elbo'"),
        ({"posterior": OnSphere}, "different spaces: set prior sphere"),
        ({"prior": Sampler}, "no gradient to train by"),
    ],
)
def test_marks_of_an_own_part_are_read_like_those_of_the_table(
    parts: dict[str, Any], sentence: str
) -> None:
    spec = spec_of("real", (6,))
    with pytest.raises(TightboundError, match=sentence):
        resolve(
            Recipe(**parts, latent=3, network="mlp", size="s", likelihood="gaussian"),
            spec,
        )


def test_an_own_point_is_no_bound_and_trains_by_distortion() -> None:
    recipe = Recipe(
        posterior=Point,
        objective="distortion",
        latent=3,
        network="mlp",
        size="s",
        likelihood="gaussian",
    )
    model, objective = model_of(recipe, spec_of("real", (6,)))
    losses, sums = Step(model, objective)(Batch(rows("real", (6,), B)), Clock())
    assert not recipe.has_bound and "rate" not in sums and losses


def test_a_point_that_does_not_say_so_is_told_how_to() -> None:
    model, _ = model_of(plain(), spec_of("real", (6,)))
    trace = model(Batch(rows("real", (6,), B)), Draw(source="point"))
    with pytest.raises(TightboundError, match="is_point_mass = True"):
        trace.rate  # noqa: B018


# ---- options out of their range


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"prior": part("flow", steps=0)}, "steps = 0: give 1 or more"),
        ({"posterior": part("hamiltonian", steps=0)}, "steps = 0: give 1 or more"),
        ({"prior": part("mixture", components=0)}, "components = 0: give 1 or more"),
        ({"objective": part("dip", kind=3)}, "kind = 3: give 1 to 2"),
        ({"objective": part("ciwae", beta=2.0), "k": 4}, "beta = 2.0: give 0 to 1"),
        ({"objective": part("elbo", beta=-1.0)}, "beta = -1.0: give 0 or more"),
        ({"objective": part("elbo", beta=math.nan)}, "give a finite number"),
        (
            {"likelihood": part("gaussian", scale="fixed", value=0.0)},
            "value = 0.0: give more than 0",
        ),
        ({"classes": 5}, "classes are of hierarchy 'labelled'"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_the_range(
    parts: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TightboundError, match=sentence):
        model_of(plain().model_copy(update=parts), spec_of("real", (6,)))


def test_classes_are_as_many_as_the_labels() -> None:
    spec = spec_of("levels", (1, 8, 8)).model_copy(update={"labels": tuple("abcd")})
    recipe = resolve_domain(RECIPES["m2"], spec)[0]
    assert resolve(recipe, spec).classes == 4
    with pytest.raises(
        TightboundError, match="classes = 3 are not as many as the labels have, 4"
    ):
        resolve(recipe.model_copy(update={"classes": 3}), spec)


def test_what_may_be_zero_or_negative_is_taken() -> None:
    spec = spec_of("real", (6,))
    for objective in (
        part("renyi", alpha=-1.0),
        part("elbo", beta=0.0),
        part("capacity", capacity=0.0),
    ):
        model_of(plain(objective, k=2 if objective.name == "renyi" else 1), spec)
    pyramid = part("pyramid", sites=[0, 1], channels=4)
    model_of(
        plain(hierarchy="top-down", latent=(2, 2), network=pyramid),
        spec_of("levels", (1, 8, 8)),
    )


def test_the_renyi_bound_at_one_is_the_elbo() -> None:
    model, objective = model_of(
        plain(part("renyi", alpha=1.0), k=5), spec_of("real", (6,))
    )
    trace = model(Batch(rows("real", (6,), B)), Draw(5))
    loss = objective(trace, Clock())
    assert isinstance(loss, Tensor) and torch.allclose(
        loss, -trace.log_w.mean(), rtol=0.05
    )
