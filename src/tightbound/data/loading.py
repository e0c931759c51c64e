"""load: a source and its settings to Data, the one object that training, evaluation and reports
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tightbound.core.data_spec import Column, DataSpec
from tightbound.data.on_disk import OnDisk, Without, looked_at
from tightbound.data.opening import open_source, open_stream
from tightbound.data.prepare.binarize import FixedDraws, drawn_on_disk
from tightbound.data.prepare.conditions import condition_of, labels_of
from tightbound.data.prepare.infer import (
    Facts,
    check_values,
    example_shape,
    find_domain,
    find_layout,
    moments,
    survey,
)
from tightbound.data.prepare.partition import NAMES, Rows, partition
from tightbound.data.prepare.split import Split, Transform
from tightbound.data.settings import DataSettings
from tightbound.data.source import Part, Source, sha256_text
from tightbound.data.streams.loader import LoaderSplit, is_stream, sample
from tightbound.data.streams.shards import ShardSplit
from tightbound.data.tables.encoding import coded, named, settle_fields
from tightbound.runtime.errors import TightboundError

_STATISTICS_ROWS = 50_000


@dataclass
class Data:
    """A data set, ready to train on: three splits, the spec that a model is built from, and where
    it all came from.

    train is a LoaderSplit where the source is a DataLoader or IterableDataset, a ShardSplit where
    it is shards. digest: sha256 of what a model sees.  settings: with every "auto" resolved, so
    that they give the same data again. notices: one-line announcements.  columns: of a table with
    names, what each raw number of a row is.
    """

    name: str
    source: str
    spec: DataSpec
    train: Split | LoaderSplit | ShardSplit
    valid: Split
    test: Split
    digest: str
    settings: DataSettings
    notices: list[str]
    label_names: tuple[str, ...] | None = None
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    held_out: bool = True
    columns: tuple[Column, ...] = ()

    @property
    def splits(self) -> dict[str, Split | LoaderSplit | ShardSplit]:
        """The three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @property
    def factors(self) -> dict[str, Tensor] | None:
        """Ground-truth factors (n, F) of each split, as indices, where the source has them."""
        found = {
            name: split.factors
            for name, split in self.splits.items()
            if isinstance(split, Split)
        }
        return {k: v for k, v in found.items() if v is not None} or None

    def describe(self) -> dict[str, Any]:
        """What a config, a log or a report says of the data; plain JSON."""
        sizes: dict[str, int | None] = {
            "valid": len(self.valid),
            "test": len(self.test),
        }
        return {
            "name": self.name,
            "source": self.source,
            "digest": self.digest,
            "n": {
                "train": len(self.train)
                if isinstance(self.train, Split)
                else self.train.size,
                **sizes,
            },
            "shape": list(self.spec.shape),
            "domain": self.spec.domain,
            "levels": self.spec.levels,
            "layout": self.spec.layout,
            "labels": None if self.label_names is None else list(self.label_names),
            "factors": None
            if self.factor_names is None
            else dict(zip(self.factor_names, self.factor_sizes or (), strict=True)),
            "notices": list(self.notices),
        }


