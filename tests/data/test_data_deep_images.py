"""Images of 16 bits: their grey levels, in folders and in other sources."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tightbound.data as td
from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.data.images.decode import header_of, pixels
from tightbound.data.images.grey_levels import GreyScale
from tightbound.data.images.items import Items
from tightbound.runtime.errors import TightboundError

S = td.DataSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def greys(i: int = 0, low: int = 200, high: int = 3000) -> np.ndarray:
    """A ramp of grey values (32, 32), of which the last is `high`."""
    values = np.linspace(low, high, 1024).reshape(32, 32) - i
    values[-1, -1] = high
    return values.astype(np.uint16)


def folder(path: Path, end: str = "tif", n: int = 8, **span: int) -> Path:
    path.mkdir(parents=True)
    for i in range(n):
        Image.fromarray(greys(i, **span)).save(path / f"{i}.{end}")
    return path


def rows_of(split: td.Split) -> np.ndarray:
    return split.raw(torch.arange(len(split))).numpy()


def stored(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def deep_png(array: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel (H, W, C), which Pillow cannot write."""
    height, width, channels = array.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    colour = {2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("end", ["tif", "png"])
def test_twelve_bits_are_scaled_by_the_range_in_use(tmp_path: Path, end: str) -> None:
    data = td.load(folder(tmp_path / "x", end))
    levels = np.unique(np.stack([greys(i) for i in range(8)]))
    after = np.unique(np.floor(levels.astype(float) * 255 / 3000 + 0.5))
    assert isinstance(data.train, td.Split) and data.spec.levels == 256
    names = data.train.names or []
    i = int(Path(names[0]).stem)
    expected = np.floor(greys(i).astype(float) * 255 / 3000 + 0.5)
    assert np.array_equal(rows_of(data.train)[0, 0], expected)
    said = " ".join(data.notices)
    assert f"their {len(levels):,} levels become {len(after):,}" in said
    assert "8 images of 16 bits" in said and "data.bits=16" in said
    assert (data.settings.bits, data.settings.white_level) == (8, 3000)
    again = td.load(tmp_path / "x", data.settings)
    assert again.digest == data.digest and again.notices == data.notices


def test_later_images_are_read_by_the_scale_of_training(tmp_path: Path) -> None:
    data = td.load(folder(tmp_path / "x"))
    dark = folder(tmp_path / "dark", high=1500)
    split = td.read(dark, data.spec, data.settings)
    assert int(rows_of(split).max()) == 128  # 1500 / 3000 of 255, rounded
    bright = folder(tmp_path / "bright", n=3, high=4000)
    split = td.read(bright, data.spec, data.settings)
    assert int(rows_of(split).max()) == 255
    assert any(
        "3 of 3 images of 16 bits have grey values above data.white_level=3000, up to 4,000"
        in notice
        for notice in split.notices
    )
    own = td.load(tmp_path / "x", test=dark)
    assert int(rows_of(own.test).max()) == 128


def test_images_of_published_test_splits_do_not_decide_the_scale(
    tmp_path: Path,
) -> None:
    folder(tmp_path / "x" / "train")
    folder(tmp_path / "x" / "test", high=60000)
    data = td.load(tmp_path / "x")
    assert data.settings.white_level == 3000
    assert any("8 of 16 images" in notice for notice in data.notices)


def test_all_grey_values_are_kept_with_16_bits(tmp_path: Path) -> None:
    data = td.load(folder(tmp_path / "x", "png"), S(bits=16))
    assert isinstance(data.train, td.Split)
    assert (data.spec.domain, data.spec.levels) == ("levels", 4096)
    i = int(Path((data.train.names or [])[0]).stem)
    assert np.array_equal(rows_of(data.train)[0, 0], greys(i))
    assert (data.settings.bits, data.settings.white_level) == (16, 4095)
    assert td.load(tmp_path / "x", data.settings).digest == data.digest
    assert td.load(tmp_path / "x").digest != data.digest
    # images of 8 bits: their 255 is white
    (tmp_path / "y").mkdir()
    ramp = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "y" / "0.png")
    split = td.read(tmp_path / "y", data.spec, data.settings)
    expected = np.floor(ramp.astype(float) * 4095 / 255 + 0.5)
    assert np.array_equal(rows_of(split)[0, 0], expected)
    with pytest.raises(TightboundError, match="holds 4099, but domain 'levels'"):
        td.read(folder(tmp_path / "z", high=5000), data.spec, data.settings)
    eight = td.load(folder(tmp_path / "8", high=255, low=0), S(bits=8))
    assert eight.spec.levels == 256


