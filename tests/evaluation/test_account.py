"""evaluate: what comes closer than importance sampling, train beside test, and evaluations that
are interrupted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.small import small_run

from tightbound.evaluation import Evaluation, Mean, evaluate
from tightbound.evaluation import budget as plan
from tightbound.evaluation import inference_gap as third
from tightbound.evaluation import run_evaluation as measure
from tightbound.evaluation import runner as work
from tightbound.evaluation.budget import Plan
from tightbound.evaluation.cache import FOLDER
from tightbound.runs.run import Run, load

FAST = {"steps": 40, "lr": 0.003, "validate_every": 20}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "two", "vae", latent=2, **FAST)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "vae", "vae", **FAST)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 16 examples, so that 180 make twelve."""
    monkeypatch.setattr(work, "PIECE_VALUES", 1)


def figures(e: Evaluation) -> dict[str, Any]:
    """All of it but times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k != "seconds"}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    result: dict[str, Any] = timeless(e.to_json())
    return result


# ---- closer to the truth


def test_two_latents_have_an_exact_third_term(two: Path) -> None:
    result = evaluate(load(two), k=200, subset=6, gap=True, diagnosis=False)
    t, exact = result.inference_gap, result.methods["quadrature"]
    assert (
        t is not None
        and t.exact
        and t.method == "quadrature"
        and (t.n, exact.n, exact.kind) == (6, 6, "exact")
    )
    assert exact.above is not None and exact.above.mean > -4 * exact.above.se - 0.01
    best = result.headline
    assert best is not None and best.kind == "exact" and best.method == "quadrature"
    assert best.gap.mean == pytest.approx(best.log_px.mean - result.terms["elbo"].mean)
    f = t.terms
    assert f["gap"].mean == pytest.approx(f["log_px"].mean - f["elbo"].mean)
    assert f["approximation"].mean + f["amortisation"].mean == pytest.approx(
        f["gap"].mean, abs=1e-9
    )
    assert 0 < f["approximation"].mean < f["gap"].mean
    assert result.train is not None and result.train.n == 6
    decoder, encoder = result.overfitting["decoder"], result.overfitting["encoder"]
    assert decoder.mean == pytest.approx(
        result.train.terms["log_px"].mean - f["log_px"].mean
    )
    assert encoder.mean == pytest.approx(
        f["amortisation"].mean - result.train.terms["amortisation"].mean
    )
    text = str(result)
    assert (
        "inference gap, 6 test examples, by quadrature" in text
        and "≥" not in text.split("inference gap")[1]
        and "lower bound" not in text.split("inference gap", 1)[1]
    )
    assert "overfitting of the encoder" in text


def test_more_latents_have_bounds_and_say_so(vae: Path) -> None:
    result = evaluate(load(vae), k=50, subset=4, gap=True, limit=20, diagnosis=False)
    assert (
        result.methods.keys() == {"importance"}
        and result.inference_gap is not None
        and not result.inference_gap.exact
    )
    assert list(result.curve) == [1, 5, 50] and result.curve[50].mean == pytest.approx(
        result.terms["log_px"].mean
    )
    text = str(result)
    assert "inference gap, 4 test examples, by importance (a lower bound)" in text
    gap = result.inference_gap.terms["gap"]
    assert re.search(rf"inference gap +≥ {gap.mean:.2f} ± +{gap.se:.2f} ", text)
    plain = evaluate(load(vae), k=20, limit=20, diagnosis=False)
    assert (
        plain.inference_gap is None
        and plain.train is None
        and list(plain.curve) == [1, 5, 20]
    )


def test_annealed_importance_sampling_comes_with_a_certificate(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in (
        (plan, "PILOT", 5),
        (third, "PILOT_K", 20),
        (measure, "LEAST", 3),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(
        measure,
        "requested_plan",
        lambda run, n, request: Plan(request.k, n, 4, {"ais-q": {"temperatures": 20}}),
    )
    result = evaluate(load(vae), k=50, limit=20, diagnosis=False)
    t, ais = result.inference_gap, result.methods["ais-q"]
    assert (
        t is not None
        and t.method == "importance or ais-q"
        and not t.exact
        and ais.n == 4
    )
    assert (
        sum(t.settings["chosen"].values()) == 4 and ais.settings["temperatures"] == 20
    )
    c = result.bdmc_gap
    assert (
        c is not None and c.n == 3 == len(c.gaps) and c.settings["temperatures"] == 20
    )
    assert c.gap.mean == pytest.approx(c.upper.mean - c.lower.mean)
    assert "BDMC gap of ais-q: " in str(result)
    assert json.loads(json.dumps(result.to_json()))["bdmc_gap"]["gaps"] == c.gaps


def test_the_file_has_every_figure_with_its_error_and_keeps_what_was_not_made_again(
    vae: Path, tmp_path: Path
) -> None:
    run = load(vae)
    first = evaluate(run, k=20, subset=4, gap=True)
    assert first.save(tmp_path) is None
    kept = json.loads((tmp_path / "evaluation.json").read_text())
    assert (
        kept["format"] == 3
        and len(kept["data"]["examples"]) == 64
        and kept["weights"] == run.predictor.fingerprint
    )
    means = [
        kept["terms"]["elbo"],
        kept["inference_gap"]["amortisation"],
        kept["methods"]["importance"],
        *kept["curve"],
    ]
    assert all(isinstance(m["mean"], float) and m["se"] > 0 for m in means)
    assert kept["inference_gap"]["settings"]["search"]["samples"] == 8
    assert kept["methods"]["importance"]["noise"] is None, "K is below 25"
    assert kept["diagnosis"]["latents"]["features"][0]["activity"] >= 0
    assert evaluate(run, k=21, diagnosis=False).save(tmp_path) is None
    again = json.loads((tmp_path / "evaluation.json").read_text())
    assert (
        again["k"] == 21
        and again["inference_gap"] == kept["inference_gap"]
        and again["diagnosis"] == kept["diagnosis"]
    )


def test_an_autoencoder_has_no_third_term_and_says_why(tmp_path: Path) -> None:
    result = evaluate(
        load(small_run(tmp_path / "ae", "ae", steps=4)), ais=True, gap=True, limit=20
    )
    assert (
        result.terms.keys() == {"distortion"} and result.k == 0 and not result.methods
    )
    text = str(result)
    assert (
        "its latent is a point, so there is no bound on log p(x)" in text
        and "left out" in text
    )
    measured = [line for line in text.splitlines() if "±" in line]
    assert not any(
        name in line
        for line in measured
        for name in ("ELBO", "elbo", "log p(x) ", "log_px", "gap")
    )


# ---- interrupted and continued


def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of examples that log p(x) is really computed of, as it happens."""
    computed: list[int] = []
    real: Callable[..., Any] = work.log_px

    def counted(model: Any, x: Any, *args: Any, **options: Any) -> Any:
        computed.append(len(x))
        return real(model, x, *args, **options)

    monkeypatch.setattr(work, "log_px", counted)
    return computed


