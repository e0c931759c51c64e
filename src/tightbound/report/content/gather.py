"""Collection of all content of a report, from runs and their evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.core.data_spec import CONDITIONS
from tightbound.data import Split
from tightbound.evaluation.diagnosis.table_distances import in_columns
from tightbound.report.content import model_outputs
from tightbound.report.content.data_samples import (
    MOST_TYPICAL,
    DataSample,
    Examples,
    data_sample,
    fingerprint,
)
from tightbound.report.content.linear_probe import Accuracy, probe
from tightbound.report.content.model_outputs import Codes, Walkthrough
from tightbound.report.content.nearest_neighbours import Neighbours, nearest
from tightbound.report.content.table_marginals import (
    ColumnFit,
    Marginal,
    column_fits,
    marginals,
)
from tightbound.report.figures.display_scale import Array, Floats
from tightbound.report.figures.image_grid import columns
from tightbound.report.figures.plots import subscript
from tightbound.runs.run import Run
from tightbound.runtime.progress import Steady, phase
from tightbound.runtime.reading import Options, Tree

ROWS_OF_SAMPLES = 3
FEATURES = 6  # that are traversed
STEPS = 9  # of a traversal
MOST_VALUES = 100_000_000  # of p(x|z), computed to measure reconstructions


@dataclass(frozen=True)
class LatentMap:
    """Codes on a plot of one or two axes.

    xy: (n, 1 or 2); prior_mean, prior_cov: of the prior on these axes; explained: share
    of the variance, where the axes are principal components.
    """

    xy: Array
    prior_mean: Array
    prior_cov: Array
    axes: tuple[str, ...]
    explained: float | None

    @property
    def inside(self) -> float:
        """The share of codes within the prior's 2 sigma contour."""
        offset = self.xy - self.prior_mean
        inverse = np.linalg.pinv(self.prior_cov)
        square = np.einsum("ni,ij,nj->n", offset, inverse, offset)
        return float((square <= 4).mean())

    @property
    def expected(self) -> float:
        """That share for a normal: 95 % in one dimension, 86 % in two."""
        return 0.9545 if self.xy.shape[1] == 1 else 1 - float(np.exp(-2))


@dataclass(frozen=True)
class Traversal:
    """Decoded examples along one feature, all others fixed: (STEPS, *shape).

    activity: as of `Codes.activity`.
    """

    name: str
    activity: float
    images: Floats


@dataclass(frozen=True)
class RunInput:
    """A run with its evaluation as JSON, its name, and its position among the runs."""

    run: Run
    evaluation: Mapping[str, object]
    name: str
    position: int


@dataclass(frozen=True)
class RunResult:
    """The content of the report for one run; examples are on the display scale.

    order: features by decreasing activity; variance_kept: by the reconstructions of
    test examples; marginals, column_fits: one per column of a table, otherwise empty.
    """

    run: Run
    name: str
    position: int
    evaluation: Options
    data: DataSample
    codes: Codes
    map: LatentMap
    feature_names: list[str]
    order: list[int]
    reconstruction: Floats
    variance_kept: float
    samples: Floats
    neighbours: Neighbours
    variations: Floats
    interpolation: Floats
    traversals: list[Traversal]
    walkthrough: Walkthrough
    history: list[Tree]
    accuracy: Accuracy | None
    marginals: list[Marginal]
    column_fits: list[ColumnFit]
    parameters: dict[str, int]

    @property
    def bound(self) -> bool:
        """True where the run has an ELBO."""
        return bool(self.evaluation["bound"])

    @property
    def active(self) -> int:
        """Number of active features: the variance of their posterior mean exceeds 0.01.

        Burda et al. 2016, section 5.2.
        """
        return int((self.codes.mean.var(0) > 0.01).sum())


@dataclass(frozen=True)
class Group:
    """The runs that were trained on the same data.

    example, partner: rows among the test examples, shown throughout and interpolated
    to; typical: distances of test examples to their nearest training example; searched:
    number of training examples compared.
    """

    data: DataSample
    results: list[RunResult]
    example: int
    partner: int
    typical: Floats
    searched: int
    baselines: dict[str, Accuracy] | None


def gather(
    runs: Sequence[Run],
    evaluations: Sequence[Mapping[str, object]],
    names: Sequence[str],
) -> list[Group]:
    """Compute the content of a report, one group for each set of data."""
    groups: dict[str, list[RunInput]] = {}
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        inputs = RunInput(run, evaluations[i], name, i)
        groups.setdefault(fingerprint(run.data), []).append(inputs)
    parts = 2 * len(runs) + len(groups)
    with phase("report: examples of the model", parts, " parts") as count:
        return [_group(inputs, count) for inputs in groups.values()]


