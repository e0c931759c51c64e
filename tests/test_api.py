"""The Python surface: section 7 of the design as it is written there, run folders, and what is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.report_pages import untrained
from support.short_reports import blank_pictures, coarse_grids, short_first_look
from support.small import SMALL, small_run

import tightbound as tb
from tightbound import api
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.models.build import build, resolve
from tightbound.models.recipes import Recipe
from tightbound.runs.predictor import Predictor
from tightbound.runtime.errors import TightboundError

FEW = {**SMALL, "latent": 16, "steps": 20, "data.test": 0.02}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "vae", "vae")


def test_section_7_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    real = api.configure
    monkeypatch.setattr(
        api,
        "configure",
        lambda *a, values, **k: real(*a, values={**FEW, **values}, **k),
    )
    x = np.round(np.random.default_rng(0).uniform(0, 16, (5, 8, 8)))

    run = tb.train("digits", recipe="vae", latent=16)
    z = run.encode(x)
    x2 = run.reconstruct(x)
    new = run.sample(64)
    like_x = run.vary(x[0], n=16)
    again = run.decode(z)
    prior, likelihood = run.prior["z"], run.likelihood(z)
    run = tb.load("runs/digits-vae")
    terms = tb.evaluate(run).terms

    assert (
        z.shape == (5, 16)
        and x2.shape == (5, 8, 8)
        and new.shape == (64, 8, 8)
        and like_x.shape == (16, 8, 8)
    )
    assert torch.allclose(again, x2, atol=1e-4)
    assert isinstance(prior, torch.distributions.Distribution)
    assert likelihood.log_prob(torch.as_tensor(x, dtype=torch.float32)).shape == (5,)
    assert {
        "distortion",
        "rate",
        "elbo",
        "log_px",
        "gap",
    } <= terms.keys() and terms["gap"].mean > 0
    assert terms["elbo"].mean == pytest.approx(
        -terms["distortion"].mean - terms["rate"].mean
    )
    assert Path("runs/digits-vae/report.html").is_file()


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "path"])
def test_whatever_people_have_can_be_trained_on(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    np.save("mine.npy", x)
    tensor = torch.from_numpy(x)
    dataset = torch.utils.data.TensorDataset(tensor, torch.zeros(50, dtype=torch.long))
    source = {
        "array": x,
        "tensor": tensor,
        "dataset": dataset,
        "path": Path("mine.npy"),
    }[kind]
    run = tb.train(source, report=False, display="none", settings={**SMALL, "steps": 4})
    assert run.encode(x).shape == (50, 4) and (run.config.data.source == "") == (
        kind != "path"
    )
    assert run.folder is not None and run.folder.name == (
        "mine-vae" if kind == "path" else "array-vae"
    )


def test_own_validation_and_test_data() -> None:
    rng = np.random.default_rng(0)
    x, valid, test = (rng.normal(size=(n, 3)) for n in (30, 7, 9))
    settings = {**SMALL, "steps": 4}
    run = tb.train(
        x, valid=valid, test=test, report=False, display="none", settings=settings
    )
    assert [len(split) for split in run.data.splits.values()] == [30, 7, 9]


def test_folders_take_the_next_free_name_and_keep_the_path(tmp_path: Path) -> None:
    np.save("x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    settings = {**SMALL, "steps": 2}
    names = []
    for _ in range(3):
        run = tb.train("x.npy", "ae", report=False, display="none", settings=settings)
        assert run.folder is not None
        names.append(str(run.folder))
        assert run.config.data.source == str(tmp_path / "x.npy"), (
            "found again from any folder"
        )
    assert names == ["runs/x-ae", "runs/x-ae-2", "runs/x-ae-3"]
    run = tb.train(
        "x.npy",
        "ae",
        report=False,
        display="none",
        overwrite=True,
        seed=3,
        settings=settings,
    )
    assert str(run.folder) == "runs/x-ae" and run.config.seed == 3


def test_resume_needs_no_data_and_takes_the_same_settings_again(vae: Path) -> None:
    for source in (None, "digits"):
        settings = {**SMALL, "steps": 30}
        run = tb.train(
            source,
            out=vae,
            resume=True,
            report=False,
            display="none",
            settings=settings,
        )
        assert run.config.recipe.latent == 4
    with pytest.raises(tb.TightboundError, match=r"begun with another train\.lr"):
        tb.train(out=vae, resume=True, settings={"train.lr": 0.5})
    with pytest.raises(tb.TightboundError, match="leave out --config"):
        tb.train(out=vae, resume=True, config=vae / "config.toml")


def test_a_config_begins_another_run_like_it(vae: Path) -> None:
    run = tb.train(
        "digits",
        config=vae / "config.toml",
        out="again",
        seed=5,
        report=False,
        display="none",
    )
    assert run.config.recipe == tb.load(vae).config.recipe and run.config.seed == 5


def test_compare_and_evaluate_take_folders(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_pictures(monkeypatch)
    found = tb.evaluate(vae, k=8, limit=20)
    assert found.n == 20 and found.k == 8
    assert tb.compare([vae, tb.load(vae)], "both.html") == Path("both.html")
    with pytest.raises(tb.TightboundError, match="--overwrite"):
        tb.compare([vae], "both.html")
    assert tb.compare(str(vae), "one.html") == Path("one.html")


def test_a_run_says_what_it_is(vae: Path) -> None:
    assert repr(tb.load(vae)) == f"Run({str(vae)!r}: vae, 4 features, (1, 8, 8) levels)"


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda run: run.sample(2.5), "2.5 samples"),
        (lambda run: run.sample(2, pixels="drew"), "did you mean 'draw'"),
        (lambda run: run.decode("digits"), "a str cannot be read as features"),
        (
            lambda run: run.decode(np.array([[0.0] * 4, [0.0, np.nan, 0.0, 0.0]])),
            "row 1",
        ),
        (lambda run: run.likelihood(torch.full((3, 4), torch.inf)), "row 0"),
    ],
)
def test_a_call_that_makes_no_sense_is_a_sentence(
    vae: Path, use: Callable[[tb.Run], object], says: str
) -> None:
    with pytest.raises(tb.TightboundError) as error:
        use(tb.load(vae))
    assert says in str(error.value)


@pytest.mark.parametrize("words", [{"lang": "fr"}, {"display": "lifes"}])
def test_a_language_or_a_display_that_is_not_there_is_told_before_the_training(
    words: dict[str, str],
) -> None:
    with pytest.raises(
        tb.TightboundError, match=r"unknown (language 'fr'|display 'lifes')"
    ):
        tb.train("digits", settings=FEW, **words)
    with pytest.raises(
        tb.TightboundError, match=r"unknown (language 'fr'|display 'lifes')"
    ):
        tb.demo(settings=FEW, **words)
    assert not Path("runs").exists() and not Path("demo").exists()


def test_demo_writes_one_report_and_never_loses_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blank_pictures(monkeypatch)
    coarse_grids(monkeypatch)
    settings = {
        **{k: v for k, v in SMALL.items() if k != "latent"},
        "validate_every": 3,
        "data.limit": 500,
    }
    for folder in ("demo", "demo-2"):
        if folder == "demo-2":
            short_first_look(monkeypatch)
        report = tb.demo(display="none", steps=6, settings=settings)
        assert report == Path(folder) / "report.html" and report.is_file()
        assert {
            tb.load(Path(folder) / name).config.recipe.name for name in ("ae", "vae")
        } == {"ae", "vae"}
    assert not json.loads(Path("demo/ae/evaluation.json").read_text())["bound"]


def test_encoding_takes_no_fewer_rows_at_a_time_for_more_levels() -> None:
    """Only a decoder holds all levels of each value: passes that encode are as few for bytes as for
    truth values.
    """
    passes = []
    for levels in (2, 256):
        spec = DataSpec(shape=(1, 8, 8), domain="levels", levels=levels, layout="hw")
        model, _ = build(
            resolve(
                Recipe(size="s", latent=2, likelihood="discretized-logistic"), spec
            ),
            spec,
        )
        trained, seen = Predictor(model), []
        own = trained.latents
        trained.latents = lambda x, own=own, seen=seen: seen.append(len(x)) or own(x)
        assert trained.encode_mean(Batch(torch.zeros(2500, 1, 8, 8))).shape == (2500, 2)
        passes.append(seen)
    assert passes[0] == passes[1] == [1024, 1024, 452]


@pytest.mark.parametrize(
    ("recipe", "latent"), [("svae", 4), ("vq-vae", 16), ("categorical-vae", 20)]
)
def test_a_temperature_of_a_uniform_prior_is_refused_and_not_ignored(
    recipe: str, latent: int
) -> None:
    run = untrained("digits", recipe, latent=latent)
    with pytest.raises(TightboundError, match="uniform and has no temperature"):
        run.sample(2, temperature=0.5)
    assert len(run.sample(2, temperature=1.0)) == 2


def test_a_temperature_narrows_what_is_drawn() -> None:
    for recipe in ("vae", "poincare", "mixture-prior"):
        run = untrained("digits", recipe)
        cool, warm = (
            run.predictor.sample_prior(500, t).x.std(0).mean() for t in (0.3, 1.0)
        )
        assert cool < 0.9 * warm and len(run.sample(2, temperature=0.3)) == 2