def load(
    source: Any,
    settings: DataSettings | None = None,
    *,
    seed: int = 0,
    valid: Any = None,
    test: Any = None,
) -> Data:
    """Reads a source: a built-in name, a path, an array, a tensor, an (x, y) tuple, a Dataset or a
    DataLoader.

    valid, test: sources of their own for these splits; otherwise the published ones, or fractions
    by `split_seed`. Raises TightboundError, one sentence, for whatever cannot be read.
    """
    settings = settings or DataSettings()
    seed = seed % 2**32 if settings.split_seed is None else settings.split_seed
    settings = settings.model_copy(update={"split_seed": seed})
    stream = open_stream(source, settings, seed)
    loader = is_stream(source)
    found = (
        stream.source
        if stream
        else sample(source, seed)
        if loader
        else open_source(source, settings)
    )
    settle_fields(found, settings)
    for key in ("size", "channels"):
        if getattr(settings, key) != "auto" and key not in found.resolved:
            raise TightboundError(
                f"data.{key} is for image files, and {found.where} has arrays, "
                "used as they are: drop it"
            )
    for name, other in (("valid", valid), ("test", test)):
        if other is not None:
            _attach(found, name, other, settings)
    if (stream or loader) and (settings.condition is not None or settings.use_labels):
        raise TightboundError(
            "a model that is told labels or conditions needs its data in "
            f"memory, and {found.where} streams: give a "
            "map-style Dataset, an array or a file"
        )
    if stream or loader:
        _stand_in(found, settings)
    data = assemble(found, settings, seed)
    assert isinstance(data.train, Split)
    if stream:
        checks = (
            data.spec if settings.binarize == "none" else settle(found, settings)[1]
        )
        data.train = ShardSplit(
            replace(stream.shards, checks=checks), data.spec, data.train.transform
        )
    if loader:
        data.train = LoaderSplit(source, data.spec, data.train.transform, seed)
        data.spec = data.spec.model_copy(update={"rows": data.train.size})
        data.held_out = valid is not None or test is not None
    return data


def _stand_in(found: Source, settings: DataSettings) -> None:
    """Completes the splits of a stream from its sample, and refuses what only rows at hand can
    give.
    """
    if settings.binarize == "static" or settings.limit is not None:
        key = "limit" if settings.limit is not None else "binarize=static"
        raise TightboundError(
            f"data.{key} needs rows that stay, and {found.where} streams: drop "
            "it, or pass a map-style Dataset"
        )
    for name, donor in (("valid", "train"), ("test", "valid")):
        if name not in found.parts:
            found.parts[name] = found.parts[donor]
            found.notices.append(
                f"the {name} split is a fixed sample of "
                f"{len(found.parts[donor].x)} examples of the stream, also "
                f"trained on (pass {name}= for one of its own)"
                if donor == "train"
                else "the test split is the validation split (pass test= for one of its own)"
            )


def _attach(found: Source, name: str, other: Any, settings: DataSettings) -> None:
    """Uses another source as a split: its part of that name, or all of it if it has but one."""
    extra = open_source(other, settings.model_copy(update=found.resolved))
    part = extra.parts.get(name) or (
        next(iter(extra.parts.values())) if len(extra.parts) == 1 else None
    )
    if part is None:
        raise TightboundError(
            f"{name}={extra.where} has several splits and none is named {name!r}: pass one of them"
        )
    base = next(iter(found.parts.values()))
    part = coded(
        extra,
        DataSpec(
            shape=(1,),
            domain="mixed",
            fields=found.fields,
            missing=settings.allow_missing,
        ),
        part,
    )
    if part.x.shape[1:] != base.x.shape[1:]:
        raise TightboundError(
            f"{name}={extra.where} has examples of shape "
            f"{tuple(part.x.shape[1:])} where {found.where} has "
            f"{tuple(base.x.shape[1:])}: both need the same shape"
        )
    if part.y is not None and extra.label_names != found.label_names:
        part = replace(
            part, y=same_ids(part.y, extra.label_names or (), found.label_names or ())
        )
    found.parts[name] = part
    found.digest = sha256_text(found.digest, name, extra.digest)
    found.notices += extra.notices