def _group(inputs: Sequence[RunInput], count: Steady) -> Group:
    data = data_sample(inputs[0].run.data)
    tests = data.test_unit[:MOST_TYPICAL]
    samples = []
    for each in inputs:
        samples.append(new_samples(each.run, data))
        count.add(1)
    queries = np.concatenate([tests, *samples])
    neighbours = nearest(data.dataset.train, data.scale, queries)
    count.add(1)
    typical = neighbours.distance[: len(tests)]
    example = int(np.argsort(typical)[(len(typical) - 1) // 2])
    partner = data.partner(example)
    baselines = data.baselines()
    results = []
    start = len(tests)
    for each, x in zip(inputs, samples, strict=True):
        stop = start + columns(data.scale, data.spec.shape)
        nearest_to_x = Neighbours(
            neighbours.distance[start:stop],
            neighbours.example[start:stop],
            neighbours.searched,
        )
        work = _Work(each, data, example, partner)
        results.append(work.result(x, nearest_to_x, baselines is not None))
        count.add(1)
        start += len(x)
    return Group(
        data, results, example, partner, typical, neighbours.searched, baselines
    )


def _on_display_scale(run: Run, data: DataSample, x: Array) -> Floats:
    """Outputs of a run, in its own units, on the display scale of the data."""
    scaled = x * (run.spec.divisor / data.spec.divisor)
    return data.scale.unit(scaled.astype(np.float32))


def conditions(run: Run, n: int) -> Tensor:
    """Conditions for n samples of a conditional model: those of training, in turn."""
    return run.model.get_buffer("conditions")[torch.arange(n) % CONDITIONS]


def new_samples(run: Run, data: DataSample) -> Floats:
    """Samples as `tightbound sample --seed 0` makes them, on the display scale.

    The noise is the same for every run. Of a table they are draws of p(x|z).
    """
    n = ROWS_OF_SAMPLES * columns(data.scale, data.spec.shape)
    c = None if run.spec.condition is None else conditions(run, n)
    z = model_outputs.prior_draws(run, n)
    x = model_outputs.decode(run, z, c, drawn=data.table is not None)
    return _on_display_scale(run, data, x)


def model_inputs(run: Run, data: DataSample, examples: Examples) -> Batch:
    """Examples as inputs of a run.

    They are in the domain of its likelihood, and carry the condition of a conditional
    model and the gaps of missing values.
    """
    if run.spec.condition is None and not run.spec.missing:
        return Batch(run.spec.to_model(data.spec.to_raw(examples.x)))
    split = run.data.splits[examples.split]
    assert isinstance(split, Split)
    return split.examples(torch.as_tensor(examples.rows))


class _Work:
    """The computation of one run's content."""

    def __init__(
        self, inputs: RunInput, data: DataSample, example: int, partner: int
    ) -> None:
        self.inputs = inputs
        self.run = inputs.run
        self.data = data
        self.example = example
        self.partner = partner
        self.cols = columns(data.scale, data.spec.shape)
        self.tests = model_inputs(self.run, data, data.test)
        self.codes = model_outputs.codes(self.run, self.tests)
        self.names = _feature_names(self.run)

    def result(
        self, samples: Floats, neighbours: Neighbours, probed: bool
    ) -> RunResult:
        """All content of the run; probed: fit a linear probe to its codes."""
        codes = self.codes
        rebuilt = self._rebuilt()
        marginal, fits = self._columns(rebuilt)
        order = np.argsort(-codes.activity, kind="stable").tolist()
        one = self.tests[self.example : self.example + 1]
        shown = self.data.shown_rows
        variations = model_outputs.draws(self.run, one, self.cols)
        return RunResult(
            run=self.run,
            name=self.inputs.name,
            position=self.inputs.position,
            evaluation=self.inputs.evaluation,
            data=self.data,
            codes=codes,
            map=_latent_map(self.run, codes, self.names),
            feature_names=self.names,
            order=order,
            reconstruction=self._decode(
                codes.mean[shown], self.tests[torch.as_tensor(shown)].c
            ),
            variance_kept=_r_squared(self.data.test_unit[: len(rebuilt)], rebuilt),
            samples=samples,
            neighbours=neighbours,
            variations=self._decode(variations, one.c),
            interpolation=self._interpolation(),
            traversals=self._traversals(order[:FEATURES], one.c),
            walkthrough=model_outputs.walk_through(self.run, one),
            history=self.run.history(),
            accuracy=self._probe() if probed else None,
            marginals=marginal,
            column_fits=fits,
            parameters=_parameters(self.run),
        )

    def _decode(self, z: Array, c: Tensor | None) -> Floats:
        x = model_outputs.decode(self.run, z, c)
        return _on_display_scale(self.run, self.data, x)

    def _rebuilt(self) -> Floats:
        """Reconstructions of the first test examples, as many as are affordable."""
        values = self.run.spec.dims * (self.run.spec.levels or 1)
        n = int(np.clip(MOST_VALUES // values, 16, len(self.tests)))
        return self._decode(self.codes.mean[:n], self.tests[:n].c)

    def _interpolation(self) -> Floats:
        """Decoded points between the codes of the example and its partner."""
        t = np.linspace(0, 1, self.cols)[:, None]
        mean = self.codes.mean
        path = mean[self.example] * (1 - t) + mean[self.partner] * t
        c = self.tests.c
        if c is not None:
            share = torch.as_tensor(t, dtype=c.dtype)
            c = c[self.example] * (1 - share) + c[self.partner] * share
        return self._decode(path, c)

    def _columns(self, rebuilt: Floats) -> tuple[list[Marginal], list[ColumnFit]]:
        """Marginals of a table, and the fit of the reconstructions to each column."""
        if self.data.table is None:
            return [], []
        run = self.run
        names = self.data.table.columns
        train = model_inputs(run, self.data, self.data.train)
        x = in_columns(run.spec, names, self.tests.x)
        train_x = in_columns(run.spec, names, train.x)
        values = self.data.table_values(rebuilt)
        return (
            marginals(run, names, self.tests, train),
            column_fits(names, x[: len(rebuilt)], values, train_x),
        )

    def _traversals(self, order: Sequence[int], c: Tensor | None) -> list[Traversal]:
        """Each feature from -2 to 2 sigma, the others as in the example.

        sigma is of the prior or, where codes are points, of the feature's own values.
        """
        mean, cov = model_outputs.prior_moments(self.run)
        sd = np.sqrt(np.diag(cov))
        if not self.codes.stochastic:
            mean = self.codes.mean.mean(0)
            sd = self.codes.mean.std(0)
        result = []
        for k in order:
            z = np.repeat(self.codes.mean[self.example][None], STEPS, 0)
            z[:, k] = mean[k] + np.linspace(-2, 2, STEPS) * sd[k]
            activity = float(self.codes.activity[k])
            result.append(Traversal(self.names[k], activity, self._decode(z, c)))
        return result

    def _probe(self) -> Accuracy:
        data = self.data
        assert data.train.y is not None and data.test.y is not None
        train = model_inputs(self.run, data, data.train)
        features = model_outputs.codes(self.run, train).mean
        return probe(features, data.train.y, self.codes.mean, data.test.y)


def _parameters(run: Run) -> dict[str, int]:
    """Number of parameters by group, without those of a critic."""
    groups = {k: group for k, group in run.model.groups().items() if k != "critic"}
    counts = {}
    for key, group in groups.items():
        counts[key] = sum(p.numel() for p in group)
    return counts


def _feature_names(run: Run) -> list[str]:
    """z₁, z₂, ...; for several sites z1·₁, z1·₂, ..., z2·₁."""
    single = len(run.model.site_widths) == 1
    return [
        ("z" if single else f"{site}·") + subscript(k + 1)
        for site, width in run.model.site_widths.items()
        for k in range(width)
    ]


def _r_squared(x: Floats, rebuilt: Floats) -> float:
    """R², the share of the variance of x that reconstructions keep."""
    total = float(((x - x.mean(0)) ** 2).sum())
    return 1 - float(((x - rebuilt) ** 2).sum()) / max(total, 1e-12)


def _latent_map(run: Run, codes: Codes, names: Sequence[str]) -> LatentMap:
    """The codes in one or two dimensions, or their first two principal components."""
    mean, cov = model_outputs.prior_moments(run)
    if codes.mean.shape[1] <= 2:
        return LatentMap(codes.mean, mean, cov, tuple(names), None)
    centre = codes.mean.mean(0)
    _, s, v = np.linalg.svd(codes.mean - centre, full_matrices=len(codes.mean) < 2)
    v = v[:2]
    share = s**2 / max(float((s**2).sum()), 1e-12)
    return LatentMap(
        (codes.mean - centre) @ v.T,
        (mean - centre) @ v.T,
        v @ cov @ v.T,
        ("PC 1", "PC 2"),
        float(share[:2].sum()),
    )
