"""Masked and sparse arrays: read as what they are, or refused in a sentence, by every door."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from support.small import small_run

from tightbound.data import DataSettings
from tightbound.data.opening import open_source
from tightbound.data.source import read_labels
from tightbound.estimator import VAEEstimator
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError

S = DataSettings
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
MASK = RNG.random(X.shape) < 0.1
FILLED = np.where(MASK, -999.0, X)
MASKED = np.ma.masked_array(FILLED, MASK)
COUNTS = RNG.poisson(0.4, (60, 5)).astype(np.float32)


class Rows(torch.utils.data.Dataset):
    """A map-style Dataset over the rows of an array."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i]


MASKED_SOURCES = {
    "array": MASKED,
    "list": list(MASKED),
    "dataset": Rows(MASKED),
    "integers": np.ma.masked_array(np.rint(FILLED).astype(int), MASK),
}


@pytest.mark.parametrize("name", MASKED_SOURCES)
def test_a_masked_value_is_missing(name: str) -> None:
    x = open_source(MASKED_SOURCES[name], S(allow_missing=True)).splits["all"].x
    wanted = np.where(MASK, np.nan, np.rint(X) if name == "integers" else X)
    np.testing.assert_array_equal(x.numpy(), wanted)


@pytest.mark.parametrize("name", ["array", "list", "integers"])
def test_a_masked_value_is_refused_where_none_may_be_missing(name: str) -> None:
    row = int(np.argmax(MASK.any(1)))
    with pytest.raises(TightboundError, match=f"row {row} .* has a masked value"):
        open_source(MASKED_SOURCES[name], S())


def test_an_array_without_masked_values_is_plain() -> None:
    for kind in (np.float32, np.uint8, np.int64):
        values = np.arange(12, dtype=kind).reshape(4, 3)
        for masked in (np.ma.masked_array(values), np.ma.masked_equal(values, 99)):
            x = open_source(masked, S()).splits["all"].x
            assert x.numpy().dtype == kind and np.array_equal(x.numpy(), values)


def test_masked_images_keep_their_levels() -> None:
    images = np.ma.masked_array(
        RNG.integers(0, 200, (20, 4, 4)).astype(np.uint8), np.zeros((20, 4, 4), bool)
    )
    images[3, 1, 2] = np.ma.masked
    with pytest.raises(TightboundError, match=r"row 3 .* masked value"):
        open_source(images, S())
    source = open_source(images, S(allow_missing=True))
    assert source.levels == 256
    gone = torch.isnan(source.splits["all"].x)
    assert gone.sum() == 1 and gone[3, 1, 2]


@pytest.mark.parametrize("values", [[1, 0, 2], [1.0, 0.0, 2.0], ["b", "a", "c"]])
def test_a_masked_label_is_unknown(values: list[Any]) -> None:
    y, names = read_labels(np.ma.masked_array(values, [0, 1, 0]), 3, "x", [])
    assert y is not None and names is not None
    assert [names[i] if i >= 0 else None for i in y.tolist()] == [
        str(values[0]).removesuffix(".0"),
        None,
        str(values[2]).removesuffix(".0"),
    ]


def test_masked_conditions_are_refused() -> None:
    with pytest.raises(TightboundError, match="condition of the array is not finite"):
        open_source((X, MASKED), S(condition="labels"))


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(
        small_run(tmp_path_factory.mktemp("dense") / "run", "vae", COUNTS, latent=2)
    )


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("masked") / "run"
    return load(small_run(folder, "missing-data", MASKED, latent=2))


def test_a_run_reads_a_mask_as_gaps(incomplete: Run) -> None:
    gaps = np.where(MASK, np.nan, X)
    assert torch.equal(incomplete.encode(MASKED), incomplete.encode(gaps))
    imputed = np.asarray(incomplete.impute(MASKED, k=5).x)
    assert imputed.min() > -100
    np.testing.assert_allclose(imputed[~MASK], X[~MASK], rtol=1e-6)


