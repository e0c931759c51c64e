"""Models with an enumerated class: exact sums over it, semi-supervised learning, clusters."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from support.core_cases import B, grads_ok, model_of, rows, shake, spec_of
from support.estimates import error_of
from support.small import few_temperatures, small_run

import tightbound as tb
from tightbound.cli import main
from tightbound.components.objectives import Elbo
from tightbound.components.objectives.labels import SemiSupervised
from tightbound.components.posteriors import clusters
from tightbound.components.posteriors.clusters import spectral_clusters
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation import log_px
from tightbound.models.recipes import RECIPES, Recipe, part
from tightbound.models.vae import VAE
from tightbound.runs.run import load
from tightbound.runtime.errors import TightboundError
from tightbound.training.step.module import Step

S, C = 3, 4


@pytest.fixture(autouse=True)
def short_pretraining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps on the clusters before the first one, where they are easy to tell."""
    monkeypatch.setattr(clusters, "STEPS", 150)


KINDS = {"m2": part("standard"), "gm-vae": part("conditional")}


def labelled(kind: str, **changes: Any) -> tuple[VAE, Any, Batch]:
    spec = spec_of("real", (6,)).model_copy(update={"labels": tuple("abcd")})
    objective = part("semi-supervised" if kind == "m2" else "elbo")
    wide = part("gaussian", scale="fixed", value=6.0)  # so that q need not be good
    recipe = Recipe(
        hierarchy="labelled",
        prior=KINDS[kind],
        objective=objective,
        likelihood=wide,
        latent=2,
        classes=C,
    )
    model, made = model_of(recipe.model_copy(update=changes), spec)
    y = torch.tensor([0, -1, 3, 1, -1])
    return shake(model, 0.02).double(), made, Batch(rows("real", (6,), B).double(), y=y)


def by_class(model: VAE, batch: Batch, noise: Any, **sources: Any) -> list[Trace]:
    """A pass for each class given, with the same noise."""
    eye = torch.eye(C, dtype=torch.float64)
    made = []
    for k in range(C):
        y = eye[k].expand(S * B, -1)
        made.append(
            model(
                batch,
                Draw(S, given={"y": (y, torch.zeros(S * B))}, noise=noise, **sources),
            )
        )
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_enumerated_terms_are_the_brute_force_sums_over_classes(kind: str) -> None:
    model, _, batch = labelled(kind)
    noise = ContentNoise(0, batch.x, 0, S)
    trace = model(batch, Draw(S, noise=noise, enumerate=True))
    assert trace.log_w.shape == (S * C, B) and trace.samples == S
    assert torch.allclose(
        trace.log_v.logsumexp(0), torch.zeros(B, dtype=torch.float64), atol=1e-6
    )
    log_q = trace.latents["y"].q.logits.log_softmax(-1)[:B, 0]  # type: ignore[union-attr]
    elbo = torch.zeros(B, dtype=torch.float64)
    weights = []
    for k, one in enumerate(by_class(model, batch, noise)):
        log_w = (
            one.log_w - log_q[:, k]
        )  # log p(x, y, z) - log q(z|x, y) - log q(y|x); log q of a given y is 0
        elbo = elbo + log_q[:, k].exp() * log_w.mean(0)
        weights.append(log_w + log_q[:, k])
    assert torch.allclose(trace.mean_over_samples(trace.log_w), elbo, atol=1e-6)
    exact = torch.stack(weights).logsumexp(0)
    assert torch.allclose(trace.log_sum_over_classes(trace.log_w), exact, atol=1e-6)
    assert torch.allclose(trace.log_p_hat, exact.logsumexp(0) - math.log(S), atol=1e-6)
    rate = (
        -elbo
        - trace.distortion
        + (trace.elbo - trace.mean_over_samples(trace.log_w)) * -1
    )
    assert torch.allclose(trace.rate, rate, atol=1e-6)


def effective(log_w: torch.Tensor) -> torch.Tensor:
    """The effective number of samples of log-weights (K, B)."""
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


