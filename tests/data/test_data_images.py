"""Folders and zips of images: kinds, sizes, labels, splits, the cache, errors."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tightbound.data as td
from tightbound.data.images.decode import pixels
from tightbound.runtime.errors import TightboundError

RNG = np.random.RandomState(0)
S = td.DataSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(height: int = 12, width: int = 10, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(
        RNG.randint(0, 256, shape).astype(np.uint8),
        mode=None if mode != "RGBA" else "RGBA",
    )


def fill(root: Path, names: list[str], **size: Any) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(**size).save(root / name)
    return root


def test_plain_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(12)])
    data = td.load(root)
    assert (
        data.spec.shape == (3, 12, 10)
        and data.spec.levels == 256
        and data.spec.layout == "chw"
    )
    assert (
        data.train.y is None and data.notices == () and data.settings.size == (12, 10)
    )
    assert data.train.names is not None and len(data.train.names) == len(data.train)
    row = torch.tensor([3])
    name = data.train.names[3]
    assert np.array_equal(
        data.train.raw(row)[0].permute(1, 2, 0).numpy(),
        np.asarray(Image.open(root / name)),
    )
    assert td.load(str(root), data.settings).digest == data.digest


def test_labels_and_splits(tmp_path: Path) -> None:
    names = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(8)]
    labelled = td.load(fill(tmp_path / "a", names))
    assert labelled.label_names == ("cat", "dog")
    assert labelled.train.names is not None and labelled.train.y is not None
    for name, y in zip(labelled.train.names, labelled.train.y.tolist(), strict=True):
        assert name.startswith(("cat", "dog")[y])
    split = [
        f"{s}/{kind}/{i}.png"
        for s in ("train", "val", "Test")
        for kind in ("cat", "dog")
        for i in range(4)
    ]
    published = td.load(fill(tmp_path / "b", split))
    assert [len(s) for s in published.splits.values()] == [8, 8, 8]
    assert all(n.startswith("Test") for n in published.test.names or [""])
    assert published.label_names == ("cat", "dog") and published.valid.y is not None
    small = td.load(tmp_path / "b", S(limit=4))
    assert (
        set(small.train.y.tolist()) == {0, 1} and "sorted by label" in small.notices[-1]
    )
    only = td.load(fill(tmp_path / "c", [f"train/{i}.png" for i in range(10)]))
    assert [len(s) for s in only.splits.values()] == [8, 1, 1]
    odd = fill(tmp_path / "d", [*split, "extra/1.png"])
    for settings in (S(), S(skip_bad=True)):
        with pytest.raises(
            TightboundError, match="'extra' lies beside the folders Test"
        ):
            td.load(odd, settings)
    mixed = td.load(
        fill(tmp_path / "e", ["a/1.png", "b/1.png", "b/2.png", "3.png", "4.png"])
    )
    assert mixed.label_names == ("a", "b")
    assert sorted(torch.cat([s.y for s in mixed.splits.values()]).tolist()) == [
        -1,
        -1,
        0,
        1,
        1,
    ]


def test_splits_inside_labels(tmp_path: Path) -> None:
    names = [
        f"{label}/{split}/{i}.png"
        for label in ("cat", "dog")
        for split in ("train", "test")
        for i in range(4)
    ]
    data = td.load(str(fill(tmp_path / "x", names)))
    assert data.test.names is not None and all("/test/" in n for n in data.test.names)
    assert [len(s) for s in data.splits.values()] == [7, 1, 8]
    assert data.label_names == ("cat", "dog")
    assert data.test.y is not None and data.test.y.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(
        TightboundError, match=r"cat/test is named as a split.*test/cat"
    ):
        td.load(fill(tmp_path / "x", ["bird/0.png"]))
    published = td.load(
        str(
            fill(
                tmp_path / "y", ["train/cat/0.png", "train/dog/1.png", "test/cat/2.png"]
            )
        )
    )
    assert not any("not read as splits" in line for line in published.notices)


def test_a_run_reads_its_images_without_decoding_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(fill(tmp_path / "x", [f"{i}.png" for i in range(6)]))
    first = td.load(folder)

    def not_again(*args: object) -> None:
        raise AssertionError("the images are decoded again")

    monkeypatch.setattr(td.images.folder, "_decode_all", not_again)
    again = td.load(folder, first.settings)
    assert first.settings.size == (12, 10) and again.digest == first.digest
    assert torch.equal(
        again.train.batch(torch.arange(2)), first.train.batch(torch.arange(2))
    )  # type: ignore[union-attr]


def test_size_auto(tmp_path: Path) -> None:
    mixed = fill(tmp_path / "m", ["1.png", "2.png", "3.png"])
    picture(90, 40).save(mixed / "4.jpg")
    data = td.load(mixed)
    assert data.spec.shape == (3, 64, 64)
    assert (
        "64x64" in data.notices[0]
        and "--set data.size=" in data.notices[0]
        and len(data.notices) == 1
    )
    large = td.load(
        fill(tmp_path / "l", [f"{i}.png" for i in range(4)], height=65, width=20)
    )
    assert large.spec.shape == (3, 64, 64)
    small = td.load(tmp_path / "l", S(size=16, channels=1))
    assert small.spec.shape == (1, 16, 16) and "greyscale" in " ".join(small.notices)
    assert td.load(tmp_path / "l", S(size=(20, 30))).spec.shape == (3, 20, 30)
    one = td.load(
        fill(tmp_path / "o", [f"{i}.png" for i in range(4)], height=1, width=1)
    )
    assert one.spec.shape == (3, 1, 1)


def test_crop_is_centred_and_upright() -> None:
    array = np.zeros((40, 100, 3), np.uint8)
    array[:, 30:70] = 255
    assert pixels(Image.fromarray(array), (20, 20), None).min() >= 235
    wide = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees when shown
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG", exif=exif, quality=95)
    seen = pixels(Image.open(io.BytesIO(buffer.getvalue())), None, None)
    assert (
        seen.shape == (3, 100, 40)
        and seen[:, 35:65].mean() > 245
        and seen[:, :25].mean() < 10
    )
    plain = io.BytesIO()
    smooth = Image.fromarray(
        np.linspace(0, 255, 512 * 384).reshape(384, 512).astype(np.uint8)
    )
    smooth.save(plain, "JPEG", quality=95)
    drafted = pixels(Image.open(io.BytesIO(plain.getvalue())), (32, 32), 1).astype(int)
    exact = pixels(Image.open(io.BytesIO(plain.getvalue())).copy(), (32, 32), 1).astype(
        int
    )
    assert abs(drafted - exact).max() <= 3


def test_exif_size_counts_for_auto(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    (tmp_path / "p").mkdir()
    for i in range(3):
        picture(10, 20).save(tmp_path / "p" / f"{i}.jpg", exif=exif)
    assert td.load(tmp_path / "p").spec.shape == (3, 20, 10)


def test_kinds_of_image() -> None:
    def through(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return Image.open(io.BytesIO(buffer.getvalue()))

    grey = picture(mode="L")
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        got = pixels(through(grey, kind), None, None)
        assert got.shape == (1, 12, 10) and np.array_equal(got[0], np.asarray(grey)), (
            kind
        )
    levels = np.arange(0, 65536, 546, dtype=np.uint16)[:120].reshape(12, 10)
    for kind in ("PNG", "TIFF"):
        deep = pixels(through(Image.fromarray(levels), kind), None, None)
        assert np.array_equal(deep[0], np.round(levels / 257).astype(np.uint8)), kind
    clear = np.zeros((12, 10, 4), np.uint8)
    clear[:6] = (10, 20, 30, 255)
    white = pixels(through(Image.fromarray(clear, "RGBA")), None, None)
    assert (
        white.shape == (3, 12, 10)
        and (white[:, 6:] == 255).all()
        and white[:, 0, 0].tolist() == [10, 20, 30]
    )
    palette = picture().quantize(16)
    assert np.array_equal(
        pixels(through(palette), None, None),
        np.asarray(palette.convert("RGB")).transpose(2, 0, 1),
    )
    assert pixels(through(palette, transparency=0), None, None).shape[0] == 3
    bilevel = grey.convert("1")
    assert set(np.unique(pixels(through(bilevel), None, None))) <= {0, 255}
    assert pixels(through(picture(mode="L").convert("LA")), None, None).shape[0] == 1
    assert pixels(through(picture().convert("CMYK"), "TIFF"), None, None).shape[0] == 3
    assert pixels(through(picture(), "WEBP", lossless=True), None, None).shape[0] == 3
    with pytest.raises(ValueError, match="floating-point"):
        pixels(Image.fromarray(np.zeros((3, 3), np.float32)), None, None)


def test_channels_auto_and_announcements(tmp_path: Path) -> None:
    root = tmp_path / "g"
    root.mkdir()
    for i in range(4):
        picture(mode="L").save(root / f"{i}.png")
    assert td.load(root).spec.shape[0] == 1
    assert td.load(root, S(channels=3)).spec.shape[0] == 3
    picture(mode="RGBA").save(root / "5.png")
    Image.fromarray(RNG.randint(0, 65536, (12, 10)).astype(np.uint16)).save(
        root / "6.png"
    )
    picture(mode="L").save(
        root / "7.gif", save_all=True, append_images=[picture(mode="L")]
    )
    data = td.load(root)
    said = " ".join(data.notices)
    assert (
        data.spec.shape[0] == 3
        and "white" in said
        and "16 bits" in said
        and "first frame" in said
    )
    assert td.load(root).notices == data.notices, "a cache hit announces the same"


def test_zip_is_read_in_place(tmp_path: Path) -> None:
    root = fill(
        tmp_path / "z", [f"{kind}/{i}.png" for kind in ("a", "b") for i in range(5)]
    )
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, "wrapper" / path.relative_to(root))
        archive.writestr("__MACOSX/wrapper/._1.png", b"junk")
        archive.writestr("wrapper/.DS_Store", b"junk")
    folder, packed = td.load(root), td.load(tmp_path / "z.zip")
    assert packed.label_names == ("a", "b") and torch.equal(
        packed.train.x, folder.train.x
    )
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for i in range(4):
            archive.write(root / "a" / f"{i}.png", f"../../evil{i}.png")
    td.load(tmp_path / "evil.zip")
    assert not list(tmp_path.parent.glob("evil*.png")) and not list(
        tmp_path.glob("*.png")
    )
    whole = (tmp_path / "z.zip").read_bytes()
    (tmp_path / "z.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TightboundError, match="truncated or not a zip"):
        td.load(tmp_path / "z.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(TightboundError, match="it is empty"):
        td.load(tmp_path / "none.zip")


def test_damaged_member_of_a_zip(tmp_path: Path) -> None:
    root = fill(tmp_path / "z", [f"{i}.png" for i in range(5)])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for path in sorted(root.glob("*.png")):
            archive.write(path, path.name)
        at = archive.getinfo("2.png").header_offset + 80
    damaged = bytearray((tmp_path / "z.zip").read_bytes())
    damaged[at] ^= 0xFF
    (tmp_path / "z.zip").write_bytes(bytes(damaged))
    with pytest.raises(TightboundError, match=r"2\.png cannot be read"):
        td.load(tmp_path / "z.zip")
    assert (
        "1 file is left out: 2.png"
        in td.load(tmp_path / "z.zip", S(skip_bad=True)).notices[-1]
    )


@pytest.mark.parametrize(
    "bad", ["truncated.jpg", "truncated.png", "text.png", "photo.heic", "empty.png"]
)
def test_bad_file_is_named_or_skipped(tmp_path: Path, bad: str) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(6)])
    (root / ".DS_Store").write_bytes(b"x")
    (root / "Thumbs.db").write_bytes(b"x")
    td.load(root)
    content = {
        "text.png": b"not a picture",
        "photo.heic": b"hello",
        "empty.png": b"",
    }.get(bad)
    if content is None:
        buffer = io.BytesIO()
        picture(48, 48).save(buffer, "JPEG" if bad.endswith("jpg") else "PNG")
        content = buffer.getvalue()[:-400]
    (root / bad).write_bytes(content)
    settings = S(size=(12, 10))
    with pytest.raises(
        TightboundError, match=rf"{bad} cannot be read as an image: .*--skip-bad"
    ):
        td.load(root, settings)
    data = td.load(root, settings.model_copy(update={"skip_bad": True}))
    assert (
        sum(len(s) for s in data.splits.values()) == 6
        and f"1 file is left out: {bad}" in data.notices[-1]
    )
    with pytest.raises(TightboundError, match=bad):
        td.load(root, settings)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(4)])
    picture(40, 40).save(root / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(TightboundError, match=r"bomb\.png .*decompression bomb"):
        td.load(root)
    assert len(td.load(root, S(skip_bad=True)).train) == 2


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TightboundError, match=r"no images .it is empty"):
        td.load(tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(TightboundError, match="none of its 1 files"):
        td.load(tmp_path / "empty", S(skip_bad=True))
    (tmp_path / "empty" / "a.png").write_text("x")
    with pytest.raises(TightboundError, match="no image that can be read"):
        td.load(tmp_path / "empty", S(skip_bad=True))
    with pytest.raises(TightboundError, match="1 example: at least 3"):
        td.load(fill(tmp_path / "one", ["1.png"]))


def test_own_validation_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", [f"{kind}/{i}.png" for kind in "ab" for i in range(6)])
    other = fill(
        tmp_path / "q",
        [f"{kind}/{i}.png" for kind in "bc" for i in range(2)],
        height=70,
        width=90,
    )
    data = td.load(root, valid=other)
    assert (
        data.spec.shape == (3, 12, 10)
        and len(data.valid) == 4
        and data.label_names == ("a", "b")
    )
    assert data.valid.y is not None and data.valid.y.tolist() == [1, 1, -1, -1]


def test_linked_folders_do_not_loop(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", [f"a/{i}.png" for i in range(5)])
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    assert sum(len(s) for s in td.load(root).splits.values()) == 5


def test_binarised_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "p", [f"{i}.png" for i in range(9)])
    data = td.load(root, S(binarize="dynamic", channels=1))
    assert data.spec.domain == "binary" and set(data.valid.x.unique().tolist()) <= {
        0,
        1,
    }
    black = tmp_path / "black"
    black.mkdir()
    for i in range(5):
        Image.new("L", (8, 8)).save(black / f"{i}.png")
    assert td.load(black).spec.levels == 256, "black photographs are not binary data"


@pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA is not set"
)
def test_zip_of_photographs(tmp_path: Path) -> None:
    source = Path(os.environ["TIGHTBOUND_DATA"], "cifar10_jpeg_subset.zip")
    if not source.exists():
        pytest.skip("cifar10_jpeg_subset.zip is not in TIGHTBOUND_DATA")
    with (
        zipfile.ZipFile(source) as full,
        zipfile.ZipFile(tmp_path / "some.zip", "w") as some,
    ):
        for name in full.namelist()[::20]:
            some.writestr(name, full.read(name))
    data = td.load(tmp_path / "some.zip")
    assert (
        data.spec.shape == (3, 32, 32)
        and data.label_names is not None
        and len(data.label_names) == 10
    )
    assert [len(data.train) + len(data.valid), len(data.test)] == [500, 50]


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        ("Train/a Train/b TEST/c", (1, 1, 1)),
        ("train/a train/b valid/c", (1, 1, 1)),
        ("train/a validation/b testing/c", (1, 1, 1)),
        ("training/a dev/b val/c test/d", (1, 2, 1)),
    ],
)
def test_names_of_splits(
    tmp_path: Path, names: str, sizes: tuple[int, int, int]
) -> None:
    data = td.load(fill(tmp_path / "x", [f"{name}.png" for name in names.split()]))
    assert tuple(len(split) for split in data.splits.values()) == sizes  # type: ignore[arg-type]
    assert data.label_names is None


OTHERS = ["README.md", "labels.csv", ".DS_Store", "Thumbs.db", "docs/notes.txt"]


@pytest.mark.parametrize("skip_bad", [False, True])
def test_files_that_are_no_images_have_no_part_in_the_layout(
    tmp_path: Path, skip_bad: bool
) -> None:
    folders = [f"{split}/{c}" for split in ("train", "test") for c in "ab"]
    names = [f"{folder}/{i}.png" for folder in folders for i in range(4)]
    root = fill(tmp_path / "x", names)
    plain = td.load(root)
    assert plain.notices == ()
    for other in [*OTHERS, "train/notes.txt", "train/a/checksums", "test/index.html"]:
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_text("x")
    (root / ".cache").mkdir()
    picture().save(root / ".cache" / "0.png")
    data = td.load(root, S(skip_bad=skip_bad))
    assert data.label_names == ("a", "b") and data.digest == plain.digest
    assert data.test.names is not None
    assert all(name.startswith("test/") for name in data.test.names)
    assert [len(s) for s in data.splits.values()] == [7, 1, 8]
    ignored = [line for line in data.notices if "ignored" in line]
    assert len(ignored) == 1
    assert ignored[0].startswith("9 files are ignored") and "README.md" in ignored[0]


def test_classes_of_folders(tmp_path: Path) -> None:
    vehicles = [f"{c}/{i}.png" for c in ("bus", "car", "train") for i in range(3)]
    data = td.load(fill(tmp_path / "v", vehicles))
    assert data.label_names == ("bus", "car", "train")
    assert any("'train' is read as a class" in line for line in data.notices)
    for extra in ("train/fast/9.png", "5.png", "test/1.png"):
        with pytest.raises(TightboundError, match="lies beside the folder"):
            td.load(fill(tmp_path / extra[:3], [*vehicles, extra]))
    nested = [
        f"train/cat/{kind}/{i}.png" for kind in ("old", "young") for i in range(3)
    ]
    nested += ["train/dog/0.png", "test/cat/1.png", "test/owl/2.png"]
    data = td.load(fill(tmp_path / "n", nested))
    assert data.label_names == ("cat", "dog", "owl")
    said = " ".join(data.notices)
    assert "cat/old belongs to class 'cat'" in said
    assert "test images have classes that no training image has: 'owl'" in said
    folders = [f"{split}/images/{c}" for split in ("train", "val") for c in "ab"]
    inner = [f"{folder}/{i}.png" for folder in folders for i in range(3)]
    assert td.load(fill(tmp_path / "i", inner)).label_names == ("a", "b")


def test_a_test_split_alone_is_not_trained_on(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", [f"test/{c}/{i}.png" for c in "ab" for i in range(4)])
    with pytest.raises(TightboundError, match=r"no training examples, only .* test"):
        td.load(root)
    spec = td.load(fill(tmp_path / "y", [f"{i}.png" for i in range(4)])).spec
    assert len(td.read(root, spec)) == 8
    # a folder that is named by the user may have any name
    assert len(td.load(root / "test").train) == 6  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "x", [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    for settings in (S(), S(skip_bad=True)):
        with pytest.raises(TightboundError, match=r"x/b cannot be listed \(Permission"):
            td.load(root, settings)


@pytest.mark.parametrize("name", ["c", "a/9.png", "self"])
def test_links_to_nothing_are_refused(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path / "x", [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    target = root / "self" if name == "self" else tmp_path / "gone"
    (root / name).symlink_to(target)
    with pytest.raises(TightboundError, match=f"{name} cannot be read .* a link to"):
        td.load(root)
    assert any(
        f"left out: {name}" in n for n in td.load(root, S(skip_bad=True)).notices
    )


def test_a_folder_is_not_read_twice(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", [f"{c}/{i}.png" for c in "ab" for i in range(4)])
    (root / "c").symlink_to(root / "a", target_is_directory=True)
    with pytest.raises(TightboundError, match=r"c cannot be read .* same folder as a"):
        td.load(root)
    outside = fill(tmp_path / "y", [f"{i}.png" for i in range(4)])
    (root / "c").unlink()
    (root / "c").symlink_to(outside, target_is_directory=True)
    assert td.load(root).label_names == ("a", "b", "c")
