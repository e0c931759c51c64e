"""Bits a value and speed of compressed examples: trained models beside general compressors.

    python benchmarks/compress.py --out runs/compress [--sets binary grey] [--budget 30min]
    python benchmarks/compress.py --out runs/compress --sets binary --run runs/mnist-30min
    python benchmarks/compress.py --out runs/compress --show

Sets: binary (MNIST, dynamically binarised), grey (MNIST), fashion (Fashion-MNIST), photographs
(cifar10_jpeg_subset.zip of TIGHTBOUND_DATA) and table (20,000 made rows of mixed columns), each its
test split. A model is trained to OUT/SET within `--budget`, or `--run` names one. What is done
already is not done again: a training goes on where it stopped, and each result stands in
OUT/SET.json as soon as it is there, so that the command can be stopped and given again.

Sizes are bits for each value, everything included; speeds are examples for each second of processor
time on one thread, in and out. Each result is compared with the input, bit for bit. Compressors of
bytes read the values one example after another, of binary values also packed bits, and of a table
its CSV and its columns of float64. Image formats are tried as one file for each image and as one
mosaic of all. What is not installed is "not run": JPEG XL needs pillow-jxl-plugin, which
`make bench-env` installs.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import importlib.util
import io
import json
import lzma
import math
import os
import platform
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas
import torch
from PIL import Image

import tightbound as tb
from tightbound import compression
from tightbound.compression.compress import fingerprint
from tightbound.data import Split, frame

Pack = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Result:
    """Bits for each value, and examples a second in and out.

    Args:
        elbo: Of a model, what its ELBO says, in bits for each value.
        model: Of a model, its fingerprint.
    """

    name: str
    bits: float
    pack_speed: float | None = None
    unpack_speed: float | None = None
    elbo: float | None = None
    model: str = ""


@dataclass(frozen=True)
class BenchmarkSet:
    """A data set with the recipe that is trained on it."""

    data: str
    recipe: str = "vae"
    settings: dict[str, object] = field(default_factory=dict)
    precision: dict[str, float] = field(default_factory=dict)


MIXTURE: dict[str, object] = {
    "likelihood.name": "logistic-mixture",
    "likelihood.components": 3,
}
SETS = {
    "binary": BenchmarkSet("mnist", settings={"data.binarize": "dynamic"}),
    "grey": BenchmarkSet("mnist", settings=MIXTURE),
    "fashion": BenchmarkSet("fashion-mnist", settings=MIXTURE),
    "photographs": BenchmarkSet("cifar10_jpeg_subset.zip", "vdvae"),
    "table": BenchmarkSet(
        "made.csv", "mixed", precision={"height": 0.1, "income": 10.0, "paid": 0.01}
    ),
}


def made_table(n: int = 20_000) -> pandas.DataFrame:
    """Rows of mixed columns that depend on one another."""
    made = np.random.default_rng(0)
    sex = made.choice(["f", "m"], n)
    city = made.choice(list("abcdef"), n, p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    age = made.integers(18, 90, n)
    height = made.normal(166 + 13 * (sex == "m") - 0.05 * (age - 18), 6.5)
    pay = made.normal(7.4 + 0.01 * np.minimum(age, 60) + 0.3 * (city == "a"), 0.4)
    visits = made.poisson(0.05 * age + 2 * (city == "b"))
    paid = made.lognormal(2.5 + 0.2 * (city == "c"), 0.6, n) * (visits > 2)
    return pandas.DataFrame(
        {
            "sex": sex,
            "city": city,
            "age": age,
            "height": height.round(1),
            "income": np.exp(pay).round(-1) + 10.0,
            "visits": visits,
            "paid": paid.round(2),
            "member": made.random(n) < 0.2 + 0.5 * (age > 50),
        }
    )


def source_of(task: BenchmarkSet, out: Path) -> str:
    """The data of a set: a built-in name, a file of TIGHTBOUND_DATA, or the made table."""
    if task.data == "made.csv":
        path = out / "made.csv"
        if not path.exists():
            made_table().to_csv(path, index=False)
        return str(path)
    if task.data.endswith(".zip"):
        return str(Path(os.environ.get("TIGHTBOUND_DATA", ".")) / task.data)
    return task.data


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


@dataclass(frozen=True)
class Content:
    """The values of examples as bytes.

    Args:
        label: Behind the name of a compressor.
        x: Raw values, (n, ...).
        data: The bytes.
    """

    label: str
    x: np.ndarray
    data: bytes


def contents_of(x: np.ndarray, table: pandas.DataFrame | None) -> list[Content]:
    """Raw values, of binary values also packed bits; a table's text and columns."""
    if table is not None:
        text = table.to_csv(index=False).encode()
        columns = np.ascontiguousarray(x.T).tobytes()
        return [Content(" of CSV", x, text), Content(" of columns", x, columns)]
    contents = [Content("", x, x.tobytes())]
    if is_binary(x):
        contents.append(Content(" of packed bits", x, np.packbits(x).tobytes()))
    return contents


