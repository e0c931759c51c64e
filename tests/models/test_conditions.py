"""Conditional models: what they are told reaches every part, and every command asks for it
by name.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from support.core_cases import B, grads_ok, model_of, rows, shake, spec_of
from support.estimates import error_of
from support.small import small_run

import tightbound as tb
from tightbound.cli import main
from tightbound.core.batch import Batch
from tightbound.core.data_spec import Condition, DataSpec
from tightbound.core.draw import Clock, Draw
from tightbound.evaluation import log_px
from tightbound.models.recipes import Recipe, part
from tightbound.models.vae import VAE
from tightbound.runs.run import load
from tightbound.runtime.errors import TightboundError
from tightbound.training.step.module import Step

K = 3
CLASSES = Condition(names=("a", "b", "c", "d"))
NUMBERS = Condition(names=("age", "dose"), mean=(50.0, 1.0), std=(10.0, 2.0))
KINDS: dict[str, dict[str, Any]] = {
    "flat": {"latent": 3},
    "top-down": {"hierarchy": "top-down", "latent": (3, 2)},
    "bottom-up": {"hierarchy": "bottom-up", "latent": (3, 2)},
}


def conditional(
    kind: str, told: Condition = CLASSES, **changes: Any
) -> tuple[VAE, Any, Batch]:
    spec = spec_of("real", (6,)).model_copy(update={"condition": told})
    parts = (
        {"prior": part("conditional"), "network": part("mlp")} | KINDS[kind] | changes
    )
    recipe = Recipe(conditional=True, **parts)
    model, objective = model_of(recipe, spec)
    c = told.encode(torch.arange(B) % 4 if not told.mean else torch.randn(B, 2))
    return model, objective, Batch(rows("real", (6,), B), c)


@pytest.mark.parametrize("told", [CLASSES, NUMBERS], ids=["classes", "numbers"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_condition_reaches_encoder_prior_and_decoder(
    kind: str, told: Condition
) -> None:
    model, objective, batch = conditional(kind, told)
    shake(model)
    losses, _ = Step(model, objective, K)(batch, Clock())
    losses["all"].backward()
    grads_ok(model)
    other = Batch(batch.x, batch.c.roll(1, 0))  # type: ignore[union-attr]
    values = {site: torch.randn(B, 2 if site == "z2" else 3) for site in model.sites}
    one, two = (model(b, Draw(given=values)) for b in (batch, other))
    for site in model.sites:
        assert not torch.equal(one.latents[site].q.mean, two.latents[site].q.mean), (
            f"q of {site} does not see c"
        )
    top = model.sites[0]
    assert not torch.equal(one.latents[top].p.mean, two.latents[top].p.mean), (
        "p does not see c"
    )
    assert not torch.equal(one.y, two.y), "the decoder does not see c"
    assert model(batch, Draw(K)).log_w.shape == (K, B)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unconditional_model_is_not_changed_by_a_condition(kind: str) -> None:
    model, _ = model_of(
        Recipe(network=part("mlp"), **KINDS[kind]), spec_of("real", (6,))
    )
    x, values = (
        rows("real", (6,), B),
        {s: torch.randn(B, 2 if s == "z2" else 3) for s in model.sites},
    )
    assert torch.equal(
        model.joint(Batch(x), values), model.joint(Batch(x, torch.ones(B, 4)), values)
    )


def test_log_px_given_c_is_that_of_the_linear_gaussian_model() -> None:
    torch.manual_seed(4)
    spec = DataSpec(
        shape=(6,),
        domain="real",
        mean=torch.zeros(6),
        std=torch.ones(6),
        condition=CLASSES,
    )
    recipe = Recipe(
        conditional=True,
        latent=2,
        prior=part("conditional"),
        network="linear",
        size="s",
    )
    model, _ = model_of(recipe, spec)
    shake(model, 0.3)
    batch = Batch(torch.randn(B, 6), CLASSES.encode(torch.tensor([0, 1, 2, 3, 1])))
    with torch.no_grad():
        prior = model.generate(B, Draw(source="p"), batch.c).latents["z"].p
        zero, eye = torch.zeros(1, 2), torch.eye(2)
        mean = [
            model.generate(1, Draw(source="p", given={"z": zero}), c[None]).px.mean
            for c in batch.c
        ]
        weight = torch.cat(
            [
                model.generate(
                    1, Draw(source="p", given={"z": e[None]}), batch.c[:1]
                ).px.mean
                for e in eye
            ]
        )
        weight = (weight - mean[0]).T.double().numpy()
        sigma = (
            model.generate(1, Draw(source="p"), batch.c[:1])
            .px.stddev[0]
            .double()
            .numpy()
        )
    exact = []
    for i in range(B):
        loc, scale = prior.mean[i].double().numpy(), prior.stddev[i].double().numpy()
        cov = weight @ np.diag(scale**2) @ weight.T + np.diag(sigma**2)
        m = mean[i][0].double().numpy() + weight @ loc
        exact.append(multivariate_normal(m, cov).logpdf(batch.x[i].double().numpy()))
    assert torch.allclose(
        log_px(model, batch, "quadrature").values, torch.tensor(exact), atol=1e-4
    )
    for method, settings in (
        ("importance", {"k": 4000}),
        ("ais-q", {}),
        ("ais-prior", {"temperatures": 200}),
    ):
        found = log_px(model, batch, method, **settings)
        error = error_of(found)
        assert ((found.values - torch.tensor(exact)).abs() < 5 * error + 0.05).all(), (
            method
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "told", "conditional", steps=150)


def test_sampling_a_class_gives_that_class(run: Path) -> None:
    trained = load(run)
    train, y = (
        trained.data.train.x[trained.data.train.index].float(),
        trained.data.train.y,
    )
    means = torch.stack([train[y == k].mean(0) for k in range(10)])
    for k in (0, 4, 7):
        made = trained.sample(40, condition=k).mean(0)
        assert int((means - made).square().sum((1, 2)).argmin()) == k
    some, own = train[:60].to(torch.uint8), y[:60].numpy()
    far = [
        float(
            (trained.reconstruct(some, condition=c).mean(0) - means[0]).square().sum()
        )
        for c in (own.tolist(), 0)
    ]
    assert far[1] < 0.7 * far[0], "the same features told to be a 0 look like one"
    assert torch.equal(
        trained.sample(6, condition=["3"] * 6), trained.sample(6, condition=3)
    )


def test_commands_of_a_conditional_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def go(*words: object) -> tuple[int, str]:
        code = main([str(w) for w in words])
        return code or 0, capsys.readouterr().err

    assert (
        go("sample", run, "-n", 4, "--condition", "3", "--out", tmp_path / "a.npz")[0]
        == 0
    )
    for command in ("encode", "score", "reconstruct"):
        assert go(command, run, "digits", "--out", tmp_path / f"{command}.csv")[0] == 0
    with (tmp_path / "encode.csv").open() as file:
        assert next(csv.reader(file))[:2] == ["row", "label"]
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    code, said = go("encode", run, tmp_path / "x.npy", "--out", tmp_path / "b.npz")
    assert code == 2 and "come without their condition" in said
    assert (
        go(
            "encode",
            run,
            tmp_path / "x.npy",
            "--out",
            tmp_path / "b.npz",
            "--condition",
            "5",
        )[0]
        == 0
    )
    code, said = go(
        "sample", run, "-n", 4, "--condition", "eleven", "--out", tmp_path / "c.npz"
    )
    assert code == 2 and "known: 0, 1, 2" in said and said.count("\n") == 1
    assert (
        go(
            "vary",
            run,
            tmp_path / "x.npy:1",
            "--condition",
            2,
            "--out",
            tmp_path / "v.npz",
        )[0]
        == 0
    )
    assert go("evaluate", run, "-k", 20, "--limit", 20, "--quiet")[0] == 0


def test_classes_are_known_by_their_names(tmp_path: Path) -> None:
    x, y = (
        np.random.default_rng(0).normal(size=(60, 5)),
        np.array(["cat", "dog", "owl"])[np.arange(60) % 3],
    )
    trained = load_after(tmp_path, (x, y))
    again = trained.encode((x[:4], np.array(["owl", "owl", "dog", "dog"])))
    assert torch.equal(
        again, trained.encode(x[:4], condition=["owl", "owl", "dog", "dog"])
    )
    with pytest.raises(
        TightboundError,
        match=r"row 1 .* none that the model was trained on: cat, dog, owl",
    ):
        trained.encode((x[:2], np.array(["dog", "hen"])))
    with pytest.raises(TightboundError, match="did you mean 'owl'"):
        trained.sample(2, condition="owls")


def load_after(folder: Path, source: Any, **settings: Any) -> tb.Run:
    return load(
        small_run(
            folder / "run",
            "conditional",
            source,
            steps=10,
            validate_every=10,
            batch=16,
            **settings,
        )
    )


def test_numbers_as_conditions_from_arrays_and_files(tmp_path: Path) -> None:
    made = np.random.default_rng(0)
    x, c = made.normal(size=(60, 5)), made.normal([50, 1], [10, 2], size=(60, 2))
    np.savez(tmp_path / "data.npz", x=x, told=c)
    head = "a,b,c,d,e,age,dose"
    np.savetxt(
        tmp_path / "data.csv",
        np.hstack([x, c]),
        delimiter=",",
        header=head,
        comments="",
    )
    found = []
    for i, (source, named) in enumerate(
        [
            ((x, c), None),
            (str(tmp_path / "data.npz"), "told"),
            (str(tmp_path / "data.csv"), "age,dose"),
        ]
    ):
        trained = load_after(
            tmp_path / str(i), source, **({"data.condition": named} if named else {})
        )
        assert trained.spec.shape == (5,)
        found.append(trained.encode((x[:6], c[:6])))
    assert all(torch.allclose(found[0], other, atol=1e-5) for other in found[1:])
    assert trained.spec.condition.names == ("age", "dose")
    by_text = trained.sample(3, condition="50,1")
    assert by_text.equals(trained.sample(3, condition=[50, 1]))
    for wrong in ("50", "a,b", [1, 2, 3], [np.nan, 1]):
        with pytest.raises(TightboundError, match="2 finite numbers"):
            trained.sample(3, condition=wrong)
    with pytest.raises(TightboundError, match="2 conditions were given for 3"):
        trained.sample(3, condition=c[:2])


@pytest.mark.parametrize(
    ("recipe", "settings", "match"),
    [
        ("conditional", {}, "no labels to condition the model on"),
        ("conditional", {"data.condition": "age"}, "no column or array 'age'"),
        ("vae", {"data.condition": "labels"}, "no labels"),
        ("vae", {"prior": "conditional"}, "needs a condition"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, recipe: str, settings: dict[str, Any], match: str
) -> None:
    x = np.random.default_rng(0).normal(size=(40, 5))
    with pytest.raises(TightboundError, match=match):
        tb.train(x, recipe, out=tmp_path / "run", display="none", settings=settings)


def test_other_refusals(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    for recipe, settings, match in (
        ("vae", {"data.condition": "labels"}, "recipe 'vae' is none"),
        (
            "vq-vae",
            {"conditional": True},
            "without their condition: set posterior normal",
        ),
        ("vamp", {"conditional": True}, "without their condition: set prior standard"),
    ):
        with pytest.raises(TightboundError, match=match):
            tb.train(
                (x, y), recipe, out=tmp_path / "run", display="none", settings=settings
            )
    with pytest.raises(TightboundError, match="without a label"):
        tb.train((x, y - 1), "conditional", out=tmp_path / "run", display="none")
    plain = load(
        small_run(tmp_path / "plain", "vae", x, steps=2, validate_every=2, batch=16)
    )
    with pytest.raises(TightboundError, match="not conditional"):
        plain.sample(2, condition=1)


def test_priors_are_fitted_to_conditional_runs_for_all_conditions_or_given_each(
    tmp_path: Path,
) -> None:
    """x has the class in its first number, so q(z|x, c) may leave it out or not; p(z) is fitted to
    what q does.
    """
    made = np.random.default_rng(0)
    y = np.arange(900) % 3
    x = made.normal(size=(900, 5)) + 4 * np.eye(5)[y]
    folder = small_run(tmp_path / "run", "conditional", (x, y), steps=60, latent=2)
    run = load(folder)
    run._data = tb.data.load(
        (x, y), run.config.data, seed=0
    )  # the run was trained on arrays
    rows = run.data.train.examples(torch.arange(len(run.data.train)))
    q = run.predictor.latents(rows)["z"].q
    total = (q.stddev.square().mean(0) + q.mean.var(0, correction=0)).sqrt()
    whole, given = (
        tb.fit_prior(
            run, name, display="none", settings={"train.steps": 300, "train.lr": 0.03}
        )
        for name in ("learned", "conditional")
    )
    p = whole.prior["z"]
    assert ((p.mean - q.mean.mean(0)).abs() < 0.15 * total).all() and (
        (p.stddev / total).log().abs() < 0.15
    ).all()
    eye, z = torch.eye(3), torch.zeros(3, 2)
    with torch.no_grad():
        at = (
            given.model(Batch(rows.x[:3], eye), Draw(given={"z": z}))
            .latents["z"]
            .log_p[0]
        )
    for c in range(3):
        own = q.mean[rows.c[:, c] == 1], q.variance[rows.c[:, c] == 1]
        spread = (own[1].mean(0) + own[0].var(0, correction=0)).sqrt()
        known = torch.distributions.Normal(own[0].mean(0), spread).log_prob(z[0]).sum()
        assert abs(at[c] - known) < 0.4
    kept = tb.load(folder, prior="learned")
    assert (
        torch.equal(kept.sample(4, condition=1), whole.sample(4, condition=1))
        and whole.config.recipe.has_bound
    )
    assert not torch.equal(whole.sample(4, condition=1), whole.sample(4, condition=2))
    asked = [
        "sample",
        str(folder),
        "--prior",
        "conditional",
        "--out",
        str(tmp_path / "s.csv"),
    ]
    assert (
        main([*asked, "--condition", "2"]) == 0
        and main([*asked, "--condition", "9", "--overwrite"]) == 2
    )
    with pytest.raises(TightboundError, match="cannot be fitted"):
        tb.fit_prior(run, "vamp", display="none")


def test_a_second_stage_of_a_conditional_model_infers_u_from_z_and_not_from_c() -> None:
    model, _, batch = conditional("flat", prior=part("two-stage"))
    trace = model(batch, Draw(K))
    z, u, prior = trace.latents["z"], trace.latents["u"], model.hierarchy.prior
    assert torch.allclose(
        u.q.mean, prior.code(prior.up(z.z)).chunk(2, -1)[0], atol=1e-5
    )  # type: ignore[operator]
    given = {"z": z.z[:B], "u": u.z[:B]}
    assert torch.allclose(
        model.joint(batch, given), (trace.log_px + z.log_p + u.log_p)[0], atol=1e-4
    )


def test_any_recipe_can_be_told(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 2
    for recipe, latent in (
        ("iwae-2", [3, 2]),
        ("ladder", [3, 2]),
        ("ae", 3),
        ("biva", [3, 2]),
    ):
        settings = {
            "conditional": True,
            "latent": latent,
            "batch": 16,
            "recipe.size": "s",
            "steps": 4,
            "validate_every": 4,
        }
        run = tb.train(
            (x, y),
            recipe,
            out=tmp_path / recipe,
            display="none",
            report=False,
            settings=settings,
        )
        assert run.sample(2, condition=1).shape == (2, 5)


def test_the_estimator_takes_the_condition_as_y() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3
    found = tb.VAEEstimator(
        "conditional", latent=2, steps=5, random_state=0, k=5, settings={"batch": 16}
    ).fit(x, y)
    assert found.transform(x[:4], y[:4]).shape == (4, 2) and found.score_samples(
        x[:4], y[:4]
    ).shape == (4,)
    assert found.sample(3, condition=2).shape == (3, 5) and np.isfinite(
        found.score(x, y)
    )
    assert found.inverse_transform(np.zeros((2, 2)), condition=[0, 1]).shape == (2, 5)
