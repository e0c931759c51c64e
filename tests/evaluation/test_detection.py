"""Conformal p-values, Benjamini and Hochberg's procedure, and `detect`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import LedoitWolf

import tightbound as tb
from tightbound.data import read
from tightbound.evaluation.conformal import benjamini_hochberg, conformal_p_values
from tightbound.evaluation.detection import detect
from tightbound.runtime.errors import TightboundError


def test_p_values_are_ranks() -> None:
    """Of 4 calibration scores 1, 2, 3, 4: p is (1 + those at or below) / 5."""
    calibration = np.array([3.0, 1.0, 4.0, 2.0])
    p = conformal_p_values(calibration, np.array([0.0, 1.5, 2.5, 9.0]), seed=0)
    assert p.tolist() == [0.2, 0.4, 0.6, 1.0]
    ties = conformal_p_values(np.ones(4), np.ones(4000), seed=0)
    counts = np.unique(ties, return_counts=True)
    assert counts[0].tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert stats.chisquare(counts[1]).pvalue > 0.001
    with pytest.raises(TightboundError, match="none"):
        conformal_p_values(np.array([]), np.ones(2), seed=0)


@pytest.mark.parametrize("digits", [6, 0], ids=["no ties", "many ties"])
def test_p_values_of_inliers_are_uniform(digits: int) -> None:
    """Over seeds, each with a new calibration set: Kolmogorov-Smirnov and chi-squared."""
    p = []
    for seed in range(2000):
        scores = np.random.default_rng(seed).normal(size=20).round(digits)
        p.append(conformal_p_values(scores[:19], scores[19:], seed)[0])
    counts = np.unique(np.array(p).round(6), return_counts=True)[1]
    assert len(counts) == 20 and stats.chisquare(counts).pvalue > 0.001
    # jittered below its rank, a uniform rank of 20 is a uniform number
    jittered = np.array(p) - np.random.default_rng(0).uniform(size=2000) / 20
    assert stats.kstest(jittered, "uniform").pvalue > 0.001


def test_the_false_discovery_rate_is_held() -> None:
    """A tenth of outliers: the share of inliers among the rejected is 0.9 of the level."""
    rates = []
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        inliers = rng.normal(size=600)
        outliers = rng.normal(-5, 1, size=20)
        scores = np.concatenate([inliers[:180], outliers])
        p = conformal_p_values(inliers[180:], scores, seed)
        rejected = benjamini_hochberg(p, 0.2)
        rates.append(rejected[:180].sum() / max(1, rejected.sum()))
        found.append(rejected[180:].mean())
    assert np.mean(rates) == pytest.approx(0.9 * 0.2, abs=0.02)
    assert np.mean(found) > 0.9


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        (
            999,
            0.09,
        ),  # 0.1 (n + 1) / m = 1 is whole: the level times the share of inliers
        # 0.1 r (n + 1) / m = r / 20 is rounded down to 0 for r < 20 rejected rows of 20
        (49, 0.0),
    ],
)
def test_the_false_discovery_rate_of_few_held_out_rows(
    held_out: int, expected: float
) -> None:
    """FDR = level * inliers / m where p-values are fine enough, and less where they are not."""
    rates = []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.normal(size=90), rng.normal(-9, 1, size=10)])
        p = conformal_p_values(rng.normal(size=held_out), scores, seed)
        rejected = benjamini_hochberg(p, 0.1)
        rates.append(rejected[:90].sum() / max(1, rejected.sum()))
    assert np.mean(rates) == pytest.approx(expected, abs=0.006)


def test_benjamini_and_hochberg_reject_their_example() -> None:
    """Fifteen p-values of section 4 of the paper at 0.05: the four smallest."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert benjamini_hochberg(np.array(p), 0.05).tolist() == [True] * 4 + [False] * 11
    assert not benjamini_hochberg(np.array([0.9, 0.8]), 0.05).any()
    for level in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(TightboundError, match="level"):
            benjamini_hochberg(np.array(p), level)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tb.Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = {"recipe.size": "s", "train.steps": 200, "latent": 4}
    return tb.train(
        "digits", out=folder, settings=settings, display="none", report=False
    )


@pytest.mark.parametrize("method", ["log_px", "regret"])
def test_noise_among_digits_is_found(run: tb.Run, method: str) -> None:
    x = run.data.test.batch(torch.arange(12))[:, 0].numpy()
    noise = np.random.default_rng(0).integers(0, 17, (4, 8, 8))
    rows = read(np.concatenate([x, noise]).round(), run.spec, run.config.data)
    result = detect(run, rows, method=method, k=20, level=0.2)
    assert result.held_out == 180
    assert (result.p_values[12:] == 1 / 181).all() and result.rejected[12:].all()
    assert result.p_values[:12].mean() > 0.2


def test_the_distance_of_codes_is_that_of_scikit_learn(run: tb.Run) -> None:
    train = run.predictor.encode_mean(run.data.train.examples(torch.arange(1437)))
    fitted = LedoitWolf().fit(train.double().numpy())
    codes = run.predictor.encode_mean(run.data.test.examples(torch.arange(180)))
    result = detect(run, run.data.test, method="mahalanobis")
    expected = -fitted.mahalanobis(codes.double().numpy())
    assert result.scores == pytest.approx(expected)


def test_detect_writes_a_row_for_each_example(
    run: tb.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas

    from tightbound.cli import main

    out = tmp_path / "f.csv"
    main(["detect", str(run.folder), "digits", "--out", str(out), "-k", "5"])
    frame = pandas.read_csv(out)
    assert list(frame.columns) == ["row", "score", "p_value", "outlier"]
    assert len(frame) == 180 and frame["p_value"].between(1 / 181, 1).all()
    assert "against 180 held-out examples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-k", "0"), "k = 0"),
        (("-k", "0", "--method", "mahalanobis"), "k = 0"),
        (("--seed", "-1"), "seed = -1"),
        (("--level", "2"), "level = 2.0"),
        (("--level", "nan"), "level = nan"),
    ],
)
def test_detect_refuses_a_number_before_it_scores(
    run: tb.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    from tightbound.cli import main
    from tightbound.evaluation import detection

    monkeypatch.delattr(detection, "_scores")
    out = tmp_path / "f.csv"
    status = main(["detect", str(run.folder), "digits", "--out", str(out), *words])
    assert status == 2 and not out.exists()
    assert f"tightbound: error: {says} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("k", [0, -1, 1.5, "5"])
def test_numbers_of_samples_that_are_none(run: tb.Run, k: object) -> None:
    x = run.data.test.examples(2)
    with pytest.raises(tb.TightboundError, match=r"k = .*whole number from 1"):
        tb.score(run, x, k, seed=0)
    with pytest.raises(tb.TightboundError, match=r"k = .*whole number from 1"):
        tb.log_px(run.model, x, "importance", k=k)