def stop_at(count: int, how: Callable[[], None]) -> Callable[..., None]:
    def tick(done: int, n: int, what: str) -> None:
        if done >= count:
            how()

    return tick


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_pieces")
def test_an_interrupted_evaluation_goes_on_and_gives_the_same(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, options = load(two), {"k": 20, "subset": 3, "gap": True, "diagnosis": False}
    whole = evaluate(
        Run(run.config, run.model, None, run.data), **options
    )  # without a folder nothing is kept
    for stage in (100, 180):
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, tick=stop_at(stage, interrupt), **options)
    assert len(list((two / FOLDER / run.predictor.fingerprint).iterdir())) >= 11
    computed = calls(monkeypatch)
    result = evaluate(run, **options)
    assert figures(result) | {"name": ""} == figures(whole) | {"name": ""}
    assert sum(computed) < 100, "most of it was there already"
    assert not (two / FOLDER).exists(), "nothing is left when all is done"


@pytest.mark.usefixtures("small_pieces")
def test_damaged_pieces_and_those_of_other_weights_are_not_used(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, options = load(vae), {"k": 10, "diagnosis": False}
    whole = figures(evaluate(run, **options))
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, tick=stop_at(100, interrupt), **options)
    pieces = sorted((vae / FOLDER / run.predictor.fingerprint).iterdir())
    assert len(pieces) >= 6
    pieces[0].write_bytes(pieces[0].read_bytes()[:-3])
    computed = calls(monkeypatch)
    assert (
        figures(evaluate(run, **options | {"k": 11})) != whole and sum(computed) == 180
    ), "other settings: none are used"
    other = load(vae)
    with torch.no_grad():
        other.model.hierarchy.decoder.head.bias += 0.1
    computed.clear()
    assert figures(evaluate(other, **options)) != whole and sum(computed) == 180
    assert not (vae / FOLDER).exists(), "those of other weights are removed"


