"""Datasets, DataLoaders and streams, and new data for a trained model (read, read_one)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import tightbound.data as td
from tightbound.runtime.errors import TightboundError

RNG = np.random.RandomState(0)
S = td.DataSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))


class Items(Dataset):
    def __init__(self, items: list[Any]) -> None:
        self.items, self.asked = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        self.asked += 1
        return self.items[i]


class Endless(IterableDataset):
    def __init__(self, n: int | None) -> None:
        self.n = n

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        random = np.random.RandomState(1)
        i = 0
        while self.n is None or i < self.n:
            yield random.randint(0, 256, (3, 5, 5)).astype(np.uint8), i % 3
            i += 1


@pytest.mark.parametrize("form", ["x", "pair", "dict"])
def test_map_style(form: str) -> None:
    arrays = [RNG.rand(1, 4, 4).astype(np.float32) for _ in range(20)]
    make = {
        "x": lambda a, i: a,
        "pair": lambda a, i: (a, i % 2),
        "dict": lambda a, i: {"image": a, "label": i % 2},
    }[form]
    dataset = Items([make(a, i) for i, a in enumerate(arrays)])
    data = td.load(dataset)
    assert (
        dataset.asked == 20
        and data.spec.shape == (1, 4, 4)
        and data.spec.domain == "unit"
    )
    assert (data.train.y is not None) == (
        form != "x"
    ) and "into memory" in data.notices[0]
    rows = data.train.index[:3]
    assert torch.equal(
        data.train.raw(torch.arange(3)),
        torch.from_numpy(np.stack([arrays[i] for i in rows])),
    )


def test_tensor_dataset_is_used_in_place() -> None:
    x, y = torch.randint(0, 256, (30, 3, 6, 6), dtype=torch.uint8), torch.arange(30) % 4
    data = td.load(TensorDataset(x, y))
    assert data.train.x.data_ptr() == x.data_ptr() and data.label_names == (
        "0",
        "1",
        "2",
        "3",
    )
    assert td.load(Subset(TensorDataset(x, y), range(10))).spec.shape == (3, 6, 6)


def test_dataset_of_pictures() -> None:
    def picture(h: int, w: int, mode: str = "RGB") -> Image.Image:
        return Image.fromarray(RNG.randint(0, 256, (h, w, 3)).astype(np.uint8)).convert(
            mode
        )

    same = td.load(Items([(picture(8, 7), i % 2) for i in range(10)]))
    assert same.spec.shape == (3, 8, 7) and same.spec.levels == 256
    mixed = td.load(
        Items(
            [picture(8, 7, "L"), picture(8, 7), picture(90, 70), picture(9, 9, "RGBA")]
        )
    )
    assert mixed.spec.shape == (3, 64, 64) and "data.size" in mixed.notices[0]
    assert td.load(Items([picture(8, 7, "L") for _ in range(5)])).spec.shape == (
        1,
        8,
        7,
    )
    sized = td.load(Items([picture(80, 70) for _ in range(5)]), S(size=16, channels=1))
    assert sized.spec.shape == (1, 16, 16)


def test_pictures_and_odd_labels() -> None:
    pictures = [
        Image.fromarray(RNG.randint(0, 256, (70, 80, 3)).astype(np.uint8))
        for _ in range(5)
    ]
    data = td.load(pictures)
    assert data.spec.shape == (3, 64, 64)
    assert td.read(pictures[0], td.load(pictures, S(size=16)).spec).batch(
        torch.tensor([0])
    ).shape == (1, 3, 16, 16)
    boxes = td.load(Items([(np.full(3, i / 7), {"box": [1, 2]}) for i in range(6)]))
    assert boxes.train.y is None and "not classes" in " ".join(boxes.notices)
    masks = td.load(
        DataLoader(TensorDataset(torch.rand(9, 3), torch.rand(9, 2, 2)), batch_size=2)
    )
    assert masks.valid.y is None


def test_a_wanted_domain_is_reached_in_one_read() -> None:
    items = Items([np.arange(i, i + 16).reshape(4, 4) % 17 for i in range(30)])
    reals = td.load(items, domains=("unit", "real"))
    assert items.asked == 30 and reals.spec.domain == "unit"
    assert "as reals x / 16 in [0, 1]" in " ".join(reals.notices)
    assert reals.settings.domain == "unit" and reals.settings.levels == 17
    again = td.load(items, reals.settings)
    assert again.digest == reals.digest
    assert again.spec == reals.spec.model_copy(
        update={"mean": again.spec.mean, "std": again.spec.std}
    )
    assert torch.equal(again.spec.mean, reals.spec.mean)
    rows = torch.arange(5)
    assert torch.equal(again.train.batch(rows), reals.train.batch(rows))
    for domains in (("levels", "unit"), ("binary",), ()):
        assert td.load(items, domains=domains).spec.domain == "levels"


def test_map_style_refused() -> None:
    with pytest.raises(TightboundError, match="item 2 of the Items has shape"):
        td.load(Items([np.zeros(3), np.zeros(3), np.zeros(4)]))
    with pytest.raises(TightboundError, match="is empty"):
        td.load(Items([]))
    with pytest.raises(TightboundError, match="dict with keys a"):
        td.load(Items([{"a": 1}] * 4))
    with pytest.raises(TightboundError, match="row 3 "):
        td.load(Items([np.full(3, np.nan if i == 3 else i / 2) for i in range(6)]))


def test_loader_streams_and_repeats_its_epochs() -> None:
    x = torch.randint(0, 256, (70, 1, 4, 4), dtype=torch.uint8)
    loader = DataLoader(
        TensorDataset(x, torch.arange(70) % 5), batch_size=16, shuffle=True
    )
    before = torch.random.get_rng_state()
    data = td.load(loader)
    assert torch.equal(before, torch.random.get_rng_state()), (
        "the user's random state is put back"
    )
    assert (
        isinstance(data.train, td.LoaderSplit)
        and not data.train.resumable_within_epoch
        and len(data.train) == 70
    )
    assert "also trained on" in " ".join(data.notices) and "epoch" in data.notices[0]

    def epoch(number: int) -> torch.Tensor:
        torch.rand(3)
        return torch.cat([b for b, _ in next(data.train.epochs(16, first=number))])

    assert torch.equal(epoch(2), epoch(2)) and not torch.equal(epoch(2), epoch(3))
    assert sorted(epoch(1).flatten(1).sum(1).tolist()) == sorted(
        x.float().flatten(1).sum(1).tolist()
    )
    assert td.load(loader).digest == data.digest
    rows, first = next(data.train.batches(16))
    assert torch.equal(first, data.valid.batch(rows))
    assert data.describe()["n"]["train"] == 70


def test_loader_with_its_own_validation() -> None:
    x = torch.rand(40, 6)
    data = td.load(
        DataLoader(TensorDataset(x), batch_size=8), valid=x[:10], test=x[10:15].numpy()
    )
    assert len(data.valid) == 10 and len(data.test) == 5 and len(data.notices) == 2
    assert "5 of 5 test rows are equal to a training row" in data.notices[1]
    assert data.notices[1].endswith("(of 40 that the stream begins with)")


def test_loader_as_validation_and_as_new_data() -> None:
    x = torch.randint(0, 256, (50, 1, 6, 6), dtype=torch.uint8)
    loader = DataLoader(TensorDataset(x, torch.arange(50) % 3), batch_size=8)
    data = td.load(
        loader, valid=DataLoader(TensorDataset(x[:9]), batch_size=4), test=x[:5]
    )
    assert len(data.valid) == 9 and torch.equal(data.valid.x, x[:9])
    new = td.read(loader, data.spec, data.settings)
    assert torch.equal(new.x, x) and new.y is not None and len(new.y) == 50


def test_iterable_dataset() -> None:
    data = td.load(Endless(None), S(augment="flip"))
    assert (
        data.spec.shape == (3, 5, 5)
        and len(data.valid) == 2000
        and data.spec.levels == 256
    )
    batches = next(data.train.epochs(32, torch.Generator().manual_seed(0)))
    x, y = next(batches)
    assert x.shape == (32, 3, 5, 5) and y is not None and y.tolist()[:4] == [0, 1, 2, 0]
    assert td.load(Endless(7)).describe()["n"]["train"] is None
    drawn = td.load(Endless(9), S(binarize="dynamic"))
    assert set(
        next(next(drawn.train.epochs(4, torch.Generator())))[0].unique().tolist()
    ) == {0.0, 1.0}
    for settings in (S(binarize="static"), S(limit=5)):
        with pytest.raises(TightboundError, match="streams"):
            td.load(Endless(9), settings)
    with pytest.raises(TightboundError, match="is empty"):
        td.load(Endless(0))


def test_loader_checks_every_batch() -> None:
    x = torch.zeros(3000, 2)
    x[2500, 1] = float("nan")
    data = td.load(
        DataLoader(TensorDataset(x + torch.rand(3000, 1)), batch_size=100),
        valid=torch.rand(3, 2),
    )
    with pytest.raises(TightboundError, match="batch 25 of the DataLoader: row 0 "):
        list(next(data.train.epochs(100)))


def test_read_layouts() -> None:
    grey = RNG.randint(0, 256, (30, 6, 5)).astype(np.uint8)
    spec = td.load(grey).spec
    expected = torch.from_numpy(grey).float()[:, None]
    everything = torch.arange(30)
    for given in (
        grey,
        grey[:, None],
        grey[..., None],
        grey.reshape(30, 30),
        torch.from_numpy(grey),
        grey.astype(float),
    ):
        assert torch.equal(td.read(given, spec).batch(everything), expected)
    assert len(td.read(grey[0], spec)) == 1
    colour = RNG.randint(0, 256, (30, 6, 5, 3)).astype(np.uint8)
    spec = td.load(colour).spec
    swapped = td.read(np.moveaxis(colour, -1, 1), spec)
    assert torch.equal(
        swapped.batch(everything), td.read(colour, spec).batch(everything)
    )
    assert torch.equal(swapped.raw(everything), torch.from_numpy(colour))
    with pytest.raises(TightboundError, match=r"shape \(7, 5, 3\).*\(6, 5, 3\)"):
        td.read(np.zeros((4, 7, 5, 3)), spec)
    vector = td.load(RNG.randn(20, 4)).spec
    assert len(td.read(np.zeros(4), vector)) == 1
    with pytest.raises(TightboundError, match="trained on"):
        td.read(np.zeros((3, 5)), vector)


def test_read_checks_values() -> None:
    digits = td.load("digits")
    wrong = np.zeros((4, 8, 8))
    wrong[2, 1, 1] = 17
    with pytest.raises(TightboundError, match=r"row 2 .*17.*0 to 16"):
        td.read(wrong, digits.spec)
    wrong[2, 1, 1] = np.nan
    with pytest.raises(TightboundError, match="row 2 "):
        td.read(wrong, digits.spec)
    with pytest.raises(TightboundError, match="the split has"):
        td.read(digits.test, td.load(RNG.randn(9, 2)).spec)
    assert td.read(digits.test, digits.spec) is digits.test


def test_read_builtin_and_rows() -> None:
    digits = td.load("digits")
    test = td.read("digits", digits.spec, digits.settings)
    rows = torch.arange(len(digits.test))
    assert torch.equal(test.batch(rows), digits.test.batch(rows)) and torch.equal(
        test.y, digits.test.y
    )
    one = td.read_one("digits:7", digits.spec, digits.settings)
    assert len(one) == 1 and torch.equal(
        one.batch(torch.tensor([0]))[0], digits.test.batch(torch.tensor([7]))[0]
    )
    assert int(one.y[0]) == int(digits.test.y[7])
    with pytest.raises(TightboundError, match="rows 0 to 179"):
        td.read_one("digits:180", digits.spec)
    with pytest.raises(TightboundError, match="digits:ROW"):
        td.read_one("digits", digits.spec)
    with pytest.raises(TightboundError, match="did you mean 'digits'"):
        td.read("digit", digits.spec)


def test_read_binarised() -> None:
    data = td.load("digits", S(binarize="dynamic"))
    grey = RNG.randint(0, 17, (6, 8, 8)).astype(np.uint8)
    drawn = td.read(grey, data.spec, data.settings)
    assert (
        set(drawn.x.unique().tolist()) == {0, 1}
        and "binarised once" in drawn.notices[-1]
    )
    assert torch.equal(drawn.x, td.read(grey, data.spec, data.settings).x)
    already = td.read(drawn.x, data.spec, data.settings)
    assert torch.equal(already.x, drawn.x) and not already.notices
    rows = torch.arange(5)
    assert torch.equal(
        td.read("digits", data.spec, data.settings).batch(rows), data.test.batch(rows)
    )


def test_read_images(tmp_path: Path) -> None:
    for folder, n, h, w in (("a", 5, 20, 20), ("b", 3, 50, 70)):
        (tmp_path / folder).mkdir()
        for i in range(n):
            Image.fromarray(RNG.randint(0, 256, (h, w, 3)).astype(np.uint8)).save(
                tmp_path / folder / f"{i}.png"
            )
    data = td.load(tmp_path / "a")
    new = td.read(tmp_path / "b", data.spec, data.settings)
    assert new.batch(torch.arange(3)).shape == (3, 3, 20, 20) and list(
        new.names or []
    ) == ["0.png", "1.png", "2.png"]
    assert "resized" in new.notices[0]
    one = td.read_one(str(tmp_path / "b" / "1.png"), data.spec, data.settings)
    assert torch.equal(one.raw(torch.tensor([0])), new.raw(torch.tensor([1])))
    assert len(td.read_one(f"{tmp_path / 'b'}:2", data.spec, data.settings)) == 1


def test_settings_can_be_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, tightbound.data as d; d.DataSettings(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["valid", "test"])
@pytest.mark.parametrize(
    "given",
    [np.zeros((0, 4)), [], (np.zeros((0, 4)), np.zeros(0)), torch.zeros(0, 4)],
    ids=["array", "list", "with labels", "tensor"],
)
def test_a_split_without_examples_is_refused_by_its_name(
    name: str, given: object
) -> None:
    x = np.random.RandomState(0).rand(60, 4)
    with pytest.raises(TightboundError, match=f"{name}= holds no examples: pass some"):
        td.load(x, **{name: given})  # type: ignore[arg-type]
    if not isinstance(given, list):
        with pytest.raises(TightboundError, match=r"the (array|tensor) is empty"):
            td.load(given[0] if isinstance(given, tuple) else given)


@pytest.mark.parametrize("other", [None, 3, "a.png", np.zeros((8, 8, 3))])
def test_a_list_of_images_does_not_end_at_what_is_none(other: object) -> None:
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(6)]
    with pytest.raises(TightboundError, match=r"item 4 .* make all items images"):
        td.load([*images[:4], other, *images[4:]])
    with pytest.raises(TightboundError, match="6 images but not as many labels"):
        td.load((images, [0, 1]))
