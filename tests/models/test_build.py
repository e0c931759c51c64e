"""Recipe x DataSpec -> model: every sentence of refusal, the automatic choices, parts by import
path, saved weights.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from support.core_cases import (
    PARTS,
    batch_of,
    grads_ok,
    losses_of,
    model_of,
    plain,
    rows,
    shake,
    shared,
    spec_of,
    suited,
)

import tightbound as tb
from tightbound.components.likelihoods import AUTO, LIKELIHOODS
from tightbound.config import configure, write
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock, Draw
from tightbound.models.build import build, resolve, resolve_domain
from tightbound.models.compatibility import check
from tightbound.models.recipes import RECIPES, Part, Recipe, part
from tightbound.runtime.errors import TightboundError, lookup, nearest

B, K = 2, 3
SHAPES = [(1,), (7,), (1, 1, 1), (3, 3, 5), (1, 28, 20), (3, 17, 23)]
DEEP = {"hierarchy": "top-down", "latent": (3, 2)}


GRIDDED = ("conv", "pyramid")  # networks that want neighbours


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_serves_every_shape(name: str, shape: tuple[int, ...]) -> None:
    domain = "real" if len(shape) == 1 else "levels"
    if len(shape) == 1 and RECIPES[name].network.name in GRIDDED:
        with pytest.raises(TightboundError, match="needs signals, images or volumes"):
            model_of(RECIPES[name], spec_of(domain, shape))
        return
    if name == "autoencoder-kl" and shape != (1, 28, 20):
        problem = "is for images, but" if len(shape) == 1 else "multiples of 4"
        with pytest.raises(TightboundError, match=problem):
            model_of(RECIPES[name], spec_of(domain, shape))
        return
    if name == "nb-vae":
        domain = "count"
    if name == "mixed":
        with pytest.raises(TightboundError, match="is for mixed data"):
            model_of(RECIPES[name], spec_of(domain, shape))
        return
    if name == "vae-colour" and (len(shape) != 3 or shape[0] not in (1, 3)):
        with pytest.raises(TightboundError, match="is for images"):
            model_of(RECIPES[name], spec_of("levels", shape))
        return
    plain_spec = suited(RECIPES[name], spec_of(domain, shape))
    recipe, spec, notes = resolve_domain(
        RECIPES[name].model_copy(update={"size": "s"}), plain_spec
    )
    recipe = resolve(recipe, spec)
    model, objective = build(recipe, spec)
    x = batch_of(spec, B)
    k = shared(objective, K)
    trace = model(x, Draw(k, enumerate=True))
    assert trace.log_px.shape == (trace.k, B) and trace.log_px.isfinite().all()
    assert trace.bound == (recipe.posterior.name != "delta")
    losses = losses_of(objective, trace)
    assert all(loss.isfinite() and loss.shape == () for loss in losses.values())
    sum(losses.values()).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters()
    )
    drawn = model.generate(4, Draw(source="p")).px.sample()
    assert drawn.shape == (4, *shape) and drawn.isfinite().all()
    assert bool(notes) == (spec.domain != domain)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) == 3])
@pytest.mark.parametrize("path", ["flat", "top-down", "bottom-up"])
def test_convolutions_serve_every_image_along_every_path(
    path: str, shape: tuple[int, ...]
) -> None:
    latent = 4 if path == "flat" else (4, 2)
    recipe = Recipe(
        hierarchy=path, latent=latent, network="conv", size="s", prior="learned"
    )
    model, objective = model_of(recipe, spec_of("levels", shape))
    shake(model)
    objective(model(Batch(rows("levels", shape, B)), Draw(K)), Clock()).backward()
    grads_ok(model)
    assert model.generate(4, Draw(source="p")).px.mean.shape == (4, *shape)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_their_paper_and_purpose_and_do_what_they_say(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.paper and recipe.purpose
    assert Recipe(**recipe.model_dump()) == recipe
    many = recipe.objective.name in ("iwae", "piwae", "ciwae", "dreg", "vimco")
    assert (recipe.k > 1) == many, "K samples serve a bound of K samples, and only that"


@pytest.mark.parametrize(("name", "domain"), PARTS)
@pytest.mark.parametrize("path", ["flat", "bottom-up"])
def test_saved_weights_load_into_a_fresh_model_bit_for_bit(
    name: str, domain: str, path: str
) -> None:
    """Also the data's mean and spread: a loaded spec has none.

    safetensors refuses tensors that share memory.
    """
    recipe = plain(
        likelihood=part(name),
        hierarchy=path,
        latent=3 if path == "flat" else (3, 2),
        prior=part("learned"),
    )
    spec = spec_of(domain, (2, 3, 4))
    model = shake(build(recipe, spec)[0])
    fresh = build(recipe, DataSpec.model_validate_json(spec.model_dump_json()))[0]
    fresh.load_state_dict(load(save(model.state_dict())))
    x = Batch(rows(domain, (2, 3, 4), B))

    def figures(m: torch.nn.Module) -> torch.Tensor:
        trace = m(x, Draw(K, noise=lambda site, dist: torch.full_like(dist.mean, 0.3)))
        return torch.stack([trace.log_w, trace.log_px])

    assert (
        torch.equal(figures(model), figures(fresh)) and figures(model).isfinite().all()
    )


@pytest.mark.parametrize(("name", "domain"), PARTS)
def test_training_does_not_move_the_data_s_mean_or_the_encoder_s_centre(
    name: str, domain: str
) -> None:
    """The likelihood's base starts at the mean; it must not be the mean."""
    spec = spec_of(domain, (6,))
    mean = spec.mean.clone()
    model = build(plain(likelihood=part(name)), spec)[0]
    with torch.no_grad():
        for p in model.parameters():
            p += 1
    assert torch.equal(spec.mean, mean) and torch.equal(model.centre, mean)


