"""Bits a value and speed of compressed examples: a trained model beside general compressors.

    python benchmarks/compress.py DATA [--run RUN] [--limit N] [--only gzip tightbound]
    python benchmarks/compress.py mnist --run runs/mnist-binary
    python benchmarks/compress.py photographs.zip --limit 2000

The values are those that RUN reads (so binarised ones where it binarises), else those of the test
split of DATA. Sizes are bits for each value, speeds examples for each second of processor time on
one thread, in and out, everything included; each result is compared with the input. Compressors of
bytes read the raw values one example after another, and of binary values also packed bits. Image
formats are tried as one file for each image and as one mosaic of all. What is not installed is "not
run": JPEG XL needs pillow-jxl-plugin or imagecodecs.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import importlib.util
import io
import lzma
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image

import tightbound as tb
from tightbound import compression
from tightbound import data as data_room
from tightbound.data import Split
from tightbound.runs.inputs import read_split

Pack = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Result:
    """Bits for each value, and examples a second in and out."""

    name: str
    bits: float
    pack_speed: float
    unpack_speed: float


def line(cells: list[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """The result of some work, and its seconds of processor time."""
    start = time.process_time()
    result = work()
    return result, max(time.process_time() - start, 1e-9)


def measured(
    name: str,
    content: np.ndarray,
    pack: Callable[[np.ndarray], list[bytes]],
    unpack: Callable[[list[bytes]], np.ndarray],
) -> Result:
    """The size of arrays as bytes; raises ValueError where they do not come back."""
    files, seconds_in = timed(lambda: pack(content))
    assert isinstance(files, list)
    again, seconds_out = timed(lambda: unpack(files))
    assert isinstance(again, np.ndarray)
    if not np.array_equal(again, content):
        raise ValueError(f"{name} does not give its input back")
    bits = 8 * sum(len(file) for file in files) / content.size
    return Result(name, bits, len(content) / seconds_in, len(content) / seconds_out)


# ---- compressors of bytes


def of_bytes() -> dict[str, tuple[Pack, Pack]]:
    """Compressors of bytes by name."""
    known: dict[str, tuple[Pack, Pack]] = {
        "gzip": (lambda data: gzip.compress(data, 9), gzip.decompress),
        "bz2": (lambda data: bz2.compress(data, 9), bz2.decompress),
        "xz": (
            lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
            lzma.decompress,
        ),
    }
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow

        codec = pyarrow.Codec("zstd", compression_level=19)

        def pack(data: bytes) -> bytes:
            return len(data).to_bytes(8, "little") + codec.compress(data, asbytes=True)

        def unpack(data: bytes) -> bytes:
            size = int.from_bytes(data[:8], "little")
            return codec.decompress(data[8:], size, asbytes=True)

        known["zstd-19"] = (pack, unpack)
    return known


def byte_results(x: np.ndarray, name: str, pack: Pack, unpack: Pack) -> list[Result]:
    """Raw values, and of binary values packed bits."""

    def back(files: list[bytes]) -> np.ndarray:
        return np.frombuffer(unpack(files[0]), x.dtype).reshape(x.shape)

    results = [measured(name, x, lambda x: [pack(x.tobytes())], back)]
    if not is_binary(x):
        return results

    def bits_back(files: list[bytes]) -> np.ndarray:
        bits = np.frombuffer(unpack(files[0]), np.uint8)
        return np.unpackbits(bits, count=x.size).reshape(x.shape).astype(x.dtype)

    packed = measured(
        f"{name} of packed bits",
        x,
        lambda x: [pack(np.packbits(x).tobytes())],
        bits_back,
    )
    return [*results, packed]


def is_binary(x: np.ndarray) -> bool:
    return x.dtype == np.uint8 and int(x.max(initial=0)) <= 1


# ---- image formats


def as_images(x: np.ndarray) -> np.ndarray | None:
    """Images (n, H, W) or (n, H, W, 3) of bytes; None for other data."""
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        return None
    if x.ndim == 4 and x.shape[-1] not in (1, 3) and x.shape[1] in (1, 3):
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim == 4 and x.shape[-1] != 3:
        return None
    return x


def mosaic(images: np.ndarray) -> np.ndarray:
    """All images in one, (1, rows * H, columns * W, ...), blank at the end."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]), np.uint8)
    grid = np.concatenate([images, blank])
    grid = grid.reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
    height, width = images.shape[1:3]
    return grid.reshape(1, rows * height, columns * width, *images.shape[3:])


