"""VAEEstimator: a run with the interface of scikit-learn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_feature_names,
    check_array,
    check_is_fitted,
    validate_data,
)

from tightbound.config import configure
from tightbound.evaluation import score
from tightbound.runs.inputs import read_batch
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

Array = NDArray[Any]
FLOATS = (np.float64, np.float32)


class VAEEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A VAE as a transformer: X (n_samples, n_features) to posterior means (n_samples, latent), and
    back.

    recipe: a name of `tightbound recipes`.  latent: features, or "auto".  steps, epochs: length of
    training, or None. k: samples of the importance-sampled log p(x).  random_state: seed of
    everything. settings: further keys, such as {"likelihood": "gaussian", "train.lr": 3e-4}; X is
    read as real numbers, with a Gaussian of learned scale, unless {"data.domain": ...} says
    otherwise.  After `fit`: run_, n_features_in_.
    """

    def __init__(
        self,
        recipe: str = "vae",
        latent: Any = "auto",
        *,
        steps: int | None = None,
        epochs: float | None = None,
        k: int = 100,
        random_state: Any = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self.latent = latent
        self.steps = steps
        self.epochs = epochs
        self.k = k
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> VAEEstimator:
        """Trains on X; a tenth of the rows validate and a tenth are left aside. TightboundError for
        bad settings.

        A DataFrame of mixed columns (texts, categories, truth values, or with {"data.fields": ...})
        is read as such. y: what a conditional recipe is told of each row, classes or numbers; of no
        use to any other.
        """
        own = dict(self.settings or {})
        self.mixed_ = _mixed(X) or any(key.startswith("data.fields") for key in own)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        values = {"latent": self.latent, "seed": seed, "device": "cpu"}
        values |= {} if self.mixed_ else {"data.domain": "real"}
        values |= {"train.steps": self.steps} if self.steps is not None else {}
        values |= {"train.epochs": self.epochs} if self.epochs is not None else {}
        config = configure("", self.recipe, values=values | own)
        if self.mixed_:
            _check_feature_names(self, X, reset=True)
            self.n_features_in_ = X.shape[1]
        else:
            finite: Any = True if config.recipe.missing == "refused" else "allow-nan"
            X = validate_data(
                self, X, dtype=FLOATS, ensure_min_samples=3, ensure_all_finite=finite
            )
        with tempfile.TemporaryDirectory(prefix="tightbound-") as folder:
            run = fit(
                config,
                (X, y) if config.recipe.conditional else X,
                Path(folder),
                Quiet(),
            )
        self.run_ = Run(run.config, run.model)
        self._n_features_out = sum(self.run_.sites.values())
        return self

    def _read(self, X: Any) -> Any:
        check_is_fitted(self, "run_")
        if self.mixed_:
            return X
        finite: Any = "allow-nan" if self.run_.spec.missing else True
        checked: Array = validate_data(
            self, X, dtype=FLOATS, reset=False, ensure_all_finite=finite
        )
        return checked

    def transform(self, X: Any, condition: Any = None) -> Array:
        """Posterior means, (n_samples, latent), in the precision of X; condition: of a conditional
        recipe, as y.
        """
        X = self._read(X)
        return (
            self.run_.encode(X, condition)
            .numpy()
            .astype(np.float32 if self.mixed_ else X.dtype)
        )

    def inverse_transform(self, Z: Any, condition: Any = None) -> Any:
        """E[x|z] of each row of Z (n_samples, latent), (n_samples, n_features), in the precision of
        Z.

        For mixed columns a DataFrame as `Run.decode` gives it.
        """
        check_is_fitted(self, "run_")
        Z = check_array(Z, dtype=FLOATS)
        x = self.run_.decode(Z, condition)
        return x if self.mixed_ else x.numpy().astype(Z.dtype)

    def score_samples(self, X: Any, condition: Any = None) -> Array:
        """log p(x) of each row in nats, importance-sampled with `k` samples; TightboundError for an
        autoencoder.
        """
        X = self._read(X)
        if not self.run_.has_bound:
            raise TightboundError(
                f"recipe {self.recipe!r} has no density, so no log p(x): fit recipe vae"
            )
        return score(
            self.run_,
            read_batch(X, self.run_.spec, self.run_.config.data, condition),
            self.k,
            self.run_.config.seed,
        )["log_px"].numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`: higher is better; y: the condition, of a conditional
        recipe.
        """
        check_is_fitted(self, "run_")
        return float(
            self.score_samples(
                X, y if self.run_.spec.condition is not None else None
            ).mean()
        )

    def sample(
        self, n_samples: int = 1, random_state: Any = None, condition: Any = None
    ) -> Any:
        """New rows, E[x|z] with z from the prior, (n_samples, n_features); for mixed columns a
        DataFrame of draws.
        """
        check_is_fitted(self, "run_")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        x = self.run_.sample(n_samples, seed=seed, condition=condition)
        return x if self.mixed_ else x.numpy()


def _mixed(X: Any) -> bool:
    """True for a DataFrame that has columns of texts, categories or truth values."""
    kinds = (
        [str(kind) for kind in X.dtypes]
        if hasattr(X, "iloc") and hasattr(X, "dtypes")
        else []
    )
    return any(
        kind in ("bool", "object", "category", "string", "str") for kind in kinds
    )