def byte_result(content: Content, name: str, pack: Pack, unpack: Pack) -> Result:
    """The size of some bytes by a compressor."""
    packed, seconds_in = timed(lambda: pack(content.data))
    assert isinstance(packed, bytes)
    again, seconds_out = timed(lambda: unpack(packed))
    if again != content.data:
        raise ValueError(f"{name} does not give its input back")
    n = len(content.x)
    bits = 8 * len(packed) / content.x.size
    return Result(f"{name}{content.label}", bits, n / seconds_in, n / seconds_out)


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


OPTIONS: dict[str, dict[str, object]] = {
    "PNG": {"optimize": True},
    "WEBP": {"lossless": True, "quality": 100, "method": 6},
    "JXL": {"lossless": True, "effort": 9},
}


def saved(image: np.ndarray, kind: str, binary: bool) -> bytes:
    """An image as a file of a format without loss."""
    file = io.BytesIO()
    picture = Image.fromarray(255 * image if binary else image)
    if kind == "PNG" and binary:
        picture = picture.convert("1", dither=Image.Dither.NONE)
    picture.save(file, kind, **OPTIONS[kind])
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


def image_results(x: np.ndarray, name: str, kind: str) -> Iterator[Result]:
    """One file for each image, and one mosaic."""
    images = as_images(x)
    if images is None:
        return
    binary = is_binary(x)
    tall = mosaic(images)

    def single(files: list[bytes]) -> np.ndarray:
        return np.stack([opened(file, images[0], binary) for file in files])

    def whole(files: list[bytes]) -> np.ndarray:
        return cut_out(opened(files[0], images[0], binary)[None], images)

    yield measured(
        f"{name}, single files",
        images,
        lambda images: [saved(image, kind, binary) for image in images],
        single,
    )
    if kind != "WEBP" or max(tall.shape[1:3]) < 16_384:
        yield measured(
            f"{name}, one mosaic",
            images,
            lambda images: [saved(tall[0], kind, binary)],
            whole,
        )


def jpeg_files(source: str, values: int) -> Result | None:
    """The size of the test files of a .zip of JPEGs, from which images were decoded."""
    if not source.endswith(".zip"):
        return None
    with zipfile.ZipFile(source) as archive:
        sizes = [
            entry.file_size
            for entry in archive.infolist()
            if entry.filename.lower().endswith((".jpg", ".jpeg"))
            and "test/" in entry.filename
        ]
    if not sizes:
        return None
    return Result("the JPEG files", 8 * sum(sizes) / (len(sizes) * values))


# ---- a trained model


def trained(
    task: BenchmarkSet, source: str, folder: Path, budget: str, run: Path | None
) -> tb.Run:
    """The run of a set: a given one, or one that is trained, or trained on where it stopped."""
    if run is not None:
        return tb.load(run)
    if (folder / "config.toml").exists():
        return tb.train(out=folder, resume=True, display="lines", report=False)
    return tb.train(
        source,
        task.recipe,
        out=folder,
        budget=budget,
        display="lines",
        report=False,
        settings=task.settings,
    )


def model_result(
    run: tb.Run, split: Split, precision: dict[str, float], k: int, check: bool
) -> Result:
    """The run's own file beside its ELBO; with `check` it is decoded before it is kept."""
    rows = torch.arange(len(split))
    split.raw(rows)
    packed, seconds_in = timed(
        lambda: compression.compress_run(run, split, precision=precision, check=check)
    )
    assert isinstance(packed, compression.Compressed)
    again, seconds_out = timed(lambda: compression.decompress(packed.data, run))
    assert isinstance(again, compression.Decoded)
    if not torch.equal(again.x, split.raw(rows)):
        raise ValueError("the model does not give its input back")
    n = len(split)
    values = n * split.raw(rows[:1]).numel()
    elbo = None
    if check:
        evaluation = tb.evaluate(run, k=k, seed=0, limit=n, diagnosis=False)
        nats = evaluation.terms["elbo"].mean
        size = compression.file_size(run, split, nats, precision=precision)
        elbo = size.elbo * n / values
    name = "tightbound" if check else "tightbound, not checked"
    bits = packed.bits / values
    return Result(
        name, bits, n / seconds_in, n / seconds_out, elbo, f"{fingerprint(run)} {n}"
    )