SPARSE: dict[str, Callable[[Any], Any]] = {
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
    "csc_array": sp.csc_array,
    "coo_matrix": sp.coo_matrix,
    "lil_matrix": sp.lil_matrix,
    "torch coo": lambda x: torch.from_numpy(x).to_sparse(),
    "torch csr": lambda x: torch.from_numpy(x).to_sparse_csr(),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", SPARSE)
def test_a_sparse_matrix_is_its_dense_one(kind: str, dense: Run) -> None:
    sparse = SPARSE[kind](COUNTS)
    x = open_source(sparse, S()).splits["all"].x
    assert np.array_equal(x.numpy(), COUNTS)
    assert torch.equal(dense.encode(sparse), dense.encode(COUNTS))
    pair = open_source((sparse, np.arange(60) % 2), S()).splits["all"]
    assert np.array_equal(pair.x.numpy(), COUNTS) and pair.y is not None


def test_a_sparse_matrix_that_is_too_large_is_refused(tmp_path: Path) -> None:
    wide = sp.csr_matrix((60, 5000))
    sp.save_npz(tmp_path / "x.npz", wide)
    for source in (wide, tmp_path / "x.npz"):
        with pytest.raises(TightboundError, match=r"is sparse, and its \(60, 5000\)"):
            open_source(source, S(memory=1))
    assert open_source(wide, S(memory=3)).splits["all"].x.shape == (60, 5000)


def test_sparse_parts_are_refused() -> None:
    rows = [sp.csr_matrix(row[None]) for row in COUNTS]
    labels = sp.csr_matrix(np.arange(60) % 2)
    for source in (rows, Rows(rows), (COUNTS, labels)):
        with pytest.raises(TightboundError, match="sparse"):
            open_source(source, S())


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_a_file_of_a_sparse_matrix_is_its_dense_one(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "counts.npz"
    sp.save_npz(path, sp.csr_matrix(COUNTS).asformat(kind))
    source = open_source(path, S())
    assert np.array_equal(source.splits["all"].x.numpy(), COUNTS)
    assert "sparse" in source.notices[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": np.array(b"dia")}, "dia format.* is not read"),
        ({"indices": np.full(3, 9)}, "places outside"),
        ({"indices": np.zeros(2, int)}, "places outside"),
        ({"indptr": np.array([0, 3, 1])}, "places outside"),
        ({"indptr": np.array([0.0, 1.0, 3.0])}, "places outside"),
        ({"shape": np.array([2])}, "is no matrix of numbers"),
        ({"shape": np.array([2, 10**15])}, "is sparse, and its"),
        ({"shape": np.array([-2, 3])}, "is empty"),
        ({"data": np.array(["a", "b", "c"])}, "is no matrix of numbers"),
    ],
)
def test_a_hostile_file_of_a_sparse_matrix_is_refused(
    change: dict[str, np.ndarray], sentence: str, tmp_path: Path
) -> None:
    arrays = {
        "format": np.array(b"csr"),
        "shape": np.array([2, 3]),
        "data": np.ones(3),
        "indices": np.array([0, 1, 2]),
        "indptr": np.array([0, 1, 3]),
    }
    np.savez(tmp_path / "x.npz", **(arrays | change))
    with pytest.raises(TightboundError, match=sentence):
        open_source(tmp_path / "x.npz", S())


def test_a_file_of_anndata_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(TightboundError, match=r"AnnData.*adata\.X"):
        open_source(path, S())


def test_the_estimator_takes_masks() -> None:
    settings = {"recipe.size": "s"}
    model = VAEEstimator(steps=2, random_state=0, settings=settings)
    for masked in (MASKED, list(MASKED)):
        with pytest.raises(TightboundError, match="has a masked value"):
            model.fit(masked)
    model = VAEEstimator("missing-data", steps=2, random_state=0, settings=settings)
    gaps = np.where(MASK, np.nan, X)
    assert np.array_equal(
        model.fit(MASKED).transform(MASKED), model.fit(gaps).transform(gaps)
    )


def test_items_of_several_types_keep_their_values() -> None:
    rows = [np.array([1, 2]), np.array([1.5, 2.5]), np.array([3, 4])]
    x = open_source(Rows(rows), S()).splits["all"].x
    assert x.tolist() == [[1, 2], [1.5, 2.5], [3, 4]]


def test_files_that_cannot_be_read_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=X)
    whole = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for cut in (3, 200, len(whole) // 2, len(whole) - 5):
            path.write_bytes(whole[:cut])
            with pytest.raises(TightboundError):
                open_source(path, S())
            gc.collect()
    assert not errors
