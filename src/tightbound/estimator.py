"""VAEEstimator and VAEOutlierDetector: VAEs with the interface of scikit-learn."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import Tags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _num_samples,
    check_array,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from tightbound.config import MOST_SAMPLES, Config, configure, keyed
from tightbound.data.formats.labels import NO_LABEL
from tightbound.data.opening import plain_array
from tightbound.data.source import is_sparse
from tightbound.data.tables.frames import check_names, table_of
from tightbound.distributions.random import seed_for
from tightbound.evaluation import score
from tightbound.evaluation.conformal import (
    benjamini_hochberg,
    check_level,
    conformal_p_values,
)
from tightbound.evaluation.outlier_scores import SCORES, Scorer, scorer
from tightbound.models.recipes import Recipe
from tightbound.runs.inputs import read_batch
from tightbound.runs.run import Run
from tightbound.runtime.errors import (
    TightboundError,
    cut,
    finite_number,
    lookup,
    whole_number,
)
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit

if TYPE_CHECKING:
    from pandas import DataFrame

Array = np.ndarray
Rows: TypeAlias = "DataFrame | ArrayLike"
RandomState = int | np.random.RandomState | None
FLOATS = (np.float64, np.float32)


class _OfRows(BaseEstimator):
    """What the estimators share: settings, checks of X, training, log p(x)."""

    recipe: str
    latent: int | str | Sequence[int]
    steps: int | None
    epochs: float | None
    k: int
    random_state: RandomState
    settings: dict[str, object] | None

    def __sklearn_tags__(self) -> Tags:
        """The properties of the estimator for scikit-learn: which X it takes."""
        tags: Tags = super().__sklearn_tags__()
        recipe = self._recipe()
        tags.input_tags.allow_nan = recipe is not None and _may_miss(recipe)
        return tags

    def _recipe(self) -> Recipe | None:
        """The recipe with the settings over it; None where they are wrong, which `fit` says."""
        try:
            return configure("", self.recipe, values=keyed(self.settings)).recipe
        except TightboundError:
            return None

    def _configure(self, X: object) -> Config:
        _refuse_sparse(X)
        settings = keyed(self.settings)
        whole_number("k", self.k, 1, MOST_SAMPLES)
        has_fields = any(key.startswith("data.fields") for key in settings)
        self.fitted_on_frame_ = _is_frame(X)
        if self.fitted_on_frame_:
            _check_names(X)
        is_mixed = has_fields or (self.fitted_on_frame_ and _is_mixed(X))
        seed = _seed_of(self.random_state)
        values: dict[str, object] = {
            "latent": self.latent,
            "seed": seed,
            "device": "cpu",
            "data.label": NO_LABEL,  # no column leaves X
        }
        if not is_mixed:
            values["data.domain"] = "real"
        if self.steps is not None:
            values["train.steps"] = self.steps
        if self.epochs is not None:
            values["train.epochs"] = self.epochs
        return configure("", self.recipe, values=values | settings)

    def _checked(self, X: Rows, config: Config, least: int) -> Rows:
        """X as it is trained on, at least so many rows; sets `n_features_in_`."""
        may_miss = _may_miss(config.recipe)
        X = plain_array(X, config.data.model_copy(update={"allow_missing": may_miss}))
        if self.fitted_on_frame_:
            _check_feature_names(self, X, reset=True)
            _check_n_features(self, X, reset=True)
            return X
        finite: bool | str = "allow-nan" if may_miss else True
        checked: Array = validate_data(
            self, X, dtype=FLOATS, ensure_min_samples=least, ensure_all_finite=finite
        )
        return checked

    def _train(self, config: Config, data: object) -> None:
        """Train in a folder that is removed, and keep the run."""
        with tempfile.TemporaryDirectory(prefix="tightbound-") as folder:
            run = fit(config, data, Path(folder), Quiet())
        self.run_ = Run(run.config, run.model)

    def _read(self, X: DataFrame | ArrayLike) -> DataFrame | Array:
        """X for the run: a DataFrame as it is, its columns matched by name, else an array."""
        check_is_fitted(self, "run_")
        _refuse_sparse(X)
        if self.fitted_on_frame_ and _is_frame(X):
            _check_names(X)
            _check_feature_names(self, X, reset=False)
            _check_n_features(self, X, reset=False)
            return X
        X = plain_array(X, self.run_.config.data)
        finite: bool | str = "allow-nan" if self.run_.spec.missing else True
        checked: Array = validate_data(
            self, X, dtype=FLOATS, reset=False, ensure_all_finite=finite
        )
        return checked


def _may_miss(recipe: Recipe) -> bool:
    """Whether a recipe takes missing values."""
    return recipe.missing != "refused"


def _has_density(estimator: _OfRows) -> bool:
    """Whether log p(x) can be estimated; raises AttributeError with what to do where not."""
    recipe = estimator._recipe()
    if recipe is not None and not recipe.has_bound:
        raise AttributeError(
            f"recipe {estimator.recipe!r} has no density, so no log p(x): fit recipe vae"
        )
    return True


def _has_gaps(estimator: _OfRows) -> bool:
    """Whether missing values are taken; raises AttributeError with what to do where not."""
    recipe = estimator._recipe()
    if recipe is not None and not _may_miss(recipe):
        raise AttributeError(
            f"recipe {estimator.recipe!r} takes no missing values: fit recipe missing-data"
        )
    return True


class VAEEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _OfRows):
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
        latent: int | str | Sequence[int] = "auto",
        *,
        steps: int | None = None,
        epochs: float | None = None,
        k: int = 100,
        random_state: RandomState = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.latent = latent
        self.steps = steps
        self.epochs = epochs
        self.k = k
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: DataFrame | ArrayLike, y: ArrayLike | None = None) -> VAEEstimator:
        """Train on X; a tenth of the rows is for validation and a tenth for testing.

        Args:
            X: (n_samples, n_features), dense, or a DataFrame, also with texts,
                categories, truth values and times, or with {"data.fields": ...} in the
                settings.
            y: Conditions of a conditional recipe, classes or numbers; ignored by others.

        Raises:
            TightboundError: A setting is unknown or cannot be used.
            TypeError: X is sparse.
        """
        config = self._configure(X)
        X = self._checked(X, config, 3)
        self._train(config, (X, y) if config.recipe.conditional else X)
        self._n_features_out = sum(self.run_.model.site_widths.values())
        return self

    def transform(self, X: DataFrame | ArrayLike, condition: object = None) -> Array:
        """Encode X.

        Args:
            X: (n_samples, n_features).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            Posterior means (n_samples, latent), in the precision of X.
        """
        X = self._read(X)
        z = _in_float64(self.run_).encode(X, condition).numpy()
        return z.astype(_float_type(X))

    def inverse_transform(
        self, Z: ArrayLike, condition: object = None
    ) -> DataFrame | Array:
        """Decode Z.

        Args:
            Z: (n_samples, latent).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            E[x|z] (n_samples, n_features), in the precision of Z; a DataFrame, as
            `Run.decode` returns it, where X was one in `fit`.
        """
        check_is_fitted(self, "run_")
        codes: Array = check_array(Z, dtype=FLOATS, input_name="Z")
        x = self.run_.decode(codes, condition)
        if isinstance(x, Tensor):
            return x.numpy().astype(codes.dtype)
        return x

    @available_if(_has_gaps)
    def impute(
        self, X: DataFrame | ArrayLike, k: int = 1000, condition: object = None
    ) -> DataFrame | Array:
        """Fill in missing values (NaN) by their mean given the observed ones.

        There is no such method where the recipe takes no missing values.

        Args:
            X: (n_samples, n_features).
            k: Importance samples.
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            X with its gaps filled, in the precision of X; a DataFrame where X was one in `fit`.
        """
        X = self._read(X)
        filled = _in_float64(self.run_).impute(X, k, condition=condition).x
        if isinstance(filled, Tensor):
            return filled.numpy().astype(_float_type(X))
        return filled

    @available_if(_has_density)
    def score_samples(
        self, X: DataFrame | ArrayLike, condition: object = None
    ) -> Array:
        """Estimate log p(x) of each row by importance sampling with `k` samples.

        There is no such method where the recipe has no density, as an autoencoder.

        Args:
            X: (n_samples, n_features).
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            (n_samples,), in nats.
        """
        X = self._read(X)
        run = _in_float64(self.run_)
        rows = read_batch(X, run.spec, run.config.data, condition)
        k = whole_number("k", self.k, 1, MOST_SAMPLES)
        return score(run, rows, k, run.config.seed)["log_px"].numpy()

    @available_if(_has_density)
    def score(self, X: DataFrame | ArrayLike, y: ArrayLike | None = None) -> float:
        """The mean of `score_samples`; higher is better. It exists where that does.

        Args:
            X: (n_samples, n_features).
            y: Conditions of a conditional recipe; ignored by others.
        """
        check_is_fitted(self, "run_")
        condition = y if self.run_.spec.condition is not None else None
        return float(self.score_samples(X, condition).mean())

    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        condition: object = None,
    ) -> DataFrame | Array:
        """Draw z from the prior and x from p(x|z).

        Args:
            n_samples: Number of rows.
            random_state: Seed of the draws.
            condition: Of a conditional recipe, one for all rows or one for each.

        Returns:
            (n_samples, n_features); a DataFrame where X was one in `fit`.
        """
        check_is_fitted(self, "run_")
        seed = _seed_of(random_state)
        x = self.run_.sample(n_samples, seed=seed, condition=condition, pixels="draw")
        if isinstance(x, Tensor):
            return x.numpy()
        return x


class VAEOutlierDetector(OutlierMixin, _OfRows):
    """A VAE as an outlier detector of scikit-learn, with conformal p-values.

    A part of the rows is held out of training. A new row's p-value is the rank of its score
    among theirs, so that p-values of inliers are uniform however good the model is.

    Args:
        recipe: The name of a recipe, see `tightbound recipes`.
        latent: Number of latents, or "auto".
        method: The score: "log_px", log p(x) by importance sampling; "regret", minus the gain
            of the bound by fitting q to the row alone (likelihood regret); or "mahalanobis",
            minus the squared Mahalanobis distance of the code from those of training, which
            an autoencoder has too.
        contamination: Share of the rows of `fit` that `predict` calls outliers, above 0 and
            at most 0.5.
        calibration: Share of the rows of `fit` that is held out for p-values.
        steps: Optimiser steps; chosen where None.
        epochs: Passes over the data; chosen where None.
        k: Samples of the importance-sampled log p(x).
        random_state: Seed of everything: of the rows held out, too.
        settings: As in `VAEEstimator`.

    Attributes:
        run_: The trained Run.
        offset_: The score below which a row is called an outlier.
        calibration_: Numbers of the rows held out.
        calibration_scores_: Their scores.
        n_features_in_: Number of columns of X.

    Example:
        >>> import numpy as np, tightbound as tb
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = tb.VAEOutlierDetector(latent=1, steps=50, random_state=0).fit(X)
        >>> detector.p_values([[0.0, 0.0, 0.0], [30.0, 30.0, 30.0]]).round(3).tolist()[1]
        0.024
    """

    def __init__(
        self,
        recipe: str = "vae",
        latent: int | str | Sequence[int] = "auto",
        *,
        method: str = "log_px",
        contamination: float = 0.1,
        calibration: float = 0.2,
        steps: int | None = None,
        epochs: float | None = None,
        k: int = 100,
        random_state: RandomState = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.latent = latent
        self.method = method
        self.contamination = contamination
        self.calibration = calibration
        self.steps = steps
        self.epochs = epochs
        self.k = k
        self.random_state = random_state
        self.settings = settings

    def fit(self, X: Rows, y: ArrayLike | None = None) -> VAEOutlierDetector:
        """Train on a part of X, and score the rows held out.

        Args:
            X: (n_samples, n_features), as in `VAEEstimator.fit`.
            y: Ignored.

        Raises:
            TightboundError: A setting cannot be used, or the recipe has no such score.
            TypeError: X is sparse.
        """
        contamination = finite_number("contamination", self.contamination, 0)
        if not 0 < contamination <= 0.5:
            raise TightboundError(
                f"contamination = {contamination} cannot be used: give a share above 0 and at "
                "most 0.5"
            )
        share = finite_number("calibration", self.calibration, 0)
        if not 0 < share < 1:
            raise TightboundError(
                f"calibration = {share} cannot be used: give a share above 0 and below 1"
            )
        lookup(SCORES, self.method, "score")
        config = self._configure(X)
        if config.recipe.conditional:
            raise TightboundError(
                f"recipe {self.recipe!r} needs a condition, which a detector has not: take "
                "recipe vae"
            )
        X = self._checked(X, config, 5)
        n = _num_samples(X)
        held = min(max(1, round(share * n)), n - 3)
        order = np.random.default_rng(seed_for(config.seed, "calibration"))
        numbers = order.permutation(n)
        self.calibration_ = np.sort(numbers[:held])
        training = _rows(X, np.sort(numbers[held:]))
        self._train(config, training)
        run = _in_float64(self.run_)
        examples = read_batch(training, run.spec, run.config.data)
        self._codes = scorer(run, self.method, self.k, examples).codes
        scores = self._scores(X)
        self.calibration_scores_ = scores[self.calibration_]
        self.offset_ = float(np.percentile(scores, 100 * contamination))
        return self

    def _scores(self, X: Rows) -> Array:
        run = _in_float64(self.run_)
        rows = read_batch(X, run.spec, run.config.data)
        return Scorer(run, self.method, self.k, self._codes)(rows)

    def score_samples(self, X: Rows) -> Array:
        """The score of each row by `method`: lower is more of an outlier.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples,); in nats of "log_px" and "regret".
        """
        return self._scores(self._read(X))

    def decision_function(self, X: Rows) -> Array:
        """`score_samples` less `offset_`: below 0 for an outlier.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples,).
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Rows) -> Array:
        """-1 for an outlier and 1 for an inlier.

        Args:
            X: (n_samples, n_features).

        Returns:
            Integers (n_samples,).
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Rows) -> Array:
        """Conformal p-values: the rank of each row's score among those of the rows held out.

        Of a row from the distribution of X in `fit` they are uniform, over draws of the data
        and of the rows held out.

        Args:
            X: (n_samples, n_features).

        Returns:
            (n_samples,), small for outliers, at least 1 / (number held out + 1). Ties are
            ranked at random with the seed.
        """
        scores = self.score_samples(X)
        seed = seed_for(self.run_.config.seed, "ties")
        return conformal_p_values(self.calibration_scores_, scores, seed)

    def rejected(self, X: Rows, level: float = 0.1) -> Array:
        """Outliers at a false discovery rate, by Benjamini and Hochberg's procedure.

        Args:
            X: (n_samples, n_features), all rows that are tested together.
            level: The largest expected share of inliers among the rows that are rejected.

        Returns:
            Booleans (n_samples,).
        """
        check_level(level)
        return benjamini_hochberg(self.p_values(X), level)


def _rows(X: Rows, numbers: Array) -> Rows:
    """The rows of these numbers."""
    from sklearn.utils import _safe_indexing

    chosen: Rows = _safe_indexing(X, numbers)
    return chosen


def _in_float64(run: Run) -> Run:
    """The run with its weights in float64, in which results do not depend on other rows.

    In float32, sums over features differ in the last digits with the number of rows that
    are computed together.
    """
    return Run(run.config, copy.deepcopy(run.model).double())


def _seed_of(random_state: object) -> int:
    """A seed drawn from a random state of scikit-learn.

    Raises:
        TightboundError: It is none.
    """
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise TightboundError(
            f"random_state = {cut(repr(random_state))} cannot be used: give a whole number "
            "from 0 to 4294967295, a RandomState, or None"
        ) from error


def _is_frame(X: object) -> bool:
    """True for a pandas DataFrame."""
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _refuse_sparse(X: object) -> None:
    """Refuse a sparse matrix with scikit-learn's error; a DataFrame if all columns are sparse.

    Raises:
        TypeError: X is sparse.
    """
    if isinstance(X, Tensor) and is_sparse(X):
        raise TypeError(
            "Sparse data was passed for X, but dense data is required. Use '.to_dense()' to "
            "convert to a dense tensor."
        )
    if is_sparse(X) or (_is_frame(X) and _are_sparse(X)):
        check_array(X, input_name="X")


def _are_sparse(X: DataFrame) -> bool:
    """True where all columns are sparse: others are dense for scikit-learn."""
    from pandas import SparseDtype

    return len(X.columns) > 0 and all(
        isinstance(kind, SparseDtype) for kind in X.dtypes
    )


def _check_names(X: DataFrame) -> None:
    """Refuse names of columns that are equal, or some texts and some not."""
    check_names(X, "X")
    are_texts = [isinstance(name, str) for name in X.columns]
    if any(are_texts) and not all(are_texts):
        raise TightboundError(
            "X has names of columns that are texts and others that are not: make them all "
            "texts, X.columns = X.columns.astype(str)"
        )


def _is_mixed(X: DataFrame) -> bool:
    """True for a DataFrame with columns of texts, categories or truth values."""
    return not table_of(X, "X").numeric


def _float_type(X: DataFrame | Array) -> np.dtype:
    """float32 where all of X is, else float64."""
    if isinstance(X, np.ndarray):
        return X.dtype
    is_single = all(str(kind) == "float32" for kind in X.dtypes)
    return np.dtype(np.float32 if is_single else np.float64)