def test_small_values_in_files_of_16_bits_stay(tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    mask = (np.arange(1024).reshape(32, 32) % 5).astype(np.uint16)
    for i in range(4):
        Image.fromarray(mask).save(root / f"{i}.tif")
    data = td.load(root)
    assert np.array_equal(rows_of(data.train)[0, 0], mask)
    assert data.settings.white_level == 255
    assert any("are kept (5 levels)" in notice for notice in data.notices)


def test_full_range_and_8_bits_are_read_as_before(tmp_path: Path) -> None:
    full = np.linspace(0, 65535, 1024).reshape(32, 32).astype(np.uint16)
    full[-1, -1] = 65535
    root = tmp_path / "x"
    root.mkdir()
    for i in range(4):
        Image.fromarray(full).save(root / f"{i}.tif")
    data = td.load(root)
    expected = (full.astype(np.int64) + 128) // 257
    assert np.array_equal(rows_of(data.train)[0, 0], expected)
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(root / "8.png")
    mixed = td.load(root)
    values = np.concatenate([rows_of(s) for s in mixed.splits.values()])  # type: ignore[arg-type]
    assert sum((row == 7).all() for row in values) == 1


@pytest.mark.parametrize("order", ["<u2", ">u2", "<i4"])
def test_modes_of_16_bits(order: str) -> None:
    values = greys()
    mode = {"<u2": "I;16", ">u2": "I;16B", "<i4": "I"}[order]
    image = Image.frombytes(mode, (32, 32), values.astype(order).tobytes())
    read = Image.open(io.BytesIO(stored(image, "TIFF")))
    assert read.mode == mode and header_of(read).deep
    assert np.array_equal(pixels(read, None, None, GreyScale(4095, 16))[0], values)
    scaled = pixels(read, None, None, GreyScale(3000))
    assert np.array_equal(scaled[0], np.floor(values * (255 / 3000) + 0.5))
    halved = pixels(read, (16, 16), 1, GreyScale(4095, 16))[0]
    mean = values.reshape(16, 2, 16, 2).mean((1, 3))
    assert np.abs(halved - mean)[1:-1, 1:-1].max() < 60
    assert halved.min() >= values.min() and halved.max() <= values.max()
    assert pixels(read, None, 3, GreyScale(3000)).shape == (3, 32, 32)


@pytest.mark.parametrize("values", [np.float32(0.5), np.int32(70000), np.int32(-1)])
def test_other_numbers_are_refused(tmp_path: Path, values: Any) -> None:
    root = folder(tmp_path / "x", n=3)
    Image.fromarray(np.full((32, 32), values)).save(root / "odd.tif")
    with pytest.raises(TightboundError, match=r"odd\.tif .*\.npy array"):
        td.load(root)
    assert len(td.load(root, S(skip_bad=True)).train) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_are_told(tmp_path: Path, channels: int) -> None:
    root = tmp_path / "x"
    root.mkdir()
    array = np.full((8, 8, channels), 0x8034, np.uint16)
    array[..., channels - 1] = 0xFFFF
    for i in range(3):
        (root / f"{i}.png").write_bytes(deep_png(array))
    data = td.load(root)
    assert rows_of(data.train)[0, 0, 0, 0] == 0x80
    assert any("colours of 16 bits are read by" in notice for notice in data.notices)


def test_dark_colours_of_16_bits_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    for i in range(3):
        dim = np.random.RandomState(i).randint(0, 3000, (8, 8, 3))
        (root / f"{i}.png").write_bytes(deep_png(dim.astype(np.uint16)))
    with pytest.raises(
        TightboundError, match=r"16 bits .* 12 levels .* up to 11 .*\.npy"
    ):
        td.load(root)


@pytest.mark.parametrize("is_decoded", [False, True])
@pytest.mark.parametrize("most", [3000, 65536])
def test_colours_of_16_bits_in_a_list_are_told_or_refused(
    tmp_path: Path, is_decoded: bool, most: int
) -> None:
    images = []
    for i in range(8):
        values = np.random.RandomState(i).randint(0, most, (8, 8, 3))
        (tmp_path / f"{i}.png").write_bytes(deep_png(values.astype(np.uint16)))
        images.append(Image.open(tmp_path / f"{i}.png"))
        if is_decoded:
            images[-1].load()
    match = r"16 bits .* 12 levels .* up to 11"
    if most == 3000:
        with pytest.raises(TightboundError, match=match):
            td.load(images)
    else:
        notices = td.load(images).notices
        assert any("colours of 16 bits are read by" in notice for notice in notices)
    for image in images:
        image.close()


def test_settings_of_images_are_refused_for_arrays() -> None:
    for settings in (S(bits=16), S(white_level=4095)):
        with pytest.raises(TightboundError, match="is for image files"):
            td.load(np.zeros((9, 8, 8)), settings)


def test_lists_of_images_are_read_by_the_same_rules() -> None:
    images = [Image.fromarray(greys(i)) for i in range(8)]
    data = td.load(images)
    assert isinstance(data.train, td.Split) and data.spec.levels == 256
    assert any("levels become" in notice for notice in data.notices)
    assert len(np.unique(rows_of(data.train))) > 200
    kept = td.load(images, S(bits=16))
    assert kept.spec.levels == 4096 and int(rows_of(kept.train).max()) == 3000
    mixed = [*images, Image.fromarray(np.full((32, 32), 255, np.uint8))]
    white = td.load(mixed, S(bits=16, split_seed=0))
    assert max(int(rows_of(s).max()) for s in white.splits.values()) == 4095
    small = td.load([im.resize((32, 70)) for im in images], S(bits=16))
    assert small.spec.shape == (1, 64, 64) and small.spec.levels == 4096


def test_columns_and_streams_of_images() -> None:
    def items(settings: td.DataSettings, count: int | None) -> tuple[Items, list[str]]:
        notices: list[str] = []
        return Items(files, "the column", settings, notices, count), notices

    files = [stored(Image.fromarray(greys(i)), "PNG") for i in range(4)]
    complete, notices = items(S(), 4)
    rows, _ = complete(files, range(4))
    assert rows.dtype == torch.uint8 and int(rows.max()) == 255
    assert "levels become" in notices[-1]
    # more images may come: the scale of a 12-bit camera
    stream, _ = items(S(), None)
    rows, _ = stream(files, range(4))
    assert stream.resolved["white_level"] == 4095
    assert int(rows.max()) == 187  # 3000 / 4095 of 255, rounded
    bright = stored(Image.fromarray(greys(high=5000)), "PNG")
    with pytest.raises(TightboundError, match="reach 5,000, above the white level"):
        stream([bright], [7])
    given, notices = items(S(white_level=3000), 5)
    assert "grey values above data.white_level=3000 are read as 255" in notices[-1]
    rows, _ = given([bright], [4])
    expected = np.minimum(np.floor(greys(high=5000) * (255 / 3000) + 0.5), 255)
    assert np.array_equal(rows[0, 0].numpy(), expected)
    assert (expected == 255).any()
    kept, _ = items(S(bits=16), None)
    rows, _ = kept(files, range(4))
    assert rows.dtype == torch.int32
    assert np.array_equal(rows[1, 0].numpy(), greys(1))


def test_brighter_images_are_read_alike_from_a_folder_and_from_parquet(
    tmp_path: Path,
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = td.load(folder(tmp_path / "a"))
    new = folder(tmp_path / "b", high=5000, end="png")
    files = [file.read_bytes() for file in sorted(new.iterdir())]
    parquet.write_table(pa.table({"image": files}), path := tmp_path / "b.parquet")
    one = td.read(new, data.spec, data.settings)
    two = td.read(path, data.spec, data.settings)
    assert np.array_equal(rows_of(one), rows_of(two))
    assert rows_of(one).max() == 255
    for split in (one, two):
        assert any("read as 255" in notice for notice in split.notices)


def test_arrays_of_16_bits_keep_their_levels() -> None:
    x = np.stack([greys(i) for i in range(8)])
    data = td.load(x)
    assert isinstance(data.train, td.Split) and data.spec.domain == "real"
    assert any("data.levels=4096 if they are grey levels" in n for n in data.notices)
    assert int(rows_of(data.train).max()) == 3000
    levels = td.load(x, S(levels=4096))
    assert (levels.spec.domain, levels.spec.levels) == ("levels", 4096)


@pytest.mark.parametrize("levels", [4096, 65536])
def test_likelihoods_of_many_levels(levels: int) -> None:
    shape = (1, 4, 4)
    spec = td.load(np.arange(160).reshape(10, 4, 4), S(levels=levels)).spec
    assert spec.shape == shape
    likelihood = LIKELIHOODS["discretized-logistic"](spec)
    assert likelihood.params <= 2


def test_a_model_of_images_reads_a_built_in_set(tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    for i in range(4):
        Image.fromarray(greys(i)[:8, :8]).save(root / f"{i}.png")
    for settings in (S(), S(bits=16)):
        data = td.load(root, settings)
        digits = td.read("digits", data.spec, data.settings)
        assert tuple(digits.x.shape[1:]) == (1, 8, 8)
