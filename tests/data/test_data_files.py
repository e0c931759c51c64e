"""Files of numbers: .npy in place, .npz, .csv; damaged and pickled ones refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import tightbound.data as td
from tightbound.runtime.errors import TightboundError

RNG = np.random.RandomState(0)
S = td.DataSettings


def test_npy_is_mapped_in_place(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    array = RNG.randint(0, 256, (40, 6, 6)).astype(np.uint8)
    np.save(path, array)
    path.chmod(0o444)
    data = td.load(str(path))
    assert (
        "/x.npy" in Path("/proc/self/maps").read_text()
        if Path("/proc/self/maps").exists()
        else True
    )
    rows = torch.arange(8)
    assert np.array_equal(
        data.train.raw(rows).numpy(), array[data.train.index[:8].numpy()]
    )
    path.chmod(0o644)
    np.save(path, array[:39])
    assert td.load(path).digest != data.digest


def test_npy_damaged_or_pickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, RNG.randn(40, 6))
    whole = path.read_bytes()
    for cut in (0, 4, 60, len(whole) - 8):
        path.write_bytes(whole[:cut])
        with pytest.raises(
            TightboundError, match=r"truncated or not a numpy file|pickle"
        ):
            td.load(path)
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(TightboundError, match="never loaded"):
        td.load(path)
    path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.")
    with pytest.raises(TightboundError, match="never loaded"):
        td.load(path)


@pytest.mark.parametrize(
    ("arrays", "sizes"),
    [
        ({"x": 20, "y": 20}, (16, 2, 2)),
        ({"data": 20}, (16, 2, 2)),
        ({"train": 10, "valid": 4, "test": 3}, (10, 4, 3)),
        ({"x_train": 10, "y_train": 10, "x_test": 4, "y_test": 4}, (9, 1, 4)),
        ({"train_images": 10, "val_images": 5, "test_images": 4}, (10, 5, 4)),
        ({"anything": 20}, (16, 2, 2)),
    ],
)
def test_npz(tmp_path: Path, arrays: dict[str, int], sizes: tuple[int, ...]) -> None:
    path = tmp_path / "x.npz"
    made = {
        k: RNG.randint(0, 3, n) if k.startswith("y") else RNG.rand(n, 4, 4)
        for k, n in arrays.items()
    }
    np.savez(path, **made)
    data = td.load(path)
    assert tuple(len(s) for s in data.splits.values()) == sizes
    assert (data.train.y is not None) == any(k.startswith("y") for k in arrays)
    assert data.spec.domain == "unit"


def test_npz_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros((3, 2)), b=np.zeros(3))
    with pytest.raises(TightboundError, match="a, b: name the examples"):
        td.load(path)
    np.savez(path, x=np.array([{}, {}], dtype=object))
    with pytest.raises(TightboundError, match="never loaded"):
        td.load(path)
    np.savez_compressed(path, x=RNG.randn(100, 9))
    whole = path.read_bytes()
    for cut in (3, 200, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(TightboundError, match=r"truncated|pickle"):
            td.load(path)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{i},{i * 0.5},{'cat' if i % 2 else 'dog'}" for i in range(20)]
    path.write_text("a,b,label\n" + "\n".join(lines) + "\n")
    data = td.load(path)
    assert (
        data.spec.shape == (2,)
        and data.label_names == ("cat", "dog")
        and "label" in data.notices[0]
    )
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    assert td.load(path).spec.shape == (2,) and len(td.load(path).train) == 16
    assert td.load(path, S(label=0)).spec.shape == (1,)
    assert len(td.load(path, S(header=True)).train) == 15
    path.write_text("\ufeffx;y\n" + "1,5;2\n".replace(",", ".") * 9)
    assert td.load(path).spec.shape == (1,)
    with pytest.raises(TightboundError, match=r"no column 'z'"):
        td.load(path, S(label="z"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n3,x\n", r"line 3, column 'b' is 'x'"),
        ("a,b\n1,2\n3,\n", r"line 3, column 'b' is empty"),
        ("1,2\n3,4\nnan,5\n", r"line 3, column '0' is 'nan'"),
        ("1,2\n3,inf\n3,5\n", r"line 2, column '1' is 'inf'"),
        ("1,2\n3\n3,5\n", r"line 2 has 1 cells where 2"),
        ("", "empty"),
        ("a,b\n", "no rows"),
    ],
)
def test_csv_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TightboundError, match=says):
        td.load(path)


@pytest.mark.parametrize(("index", "width"), [("0,1,2", 2), ("1,2,3", 3), ("0,1,1", 3)])
def test_the_index_that_pandas_writes_is_no_feature(
    tmp_path: Path, index: str, width: int
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        ",a,b\n"
        + "".join(f"{i},{k}.5,{k * k}\n" for k, i in enumerate(index.split(","), 4))
    )
    data = td.load(path)
    assert data.spec.shape == (width,)
    assert any("counts the rows" in line for line in data.notices) == (width == 2)
    path.write_text("row,a,b\n0,1.5,2\n1,3.5,4\n2,1,9\n")
    assert td.load(path).spec.shape == (3,), "a column with a name is the user's own"


def test_csv_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TightboundError, match="UTF-8"):
        td.load(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (".xlsx", "save the sheet as .csv"),
        (".pt", "pass the tensor"),
        (".txt", "rename it"),
    ],
)
def test_files_of_other_programs_say_what_to_do(
    kind: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"x{kind}"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "b")
    with pytest.raises(TightboundError, match=message):
        td.load(str(path))


@pytest.mark.parametrize("x", [np.full((9, 2), "a"), np.full((9, 2), 1j)])
def test_an_array_that_is_no_numbers_is_not_called_truncated(
    x: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(TightboundError, match=r"x\.npy holds"):
        td.load(str(tmp_path / "x.npy"))