KILLED = """
import os, sys
from tightbound.evaluation import evaluate, runner
from tightbound.runs.run import load
runner.PIECE_VALUES = 1
def tick(done, n, what):
    if done >= 100:
        os.kill(os.getpid(), 9)
evaluate(load(sys.argv[1]), k=30, diagnosis=False, tick=tick)
"""


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_evaluation_goes_on(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(vae)
    whole = figures(evaluate(run, k=30, diagnosis=False))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(vae)], capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    computed = calls(monkeypatch)
    assert figures(evaluate(run, k=30, diagnosis=False)) == whole
    assert 0 < sum(computed) <= 100


# ---- a budget


def fake(monkeypatch: pytest.MonkeyPatch, **trials: float) -> None:
    monkeypatch.setattr(plan, "_trials", lambda run, x: trials)


def test_a_budget_chooses_what_fits(vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load(vae)
    x = torch.zeros(2, 1, 8, 8)
    fake(monkeypatch, importance=1e-6, gap=0.1)
    ample, _ = plan.budgeted_plan(run, x, 1000, 600, train=True)
    assert (ample.k, ample.n, ample.gap, ample.train) == (
        5000,
        1000,
        True,
        True,
    ) and ample.subset == 500
    tight, _ = plan.budgeted_plan(run, x, 1000, 6, train=True)
    assert tight.k == 2000 and tight.n == 1000 and tight.subset == 16
    fake(monkeypatch, importance=1e-3, gap=10.0)
    least, _ = plan.budgeted_plan(run, x, 1000, 6, train=True)
    assert (least.k, least.n, least.gap) == (50, 48, False)
    assert least.k * least.n * 1e-3 <= 0.4 * 6


def test_a_continued_evaluation_keeps_to_its_plan(
    vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, times = load(vae), iter(range(10))

    def within(*args: Any, **options: Any) -> tuple[Plan, dict[str, float]]:
        return Plan(k=10 + next(times), n=40, subset=4), {"importance": 0.001}

    monkeypatch.setattr(measure, "budgeted_plan", within)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, budget=60, diagnosis=False, tick=stop_at(1, interrupt))
    result = evaluate(run, budget=60, diagnosis=False)
    assert (result.k, result.n) == (10, 40) and next(times) == 1
    assert (
        result.budget is not None
        and result.budget["plan"]["k"] == 10
        and result.budget["seconds"] == 60
    )
    assert evaluate(run, budget=60, diagnosis=False).k == 12, (
        "the next one is timed again"
    )


def test_a_real_budget_is_kept_to_and_saved(vae: Path) -> None:
    result = evaluate(load(vae), budget=3, diagnosis=False).to_json()
    assert (
        result["budget"]["trials"]["importance"] > 0
        and result["k"] == result["budget"]["plan"]["k"]
    )
    assert (
        result["inference_gap"] is None
        or result["inference_gap"]["n"] == result["budget"]["plan"]["subset"]
    )


def test_a_difference_of_figures_over_different_examples() -> None:
    result = Mean.difference(Mean(3.0, 0.3), Mean(1.0, 0.4))
    assert (result.mean, result.se) == (2.0, pytest.approx(0.5))
