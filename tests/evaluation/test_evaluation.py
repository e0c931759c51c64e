"""evaluate: what K means, that batching and order change nothing, and that an autoencoder has
none.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tightbound.config import configure
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise, tiles
from tightbound.evaluation import Evaluation, Mean, evaluate, score
from tightbound.evaluation.estimators import estimate as estimates
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

SETTINGS = {
    "recipe.size": "s",
    "latent": 4,
    "train.steps": 60,
    "train.validate_every": 30,
    "train.validate_n": 4,
}


def trained(folder: Path, recipe: str, **values: object) -> Run:
    return fit(
        configure("digits", recipe, values=SETTINGS | values), "digits", folder, Quiet()
    )


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("vae") / "run", "vae")


def examples(run: Run, n: int) -> Tensor:
    return run.data.test.batch(torch.arange(n))


def test_k_is_honoured_exactly_and_the_bound_is_the_log_of_the_mean_weight(
    vae: Run,
) -> None:
    """Peer bugs 4.3 and 4.15: K rounded to batches, or drawn more often than divided by."""
    x, k = examples(vae, 3), 150
    drawn: list[Tensor] = []
    for i, m in enumerate(tiles(k)):
        noise = ContentNoise(vae.config.seed, x, i, m)
        drawn.append(vae.model(Batch(x), Draw(m, noise=noise)).log_w.double())
    log_w = torch.cat(drawn)
    assert log_w.shape == (150, 3)
    result = score(vae, x, k, vae.config.seed)
    assert torch.allclose(
        result["log_px"], log_w.logsumexp(0) - math.log(150), atol=1e-9
    )
    weights = log_w.softmax(0)
    assert torch.allclose(result["ess"], 1 / weights.square().sum(0), rtol=1e-6)


def test_one_sample_gives_a_single_weight(vae: Run) -> None:
    result = score(vae, examples(vae, 4), 1, 0)
    assert torch.allclose(result["ess"], torch.ones(4, dtype=torch.float64))
    assert torch.isfinite(result["log_px"]).all()


def test_more_samples_tighten_the_bound_and_use_the_same_first_ones(vae: Run) -> None:
    means = [
        float(score(vae, examples(vae, 60), k, 0)["log_px"].mean())
        for k in (1, 10, 100, 400)
    ]
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.5


def test_neither_batch_size_nor_order_changes_a_figure(
    vae: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = examples(vae, 7)
    whole = score(vae, x, 100, 0)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    turned = score(vae, x[order], 100, 0)
    monkeypatch.setattr(estimates, "VALUES_AT_ONCE", 64 * 30)
    small = score(vae, x, 100, 0)
    for name, value in whole.items():
        same = partial(torch.allclose, atol=1e-3, equal_nan=True)
        assert same(turned[name], value[order]) and same(small[name], value), name
    assert not torch.allclose(
        score(vae, x, 100, 1)["log_px"], whole["log_px"], atol=1e-3
    ), "but the seed does"


def test_the_account_adds_up_and_has_errors(vae: Run) -> None:
    result = evaluate(vae, k=20, limit=50)
    a = result.terms
    assert a["elbo"].mean == pytest.approx(-a["distortion"].mean - a["rate"].mean)
    assert a["gap"].mean == pytest.approx(a["log_px"].mean - a["elbo"].mean)
    test = vae.data.test
    terms = score(vae, test.batch(test.spread(50)), 20, vae.config.seed)
    assert a["gap"].se == pytest.approx(
        float((terms["log_px"] - terms["elbo"]).std() / 50**0.5)
    ), "of the difference"
    assert result.bits_per_dim is not None
    assert result.bits_per_dim["log_px"].mean == pytest.approx(
        -a["log_px"].mean / (64 * math.log(2))
    )
    assert (result.n, result.k) == (50, 20)
    assert result.kl_per_latent is not None
    assert sum(result.kl_per_latent) == pytest.approx(a["rate"].mean, rel=1e-3)


def test_the_file_holds_every_figure(vae: Run, tmp_path: Path) -> None:
    result = evaluate(vae, k=5, limit=10)
    assert result.save(tmp_path) is None
    kept = json.loads((tmp_path / "evaluation.json").read_text())
    assert (
        kept["k"] == 5
        and kept["n"] == 10
        and kept["data"]["digest"] == vae.config.digest
    )
    assert {
        "distortion",
        "rate",
        "elbo",
        "log_px",
        "gap",
        "ess",
    } <= kept["terms"].keys()
    assert {"seconds", "seed"} <= kept.keys()
    worse = evaluate(vae, k=2, limit=10)
    assert "keeps" in (worse.save(tmp_path) or "")
    assert json.loads((tmp_path / "evaluation.json").read_text())["k"] == 5
    assert evaluate(vae, k=6, limit=10).save(tmp_path) is None


def test_an_autoencoder_has_a_distortion_and_never_a_bound(tmp_path: Path) -> None:
    run = trained(tmp_path / "ae", "ae")
    result: Evaluation = evaluate(run, k=10, limit=20)
    assert result.terms.keys() == {"distortion"}
    text = str(result)
    assert "no bound" in text and "rate" not in text
    assert result.to_json()["bits_per_dim"] is None
    varied = run.vary(run.data.test.raw(torch.tensor([0])), n=3)
    assert torch.equal(varied[0], varied[1]), (
        "an autoencoder's variations are all the same"
    )


def test_beta_and_batch_size_do_not_change_what_the_figures_mean(
    tmp_path: Path,
) -> None:
    """The same weights give the same evaluation, whatever they were trained with."""
    run = trained(
        tmp_path / "run", "beta-vae", **{"objective.beta": 30.0, "train.batch": 64}
    )
    plain = run.config.recipe.model_copy(
        update={"objective": configure("digits", "vae").recipe.objective}
    )
    twin = Run(
        run.config.model_copy(update={"recipe": plain}), run.model, None, run.data
    )
    for name, value in score(run, examples(run, 5), 10, 0).items():
        other = score(twin, examples(run, 5), 10, 0)[name]
        assert torch.equal(value.nan_to_num(-1), other.nan_to_num(-1))


def test_bad_questions_get_a_sentence(vae: Run) -> None:
    for values in ({"k": 0}, {"limit": 0}, {"split": "tets"}):
        with pytest.raises(TightboundError):
            evaluate(vae, **values)  # type: ignore[arg-type]


def test_a_figure_of_one_example_has_no_error() -> None:
    assert math.isnan(Mean.of(torch.tensor([1.0])).se)
