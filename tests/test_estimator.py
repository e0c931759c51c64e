"""VAEEstimator: what scikit-learn asks of a transformer, and that it leaves nothing behind."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tightbound import TightboundError, VAEEstimator

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


def test_the_same_seed_gives_the_same_model_and_pickles() -> None:
    first, second, other = small().fit(X), small().fit(X), small(random_state=1).fit(X)
    assert (first.transform(X) == second.transform(X)).all() and (
        first.transform(X) != other.transform(X)
    ).any()
    kept = pickle.loads(pickle.dumps(first))
    assert (kept.transform(X) == first.transform(X)).all()


def test_in_a_pipeline() -> None:
    pipe = make_pipeline(StandardScaler(), clone(small()), LogisticRegression())
    assert pipe.fit(X, Y).score(X, Y) > 0.4
    assert small(steps=7).get_params()["steps"] == 7


def test_an_autoencoder_has_features_and_no_density() -> None:
    model = small(recipe="ae").fit(X)
    assert model.transform(X).shape == (150, 2)
    with pytest.raises(TightboundError, match="no density"):
        model.score_samples(X)


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    small(steps=None, epochs=1).fit(X)
    assert list(tmp_path.iterdir()) == []


@parametrize_with_checks([small(steps=4, k=2)])
def test_conformance(estimator: VAEEstimator, check: object) -> None:
    check(estimator)  # type: ignore[operator]