REFUSALS: list[tuple[dict[str, Any], tuple[int, ...], list[str]]] = [
    (
        {"network": part("conv")},
        (7,),
        ["'conv' needs signals", "7 numbers", "set network mlp"],
    ),
    (
        {"posterior": part("delta")},
        (7,),
        ["'delta' is a point", "'elbo'", "objective distortion"],
    ),
    (
        {"posterior": part("delta"), "objective": part("iwae")},
        (7,),
        ["'delta' is a point", "'iwae'", "posterior normal"],
    ),
    (
        {"objective": part("distortion"), "posterior": part("normal")},
        (7,),
        ["'distortion'", "to a point", "posterior delta"],
    ),
    (
        {"objective": part("rae"), "posterior": part("normal")},
        (7,),
        ["'rae' would train the posterior to a point"],
    ),
    (
        {"objective": part("dip"), **DEEP},
        (7,),
        ["'dip' has no meaning along hierarchy 'top-down'", "flat"],
    ),
    (
        {"objective": part("iwae", m=4), "k": 6},
        (7,),
        ["'iwae' cannot share k = 6", "m = 4", "multiple"],
    ),
    ({"objective": part("piwae", m=0)}, (7,), ["m = 0"]),
    ({"objective": part("total-correlation", rows=5)}, (7,), ["no option 'rows'"]),
    ({"latent": (3, 2)}, (7,), ["'flat' has one latent", "2", "bottom-up"]),
    ({"hierarchy": "top-down"}, (7,), ["'top-down' needs two latents", "[32, 16]"]),
    (
        {"hierarchy": "bottom-up", "latent": (3,)},
        (7,),
        ["'bottom-up' needs two latents"],
    ),
    (
        {"posterior": part("nromal")},
        (7,),
        ["unknown posterior 'nromal'", "did you mean 'normal'?"],
    ),
    ({"prior": part("lerned")}, (7,), ["unknown prior 'lerned'", "'learned'"]),
    (
        {"prior": part("zzz")},
        (7,),
        ["unknown prior 'zzz'", "known: ", "learned, ", "standard"],
    ),
    (
        {"likelihood": part("gausian")},
        (7,),
        ["unknown likelihood 'gausian'", "'gaussian'"],
    ),
    ({"objective": part("elbow")}, (7,), ["unknown objective 'elbow'", "'elbo'"]),
    (
        {"objective": part("elbo", bta=2)},
        (7,),
        ["objective 'elbo'", "no option 'bta'", "'beta'"],
    ),
    (
        {"posterior": part("normal", scal="shared")},
        (7,),
        ["posterior 'normal'", "'scal'", "'scale'"],
    ),
    (
        {"prior": part("standard", scale=2.0)},
        (7,),
        ["prior 'standard' has no option 'scale'", "it has none"],
    ),
    (
        {"prior": part("learned", latent=3)},
        (7,),
        ["prior 'learned' has no option 'latent'"],
    ),
    (
        {"likelihood": part("gaussian", flor=1)},
        (7,),
        ["likelihood 'gaussian'", "'flor'", "'floor'"],
    ),
    (
        {"likelihood": part("gaussian", floor="a")},
        (7,),
        ["likelihood 'gaussian'", "floor"],
    ),
    ({"posterior": part("normal", scale="shard")}, (7,), ["'shard'", "'shared'"]),
    ({"objective": part("elbo", beta="big")}, (7,), ["objective 'elbo'", "beta"]),
    ({"network": part("cnov")}, (7,), ["unknown network 'cnov'", "'conv'"]),
    ({"network": part("mlp", widht=3)}, (7,), ["network 'mlp'", "'widht'", "'width'"]),
    (
        {"network": part("mlp", width=0)},
        (7,),
        ["network 'mlp'", "width = 0", "give 1 or more"],
    ),
    (
        {"prior": part("no.such.module:Prior")},
        (7,),
        ["'no.such.module:Prior' cannot be imported"],
    ),
    (
        {"prior": part("tightbound.components.priors:Horseshoe")},
        (7,),
        ["cannot be imported", "Horseshoe"],
    ),
]