@pytest.mark.parametrize("kind", KINDS)
def test_enumerating_is_unbiased_for_what_sampling_estimates(kind: str) -> None:
    """The weights of the classes, and the bound, against draws of y."""
    model, _, batch = labelled(kind)
    torch.manual_seed(0)
    with torch.no_grad():
        sampled = model(batch, Draw(2_000))
        listed = model(batch, Draw(2_000, enumerate=True))
    spread = sampled.log_w.std(0) / 2_000**0.5
    assert ((sampled.log_w.mean(0) - listed.elbo).abs() < 5 * spread).all()
    error = sum(
        (1 / effective(terms)).sqrt()
        for terms in (sampled.log_w, listed.log_sum_over_classes(listed.log_w))
    )
    assert ((sampled.log_p_hat - listed.log_p_hat).abs() < 5 * error).all()
    assert (
        listed.log_sum_over_classes(listed.log_w).std(0).mean()
        < sampled.log_w.std(0).mean()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_estimator_of_log_px_agrees(kind: str) -> None:
    """The class is summed over in importance sampling, in both kinds of AIS, and in log p(x, z)."""
    model, _, batch = labelled(kind)
    x = Batch(batch.x[:2])
    grid = torch.linspace(-7, 7, 71, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        log_joint = torch.stack(
            [model.joint(one.expand(len(z)), {"z": z}) for one in x.split(1)]
        )
    exact = log_joint.logsumexp(1) + 2 * math.log(float(grid[1] - grid[0]))
    settings = {
        "importance": {"k": 2000},
        "ais-q": {"temperatures": 30},
        "ais-prior": {"temperatures": 60},
    }
    for method, own in settings.items():
        found = log_px(model, x, method, **own)
        error = error_of(found)
        assert ((found.values - exact).abs() < 5 * error + 0.02).all(), method
    assert log_px(model, x, "importance", k=7).settings["k"] == 7


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: str) -> None:
    model, objective, batch = labelled(kind)
    Step(model, objective, S)(batch, Clock())[0]["all"].backward()
    grads_ok(model)


def test_the_three_terms_of_semi_supervised_learning() -> None:
    model, _, batch = labelled("m2")
    noise = ContentNoise(0, batch.x, 0, S)
    trace = model(batch, Draw(S, noise=noise, enumerate=True))
    assert batch.y is not None
    log_q = trace.latents["y"].q.logits.log_softmax(-1)[:B, 0]  # type: ignore[union-attr]
    each = by_class(model, batch, noise)
    bound, right = [], []
    for i, y in enumerate(batch.y.tolist()):
        bound.append(trace.elbo[i] if y < 0 else each[y].log_w[:, i].mean())
        right += [] if y < 0 else [log_q[i, y]]
    expected = -torch.stack(bound).mean() - 3.0 * torch.stack(right).mean()
    assert torch.allclose(
        SemiSupervised(labelled=3 / B, alpha=3.0)(trace, Clock()), expected, atol=1e-6
    )
    trace.batch.y = torch.full((B,), -1)
    assert torch.allclose(
        SemiSupervised(labelled=0.5)(trace, Clock()), -trace.elbo.mean()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_free_bits_that_nothing_reaches_change_nothing(kind: str) -> None:
    """The rows of an example are its classes, each with its own chance."""
    model, _, batch = labelled(kind)
    trace = model(batch, Draw(3, enumerate=True))
    assert torch.allclose(
        Elbo(free_bits=1e-9)(trace, Clock()), -trace.elbo.mean(), rtol=1e-5
    )


def digits(known: int) -> tuple[Any, Any, Any]:
    """All digits, with the labels of `known` of them, and all labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    y = bunch.target.copy()
    y[order[known:]] = -1
    return bunch.images.astype(np.uint8), y, bunch.target


@pytest.fixture(scope="module")
def m2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y, _ = digits(100)
    return small_run(
        tmp_path_factory.mktemp("m2") / "run",
        "m2",
        (x, y),
        steps=120,
        batch=100,
        validate_every=120,
    )


def test_m2_learns_from_a_few_labels(m2: Path) -> None:
    run, (x, y, truth) = load(m2), digits(100)
    assert run.classes == tuple("0123456789") and run.model.site_widths == {
        "z": 4,
        "y": 10,
    }
    chances = run.predict(x)
    assert torch.allclose(chances.sum(1), torch.ones(len(x)), atol=1e-5)
    right = chances.argmax(1).numpy() == truth
    assert right[y < 0].mean() > 0.5, "a classifier by chance is right for one in ten"
    zero = torch.tensor(x[truth == 0]).float().mean(0)
    far = [
        float((run.sample(40, condition=k).mean(0) - zero).square().sum())
        for k in (0, 1, 4)
    ]
    assert far[0] == min(far), (
        "what is made for class 0 is more like a 0 than what is made for others"
    )
    with pytest.raises(TightboundError, match="no class 'eleven'"):
        run.sample(3, condition="eleven")


def test_commands_of_a_model_with_classes(
    m2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few_temperatures(monkeypatch, 20)
    assert main(["encode", str(m2), "digits", "--out", str(tmp_path / "z.csv")]) == 0
    with (tmp_path / "z.csv").open() as file:
        table = list(csv.DictReader(file))
    assert np.mean([row["label"] == row["predicted"] for row in table]) > 0.5
    for words in (
        ("score", m2, "digits", "-k", 5),
        ("sample", m2, "-n", 3, "--condition", 4),
        ("reconstruct", m2, "digits"),
    ):
        assert (
            main([str(w) for w in (*words, "--out", tmp_path / f"{words[0]}.csv")]) == 0
        )
    assert main(["encode", str(m2), "digits", "--out", str(tmp_path / "z.npz")]) == 0
    with np.load(tmp_path / "z.npz") as made:
        assert made["mean"].shape[1] == 14 and "predicted" in made.files
    run = load(m2)
    run._data = tb.data.load(
        digits(100)[:2], run.config.data, seed=0
    )  # the run was trained on arrays
    found = tb.evaluate(run, k=20, ais=True, subset=2, diagnosis=False)
    assert any("the predicted label is right for" in note for note in found.notes)
    assert np.isfinite(found.terms["log_px"].mean)


def matched(found: Any, truth: Any, count: int) -> float:
    """The share of examples whose cluster is that of their class, by the best one-to-one
    matching.
    """
    table = np.array(
        [
            [np.sum((found == a) & (truth == b)) for b in range(count)]
            for a in range(count)
        ]
    )
    return float(table[linear_sum_assignment(-table)].sum() / len(truth))


@pytest.mark.parametrize("seed", [0, 1])
def test_gm_vae_finds_clusters_without_labels(tmp_path: Path, seed: int) -> None:
    made = np.random.default_rng(seed)
    truth = made.integers(0, 3, 300)
    x = np.array([[0.0, 6, 0, 3], [5, 0, 3, -4], [-5, -4, 0, 6]])[
        truth
    ] + 0.7 * made.normal(size=(300, 4))
    folder = small_run(
        tmp_path / "gm",
        "gm-vae",
        (x, truth),
        steps=100,
        batch=50,
        latent=2,
        classes=3,
        validate_every=100,
        seed=seed,
    )
    run = load(folder)
    assert matched(
        run.predict(x).argmax(1).numpy(), truth, 3
    ) > 0.97 and run.classes == ("0", "1", "2")
    assert run.sample(3, condition=1).shape == (3, 4)


def test_clusters_begin_where_neighbours_are_and_not_where_means_are() -> None:
    """Three rings around one centre: every mean is the same."""
    truth, angle = torch.arange(600) % 3, torch.linspace(0, 2 * math.pi, 601)[:600]
    ring = torch.stack([angle.cos(), angle.sin()], 1) * (1 + 2 * truth[:, None])
    assert matched(spectral_clusters(ring, 3).numpy(), truth.numpy(), 3) == 1


def test_what_is_told_of_clusters_before_the_first_step(tmp_path: Path) -> None:
    truth = torch.arange(400) % C
    x = 8 * torch.eye(6, dtype=torch.float64)[truth] + torch.randn(
        400, 6, dtype=torch.float64
    )
    given = lambda n: (x[:n], None)  # noqa: E731
    model, made, _ = labelled("gm-vae")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Step(model, made).prepare(lambda n: (x[:C], None))  # too few to tell
    assert all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    Step(model, made).prepare(given)
    with torch.no_grad():
        found = model.hierarchy.label.head(model.features(Batch(x))).argmax(1)
    assert matched(found.numpy(), truth.numpy(), C) > 0.98 and all(
        p.grad is None for p in model.parameters()
    )
    m2, objective, _ = labelled("m2")
    before = {name: value.clone() for name, value in m2.state_dict().items()}
    Step(m2, objective).prepare(given)
    assert all(
        torch.equal(value, before[name]) for name, value in m2.state_dict().items()
    )


def test_priors_fitted_to_models_with_classes_are_those_that_the_decoder_can_be_read_under(
    tmp_path: Path,
) -> None:
    truth = np.arange(300) % 3
    x = np.random.default_rng(0).normal(size=(300, 4)) + 6 * np.eye(4)[truth]
    m2 = load(
        small_run(tmp_path / "m2", "m2", (x, truth), steps=40, batch=50, latent=2)
    )
    gm = load(
        small_run(
            tmp_path / "gm",
            "gm-vae",
            (x, truth),
            steps=40,
            batch=50,
            latent=2,
            classes=3,
        )
    )
    for run in (m2, gm):
        run._data = tb.data.load((x, truth), run.config.data, seed=0)
    rows = m2.data.train.examples(torch.arange(len(m2.data.train)))
    trace = m2.model(rows, Draw(enumerate=True))
    mean = trace.mean_over_samples(
        trace.latents["z"].q.mean[:, 0].reshape(3, -1)
    ).mean()  # of E_q(y|x) q(z|x, y)
    p = tb.fit_prior(m2, "normal", display="none").model.hierarchy.prior
    assert abs(p.mean[0, 0] - mean) < 0.2 * p.log_scale[0, 0].exp()
    settings = {"train.steps": 200, "train.lr": 0.1}
    better = tb.fit_prior(gm, "conditional", display="none", settings=settings)
    trace = gm.model(rows, Draw(enumerate=True))
    share = trace.log_v.exp()[..., None] * torch.ones(2)
    mean = (share * trace.latents["z"].q.mean.unflatten(0, (3, -1))).sum(1) / share.sum(
        1
    )  # of each cluster
    found = (
        better.model.hierarchy.prior.head.weight[:2].T
        + better.model.hierarchy.prior.head.bias[:2]
    )
    assert (found - mean).abs().max() < 0.3
    assert better.sample(2, condition=1).shape == (2, 4)
    for run, name, fit in (
        (m2, "conditional", "normal"),
        (gm, "normal", "choose conditional"),
    ):
        with pytest.raises(TightboundError, match=f"cannot be fitted .*{fit}"):
            tb.fit_prior(run, name, display="none")


def test_labels_that_are_missing_may_be_empty_nan_or_minus_one(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    words = np.array(["cat", "dog", ""])[np.arange(60) % 3]
    numbers = np.array([0.0, 1.0, np.nan])[np.arange(60) % 3]
    lines = [
        "a,b,c,label",
        *(",".join([*map(str, row), word]) for row, word in zip(x, words, strict=True)),
    ]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    for i, source in enumerate(
        [(x, words), (x, numbers), str(tmp_path / "x.csv"), (x, np.arange(60) % 3 - 1)]
    ):
        run = load(
            small_run(tmp_path / str(i), "m2", source, steps=3, batch=20, latent=2)
        )
        assert run.spec.labels is not None and len(run.spec.labels) == 2
    with pytest.raises(TightboundError, match="no labels to learn from"):
        tb.train(x, "m2", out=tmp_path / "no", display="none")
    with pytest.raises(TightboundError, match="hierarchy 'labelled'"):
        tb.train(
            (x, words),
            "m2",
            out=tmp_path / "no",
            display="none",
            settings={"objective": "dreg"},
        )


def test_vimco_is_unbiased_for_the_gradient_of_its_bound() -> None:
    """Two binary latents, K = 2: the mean of its gradient over all draws is that of the exact
    expectation.
    """
    recipe = RECIPES["vimco"].model_copy(
        update={"latent": 4, "k": 2, "network": part("linear")}
    )
    model, objective = model_of(recipe, spec_of("real", (3,)))
    shake(model, 0.5).double()
    x = Batch(rows("real", (3,), 1).double())
    parameters = list(model.parameters())
    codes = torch.tensor(
        [[a, 1 - a, b, 1 - b] for a in (0.0, 1) for b in (0.0, 1)], dtype=torch.float64
    )

    def both(i: int, j: int) -> Trace:
        trace: Trace = model(x, Draw(2, given={"z": codes[[i, j]]}))
        trace.latents["z"].source = "q"
        return trace

    pairs = [(i, j) for i in range(4) for j in range(4)]
    chance = [both(i, j).latents["z"].log_q.sum().exp() for i, j in pairs]
    bound = sum(
        p * both(i, j).log_p_hat.mean() for p, (i, j) in zip(chance, pairs, strict=True)
    )
    exact = torch.autograd.grad(bound, parameters, allow_unused=True)
    mean = [torch.zeros_like(p) for p in parameters]
    for p, (i, j) in zip(chance, pairs, strict=True):
        grads = torch.autograd.grad(
            -objective(both(i, j), Clock()), parameters, allow_unused=True
        )
        mean = [
            m + p.detach() * (0 if g is None else g)
            for m, g in zip(mean, grads, strict=True)
        ]
    assert abs(float(torch.stack(chance).sum().detach()) - 1) < 1e-9
    for a, b in zip(exact, mean, strict=True):
        assert torch.allclose(torch.zeros_like(b) if a is None else a, b, atol=1e-9)
