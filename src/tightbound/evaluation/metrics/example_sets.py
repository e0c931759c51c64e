"""Examples that metrics look at: of the test and training split, and of the model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.data import Split
from tightbound.distributions.random import seed_for
from tightbound.evaluation.runner import Selection
from tightbound.runs.run import Run, seeded
from tightbound.runtime.errors import TightboundError

Array = NDArray[np.float64]
MOST = 2000  # examples of each set


def digest_of(*parts: object) -> str:
    """Eight hexadecimal digits of a SHA-256 over texts and bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:8]


@dataclass(frozen=True)
class Examples:
    """Test examples and as many training examples, in model units.

    Args:
        run: the run.
        test: the examples that are evaluated.
        train: training examples, spread evenly over the split.
        split: name of the test examples.
        seed: seed of all draws.
    """

    run: Run
    test: Batch
    train: Batch
    split: str
    seed: int

    @classmethod
    def of(cls, run: Run, selection: Selection, split: str, seed: int) -> Examples:
        """At most 2,000 of the selected examples, and as many of the training split."""
        train = training_split(run)
        n = min(MOST, len(selection), len(train))
        _, few = selection.subset(n)
        rows = train.spread(n)
        return cls(run, few.x(), train.examples(rows), split, seed)

    @property
    def n(self) -> int:
        """Number of examples of each set."""
        return len(self.test)

    @property
    def reference(self) -> str:
        """The test examples by name and hash."""
        return f"{self.split}@{digest_of(self._raw(self.test))}"

    @property
    def train_hash(self) -> str:
        """Hash of the training examples, which fix the axes of a feature space."""
        return digest_of(self._raw(self.train))

    def _raw(self, x: Batch) -> bytes:
        """Bytes of examples in the user's units, whatever domain the model reads."""
        values = raw_values(self.run, x.x)
        if self.run.spec.divisor != 1:  # levels that are read as reals
            values = values.round()
        return values.astype(np.float32).tobytes()

    def drawn(self) -> dict[str, Batch]:
        """Examples of the model: draws of p(x|z), and the means of the same p(x|z).

        z is from the prior, of a conditional model under the conditions of the test
        examples.
        """
        c = self.test.c
        with torch.no_grad(), seeded(seed_for(self.seed, "metrics")):
            z = self.run.predictor.sample_prior(self.n, c=c)
            draws = self.run.predictor.decode_sample(z)
        means = self.run.predictor.decode_mean(z)
        return {"draws": Batch(draws, c), "means": Batch(means, c)}

    def shuffled(self) -> Batch:
        """Training examples whose dimensions are permuted one by one over the rows.

        Each dimension has the values of the data, and none depends on another: the model
        of independent dimensions. Columns of a category are permuted as one.
        """
        x = self.train.x.flatten(1)
        rng = np.random.default_rng(seed_for(self.seed, "metrics", "shuffled"))
        places = self.run.spec.places or [slice(i, i + 1) for i in range(x.shape[1])]
        columns = [x[torch.from_numpy(rng.permutation(len(x))), s] for s in places]
        return Batch(torch.cat(columns, 1).reshape(self.train.x.shape), self.train.c)


def training_split(run: Run) -> Split:
    """The training examples; raises TightboundError for a stream."""
    train = run.data.train
    if not isinstance(train, Split):
        raise TightboundError(
            f"run {run.name!r} was trained on a stream, whose training examples are not looked "
            "at: quality and novelty need data in files or in memory"
        )
    return train


def raw_values(run: Run, x: Tensor) -> Array:
    """Examples as rows of values in the user's units; categories as 0 and 1, (n, d).

    They do not depend on the domain in which a likelihood reads the data.
    """
    values: Array = x.detach().cpu().double().flatten(1).numpy() * run.spec.divisor
    return values