@pytest.mark.parametrize(("changes", "shape", "words"), REFUSALS)
def test_what_does_not_fit_is_refused_in_a_sentence(
    changes: dict[str, Any], shape: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(TightboundError) as caught:
        build(
            plain(**{"likelihood": part("gaussian"), **changes}), spec_of("real", shape)
        )
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message


MISFITS = [
    (
        "bernoulli",
        "levels",
        ["'bernoulli' is for binary data", "binarize", "continuous-bernoulli"],
    ),
    (
        "bernoulli",
        "unit",
        ["'bernoulli' is for binary data", "binarize", "continuous-bernoulli"],
    ),
    ("bernoulli", "real", ["set likelihood gaussian"]),
    ("bernoulli", "categorical", ["set likelihood categorical"]),
    ("gaussian", "binary", ["set likelihood bernoulli"]),
    (
        "discretized-logistic",
        "real",
        ["'discretized-logistic' is for levels data", "gaussian"],
    ),
    ("discretized-logistic", "unit", ["continuous-bernoulli or gaussian"]),
    ("continuous-bernoulli", "real", ["set likelihood gaussian"]),
    ("categorical", "real", ["set likelihood gaussian"]),
]


@pytest.mark.parametrize(("likelihood", "domain", "words"), MISFITS)
def test_a_likelihood_that_does_not_fit_the_domain_is_refused(
    likelihood: str, domain: str, words: list[str]
) -> None:
    """Peer bug 4.17: Bernoulli on greys."""
    with pytest.raises(TightboundError) as caught:
        resolve_domain(plain(likelihood=part(likelihood)), spec_of(domain, (7,)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("likelihood", "domain"), [case[:2] for case in MISFITS])
def test_build_itself_refuses_a_likelihood_that_does_not_fit(
    likelihood: str, domain: str
) -> None:
    """Also for who calls `build` without resolving the domain first: no Bernoulli on greys by the
    back door.
    """
    with pytest.raises(TightboundError, match=f"'{likelihood}' is for"):
        build(plain(likelihood=part(likelihood)), spec_of(domain, (7,)))


def test_categories_of_binary_data_are_two() -> None:
    spec = DataSpec(shape=(4,), domain="binary")
    recipe, spec, _ = resolve_domain(plain(likelihood=part("categorical")), spec)
    px = build(recipe, spec)[0].generate(3, Draw(source="p")).px
    assert px.log_prob(torch.ones(3, 4)).isfinite().all()


def test_every_domain_has_its_likelihood_and_options_survive() -> None:
    for domain, name in AUTO.items():
        recipe, spec, notes = resolve_domain(Recipe(), spec_of(domain, (7,)))
        assert recipe.likelihood.name == name and spec.domain == domain
        if domain == "mixed":
            assert recipe.prior.name == "vamp" and "prior vamp" in notes[0]
        else:
            assert recipe.prior.name == "standard" and not notes
    recipe, _, _ = resolve_domain(
        Recipe(likelihood=part("auto", scale="shared")), spec_of("levels", (7,))
    )
    assert recipe.likelihood.options == {"scale": "shared"}


@pytest.mark.parametrize(
    "likelihood", [n for n, c in LIKELIHOODS.items() if "unit" in c.domains]
)
def test_levels_under_a_density_are_announced_and_read_as_reals(
    likelihood: str,
) -> None:
    levels = spec_of("levels", (1, 2, 3))
    recipe, spec, notes = resolve_domain(plain(likelihood=part(likelihood)), levels)
    assert (
        spec.domain == "unit"
        and spec.divisor == 16
        and recipe.likelihood.name == likelihood
    )
    assert len(notes) == 1 and all(
        w in notes[0] for w in (likelihood, "17 levels", "x / 16", "do not compare")
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RECIPES)
def test_resolve_leaves_nothing_automatic(name: str, shape: tuple[int, ...]) -> None:
    chosen = RECIPES[name]
    if chosen.likelihood.name in (
        "negative-binomial",
        "logistic-mixture",
        "fields",
    ):  # for data of another kind
        chosen = chosen.model_copy(update={"likelihood": part("auto")})
    if len(shape) == 1 and chosen.network.name in (*GRIDDED, "autoencoder-kl"):
        chosen = chosen.model_copy(update={"network": part("mlp")})
    recipe, spec, _ = resolve_domain(chosen, suited(chosen, spec_of("unit", shape)))
    recipe = resolve(recipe, spec)
    assert "auto" not in (
        recipe.network.name,
        recipe.size,
        recipe.latent,
        recipe.likelihood.name,
        recipe.prior.name,
    )
    assert resolve(recipe, spec) == recipe
    check(recipe, spec, trust=True)
    kept = Recipe(
        network="mlp", size="l", latent=5, likelihood="gaussian", prior="standard"
    )
    assert resolve(kept, suited(kept, spec)) == kept


@pytest.mark.parametrize(
    "bad", [{"latent": 0}, {"latent": (3, 0)}, {"k": 0}, {"size": "xl"}, {"colour": 1}]
)
def test_a_recipe_refuses_impossible_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Recipe(**bad)


OUTSIDE = """
from tightbound.components.priors.normal import LearnedNormal
LOADED = True

class Mine(LearnedNormal):
    def __init__(self, latent: int, shift: float = 0.0) -> None:
        super().__init__(latent)
        self.mean.data += shift
"""


def test_a_part_from_outside_needs_no_registration_and_needs_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside_part.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = plain(
        prior=part("outside_part:Mine", shift=2.5), likelihood=part("gaussian")
    )
    with pytest.raises(TightboundError, match="trust=True"):
        build(recipe, spec_of("real", (7,)), trust=False)
    assert "outside_part" not in sys.modules, "code that is not trusted was run"
    model = build(recipe, spec_of("real", (7,)))[0]
    assert (
        type(model.hierarchy.prior).__name__ == "Mine"
        and (model.hierarchy.prior.mean == 2.5).all()
    )
    with pytest.raises(TightboundError, match="did you mean 'shift'"):
        build(
            plain(prior=part("outside_part:Mine", shft=1), likelihood=part("gaussian")),
            spec_of("real", (7,)),
        )
    monkeypatch.delitem(sys.modules, "outside_part")


@pytest.mark.parametrize(
    "kind", ["posterior", "prior", "likelihood", "objective", "network"]
)
def test_settings_of_a_run_that_had_not_begun_run_no_code_without_trust(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may come from anywhere: its requested.toml is read by --resume, before there is
    a model.
    """
    (tmp_path / "evil_part.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = configure("digits", "vae")
    asked = config.recipe.model_copy(update={kind: Part(name="evil_part:Mine")})
    (tmp_path / "run").mkdir()
    write(
        tmp_path / "run" / "requested.toml", config.model_copy(update={"recipe": asked})
    )
    with pytest.raises(TightboundError, match="trust=True"):
        tb.train(
            "digits", out=tmp_path / "run", resume=True, display="none", report=False
        )
    assert "evil_part" not in sys.modules, "code that is not trusted was run"


def test_an_untrusted_likelihood_is_refused_before_it_is_asked_for_its_domains() -> (
    None
):
    recipe = plain(likelihood=Part(name="antigravity:Likelihood"))
    with pytest.raises(TightboundError, match="trust=True"):
        resolve_domain(recipe, spec_of("real", (7,)), trust=False)
    assert "antigravity" not in sys.modules


def test_the_nearest_name_is_offered_or_all_are_listed() -> None:
    assert nearest("vea", RECIPES) == "did you mean 'vae'?"
    assert nearest("qqqq", ["b", "a"]) == "known: a, b"
    assert lookup({"a": 1}, "a", "thing") == 1
    with pytest.raises(
        TightboundError, match="unknown recipe 'bta-vae': did you mean 'beta-vae'"
    ):
        lookup(RECIPES, "bta-vae", "recipe")


def test_photographs_get_convolutions_latents_on_a_grid_and_pixels_whose_colours_are_tied() -> (
    None
):
    """And what is given stays: grids serve a flat model whose features were left open, and one
    sample of each.
    """
    spec = spec_of("levels", (3, 32, 40)).model_copy(update={"levels": 256})

    def chosen(shape: tuple[int, ...] = (), **changes: Any) -> Recipe:
        mine = (
            spec.model_copy(update={"shape": shape, "mean": None, "std": None})
            if shape
            else spec
        )
        recipe, resolved, _ = resolve_domain(Recipe(**changes), mine)
        return resolve(recipe, resolved)

    recipe = chosen()
    assert (recipe.network.name, recipe.network.options, recipe.latent) == (
        "conv",
        {"shrink": 4},
        8,
    )
    assert (recipe.likelihood.name, recipe.likelihood.options) == (
        "logistic-mixture",
        {"components": 5},
    )
    assert resolve(recipe, spec) == recipe
    vector = chosen(latent=32)
    assert (vector.network.name, vector.network.options, vector.latent) == (
        "conv",
        {},
        32,
    )
    assert (
        chosen(posterior="full-normal").network.options
        == chosen(prior="flow").network.options
        == {}
    )
    assert chosen(k=50).network.name == "mlp" and chosen(network="mlp").latent == 128
    assert (
        chosen(likelihood="discretized-logistic").likelihood.name
        == "discretized-logistic"
    )
    for other in ((3, 31, 40), (1, 32, 40)):
        small = chosen(other)
        assert (
            small.network.name == "mlp"
            and small.likelihood.name == "discretized-logistic"
        )