def cut_out(whole: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The images of a mosaic."""
    height, width = images.shape[1:3]
    rows, columns = whole.shape[1] // height, whole.shape[2] // width
    grid = whole[0].reshape(rows, height, columns, width, *images.shape[3:])
    return grid.swapaxes(1, 2).reshape(-1, *images.shape[1:])[: len(images)]


def saved(image: np.ndarray, kind: str, binary: bool) -> bytes:
    """An image as a file of a format without loss."""
    file = io.BytesIO()
    picture = Image.fromarray(255 * image if binary else image)
    if kind == "PNG" and binary:
        picture = picture.convert("1", dither=Image.Dither.NONE)
    options = {"PNG": {"optimize": True}, "WEBP": {"lossless": True, "quality": 100}}
    picture.save(file, kind, **options.get(kind, {"lossless": True}))
    return file.getvalue()


def opened(data: bytes, like: np.ndarray, binary: bool) -> np.ndarray:
    """The image of a file."""
    mode = "RGB" if like.ndim == 3 else "L"
    image = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
    return image // 255 if binary else image


def formats() -> dict[str, str | None]:
    """Image formats by name, with the name that pillow has for them, or None."""
    known: dict[str, str | None] = {"PNG": "PNG", "WebP": "WEBP", "JPEG XL": None}
    if importlib.util.find_spec("pillow_jxl") is not None:
        importlib.import_module("pillow_jxl")
        known["JPEG XL"] = "JXL"
    return known


def image_results(x: np.ndarray, name: str, kind: str) -> list[Result]:
    """One file for each image, and one mosaic."""
    images = as_images(x)
    if images is None:
        return []
    binary = is_binary(x)
    tall = mosaic(images)

    def single(files: list[bytes]) -> np.ndarray:
        return np.stack([opened(file, images[0], binary) for file in files])

    def whole(files: list[bytes]) -> np.ndarray:
        return cut_out(opened(files[0], images[0], binary)[None], images)

    results = [
        measured(
            f"{name}, single files",
            images,
            lambda images: [saved(image, kind, binary) for image in images],
            single,
        )
    ]
    if max(tall.shape[1:3]) < 16_384:  # the largest WebP
        results.append(
            measured(
                f"{name}, one mosaic",
                images,
                lambda images: [saved(tall[0], kind, binary)],
                whole,
            )
        )
    return results


# ---- a trained model


def model_results(
    run: tb.Run, split: Split, precision: dict[str, float]
) -> list[Result]:
    """The run's own file; `compress` decodes it once more to be sure."""
    rows = torch.arange(len(split))
    split.raw(rows)
    packed, seconds_in = timed(
        lambda: compression.compress_run(run, split, precision=precision)
    )
    assert isinstance(packed, compression.Compressed)
    again, seconds_out = timed(lambda: compression.decompress(packed.data, run))
    assert isinstance(again, compression.Decoded)
    if not torch.equal(again.x, split.raw(rows)):
        raise ValueError("the model does not give its input back")
    values = split.raw(rows[:1]).numel()
    bits = packed.bits / (len(split) * values)
    n = len(split)
    _, seconds_unchecked = timed(
        lambda: compression.compress_run(run, split, precision=precision, check=False)
    )
    name = f"tightbound, {run.name}"
    return [
        Result(name, bits, n / seconds_in, n / seconds_out),
        Result(f"{name}, not checked", bits, n / seconds_unchecked, n / seconds_out),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--precision", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = None
    if options.run is None:
        split = data_room.load(options.data).test
    else:
        run = tb.load(options.run)
        split = read_split(options.data, run.spec, run.config.data)
    if options.limit is not None:
        split = split.select(split.spread(min(options.limit, len(split))))
    x = split.raw(torch.arange(len(split))).numpy()
    print(f"{len(x)} examples of {x[0].size} values, {x.dtype}\n")
    print(line(["", "bits a value", "examples/s in", "examples/s out"]))
    print("|---" * 4 + "|")

    def show(name: str, results: Callable[[], list[Result]]) -> None:
        if options.only and not any(name.startswith(word) for word in options.only):
            return
        for result in results():
            speeds = (f"{result.pack_speed:,.0f}", f"{result.unpack_speed:,.0f}")
            print(line([result.name, f"{result.bits:.4f}", *speeds]), flush=True)

    for name, pair in of_bytes().items():
        show(name, lambda name=name, pair=pair: byte_results(x, name, *pair))
    for name, kind in formats().items():
        if kind is None:
            print(line([name, "not run", "", ""]))
        else:
            show(name, lambda name=name, kind=kind: image_results(x, name, kind))
    if run is not None:
        steps = dict(pair.split("=") for pair in options.precision)
        precision = {column: float(step) for column, step in steps.items()}
        show("tightbound", lambda: model_results(run, split, precision))


if __name__ == "__main__":
    main()
