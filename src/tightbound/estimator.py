"""VAEEstimator: a VAE with the interface of scikit-learn."""

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

from tightbound.config import Config, configure
from tightbound.evaluation import score
from tightbound.runs.inputs import read_batch
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

Array = NDArray[Any]
FLOATS = (np.float64, np.float32)


class VAEEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A VAE as a transformer of scikit-learn.

    X (n_samples, n_features) to posterior means (n_samples, latent), and back.

    Args:
        recipe: The name of a recipe, see `tightbound recipes`.
        latent: Number of latents, or "auto".
        steps: Optimiser steps; chosen where None.
        epochs: Passes over the data; chosen where None.
        k: Samples of the importance-sampled log p(x).
        random_state: Seed of everything.
        settings: Further keys, such as {"likelihood": "gaussian", "train.lr": 3e-4}. X is read
            as real numbers, with a Gaussian likelihood of learned scale, unless "data.domain"
            is set.

    Attributes:
        run_: The trained Run.
        n_features_in_: Number of columns of X.

    Example:
        >>> import numpy as np, tightbound as tb
        >>> X = np.random.default_rng(0).normal(size=(100, 5))
        >>> codes = tb.VAEEstimator(latent=2, steps=5).fit_transform(X)
        >>> codes.shape
        (100, 2)
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
        """Train on X; a tenth of the rows is for validation and a tenth for testing.

        Args:
            X: (n_samples, n_features), or a DataFrame of mixed columns: texts, categories or
                truth values, or any with {"data.fields": ...} in the settings.
            y: Conditions of a conditional recipe, classes or numbers; ignored by others.

        Raises:
            TightboundError: A setting is unknown or cannot be used.
        """
        config = self._configure(X)
        if self.mixed_:
            _check_feature_names(self, X, reset=True)
            self.n_features_in_ = X.shape[1]
        else:
            finite: Any = True if config.recipe.missing == "refused" else "allow-nan"
            X = validate_data(
                self, X, dtype=FLOATS, ensure_min_samples=3, ensure_all_finite=finite
            )
        data = (X, y) if config.recipe.conditional else X
        with tempfile.TemporaryDirectory(prefix="tightbound-") as folder:
            run = fit(config, data, Path(folder), Quiet())
        self.run_ = Run(run.config, run.model)
        self._n_features_out = sum(self.run_.sites.values())
        return self

    def _configure(self, X: Any) -> Config:
        settings = dict(self.settings or {})
        has_fields = any(key.startswith("data.fields") for key in settings)
        self.mixed_ = _is_mixed(X) or has_fields
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        values = {"latent": self.latent, "seed": seed, "device": "cpu"}
        if not self.mixed_:
            values["data.domain"] = "real"
        if self.steps is not None:
            values["train.steps"] = self.steps
        if self.epochs is not None:
            values["train.epochs"] = self.epochs
        return configure("", self.recipe, values=values | settings)

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
        """Encode X.

        Args:
            X: (n_samples, n_features).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            Posterior means (n_samples, latent), in the precision of X.
        """
        X = self._read(X)
        z = self.run_.encode(X, condition).numpy()
        return z.astype(np.float32 if self.mixed_ else X.dtype)

    def inverse_transform(self, Z: Any, condition: Any = None) -> Any:
        """Decode Z.

        Args:
            Z: (n_samples, latent).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            E[x|z] (n_samples, n_features), in the precision of Z; of mixed columns a DataFrame
            as `Run.decode` returns it.
        """
        check_is_fitted(self, "run_")
        Z = check_array(Z, dtype=FLOATS)
        x = self.run_.decode(Z, condition)
        if self.mixed_:
            return x
        return x.numpy().astype(Z.dtype)

    def score_samples(self, X: Any, condition: Any = None) -> Array:
        """Estimate log p(x) of each row by importance sampling with `k` samples.

        Args:
            X: (n_samples, n_features).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            (n_samples,), in nats.

        Raises:
            TightboundError: The recipe has no density, as an autoencoder.
        """
        X = self._read(X)
        run = self.run_
        if not run.has_bound:
            raise TightboundError(
                f"recipe {self.recipe!r} has no density, so no log p(x): fit recipe vae"
            )
        rows = read_batch(X, run.spec, run.config.data, condition)
        return score(run, rows, self.k, run.config.seed)["log_px"].numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`; higher is better.

        Args:
            X: (n_samples, n_features).
            y: Conditions of a conditional recipe; ignored by others.
        """
        check_is_fitted(self, "run_")
        condition = y if self.run_.spec.condition is not None else None
        return float(self.score_samples(X, condition).mean())

    def sample(
        self, n_samples: int = 1, random_state: Any = None, condition: Any = None
    ) -> Any:
        """Draw z from the prior and decode it.

        Args:
            n_samples: Number of rows.
            random_state: Seed of the draws.
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            E[x|z] (n_samples, n_features); of mixed columns a DataFrame of draws.
        """
        check_is_fitted(self, "run_")
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        x = self.run_.sample(n_samples, seed=seed, condition=condition)
        if self.mixed_:
            return x
        return x.numpy()


def _is_mixed(X: Any) -> bool:
    """True for a DataFrame with columns of texts, categories or truth values."""
    if not (hasattr(X, "iloc") and hasattr(X, "dtypes")):
        return False
    kinds = ("bool", "object", "category", "string", "str")
    return any(str(kind) in kinds for kind in X.dtypes)
