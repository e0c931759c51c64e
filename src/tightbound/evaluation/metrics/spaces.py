"""Feature spaces in which samples are compared, each with a hash of its definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tightbound.core.batch import Batch
from tightbound.evaluation.metrics.example_sets import (
    Array,
    Examples,
    digest_of,
    raw_values,
)
from tightbound.evaluation.metrics.scattering import Scattering
from tightbound.runs.run import Run

MOST_AXES = 64
ROWS_OF_AN_AXIS = 10  # examples for each principal component, at least


@dataclass(frozen=True)
class Axes:
    """Principal components of training examples, and the distance from their plane.

    Without this distance, noise outside the components would not be seen. Coordinates are
    divided by one number, so that those of the training examples have variance 1 on average:
    the scale of the features has no influence on KID.

    Args:
        mean: their mean (d,).
        directions: the components (d, a), of decreasing variance.
        scale: root of the mean variance of the coordinates of the training examples.
    """

    mean: Array
    directions: Array
    scale: float = 1.0

    @classmethod
    def of(cls, x: Array) -> Axes:
        """Axes of rows x (n, d): at most 64, and one for ten rows."""
        mean = x.mean(0)
        axes = cls(mean, _components(x - mean))
        scale = float(np.sqrt(axes(x).var(0).mean()))
        return cls(mean, axes.directions, max(scale, 1e-12))

    def __call__(self, x: Array) -> Array:
        """Coordinates of rows (n, d): a components and, where a < d, the distance."""
        centred = x - self.mean
        inside: Array = centred @ self.directions
        if inside.shape[1] == x.shape[1]:
            return inside / self.scale
        outside = np.linalg.norm(centred - inside @ self.directions.T, axis=1)
        return np.concatenate([inside, outside[:, None]], 1) / self.scale


def _components(centred: Array) -> Array:
    """Directions (d, a) of the largest variance of rows (n, d) with mean 0."""
    n, d = centred.shape
    count = max(1, min(MOST_AXES, d, n // ROWS_OF_AN_AXIS))
    if n < d:  # by the smaller of the two products
        values, left = np.linalg.eigh(centred @ centred.T)
        scale = np.sqrt(values[::-1][:count].clip(1e-30))
        directions: Array = centred.T @ left[:, ::-1][:, :count] / scale
        return directions
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
    return directions


@dataclass(frozen=True)
class Space:
    """A feature space.

    Args:
        name: pixels, scattering or encoder.
        hash: of the definition and of the training examples that fix its axes; of the
            weights of the run, where these are the features.
        features: examples in model units as rows (n, d), before `axes`.
        axes: the principal components on which they are projected.
    """

    name: str
    hash: str
    features: Callable[[Batch], Array]
    axes: Axes

    @property
    def stamp(self) -> str:
        """NAME@HASH."""
        return f"{self.name}@{self.hash}"

    def __call__(self, x: Batch) -> Array:
        """Coordinates of examples, (n, a)."""
        return self.axes(self.features(x))


@dataclass(frozen=True)
class PixelScale:
    """Scale of values: images from 0 to 1, other data in standard deviations.

    Args:
        run: the run.
        low: value that becomes 0, of all values or of each dimension.
        span: value that becomes 1, less `low`.
    """

    run: Run
    low: Array
    span: Array

    @classmethod
    def of(cls, examples: Examples) -> PixelScale:
        """The scale of training examples."""
        values = raw_values(examples.run, examples.train.x)
        if examples.run.spec.kind in ("image", "volume"):
            reach = max(float(np.ptp(values)), 1e-12)
            return cls(examples.run, np.array(values.min()), np.array(reach))
        spread = values.std(0)
        return cls(examples.run, values.mean(0), np.where(spread > 0, spread, 1.0))

    def __call__(self, x: Batch) -> Array:
        """Values of examples on this scale, (n, d)."""
        values: Array = (raw_values(self.run, x.x) - self.low) / self.span
        return values


def spaces(examples: Examples) -> list[Space]:
    """The feature spaces of a run, the most comparable ones first.

    Pixels and, for images, the scattering network depend on the data alone, so that runs
    compare; the encoder's features depend on the weights of the run.
    """
    run = examples.run
    scale = PixelScale.of(examples)
    train = examples.train_hash
    described = (
        f"scaled by training examples; {MOST_AXES} components, distance, one scale"
    )
    every = [
        _space("pixels", digest_of(described, train), scale, examples),
    ]
    if run.spec.is_image:
        channels, height, width = run.spec.shape
        network = Scattering.of(height, width)

        def scattered(x: Batch) -> Array:
            images = torch.from_numpy(scale(x)).reshape(-1, channels, height, width)
            coefficients: Array = network(images).numpy()
            return coefficients

        key = digest_of(network.definition, described, train)
        every.append(_space("scattering", key, scattered, examples))

    def encoded(x: Batch) -> Array:
        means: Array = run.predictor.encode_mean(x).double().numpy()
        return means

    every.append(
        _space(
            "encoder", digest_of(run.predictor.fingerprint, train), encoded, examples
        )
    )
    return every


def _space(
    name: str, key: str, features: Callable[[Batch], Array], examples: Examples
) -> Space:
    return Space(name, key, features, Axes.of(features(examples.train)))