# ---- results that are kept


class Results:
    """The results of a set, in a file that is written after each.

    Args:
        path: The .json file.
        n: Number of examples; results of another number are done anew.
    """

    def __init__(self, path: Path, n: int, values: int) -> None:
        self.path = path
        self.entries: dict[str, Result] = {}
        self.about = {"n": n, "values": values, "versions": versions()}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["n"] == n:
                entries = [Result(**entry) for entry in kept["results"]]
                self.entries = {entry.name: entry for entry in entries}

    def add(self, result: Result) -> None:
        """Keep a result, and print it."""
        self.entries[result.name] = result
        entries = [asdict(entry) for entry in self.entries.values()]
        text = json.dumps({**self.about, "results": entries}, indent=1)
        part = self.path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.path)
        print(row_of(result), flush=True)


def versions() -> dict[str, str]:
    """What was compared with what."""
    out = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("constriction", "pillow", "pillow-jxl-plugin", "pyarrow"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def row_of(result: Result) -> str:
    """A result as a row of a table."""
    speeds = [
        "" if speed is None else f"{speed:,.0f}"
        for speed in (result.pack_speed, result.unpack_speed)
    ]
    elbo = "" if result.elbo is None else f"{result.elbo:.4f}"
    return line([result.name, f"{result.bits:.4f}", elbo, *speeds])


def shown(out: Path) -> str:
    """One table of all sets: bits a value of each compressor."""
    sets = {
        name: json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        for name in SETS
        if (out / f"{name}.json").exists()
    }
    names: dict[str, None] = {}
    for kept in sets.values():
        names |= dict.fromkeys(entry["name"] for entry in kept["results"])
    lines = [line(["", *(f"{name} ({kept['n']:,})" for name, kept in sets.items())])]
    lines.append("|---" * (len(sets) + 1) + "|")
    for name in names:
        cells = []
        for kept in sets.values():
            bits = [e["bits"] for e in kept["results"] if e["name"] == name]
            cells.append(f"{bits[0]:.4f}" if bits else "")
        lines.append(line([name, *cells]))
    return "\n".join(lines)


def others(x: np.ndarray, table: pandas.DataFrame | None, results: Results) -> None:
    """The general compressors and image formats that have no result yet."""
    for name, (pack, unpack) in of_bytes().items():
        for content in contents_of(x, table):
            if f"{name}{content.label}" not in results.entries:
                results.add(byte_result(content, name, pack, unpack))
    if table is not None or as_images(x) is None:
        return
    for name, kind in formats().items():
        if kind is None:
            print(line([name, "not run", "", "", ""]))
        elif f"{name}, single files" not in results.entries:
            for result in image_results(x, name, kind):
                results.add(result)


def run_set(name: str, options: argparse.Namespace) -> None:
    """All results of a set that are not there yet."""
    task = SETS[name]
    source = source_of(task, options.out)
    run = trained(task, source, options.out / name, options.budget, options.run)
    split = run.data.splits["test"]
    assert isinstance(split, Split)
    if options.limit is not None:
        split = split.select(split.spread(min(options.limit, len(split))))
    x = split.raw(torch.arange(len(split))).numpy()
    table = None
    if run.spec.is_table:
        table = frame(torch.from_numpy(x).double(), run.spec.fields)
    results = Results(options.out / f"{name}.json", len(x), x[0].size)
    print(f"\n{name}: {len(x)} examples of {x[0].size} values, {x.dtype}\n")
    print(line(["", "bits a value", "ELBO", "examples/s in", "examples/s out"]))
    print("|---" * 5 + "|")
    for result in results.entries.values():
        print(row_of(result))
    others(x, table, results)
    files = jpeg_files(source, x[0].size)
    if files is not None and files.name not in results.entries:
        results.add(files)
    model = f"{fingerprint(run)} {len(split)}"
    for check, called in ((True, "tightbound"), (False, "tightbound, not checked")):
        before = results.entries.get(called)
        if before is None or before.model != model:
            results.add(model_result(run, split, task.precision, options.k, check))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/compress"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--run", type=Path, help="a trained run, for one set")
    parser.add_argument("--budget", default="30min", help="of a training")
    parser.add_argument("--limit", type=int, help="examples of the test split")
    parser.add_argument("-k", type=int, default=20, help="draws of the ELBO")
    parser.add_argument("--show", action="store_true", help="print one table of all")
    options = parser.parse_args()
    if options.run is not None and len(options.sets) != 1:
        parser.error("--run is for one set: name it with --sets")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.show:
        for name in options.sets:
            run_set(name, options)
    print(f"\n{shown(options.out)}")


if __name__ == "__main__":
    main()
