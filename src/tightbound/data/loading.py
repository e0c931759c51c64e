"""Load a data source as train, valid and test splits with a spec of their values.

A source passes through frozen stages: `RawSource` (read), `SettledSource` (layout and
domain decided), `Partition` (rows assigned to splits) and `Data`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sized
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tightbound.core.data_spec import Column, DataSpec, Domain
from tightbound.data.formats.limits import check_value_count
from tightbound.data.on_disk import ExcludingIndex, OnDisk, rows_to_check
from tightbound.data.opening import open_source, open_stream
from tightbound.data.prepare.binarize import FixedDraws, drawn_on_disk
from tightbound.data.prepare.conditions import condition_of, labels_of
from tightbound.data.prepare.duplicates import Overlap, overlap_of
from tightbound.data.prepare.infer import (
    Facts,
    check_values,
    example_shape,
    find_domain,
    find_layout,
    merge_facts,
    moments,
    survey,
)
from tightbound.data.prepare.offsets import lost_values, offsets_of
from tightbound.data.prepare.partition import Partition, partition
from tightbound.data.prepare.rows import SplitRows
from tightbound.data.prepare.split import Split, Transform
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource, RawSplit, sha256_text
from tightbound.data.streams.loader import Loader, LoaderSplit, is_stream, sample
from tightbound.data.streams.shards import ShardSplit, Stream
from tightbound.data.tables.conditions import take_conditions
from tightbound.data.tables.encoding import settle_fields, table_fields
from tightbound.data.tables.matching import matched
from tightbound.runtime.errors import TightboundError, listed
from tightbound.runtime.reading import Tree

_STATISTICS_ROWS = 50_000


@dataclass(frozen=True)
class Data:
    """A data set that is ready for training.

    Attributes:
        name: short name of the data set.
        source: the source as it is called in messages.
        spec: the spec that a model is built from.
        train: the training split; a `LoaderSplit` for a DataLoader or IterableDataset,
            a `ShardSplit` for shards.
        valid: the validation split.
        test: the test split.
        digest: sha256 of the data and of the settings that change them.
        settings: the settings with every "auto" resolved; they give the same data again.
        notices: messages for the user, one line each.
        label_names: the names of the classes.
        factor_names: the names of the ground-truth factors.
        factor_sizes: the number of values of each factor.
        held_out: whether valid and test have other examples than train.
        overlap: the numbers of rows that are equal to a row of another split.
    """

    name: str
    source: str
    spec: DataSpec
    train: Split | LoaderSplit | ShardSplit
    valid: Split
    test: Split
    digest: str
    settings: DataSettings
    notices: tuple[str, ...]
    label_names: tuple[str, ...] | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    held_out: bool = True
    overlap: Overlap | None = None

    @property
    def splits(self) -> dict[str, Split | LoaderSplit | ShardSplit]:
        """The three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a table with names; empty for other data."""
        return self.spec.fields

    @property
    def factors(self) -> dict[str, Tensor] | None:
        """Indices of the ground-truth factors (n, F) of each split, or None."""
        factors = {
            name: split.factors
            for name, split in self.splits.items()
            if isinstance(split, Split) and split.factors is not None
        }
        return factors or None

    def describe(self) -> Tree:
        """A description of the data as plain JSON, for configs, logs and reports."""
        train = self.train
        labels = None if self.label_names is None else list(self.label_names)
        factors = None
        if self.factor_names is not None:
            pairs = zip(self.factor_names, self.factor_sizes or (), strict=True)
            factors = dict(pairs)
        return {
            "name": self.name,
            "source": self.source,
            "digest": self.digest,
            "n": {
                "train": len(train) if isinstance(train, Split) else train.size,
                "valid": len(self.valid),
                "test": len(self.test),
            },
            "shape": list(self.spec.shape),
            "domain": self.spec.domain,
            "levels": self.spec.levels,
            "layout": self.spec.layout,
            "labels": labels,
            "factors": factors,
            "notices": list(self.notices),
        }


@dataclass(frozen=True)
class SettledSource:
    """A raw source with the spec of its values; no setting is "auto" any more."""

    source: RawSource
    settings: DataSettings
    spec: DataSpec


def load(
    source: object,
    settings: DataSettings | None = None,
    *,
    seed: int = 0,
    valid: object = None,
    test: object = None,
    domains: Collection[str] = (),
) -> Data:
    """Load a data source.

    Args:
        source: a built-in name, a path, an array, a tensor, an (x, y) tuple, a
            DataFrame, a Dataset or a DataLoader.
        settings: the data settings.
        seed: the seed of the splits and of the order of streams, unless
            `settings.split_seed` is given.
        valid: a source of its own for the validation split.
        test: a source of its own for the test split.
        domains: the domains that the model's likelihood accepts, or none for any.
            Integer levels are read as reals in [0, 1] where it accepts only these.

    Returns:
        The data. Splits without a source of their own are the published ones, or
        random ones.

    Raises:
        TightboundError: for data that cannot be read.
    """
    _refuse_empty(source, valid, test)
    settings = settings or DataSettings()
    seed = seed % 2**32 if settings.split_seed is None else settings.split_seed
    settings = settings.model_copy(update={"split_seed": seed})
    stream = open_stream(source, settings, seed)
    loader = source if is_stream(source) else None
    raw = take_conditions(_read_raw(source, stream, settings, seed), settings)
    raw = settle_fields(raw, settings, domains)
    _check_value_counts(raw)
    _check_image_settings(raw, settings)
    for name, other in (("valid", valid), ("test", test)):
        if other is not None:
            raw = _attach(raw, name, other, settings)
    if stream is None and loader is None:
        return assemble(settle(raw, settings, domains), seed)
    _check_streamable(raw, settings)
    settled = settle(_complete(raw), settings, domains)
    data = assemble(settled, seed, is_stream=True)
    if stream is not None:
        data = _with_shards(data, stream, settled)
    if loader is not None:
        held_out = valid is not None or test is not None
        data = replace(_with_loader(data, loader, seed), held_out=held_out)
    return data


def _check_value_counts(raw: RawSource) -> None:
    """Refuse examples of more values than any model could take."""
    for split in raw.splits.values():
        if split.x is not None:
            check_value_count(raw.where, split.x.shape)


def _are_no_rows(x: object) -> bool:
    """True for an array, a list or a table in memory without examples."""
    if isinstance(x, Tensor) and x.is_nested:
        return False  # refused when it is read
    is_array = isinstance(x, Tensor | np.ndarray) and x.ndim > 0
    is_rows = is_array or isinstance(x, list) or hasattr(x, "iloc")
    return is_rows and isinstance(x, Sized) and not len(x)


def _refuse_empty(source: object, valid: object, test: object) -> None:
    """Refuse arrays, lists and tables in memory without examples."""
    for name, given in (("", source), ("valid", valid), ("test", test)):
        x = given[0] if isinstance(given, tuple) and len(given) == 2 else given
        if not _are_no_rows(x):
            continue
        if name:
            raise TightboundError(
                f"{name}= holds no examples: pass some, or leave it out for a part of "
                "the training data"
            )
        kind = {"ndarray": "array", "Tensor": "tensor"}.get(type(x).__name__)
        raise TightboundError(
            f"the {kind or type(x).__name__} is empty: nothing can be learned from it"
        )


def _read_raw(
    source: object, stream: Stream | None, settings: DataSettings, seed: int
) -> RawSource:
    """The raw rows of a source, or of the sample that stands for a stream."""
    if stream is not None:
        return stream.source
    if is_stream(source):
        return sample(source, seed)
    return open_source(source, settings)


def _with_shards(data: Data, stream: Stream, settled: SettledSource) -> Data:
    """Data of a stream, with all its shards as the training split."""
    assert isinstance(data.train, Split)
    shards = replace(stream.shards, checks=settled.spec)
    return replace(data, train=ShardSplit(shards, data.spec, data.train.transform))


def _with_loader(data: Data, loader: Loader, seed: int) -> Data:
    """Data of a loader, with its batches as the training split."""
    assert isinstance(data.train, Split)
    train = LoaderSplit(loader, data.spec, data.train.transform, seed)
    spec = data.spec.model_copy(update={"rows": train.size})
    return replace(data, train=train, spec=spec)


def _check_image_settings(source: RawSource, settings: DataSettings) -> None:
    """Refuse settings of image files for data that are not image files."""
    for key in ("size", "channels", "bits", "white_level"):
        default = DataSettings.model_fields[key].default
        if getattr(settings, key) != default and key not in source.resolved:
            raise TightboundError(
                f"data.{key} is for image files, and {source.where} has arrays, "
                "used as they are: drop it"
            )


def _check_streamable(source: RawSource, settings: DataSettings) -> None:
    """Refuse settings that need all rows of a stream."""
    if settings.condition is not None or settings.use_labels:
        raise TightboundError(
            "a model with labels or conditions needs its data in memory, and "
            f"{source.where} streams: give a map-style Dataset, an array or a file"
        )
    needing_rows = {
        "limit": settings.limit is not None,
        "binarize=static": settings.binarize == "static",
        f"duplicates={settings.duplicates}": settings.duplicates != "keep",
    }
    for key in [key for key, is_set in needing_rows.items() if is_set]:
        raise TightboundError(
            f"data.{key} needs rows that stay, and {source.where} streams: drop "
            "it, or pass a map-style Dataset"
        )


def _complete(source: RawSource) -> RawSource:
    """The sample of a stream also as validation and test split, where it has none."""
    if "valid" not in source.splits:
        train = source.splits["train"]
        source = source.with_split("valid", train).with_notices(
            f"the valid split is a fixed sample of {len(train.x)} examples of the "
            "stream, also trained on (pass valid= for one of its own)"
        )
    if "test" not in source.splits:
        valid = source.splits["valid"]
        source = source.with_split("test", valid).with_notices(
            "the test split is the validation split (pass test= for one of its own)"
        )
    return source


def _attach(
    source: RawSource, name: str, other: object, settings: DataSettings
) -> RawSource:
    """A source with another one as the split of this name.

    Of the other source, the split of that name is used, or its only one.
    """
    extra = open_source(other, settings.model_copy(update=dict(source.resolved)))
    extra = take_conditions(extra, settings)
    split = extra.splits.get(name)
    if split is None and len(extra.splits) == 1:
        split = next(iter(extra.splits.values()))
    if split is None:
        raise TightboundError(
            f"{name}={extra.where} has several splits and none is named {name!r}: pass one of them"
        )
    found = matched(
        extra,
        split,
        source.fields or _plain_columns(source),
        is_mixed=bool(source.fields),
        masked=settings.allow_missing,
        skipped=[key for key, kind in settings.fields.items() if kind == "skip"],
    )
    split = found.split
    base = next(iter(source.splits.values()))
    if split.x.shape[1:] != base.x.shape[1:]:
        raise TightboundError(
            f"{name}={extra.where} has examples of shape "
            f"{tuple(split.x.shape[1:])} where {source.where} has "
            f"{tuple(base.x.shape[1:])}: both need the same shape"
        )
    split = _same_classes(split, extra, source, name)
    return replace(
        source.with_split(name, split),
        digest=sha256_text(source.digest, name, found.digest),
        notices=(*source.notices, *extra.notices, *found.notices),
    )


def _plain_columns(source: RawSource) -> tuple[Column, ...]:
    """The names of the columns of a table of plain numbers, in order."""
    names = list(source.column_types)
    if source.table is not None:
        names = list(source.table.columns)
    return tuple(Column(name=name, kind="real") for name in names)


def _same_classes(
    split: RawSplit, extra: RawSource, source: RawSource, name: str
) -> RawSplit:
    """Labels and class conditions of a split as ids of the classes of a source."""
    if split.y is not None and extra.label_names != source.label_names:
        y = same_ids(split.y, extra.label_names or (), source.label_names or ())
        split = replace(split, y=y)
    if split.c is None or split.c.dim() != 1:
        return split
    c = same_ids(split.c, extra.condition_names, source.condition_names)
    if bool((c < 0).any()):
        row = int((c < 0).nonzero()[0])
        raise TightboundError(
            f"{name}={extra.where}: row {row} (counting from 0) has a condition that the "
            f"training data did not have, which has {listed(source.condition_names)}"
        )
    return replace(split, c=c)


def same_ids(y: Tensor, names: tuple[str, ...], others: tuple[str, ...]) -> Tensor:
    """Class ids of one source as the ids of another with the same class names.

    Args:
        y: class ids (n,), -1 where unknown.
        names: the class names of y.
        others: the class names of the result, which is -1 for any other class.
    """
    position = {name: i for i, name in reversed(list(enumerate(others)))}
    return torch.tensor([*(position.get(name, -1) for name in names), -1])[y]


def assemble(settled: SettledSource, seed: int, is_stream: bool = False) -> Data:
    """Divide a settled source into splits, binarise it, and take its statistics.

    Args:
        settled: the settled source.
        seed: the seed of the splits.
        is_stream: whether its training rows are only a sample of a stream.
    """
    parts = partition(settled.source, settled.settings, seed)
    settings = _final_settings(settled, parts)
    source = parts.source
    if settings.binarize != settled.settings.binarize:
        source = source.with_notices(
            f"{source.where} is binary already: "
            f"data.binarize={settled.settings.binarize} has nothing to do"
        )
    spec, notices = _final_spec(settled.spec, parts, settings, seed)
    source = source.with_notices(*notices)
    splits = _splits(parts.rows, settled.spec, spec, settings)
    overlap = overlap_of(parts.rows, seed)
    if is_stream:
        overlap = replace(overlap, train=None)
    is_published = bool({"valid", "test"} & set(settled.source.splits))
    source = source.with_notices(*overlap.messages(source.where, is_published))
    settings_keys = [f"{key}={getattr(settings, key)}" for key in _DIGEST_KEYS]
    if settings.duplicates != "keep":
        settings_keys.append(f"duplicates={settings.duplicates}")
    return Data(
        name=source.name,
        source=source.where,
        spec=spec,
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        digest=sha256_text(source.digest, *settings_keys, spec.domain, spec.levels),
        settings=settings,
        notices=source.notices,
        label_names=source.label_names,
        factor_names=source.factor_names,
        factor_sizes=source.factor_sizes,
        overlap=overlap,
    )


_DIGEST_KEYS = (
    "binarize",
    "limit",
    "valid",
    "test",
    "split_seed",
    "layout",
    "size",
    "channels",
)


def _final_settings(settled: SettledSource, parts: Partition) -> DataSettings:
    """The settings with the sizes of the splits; binary data are not binarised."""
    resolved = parts.source.resolved
    update = {key: resolved[key] for key in ("valid", "test") if key in resolved}
    if settled.spec.domain == "binary":
        update["binarize"] = "none"
    return settled.settings.model_copy(update=update)


def _final_spec(
    spec: DataSpec, parts: Partition, settings: DataSettings, seed: int
) -> tuple[DataSpec, list[str]]:
    """The spec of the model's input, with its columns, statistics, condition and labels.

    Returns:
        The spec, and messages about values that models cannot tell apart.
    """
    train = parts.rows["train"]
    x = train.split.x
    rows = train.sample(_STATISTICS_ROWS, seed)
    if settings.binarize != "none":
        mean, _ = moments(x, rows, spec.as_domain("unit"))
        std = (mean * (1 - mean)).sqrt()
        spec = binary(spec)
    if not spec.fields:
        spec = spec.model_copy(update={"fields": table_fields(parts.source, spec)})
    notices: list[str] = []
    if settings.binarize == "none":
        spec = offsets_of(x, rows, spec, parts.source.where)
        notices = lost_values(x, rows, spec, parts.source.where)
        mean, std = moments(x, rows, spec)
    condition = None
    if settings.condition is not None:
        condition = condition_of(parts.source, parts.rows, settings)
    names = None
    share = 1.0
    if settings.use_labels:
        names, share = labels_of(parts.source, parts.rows)
    update = {
        "mean": mean,
        "std": std,
        "rows": len(train),
        "condition": condition,
        "labels": names,
        "labelled": share,
    }
    return spec.model_copy(update=update), notices


def binary(spec: DataSpec) -> DataSpec:
    """The spec of grey data after binarisation."""
    return spec.model_copy(update={"domain": "binary", "levels": 2, "divisor": 1.0})


def settle(
    source: RawSource, settings: DataSettings, domains: Collection[str] = ()
) -> SettledSource:
    """Decide layout, domain and levels of a source, and check all its values.

    Args:
        source: the raw source.
        settings: the data settings.
        domains: as in `load`.
    """
    if source.fields:
        return _settle_table(source, settings)
    what = source.where
    notices: list[str] = []
    first = next(iter(source.splits.values()))
    layout = find_layout(first.x, settings, source.layout, what, notices)
    shape = example_shape(tuple(first.x.shape[1:]), layout)
    wanted = _wanted(source, settings)
    checked = {name: rows_to_check(part.x) for name, part in source.splits.items()}
    facts = {
        name: _facts(x, numbers, wanted, source)
        for name, (x, numbers) in checked.items()
    }
    sample_x, _ = next(iter(checked.values()))
    merged = merge_facts([*facts.values()])
    domain, levels, divisor = _find_accepted_domain(
        merged, sample_x, len(shape) >= 3, wanted, domains, what, notices
    )
    spec = DataSpec(
        shape=shape,
        domain=domain,
        levels=levels,
        layout=layout,
        divisor=divisor,
        missing=settings.allow_missing,
    )
    for name, (x, numbers) in checked.items():
        where = what if name == "all" else f"{what} ({name})"
        check_values(x, spec, where, facts[name], numbers)
    _check_uses(settings, spec, what)
    resolved = {
        **source.resolved,
        "kind": spec.kind,
        "layout": layout,
        "domain": spec.domain,
        "levels": spec.levels,
    }
    return SettledSource(
        source.with_notices(*notices), settings.model_copy(update=resolved), spec
    )


def _find_accepted_domain(
    facts: Facts,
    x: Tensor,
    is_picture: bool,
    wanted: DataSettings,
    domains: Collection[str],
    what: str,
    notices: list[str],
) -> tuple[Domain, int | None, float]:
    """Domain, levels and divisor of values, in a domain that the likelihood accepts."""
    domain, levels, divisor = find_domain(facts, x, is_picture, wanted, what, notices)
    if wanted.binarize == "none" and reads_as_reals(domain, domains):
        reals = wanted.model_copy(update={"domain": "unit", "levels": levels})
        domain, levels, divisor = find_domain(
            facts, x, is_picture, reals, what, notices
        )
        notices.append(
            f"{what}: the likelihood is a density, so the {levels} levels are read as "
            f"reals x / {divisor:g} in [0, 1]; its nats do not compare with those of a "
            "mass function (discretized-logistic)"
        )
    return domain, levels, divisor


def reads_as_reals(domain: str, domains: Collection[str]) -> bool:
    """True where integer levels are read as reals in [0, 1] for a density on [0, 1].

    Args:
        domain: the domain of the data.
        domains: the domains that the likelihood accepts, or none for any.
    """
    return domain == "levels" and "levels" not in domains and "unit" in domains


def _settle_table(source: RawSource, settings: DataSettings) -> SettledSource:
    """Settle a table with columns of several kinds."""
    spec = DataSpec(
        shape=(sum(f.width for f in source.fields),),
        domain="mixed",
        fields=source.fields,
        missing=settings.allow_missing,
    )
    _check_uses(settings, spec, source.where)
    resolved = {**source.resolved, "kind": "vector", "layout": "vector"}
    return SettledSource(source, settings.model_copy(update=resolved), spec)


def _wanted(source: RawSource, settings: DataSettings) -> DataSettings:
    """The settings, with domain and levels of the file format as defaults."""
    domain: str = settings.domain
    if settings.binarize != "none" and domain == "binary":
        domain = "auto"
    levels = settings.levels
    if levels is None and domain in ("auto", "levels", "unit", "categorical"):
        levels = source.levels
    if domain == "auto":
        domain = source.domain or "auto"
    return settings.model_copy(update={"domain": domain, "levels": levels})


def _facts(
    x: Tensor, numbers: Tensor | None, wanted: DataSettings, source: RawSource
) -> Facts:
    """The range of some rows; of bytes with 256 levels, only whether one is above 1."""
    is_free = wanted.domain != "binary" and wanted.levels in (None, 256)
    if x.dtype != torch.uint8 or not is_free:
        return survey(x, source.where, numbers, wanted.allow_missing)
    if source.levels == 256 or any(bool((rows > 1).any()) for rows in x.split(4096)):
        return Facts(0.0, 255.0, True)
    return Facts(0.0, 1.0, True)


def _check_uses(settings: DataSettings, spec: DataSpec, what: str) -> None:
    """Refuse binarisation and augmentation of data that they do not apply to."""
    if settings.binarize != "none":
        _check_binarize(f"data.binarize={settings.binarize}", spec, what)
    if settings.augment and not spec.is_image:
        raise TightboundError(
            f"data.augment needs images, but {what} has {spec.kind}s of "
            f"{spec.dims} numbers: drop it"
        )


def _check_binarize(setting: str, spec: DataSpec, what: str) -> None:
    """Refuse to binarise data that have no grey levels."""
    if spec.domain not in ("levels", "binary", "unit"):
        raise TightboundError(
            f"{setting} needs grey levels, but {what} is {spec.domain}: drop it"
        )
    if spec.domain == "unit" and spec.levels is None:
        raise TightboundError(
            f"{setting} needs integer grey levels, but {what} holds reals in [0, 1]: "
            "pass bytes (x * 255, rounded, uint8)"
        )
    if spec.missing:
        raise TightboundError(
            f"{setting} cannot draw missing values of {what}: drop it"
        )


def _splits(
    rows: Mapping[str, SplitRows],
    raw_spec: DataSpec,
    spec: DataSpec,
    settings: DataSettings,
) -> dict[str, Split]:
    """The three splits.

    Fixed binary draws come from one generator, in the order valid, test, train.

    Args:
        rows: the rows of each split.
        raw_spec: the spec of the raw values, before binarisation.
        spec: the spec of the model's input.
        settings: the settings.
    """
    draws = FixedDraws(raw_spec.levels or 2)
    splits: dict[str, Split] = {}
    for name in ("valid", "test", "train"):
        split = _plain_split(rows[name], raw_spec, spec)
        is_dynamic = settings.binarize == "dynamic"
        if name == "train" and (settings.augment or is_dynamic):
            levels = raw_spec.levels if is_dynamic else None
            transform = Transform(levels, settings.augment, settings.shift)
            split = replace(split, transform=transform)
        if settings.binarize != "none":
            split = _binarised(split, raw_spec, draws, name == "train" and is_dynamic)
        splits[name] = split
    return splits


def _binarised(
    split: Split, raw_spec: DataSpec, draws: FixedDraws, keep_grey: bool
) -> Split:
    """A split with a fixed binarisation as its evaluation view.

    Args:
        split: the split of grey rows.
        raw_spec: the spec of the grey rows.
        draws: the fixed draws of rows in memory.
        keep_grey: keep the grey rows, which training binarises at each visit.
    """
    x = split.x
    index = split.index
    if isinstance(x, OnDisk):
        drawn = drawn_on_disk(x, raw_spec.levels or 2)
        if keep_grey:
            return replace(split, fixed=drawn)
        return replace(split, x=drawn, checks=None)
    assert not isinstance(index, ExcludingIndex)
    if keep_grey:
        return replace(split, fixed=lambda: draws.draw(x, index))
    return replace(split, x=draws.draw(x, index), index=None)


def _plain_split(rows: SplitRows, raw_spec: DataSpec, spec: DataSpec) -> Split:
    """The split of some rows, with the labels and other values in its order."""
    raw = rows.split
    c = raw.y if raw.c is None else raw.c
    values = RawSplit(raw.x, raw.y, raw.names, raw.factors, c)
    has_values = any(v is not None for v in (c, raw.factors, raw.names))
    if rows.index is not None and has_values:
        values = _taken(values, rows)
    return Split(
        raw.x,
        spec,
        index=rows.index,
        y=values.y,
        names=values.names,
        factors=values.factors,
        c=values.c,
        checks=raw_spec if isinstance(raw.x, OnDisk) else None,
    )


def _taken(values: RawSplit, rows: SplitRows) -> RawSplit:
    """Labels, names, factors and conditions of the rows of a split."""

    def taken(column: Tensor | None) -> Tensor | None:
        if column is None:
            return None
        return rows.take(column)

    names = values.names
    if names is not None:
        at = rows.take(torch.arange(len(names)))
        names = [names[i] for i in at.tolist()]
    return RawSplit(
        values.x, taken(values.y), names, taken(values.factors), taken(values.c)
    )