def same_ids(y: Tensor, names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Class ids of one source as those of another with the same names; -1 where that has no such
    class.
    """
    table = torch.tensor(
        [known.index(name) if name in known else -1 for name in names] + [-1]
    )
    return table[y]


def assemble(found: Source, settings: DataSettings, seed: int) -> Data:
    """Settles layout, domain and splits, binarises where asked, and takes mean and spread on the
    training rows.
    """
    settings, spec = settle(found, settings)
    rows = partition(found, settings, seed)
    settings = settings.model_copy(
        update={k: found.resolved[k] for k in ("valid", "test") if k in found.resolved}
    )
    if settings.binarize != "none" and spec.domain == "binary":
        found.notices.append(
            f"{found.where} is binary already: data.binarize={settings.binarize} has nothing to do"
        )
        settings = settings.model_copy(update={"binarize": "none"})
    sample = rows["train"].some(_STATISTICS_ROWS, seed)
    if settings.binarize == "none":
        mean, std = moments(rows["train"].part.x, sample, spec)
    else:
        mean, _ = moments(rows["train"].part.x, sample, spec.as_domain("unit"))
        std = (mean * (1 - mean)).sqrt()
    transform = Transform(
        spec.levels if settings.binarize == "dynamic" else None,
        settings.augment,
        settings.shift,
    )
    final = spec if settings.binarize == "none" else binary(spec)
    told = None if settings.condition is None else condition_of(found, rows, settings)
    names, share = labels_of(found, rows) if settings.use_labels else (None, 1.0)
    final = final.model_copy(
        update={
            "mean": mean,
            "std": std,
            "rows": len(rows["train"]),
            "condition": told,
            "labels": names,
            "labelled": share,
        }
    )
    splits = _splits(rows, spec, final, settings, transform)
    keys = (
        found.digest,
        *(f"{k}={getattr(settings, k)}" for k in _DIGEST_KEYS),
        final.domain,
        final.levels,
    )
    return Data(
        name=found.name,
        source=found.where,
        spec=final,
        **splits,
        digest=sha256_text(*keys),
        settings=settings,
        notices=found.notices,
        label_names=found.label_names,
        factor_names=found.factor_names,
        factor_sizes=found.factor_sizes,
        columns=found.fields or named(found.table, final),
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


def binary(spec: DataSpec) -> DataSpec:
    """The spec of grey data after binarisation."""
    return spec.model_copy(update={"domain": "binary", "levels": 2, "divisor": 1.0})


def settle(found: Source, settings: DataSettings) -> tuple[DataSettings, DataSpec]:
    """Resolves layout, domain and levels of a source, checks every value, and returns both with no
    "auto" left.
    """
    what, parts = found.where, list(found.parts.values())
    if found.fields:
        width = sum(f.width for f in found.fields)
        spec = DataSpec(
            shape=(width,),
            domain="mixed",
            fields=found.fields,
            missing=settings.allow_missing,
        )
        _check_uses(settings, spec, what)
        return settings.model_copy(
            update={**found.resolved, "kind": "vector", "layout": "vector"}
        ), spec
    layout = find_layout(parts[0].x, settings, found.layout, what, found.notices)
    shape = example_shape(tuple(parts[0].x.shape[1:]), layout)
    domain = (
        "auto"
        if settings.binarize != "none" and settings.domain == "binary"
        else settings.domain
    )
    wanted = settings.model_copy(
        update={
            "domain": found.domain or "auto" if domain == "auto" else domain,
            "levels": settings.levels
            or (
                found.levels
                if domain in ("auto", "levels", "unit", "categorical")
                else None
            ),
        }
    )
    seen = {name: looked_at(part.x) for name, part in found.parts.items()}
    facts = {
        name: _facts(x, numbers, wanted, found) for name, (x, numbers) in seen.items()
    }
    merged = Facts(
        *(
            f([getattr(v, k) for v in facts.values()])
            for f, k in ((min, "low"), (max, "high"), (all, "whole"))
        )
    )
    first = next(iter(seen.values()))[0]
    found_domain, levels, divisor = find_domain(
        merged, first, len(shape) >= 3, wanted, what, found.notices
    )
    spec = DataSpec(
        shape=shape,
        domain=found_domain,
        levels=levels,
        layout=layout,
        divisor=divisor,
        missing=settings.allow_missing,
    )
    for name, (x, numbers) in seen.items():
        check_values(
            x, spec, what if name == "all" else f"{what} ({name})", facts[name], numbers
        )
    _check_uses(settings, spec, what)
    resolved = {
        **found.resolved,
        "kind": spec.kind,
        "layout": layout,
        "domain": found_domain,
        "levels": levels,
    }
    return settings.model_copy(update=resolved), spec


def _facts(
    x: Tensor, numbers: Tensor | None, wanted: DataSettings, found: Source
) -> Facts:
    """A full survey, but for bytes that may be any byte, where the first value above 1 says
    enough.
    """
    if (
        x.dtype == torch.uint8
        and wanted.domain != "binary"
        and wanted.levels in (None, 256)
    ):
        if found.levels == 256 or any(bool((rows > 1).any()) for rows in x.split(4096)):
            return Facts(0.0, 255.0, True)
        return Facts(0.0, 1.0, True)
    return survey(x, found.where, numbers, wanted.allow_missing)


def _check_uses(settings: DataSettings, spec: DataSpec, what: str) -> None:
    """Refuses settings that the data have no use for."""
    if settings.binarize != "none" and spec.domain not in ("levels", "binary", "unit"):
        raise TightboundError(
            f"data.binarize={settings.binarize} needs grey levels, but {what} "
            f"is {spec.domain}: drop it"
        )
    if settings.binarize != "none" and spec.domain == "unit" and spec.levels is None:
        raise TightboundError(
            f"data.binarize={settings.binarize} needs integer grey levels, but "
            f"{what} holds reals in [0, 1]: "
            "pass bytes (x * 255, rounded, uint8)"
        )
    if settings.binarize != "none" and spec.missing:
        raise TightboundError(
            f"data.binarize={settings.binarize} cannot draw missing values of {what}: drop it"
        )
    if settings.augment and not spec.is_image:
        raise TightboundError(
            f"data.augment needs images, but {what} has {spec.kind}s of "
            f"{spec.dims} numbers: drop it"
        )


def _splits(
    rows: dict[str, Rows],
    spec: DataSpec,
    final: DataSpec,
    settings: DataSettings,
    transform: Transform,
) -> dict[str, Any]:
    """The three Splits; binarised ones are drawn in the order valid, test, train from one
    generator.
    """
    draws = FixedDraws(spec.levels or 2)
    out: dict[str, Any] = {}
    for name in ("valid", "test", "train"):
        part, index = rows[name].part, rows[name].index
        known = _known(part, index)
        if isinstance(part.x, OnDisk):
            known["checks"] = spec
        if name == "train" and (settings.augment or settings.binarize == "dynamic"):
            known["transform"] = transform
        if settings.binarize == "none":
            out[name] = Split(part.x, final, index=index, **known)
        elif isinstance(part.x, OnDisk):
            drawn = drawn_on_disk(part.x, spec.levels or 2)
            if settings.binarize == "dynamic":
                out[name] = Split(part.x, final, index=index, fixed=drawn, **known)
            else:
                out[name] = Split(
                    drawn, final, index=index, **{**known, "checks": None}
                )
        elif name == "train" and settings.binarize == "dynamic":
            known["fixed"] = lambda x=part.x, i=index: draws.draw(x, i)
            out[name] = Split(part.x, final, index=index, **known)
        else:
            assert not isinstance(index, Without)
            out[name] = Split(draws.draw(part.x, index), final, **known)
    return {name: out[name] for name in NAMES}


def _known(part: Part, index: Any) -> dict[str, Any]:
    """Labels, factors and names in the order of a split."""
    told = part.y if part.c is None else part.c
    if index is None or all(
        value is None for value in (told, part.factors, part.names)
    ):
        return {"y": part.y, "factors": part.factors, "names": part.names, "c": told}
    here = index[torch.arange(len(index))]
    y, factors, c = (
        None if t is None else t[here] for t in (part.y, part.factors, told)
    )
    return {
        "y": y,
        "factors": factors,
        "names": None if part.names is None else _pick(part.names, here),
        "c": c,
    }


def _pick(names: Sequence[str], rows: Tensor) -> list[str]:
    return [names[i] for i in rows.tolist()]
