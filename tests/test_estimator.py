"""VAEEstimator: what scikit-learn asks of a transformer, and that it leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightbound import TightboundError, VAEEstimator, VAEOutlierDetector

X, Y = load_iris(return_X_y=True)


def small(**values: object) -> VAEEstimator:
    settings = {"recipe.size": "s", "validate_every": 20}
    return VAEEstimator(
        **{
            "latent": 2,
            "steps": 20,
            "k": 20,
            "random_state": 0,
            "settings": settings,
            **values,
        }
    )


def test_fit_transform_and_back() -> None:
    model = small().fit(X)
    z = model.transform(X)
    assert z.shape == (150, 2) and z.dtype == X.dtype and model.n_features_in_ == 4
    assert model.inverse_transform(z).shape == X.shape
    assert model.get_feature_names_out().tolist() == ["vaeestimator0", "vaeestimator1"]
    assert model.score_samples(X).shape == (150,)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())
    a, b, c = (model.sample(5, random_state=seed) for seed in (1, 1, 2))
    assert a.shape == (5, 4) and (a == b).all() and (a != c).any()
    assert not hasattr(model, "impute")
    named = model.set_output(transform="pandas").transform(X)
    assert named.columns.tolist() == ["vaeestimator0", "vaeestimator1"]
    assert (named.to_numpy() == z).all()


def test_the_same_seed_gives_the_same_model_and_pickles(tmp_path: Path) -> None:
    first, second, other = small().fit(X), small().fit(X), small(random_state=1).fit(X)
    assert (first.transform(X) == second.transform(X)).all() and (
        first.transform(X) != other.transform(X)
    ).any()
    kept = pickle.loads(pickle.dumps(first))
    assert (kept.transform(X) == first.transform(X)).all()
    joblib.dump(first, tmp_path / "model")
    assert (joblib.load(tmp_path / "model").transform(X) == kept.transform(X)).all()


def test_in_a_pipeline() -> None:
    pipe = make_pipeline(StandardScaler(), clone(small()), LogisticRegression())
    assert pipe.fit(X, Y).score(X, Y) > 0.4
    assert small(steps=7).get_params()["steps"] == 7


def test_an_autoencoder_has_features_and_no_density() -> None:
    model = small(recipe="ae")
    for name in ("score", "score_samples"):
        assert hasattr(small(), name) and not hasattr(model, name)
    model.fit(X)
    assert model.transform(X).shape == (150, 2)
    with pytest.raises(AttributeError) as raised:
        model.score_samples(X)
    assert "'ae' has no density" in str(raised.value.__cause__)


def test_gaps_are_filled_and_values_that_are_there_stay() -> None:
    gaps = np.random.default_rng(0).random(X.shape) < 0.2
    holes = np.where(gaps, np.nan, X)
    model = small(recipe="missing-data", steps=100).fit(holes)
    filled = model.impute(holes, k=50)
    assert (filled[~gaps] == X[~gaps]).all()
    constant = np.nanmean(holes, 0)[None].repeat(len(X), 0)
    error, of_constant = (
        np.square(values - X)[gaps].mean() for values in (filled, constant)
    )
    assert error < of_constant
    table = pd.DataFrame(holes, columns=list("abcd"))
    named = small(recipe="missing-data", steps=2).fit(table).impute(table, k=5)
    assert named.columns.tolist() == list("abcd") and not named.isna().any().any()
    assert hasattr(small(settings={"recipe.missing": "mask"}), "impute")


@pytest.mark.skipif(
    os.environ.get("TIGHTBOUND_LONG") != "1",
    reason="two processes import torch: set TIGHTBOUND_LONG=1",
)
def test_a_grid_is_searched_by_two_processes() -> None:
    grid = {"latent": [1, 2], "steps": [1, 200]}
    search = GridSearchCV(small(), grid, cv=2, n_jobs=2, error_score="raise").fit(X)
    assert search.best_params_["steps"] == 200
    alone = clone(small(**search.best_params_)).fit(X)
    assert (search.best_estimator_.transform(X) == alone.transform(X)).all()


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    small(steps=None, epochs=1).fit(X)
    assert list(tmp_path.iterdir()) == []


def detector(**values: object) -> VAEOutlierDetector:
    settings = {"recipe.size": "s", "validate_every": 20}
    fixed = {"latent": 2, "steps": 20, "k": 20, "random_state": 0, "settings": settings}
    return VAEOutlierDetector(**{**fixed, **values})


def test_a_detector_finds_what_is_far_away() -> None:
    far = np.full((5, 4), 40.0)
    model = detector(steps=200).fit(X)
    assert len(model.calibration_) == 30
    assert (model.predict(far) == -1).all() and set(model.predict(X)) == {-1, 1}
    assert (model.predict(X) == -1).sum() == 15, "contamination is 0.1 of 150 rows"
    scores = model.score_samples(X)
    assert np.allclose(model.decision_function(X), scores - model.offset_)
    assert (model.score_samples(far) < scores.min()).all()
    assert (scores[model.calibration_] == model.calibration_scores_).all()
    assert (model.p_values(far) == 1 / 31).all()
    both = np.concatenate([X[:20], far])
    assert model.rejected(both, level=0.3)[20:].all()
    assert (model.fit_predict(X) == model.predict(X)).all()
    kept = pickle.loads(pickle.dumps(model))
    assert (kept.p_values(X) == model.p_values(X)).all()


def test_the_rows_held_out_are_drawn_anew_for_each_seed() -> None:
    first, again, other = (detector(steps=2, random_state=s).fit(X) for s in (0, 0, 1))
    assert (first.calibration_ == again.calibration_).all()
    assert (first.p_values(X) == again.p_values(X)).all()
    assert first.calibration_.tolist() != other.calibration_.tolist()


@pytest.mark.parametrize("method", ["regret", "mahalanobis"])
def test_scores_of_a_row_do_not_depend_on_the_others(method: str) -> None:
    model = detector(method=method, steps=5).fit(X)
    whole = model.score_samples(X[:6])
    single = [model.score_samples(X[i : i + 1])[0] for i in range(6)]
    assert whole == pytest.approx(single, rel=1e-6)
    assert (whole <= 0).all()


def test_an_autoencoder_detects_by_its_codes() -> None:
    assert (
        detector(recipe="ae", method="mahalanobis").fit(X).p_values(X).min() >= 1 / 31
    )
    with pytest.raises(TightboundError, match="no density"):
        detector(recipe="ae").fit(X)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"contamination": 0.0}, "contamination = 0.0"),
        ({"contamination": 0.6}, "contamination = 0.6"),
        ({"calibration": 1.0}, "calibration = 1.0"),
        ({"method": "regre"}, "regret"),
        ({"recipe": "conditional"}, "needs a condition"),
    ],
)
def test_options_of_a_detector_are_checked(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(TightboundError, match=message):
        detector(**values).fit(X)


SPARSE: dict[str, object] = {
    "csr_matrix": sp.csr_matrix(X),
    "csc_matrix": sp.csc_matrix(X),
    "csr_array": sp.csr_array(X),
    "coo_array": sp.coo_array(X),
    "frame": pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X)),
}
METHODS = ["transform", "impute", "score_samples", "score", "inverse_transform"]
DETECTOR_METHODS = [
    "score_samples",
    "decision_function",
    "predict",
    "p_values",
    "rejected",
]


@pytest.fixture(scope="module")
def fitted() -> dict[str, VAEEstimator | VAEOutlierDetector]:
    """Estimators fitted on an array and on a DataFrame."""
    gaps = {"recipe": "missing-data", "steps": 2}
    frame = pd.DataFrame(X, columns=list("abcd"))
    return {
        "estimator": small(**gaps).fit(X),
        "estimator of a frame": small(**gaps).fit(frame),
        "detector": detector(steps=2).fit(X),
        "detector of a frame": detector(steps=2).fit(frame),
    }


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_input_is_refused_with_the_sentence_of_scikit_learn(
    kind: str, fitted: dict[str, VAEEstimator | VAEOutlierDetector]
) -> None:
    sparse = SPARSE[kind]
    with pytest.raises(TypeError, match="Sparse data was passed for X") as raised:
        EmpiricalCovariance().fit(sparse)
    sentence = str(raised.value)
    for name, model in fitted.items():
        methods = METHODS if "estimator" in name else DETECTOR_METHODS
        calls = {method: getattr(model, method) for method in methods}
        calls["fit"] = clone(model).fit
        for method, call in calls.items():
            input_name = "Z" if method == "inverse_transform" else "X"
            expected = sentence.replace("for X", f"for {input_name}")
            with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
                call(sparse)


def test_a_sparse_tensor_is_refused_and_a_sparse_column_among_dense_ones_is_not() -> (
    None
):
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        small().fit(torch.from_numpy(X).to_sparse())
    dense = pd.DataFrame(X, columns=list("abcd"))
    partly = dense.assign(b=pd.arrays.SparseArray(X[:, 1], fill_value=3.0))
    first, second = (
        small(steps=2).fit(table).transform(table) for table in (dense, partly)
    )
    assert (first == second).all()


@parametrize_with_checks([small(steps=4, k=2), detector(steps=4, k=2)])
def test_conformance(estimator: VAEEstimator, check: object) -> None:
    check(estimator)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "two columns 'a'"),
        (["a", 1], "names of columns that are texts and"),
    ],
)
def test_names_that_the_estimator_cannot_match_are_refused(
    names: list[object], message: str
) -> None:
    table = pd.DataFrame(X[:, :2], columns=names)
    with pytest.raises(TightboundError, match=message):
        small(steps=2).fit(table)
