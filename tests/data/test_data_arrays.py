"""Arrays, tensors, .npy, .npz, .csv: layout, domain, statistics, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import tightbound.data as td
from tightbound.data.source import as_latents
from tightbound.runtime.errors import TightboundError

RNG = np.random.RandomState(0)
S = td.DataSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("shape", "layout", "example"),
    [
        ((20, 7), "vector", (7,)),
        ((20, 5, 6), "hw", (1, 5, 6)),
        ((20, 5, 6, 3), "hwc", (3, 5, 6)),
        ((20, 3, 5, 6), "chw", (3, 5, 6)),
        ((20, 3, 5, 4), "chw", (3, 5, 4)),
        ((20, 9, 8, 2), "hwc", (2, 9, 8)),
        ((20, 2, 9, 8), "chw", (2, 9, 8)),
    ],
)
def test_layouts(shape: tuple[int, ...], layout: str, example: tuple[int, ...]) -> None:
    array = RNG.randint(0, 256, shape).astype(np.uint8)
    data = td.load(array)
    assert (
        data.spec.layout == layout
        and data.spec.shape == example
        and data.spec.levels == 256
    )
    rows = torch.arange(4)
    x = data.train.batch(rows)
    assert x.shape == (4, *example)
    assert torch.equal(data.spec.to_raw(x), data.train.raw(rows).float())
    assert data.train.x.data_ptr() == array.ctypes.data, "an array is used in place"


def test_layout_setting_and_announced_guess() -> None:
    array = RNG.rand(20, 3, 5, 3)
    data = td.load(array)
    assert data.spec.layout == "chw" and "data.layout" in data.notices[0]
    assert td.load(array, S(layout="hwc")).spec.shape == (3, 3, 5)
    with pytest.raises(TightboundError, match=r"data\.layout=hw does not fit"):
        td.load(array, S(layout="hw"))


@pytest.mark.parametrize(
    ("array", "domain", "levels"),
    [
        (RNG.rand(30, 4) > 0.5, "binary", 2),
        (RNG.randint(0, 2, (30, 4)).astype(np.uint8), "binary", 2),
        (RNG.randint(0, 2, (30, 4)).astype(float), "binary", 2),
        (
            np.r_[RNG.randint(0, 9, (29, 4)), [[0, 1, 2, 9]]].astype(np.uint8),
            "levels",
            256,
        ),
        (
            np.r_[RNG.randint(0, 9, (29, 4)), [[0, 1, 2, 16]]].astype(np.float32),
            "levels",
            17,
        ),
        (
            np.r_[RNG.randint(0, 9, (29, 4)), [[0, 1, 2, 255]]].astype(">i2"),
            "levels",
            256,
        ),
        (RNG.randint(0, 1000, (30, 4)), "real", None),
        (RNG.randint(-3, 9, (30, 4)), "real", None),
        (RNG.rand(30, 4, 4).astype(np.float16), "unit", None),
        (RNG.rand(30, 4), "real", None),
        (RNG.randn(30, 4, 4), "real", None),
        (RNG.randint(0, 60000, (30, 4)).astype(np.uint16), "real", None),
    ],
)
def test_domains(array: np.ndarray, domain: str, levels: int | None) -> None:
    data = td.load(array)
    assert (data.spec.domain, data.spec.levels) == (domain, levels)
    assert data.settings.domain == domain
    again = td.load(array, data.settings)
    assert again.spec.domain == domain and again.digest == data.digest
    assert torch.isfinite(data.train.batch(torch.arange(5))).all()


def test_domain_settings() -> None:
    grey = RNG.randint(0, 17, (40, 3, 3)).astype(np.uint8)
    grey[0, 0, 0] = 16
    data = td.load(grey, S(levels=17))
    assert data.spec.domain == "levels" and data.spec.levels == 17
    unit = td.load(grey, S(levels=17, domain="unit"))
    assert (
        unit.spec.divisor == 16 and float(unit.train.batch(torch.arange(32)).max()) <= 1
    )
    torch.testing.assert_close(unit.spec.mean * 16, data.spec.mean)
    assert td.load(grey, S(domain="real")).spec.levels is None
    assert (
        td.load(grey, S(domain="categorical", levels=17)).spec.domain == "categorical"
    )
    with pytest.raises(TightboundError, match=r"row 0 .*16.*levels.*0 to 15"):
        td.load(grey, S(levels=16))
    with pytest.raises(TightboundError, match=r"row \d+ .*binary"):
        td.load(grey, S(domain="binary"))
    with pytest.raises(TightboundError, match=r"row 1 .*0\.5.*whole numbers"):
        td.load(np.array([[1.0], [0.5], [2.0]]), S(domain="levels"))
    with pytest.raises(TightboundError, match=r"row 2 .*unit"):
        td.load(np.array([[1.0], [0.5], [-2.0]]), S(domain="unit", levels=2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    array = RNG.randn(50, 6).astype(np.float32)
    array[33, 2] = value
    with pytest.raises(TightboundError, match=r"row 33 .*position 2"):
        td.load(array)
    with pytest.raises(TightboundError, match="row 33"):
        td.load(torch.from_numpy(array))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((0, 5)), "empty"),
        (np.zeros((5, 0)), "empty"),
        (np.zeros((2, 3, 4, 5, 6, 7)), "shape"),
        (np.float64(3), "single number"),
        (np.array([["a"], ["b"]]), "only numbers"),
        (np.array([[{}], [1]], dtype=object), "only numbers"),
        (np.zeros((4, 2), complex), "complex"),
        (np.zeros((1, 4)), "1 example: at least 3"),
        (np.zeros((2, 4)), "2 examples: at least 3"),
        ([np.zeros(3), np.zeros(4)], "different shapes"),
        (3.5, "cannot be read as data"),
        ({"x": 1}, "cannot be read as data"),
        ((1, 2, 3), "tuple of 3"),
        ((np.zeros((5, 2)), [1, 2]), "labels of shape"),
    ],
)
def test_refused(bad: Any, says: str) -> None:
    with pytest.raises(TightboundError, match=says):
        td.load(bad)


def test_few_examples() -> None:
    data = td.load(np.arange(12.0).reshape(3, 4))
    assert [len(s) for s in data.splits.values()] == [1, 1, 1]
    one = td.load(np.zeros((1, 4)), valid=np.ones((2, 4)), test=np.zeros((2, 4)))
    assert (
        len(one.train) == 1 and len(one.valid) == 2 and bool((one.spec.std == 0).all())
    )


def test_own_validation_and_test() -> None:
    x = RNG.randint(0, 9, (30, 4))
    data = td.load(x, valid=x[:5])
    assert len(data.train) == 27 and len(data.valid) == 5 and len(data.test) == 3
    with pytest.raises(TightboundError, match="same shape"):
        td.load(x, valid=np.zeros((4, 5)))
    named = td.load((x, ["b", "a"] * 15), valid=(x[:3], ["c", "b", "b"]))
    assert (
        named.label_names == ("a", "b")
        and named.valid.y is not None
        and named.valid.y.tolist() == [-1, 1, 1]
    )


def test_labels() -> None:
    x = RNG.randn(12, 2)
    named = td.load((x, ["b", "a", "c"] * 4))
    assert named.label_names == ("a", "b", "c")
    row = int((named.train.index == 0).nonzero()[0]) if 0 in named.train.index else None
    assert row is None or int(named.train.y[row]) == 1
    assert td.load((x, np.arange(12) * 10_000)).label_names is not None
    assert td.load((x, RNG.randn(12))).train.y is None
    assert int(td.load((x, np.full((12, 1), -1))).train.y[0]) == -1


def test_statistics_survive_an_offset() -> None:
    x = (1e6 + RNG.randn(5000, 3)).astype(np.float64)
    data = td.load(x)
    rows = x[data.train.index.numpy()]
    np.testing.assert_allclose(data.spec.std.numpy(), rows.std(0), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mnst", "did you mean 'mnist'"),
        ("no/such/folder", "does not exist"),
        ("x.h5", "does not exist"),
        ("wds:a-{0..3}.tar", "a-0.tar does not exist"),
        ("wds:no-*.tar", "names no file"),
        ("wds:pipe:cat x.tar", "not a file of this machine"),
        ("wds:https://example.com/x.tar", "not a file of this machine"),
    ],
)
def test_wrong_names(name: str, says: str) -> None:
    with pytest.raises(TightboundError, match=says):
        td.load(name)


def test_unknown_extension(tmp_path: Path) -> None:
    (tmp_path / "x.docx").write_bytes(b"hello")
    with pytest.raises(TightboundError, match=r"type \.docx"):
        td.load(tmp_path / "x.docx")


def test_settings() -> None:
    assert (
        S(size="28x20").size == (28, 20)
        and S(size="64").size == 64
        and S(size=[5, 6]).size == (5, 6)
    )
    assert S(augment="flip,shift").augment == ("flip", "shift")
    for wrong in (
        {"sizes": 3},
        {"size": 0},
        {"valid": 0.6, "test": 0.5},
        {"binarize": "maybe"},
        {"augment": "rot"},
    ):
        with pytest.raises(ValidationError):
            S(**wrong)
    with pytest.raises(TightboundError, match=r"data\.size is for image files"):
        td.load("digits", S(size=32))


@pytest.mark.parametrize("layout", ["hw", "hwc", "chw"])
def test_augment(layout: str) -> None:
    shape = {"hw": (30, 6, 5), "hwc": (30, 6, 5, 3), "chw": (30, 3, 6, 5)}[layout]
    array = RNG.randint(0, 256, shape).astype(np.uint8)
    rows = torch.arange(24)
    flip = td.load(array, S(augment="flip"))
    plain = flip.train.batch(rows)
    x = flip.train.batch(rows, torch.Generator().manual_seed(0))
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(x, plain, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(x, plain, strict=True)]
    assert (
        all(t != s for t, s in zip(turned, same, strict=True)) and 4 < sum(turned) < 20
    )
    assert torch.equal(
        flip.valid.batch(torch.arange(3), torch.Generator()),
        flip.valid.batch(torch.arange(3)),
    )
    shift = td.load(array, S(augment="shift", shift=1))
    x = shift.train.batch(rows, torch.Generator().manual_seed(0))
    middle = plain[..., 1:-1, 1:-1]
    for a, b in zip(x, middle, strict=True):
        windows = [a[:, i : i + 4, j : j + 3] for i in range(3) for j in range(3)]
        assert any(torch.equal(w, b) for w in windows)
    with pytest.raises(TightboundError, match="needs images"):
        td.load(RNG.randn(20, 4), S(augment="flip"))


def test_batches_and_describe() -> None:
    data = td.load(RNG.randn(25, 3))
    got = list(data.train.batches(8))
    assert (
        torch.equal(torch.cat([rows for rows, _ in got]), torch.arange(len(data.train)))
        and len(got[-1][0]) == 5
    )
    assert json.loads(json.dumps(data.describe()))["n"] == {
        "train": 21,
        "valid": 2,
        "test": 2,
    }
    moved = data.train.to("cpu")
    assert torch.equal(moved.batch(torch.arange(4)), data.train.batch(torch.arange(4)))


X8 = torch.arange(32.0).reshape(8, 4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: X8.clone().requires_grad_(),
        lambda: X8.bfloat16(),
        lambda: X8.to(torch.uint16),
        lambda: X8.to(torch.uint64),
        lambda: torch.quantize_per_tensor(X8, 1.0, 0, torch.qint8),
    ],
    ids=["gradient", "bfloat16", "uint16", "uint64", "quantized"],
)
def test_tensors_of_every_kind_have_their_values(
    make: Callable[[], torch.Tensor],
) -> None:
    x = make()
    data = td.load(x, S(domain="real"))
    rows = td.read(x, data.spec).raw(torch.arange(8))
    assert rows.double().tolist() == X8.double().tolist()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: X8 + 1j, "complex numbers"),
        (lambda: torch.empty(8, 4, device="meta"), "no values"),
        (
            lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),
            "different shapes",
        ),
        (lambda: torch.full((8, 4), 2**63, dtype=torch.uint64), r"from 2\*\*63 up"),
    ],
    ids=["complex", "meta", "nested", "uint64"],
)
def test_tensors_without_plain_values_are_refused(
    make: Callable[[], torch.Tensor], message: str
) -> None:
    x = make()
    spec = td.load(X8, S(domain="real")).spec
    with pytest.raises(TightboundError, match=message):
        td.load(x)
    with pytest.raises(TightboundError, match=message):
        td.read(x, spec)


def test_rows_of_which_nothing_is_known_are_read_and_no_rows_refused() -> None:
    gaps = X8.clone()
    gaps[0, 0] = torch.nan
    spec = td.load(gaps, S(allow_missing=True)).spec
    nothing = td.read(torch.full((2, 4), torch.nan), spec).examples(torch.arange(2))
    assert nothing.x.isnan().all()
    with pytest.raises(TightboundError, match="is empty: give one example"):
        td.read(torch.zeros(0, 4), spec)


@pytest.mark.filterwarnings("error")
def test_features_that_must_not_be_written_to_are_read() -> None:
    z = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    z.flags.writeable = False
    assert as_latents(z).tolist() == z.tolist()
