"""Hostile inputs: files that run code, read other files, or take memory and time.

Each case writes its files into an empty folder and gives the words of a command. The command
ends in exit status 2 and one sentence, or, where the case says so, in a result; `code-has-run`
never exists, and the output never holds the text of `secret.txt`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import re
import shutil
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from faults.process import Verdict, fault, in_process, run_command
from PIL import Image, PngImagePlugin
from support.packed_files import (
    ZARR_BYTES,
    declare_less,
    twice_packed_dataset,
    zarr2_store,
    zarr3_store,
)

import tightbound as tb

MB = 1_000_000
MARKER = "code-has-run"
SECRET = "secret.txt"
TEXT_OF_SECRET = "the words of another file"
SETTINGS = ("train.steps=2", "latent=2", "recipe.size=s", "batch=16", "validate_n=4")
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)

Words = Sequence[object]
Make = Callable[[Path], Words]
#: Cases by name; the second value says whether a result is right too.
CASES: dict[str, tuple[Make, bool]] = {}


def case(name: str, *, readable: bool = False) -> Callable[[Make], Make]:
    """Enter a case in `CASES`.

    Args:
        name: The name of the case.
        readable: Whether the input may also be read, with exit status 0.
    """

    def enter(make: Make) -> Make:
        assert name not in CASES, name
        CASES[name] = (make, readable)
        return make

    return enter


def train(folder: Path, data: object, *settings: str, words: Words = ()) -> Words:
    """The words of a training of a step, without an evaluation and a report."""
    command = ["train", data, "--out", folder / "run", "--quiet", "--budget", "1s"]
    command += words
    return [*command, "--set", *SETTINGS[1:], *settings]


class Evil:
    """An object whose pickle makes the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def zeros(megabytes: int, pack: Callable[[], object]) -> bytes:
    """So many megabytes of zeros, packed piece by piece by a compressor of its own."""
    packer = pack()
    block = bytes(MB)
    pieces = [packer.compress(block) for _ in range(megabytes)]  # type: ignore[attr-defined]
    return b"".join([*pieces, packer.flush()])  # type: ignore[attr-defined]


def gzipped(megabytes: int, head: bytes = b"") -> bytes:
    """A gzip file of some bytes and megabytes of zeros."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(head)
        for _ in range(megabytes):
            packed.write(bytes(MB))
    return file.getvalue()


# ---- settings


CODE = {
    "prior": '[recipe.prior]\nname = "{name}"\n',
    "posterior": '[recipe.posterior]\nname = "{name}"\n',
    "likelihood": '[recipe.likelihood]\nname = "{name}"\n',
    "objective": '[recipe.objective]\nname = "{name}"\n',
    "network": '[recipe.network]\nname = "{name}"\n',
    "hierarchy": '[recipe]\nhierarchy = "{name}"\n',
    "optimizer": '[train]\noptimizer = "{name}"\n',
}
TOML = {
    "arrays of depth 10,000": b"latent = " + b"[" * 10_000 + b"1" + b"]" * 10_000,
    "tables of depth 10,000": b"a = " + b"{a = " * 10_000 + b"1" + b"}" * 10_000,
    "dotted keys of depth 10,000": b".".join([b"a"] * 10_000) + b" = 1",
    "a header of depth 10,000": b"[" + b".".join([b"a"] * 10_000) + b"]\nb = 1",
    "an integer of 5,000 digits": b"seed = " + b"9" * 5000,
    "a hexadecimal integer of 5,000 digits": b"seed = 0x" + b"f" * 5000,
    "a number beyond float64": b"[train]\nlr = 1e99999",
    "not a number": b"[train]\nlr = nan",
    "a key of a megabyte": b"k" * MB + b" = 1",
    "a value of a megabyte": b'device = "' + b"v" * MB + b'"',
    "bytes that are no text": b'device = "\xff\xfe"',
    "zero bytes": b"\0" * 1000,
    "an escape sequence": b'"\\u001b[2J\\u001b]0;title\\u0007" = 1',
    "100,000 keys": b"".join(b"k%d = 1\n" % i for i in range(100_000)),
    "a date for a number": b"seed = 1979-05-27T07:32:00Z",
    "a seed beyond int64": b"seed = 99999999999999999999",
}


def _settings(content: bytes) -> Make:
    def make(folder: Path) -> Words:
        (folder / "mine.toml").write_bytes(content)
        return train(folder, "digits", words=["--config", folder / "mine.toml"])

    return make


for _place, _text in CODE.items():
    for _name in ("evil_code:Part", "subprocess:Popen"):
        _content = _text.format(name=_name).encode()
        case(f"settings that name {_name} for {_place}")(_settings(_content))
for _what, _content in TOML.items():
    case(f"settings with {_what}")(_settings(_content))


# ---- what is no regular file


def _special(kind: str, path: Path) -> None:
    """Make a pipe, socket, link to a device, link to itself or folder."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket is short
            server.bind(path.name)
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"loop": path.name}.get(kind, f"/dev/{kind}"))


def _special_data(kind: str, name: str) -> Make:
    def make(folder: Path) -> Words:
        _special(kind, folder / name)
        return train(folder, folder / name)

    return make


def _special_settings(kind: str) -> Make:
    def make(folder: Path) -> Words:
        _special(kind, folder / "mine.toml")
        return train(folder, "digits", words=["--config", folder / "mine.toml"])

    return make


for _kind in ("pipe", "socket", "zero", "urandom", "tty", "full", "loop", "folder"):
    _suffix = {"pipe": "csv", "socket": "npz", "urandom": "idx", "full": "h5"}
    case(f"data that are a {_kind}")(
        _special_data(_kind, f"x.{_suffix.get(_kind, 'npy')}")
    )
for _kind in ("pipe", "zero", "loop", "folder"):
    case(f"settings that are a {_kind}")(_special_settings(_kind))


@case("an image that is a link to a device")
def _device_among_images(folder: Path) -> Words:
    images = _images(folder)
    (images / "99.png").symlink_to("/dev/zero")
    return train(folder, images)


@case("folders that are links to each other")
def _links_to_folders(folder: Path) -> Words:
    images = _images(folder)
    (images / "more").symlink_to(images)
    (images / "again").symlink_to(folder)
    return train(folder, images)


@case("parquet in a folder beside a link to a device")
def _device_among_parquet(folder: Path) -> Words:
    store = folder / "x.parquet"
    store.mkdir()
    _write_parquet(store / "a.parquet", {"a": X[:, 0], "b": X[:, 1]})
    (store / "b.parquet").symlink_to("/dev/zero")
    return train(folder, store)


# ---- arrays


def npy(
    shape: object, dtype: str = "<f4", body: bytes = b"", version: int = 1
) -> bytes:
    """An .npy file with any header."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    return npy_of(text, body, version)


def npy_of(text: str, body: bytes = b"", version: int = 1) -> bytes:
    """An .npy file with any text for a header."""
    header = text.encode().ljust(117) + b"\n"
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body


ARRAYS: dict[str, bytes] = {
    "2**62 numbers": npy(f"({2**62},)"),
    "a product beyond int64": npy(f"({2**40}, {2**40})"),
    "an axis of 5,000 digits": npy("(" + "9" * 5000 + ",)"),
    "a negative axis": npy("(-4, 4)", body=bytes(64)),
    "33 axes": npy("(" + "1, " * 65 + ")", body=bytes(4)),
    "no rows": npy("(0, 4)"),
    "no columns": npy("(10, 0)"),
    "a single number": npy("()", body=bytes(4)),
    "truth values for axes": npy("(True, 4)", body=bytes(16)),
    "objects": npy("(4,)", "|O", pickle.dumps([1])),
    "a structure with objects": npy_of(
        "{'descr': [('a', '|O'), ('b', '<f4')], 'fortran_order': False, 'shape': (4,), }",
        bytes(64),
    ),
    "bytes of 2**31 each": npy("(4,)", f"|S{2**31 - 1}"),
    "a call in its header": npy_of(
        "{'descr': __import__('os').getcwd(), 'shape': (4,), 'fortran_order': False}"
    ),
    "a header of depth 9,000": npy_of("(" * 9000 + ")" * 9000, version=2),
    "a header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
    "complex numbers": npy("(4, 4)", "<c8", bytes(128)),
    "infinities": npy("(20, 4)", body=np.full(80, np.inf, "<f4").tobytes()),
    "dates": npy("(4, 4)", "<M8[ns]", bytes(128)),
    "numbers near the end of float64": npy(
        "(20, 4)", "<f8", np.resize([-1.7e308, 1.7e308, 0.0], 80).tobytes()
    ),
    "constants near the end of float64": npy(
        "(20, 4)", "<f8", np.resize([-1.7e308, 1.7e308], 80).tobytes()
    ),
}


def _file(name: str, content: bytes, *settings: str) -> Make:
    def make(folder: Path) -> Words:
        (folder / name).write_bytes(content)
        return train(folder, folder / name, *settings)

    return make


for _what, _content in ARRAYS.items():
    _is_readable = _what.startswith("constants")
    case(f"an array of {_what}", readable=_is_readable)(_file("x.npy", _content))


@case("a sparse file of a terabyte", readable=True)
def _sparse_file(folder: Path) -> Words:
    with (folder / "x.npy").open("wb") as file:
        file.write(npy(f"(1000, {250_000_000})"))
        with suppress(OSError):  # a file system with a lower limit
            file.truncate(10**12 + 128)
    return train(folder, folder / "x.npy")


@case("a million empty columns in a sparse file")
def _sparse_columns(folder: Path) -> Words:
    with (folder / "x.npy").open("wb") as file:
        file.write(npy(f"(10, {60 * MB})"))
        file.truncate(10 * 60 * MB * 4 + 128)
    return train(folder, folder / "x.npy")


@case("a text file of zero bytes")
def _sparse_text(folder: Path) -> Words:
    with (folder / "x.csv").open("wb") as file:
        file.truncate(900 * MB)
    return train(folder, folder / "x.csv")


def _zip_of(members: Mapping[str, bytes], method: int) -> Make:
    def make(folder: Path) -> Words:
        with zipfile.ZipFile(folder / "x.npz", "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return train(folder, folder / "x.npz")

    return make


case("npz with objects")(
    _zip_of({"x.npy": npy("(4,)", "|O", pickle.dumps([1]))}, zipfile.ZIP_STORED)
)
case("npz with paths for names")(
    _zip_of({"../../x.npy": b"", "/etc/x.npy": b""}, zipfile.ZIP_STORED)
)
case("npz of 20,000 arrays")(
    _zip_of({f"a{i}.npy": b"" for i in range(20_000)}, zipfile.ZIP_STORED)
)


def _npz_bomb(method: int) -> Make:
    def make(folder: Path) -> Words:
        path = folder / "x.npz"
        with (
            zipfile.ZipFile(path, "w", method) as archive,
            archive.open("x.npy", "w", force_zip64=True) as member,
        ):
            member.write(npy(f"(1100, {MB})", "|u1"))
            for _ in range(1100):
                member.write(bytes(MB))
        return train(folder, path)

    return make


for _method, _what in ((8, "deflate"), (12, "bzip2"), (14, "lzma")):
    case(f"npz of 1,100 MB by {_what}")(_npz_bomb(_method))


@case("npz that unpacks to more than its table says")
def _lying_npz(folder: Path) -> Words:
    path = folder / "x.npz"
    _npz_bomb(8)(folder)
    content = path.read_bytes()
    size = 1100 * MB + 128
    for width in (4, 8):
        small = (1000).to_bytes(width, "little")
        content = content.replace(size.to_bytes(width, "little"), small)
    path.write_bytes(content)
    return train(folder, path)


case("idx.gz of 1.1 GB")(
    _file("x.idx.gz", gzipped(1100, struct.pack(">BBBBII", 0, 0, 8, 2, 1100, MB)))
)
case("idx of 255 axes")(_file("x.idx", b"\0\0\x08\xff" + b"\xff" * 1020))
case("idx with empty axes")(_file("x.idx", b"\0\0\x08\x03" + bytes(12)))
case("csv.gz of 1.1 GB without lines")(_file("x.csv.gz", gzipped(1100)))
case("csv.gz of gzip of gzip")(
    _file("x.csv.gz", gzip.compress(gzip.compress(gzipped(100))))
)
case("csv.gz of a million empty members")(
    _file("x.csv.gz", gzip.compress(b"") * 100_000)
)
case("csv of a line of 100 MB")(_file("x.csv", b"1," * (50 * MB)))


@case("csv.gz of 1.1 GB of rows")
def _packed_rows(folder: Path) -> Words:
    with gzip.open(folder / "x.csv.gz", "wb", 1) as file:
        file.write(b"a,b\n")
        for _ in range(1100):
            file.write(b"1.5,2\n" * (MB // 6))
    return train(folder, folder / "x.csv.gz")


@case("csv with 10,000 columns of long names")
def _wide_csv(folder: Path) -> Words:
    names = ",".join(f"{'n' * 3000}{i}" for i in range(10_000))
    row = ",".join(["oops"] + ["1.5"] * 9_999)
    (folder / "x.csv").write_text(f"{names}\n" + f"{row}\n" * 3 + "?" + ",1" * 9_999)
    return train(folder, folder / "x.csv")


@case("csv with a name of 1,000,000 characters", readable=True)
def _long_name(folder: Path) -> Words:
    rows = "".join(f"{i}.5,{i}\n" for i in range(60))
    (folder / "x.csv").write_text(f"{'n' * MB},b\n{rows}")
    return train(folder, folder / "x.csv")


@case("csv with control characters in names and cells")
def _control_characters(folder: Path) -> Words:
    text = '"a\x1b[2J\nb",b\n1.5,2\n\x1b]0;title\x07,3\n'
    (folder / "x.csv").write_text(text)
    return train(folder, folder / "x.csv")


@case("csv with a script for a name", readable=True)
def _script_in_name(folder: Path) -> Words:
    rows = "".join(f"{i}.5,{i}\n" for i in range(60))
    (folder / "x.csv").write_text(f'"<script>alert(1)</script>",b\n{rows}')
    return train(folder, folder / "x.csv")


@case("csv with 60,000 categories", readable=True)
def _many_categories(folder: Path) -> Words:
    rows = "".join(f"word{i},{i}.5\n" for i in range(60_000))
    (folder / "x.csv").write_text("a,b\n" + rows)
    return train(folder, folder / "x.csv")


for _encoding in ("idna", "zip", "rot13", "hex", "unicode_escape", "undefined"):
    case(f"csv in the encoding {_encoding}")(
        _file("x.csv", b"a,b\n1.5,\xff\n", f"data.encoding={_encoding}")
    )


# ---- names


@case("a name that is no UTF-8", readable=True)
def _no_utf8(folder: Path) -> Words:
    name = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.npy")
    np.save(name, X)
    return train(folder, name)


@case("images whose names are no UTF-8", readable=True)
def _no_utf8_images(folder: Path) -> Words:
    images = _images(folder)
    os.rename(images / "0.png", os.fsencode(images) + b"/\xff.png")
    return train(folder, images)


@case("a bad image whose name is no UTF-8")
def _no_utf8_bad(folder: Path) -> Words:
    images = _images(folder)
    with open(os.fsencode(images) + b"/\x1b[2J\xff.png", "wb") as file:
        file.write(b"no image")
    return train(folder, images)


@case("a name with line ends and control characters")
def _line_ends(folder: Path) -> Words:
    name = folder / "a\nb\x1b[2J\rc.npy"
    name.write_bytes(b"no array")
    return train(folder, name)


@case("a name of 5,000 characters")
def _long_path(folder: Path) -> Words:
    return train(folder, "x" * 5000 + ".npy")


@case("a name with a zero byte")
def _zero_byte(folder: Path) -> Words:
    return train(folder, "x\0.npy")


@case("a pattern of a billion files")
def _pattern(folder: Path) -> Words:
    return train(folder, f"wds:{folder}/x-{{0..999999999}}.tar")


# ---- images


def _images(folder: Path) -> Path:
    """A folder of 12 small images."""
    images = folder / "images"
    images.mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for i, pixels in enumerate(grey):
        Image.fromarray(pixels).save(images / f"{i}.png")
    return images


def png(width: int, height: int, data: bytes, colour: int = 0) -> bytes:
    """A PNG file with any size and any data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _picture(content: Callable[[], bytes], name: str = "9.png") -> Make:
    def make(folder: Path) -> Words:
        images = _images(folder)
        (images / name).write_bytes(content())
        return train(folder, images)

    return make


case("a PNG of 40,000 x 40,000 pixels")(
    _picture(lambda: png(40_000, 40_000, zeros(1600, zlib.compressobj)))
)
case("a PNG of 13,000 x 13,000 colours", readable=True)(
    _picture(lambda: png(13_000, 13_000, zeros(508, zlib.compressobj), 2))
)
case("a PNG of 2**31 pixels a side")(_picture(lambda: png(2**31 - 1, 2**31 - 1, b"")))
case("a PNG of no pixels")(_picture(lambda: png(0, 0, zlib.compress(b""))))
case("a PNG with more data than pixels", readable=True)(
    _picture(lambda: png(8, 8, zeros(1000, zlib.compressobj)))
)
case("PostScript under the name of an image")(
    _picture(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n")
)
case("SVG that names a file")(
    _picture(lambda: b'<svg><image href="file:///etc/passwd"/></svg>', "9.svg")
)


@case("a PNG with a text of 60 MB", readable=True)
def _png_text(folder: Path) -> Words:
    images = _images(folder)
    about = PngImagePlugin.PngInfo()
    about.add_text("key", "x" * (60 * MB), zip=True)
    Image.new("L", (8, 8), 9).save(images / "9.png", pnginfo=about)
    return train(folder, images)


@case("a GIF of 5,000 frames", readable=True)
def _gif(folder: Path) -> Words:
    images = _images(folder)
    frames = [Image.new("L", (8, 8), i % 256) for i in range(5000)]
    frames[0].save(images / "9.gif", save_all=True, append_images=frames[1:])
    return train(folder, images)


@case("a TIFF whose directories follow each other for ever", readable=True)
def _tiff(folder: Path) -> Words:
    images = _images(folder)
    path = images / "9.tif"
    Image.new("L", (8, 8), 9).save(path)
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[first : first + 2], "little")
    at = first + 2 + 12 * count
    content[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(bytes(content))
    return train(folder, images)


@case("a zip file of images of 1.1 GB")
def _zip_of_images(folder: Path) -> Words:
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(12):
            archive.writestr(f"{i}.png", png(8, 8, zlib.compress(bytes(72))))
        with archive.open("99.png", "w", force_zip64=True) as member:
            for _ in range(1100):
                member.write(bytes(MB))
    return train(folder, folder / "x.zip")


@case("a zip file within a zip file")
def _zip_in_zip(folder: Path) -> Words:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("0.png", png(8, 8, zlib.compress(bytes(72))))
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    return train(folder, folder / "x.zip")


# ---- HDF5


def _h5(write: Callable[[object, Path], None], *settings: str) -> Make:
    """A case of an HDF5 file that a function writes."""

    def make(folder: Path) -> Words:
        import h5py

        with h5py.File(folder / "x.h5", "w") as file:
            write(file, folder)
        return train(folder, folder / "x.h5", *settings)

    return make


def _h5_bomb(file: object, folder: Path) -> None:
    """A chunk of 960 bytes that unpacks to 700 MB."""
    h5 = file.create_dataset("x", (60, 4), "f4", chunks=(60, 4), compression="gzip")
    h5.id.write_direct_chunk((0, 0), zeros(700, zlib.compressobj))


def _h5_nested(file: object, folder: Path) -> None:
    """A chunk that is packed twice."""
    made = twice_packed_dataset(file)
    packed = zlib.compress(zeros(700, zlib.compressobj))
    made.write_direct_chunk((0, 0), packed)  # type: ignore[attr-defined]


def _h5_honest(file: object, folder: Path) -> None:
    """A chunk of 600 MB of zeros."""
    shape = (150, MB)
    h5 = file.create_dataset("x", shape, "f4", chunks=shape, compression="gzip")
    h5.id.write_direct_chunk((0, 0), zeros(600, zlib.compressobj))


def _h5_labels(file: object, folder: Path) -> None:
    """Labels that are one text of 30 MB, which is stored once."""
    import h5py

    file["x"] = X  # type: ignore[index]
    texts = file.create_dataset("y", (60,), h5py.string_dtype(), chunks=(60,))
    texts[0] = "z" * (30 * MB)
    file.flush()  # type: ignore[attr-defined]
    _, stored = texts.id.read_direct_chunk((0,))
    texts.id.write_direct_chunk((0,), stored[:16] * 60)


def _h5_links(file: object, folder: Path) -> None:
    """Links that lead to each other."""
    import h5py

    file["x"] = h5py.SoftLink("/y")  # type: ignore[index]
    file["y"] = h5py.SoftLink("/x")  # type: ignore[index]


def _h5_external(file: object, folder: Path) -> None:
    stored = [(str(folder / SECRET), 0, 24)]
    file.create_dataset("x", (6,), "u1", external=stored)  # type: ignore[attr-defined]


def _h5_link_outside(file: object, folder: Path) -> None:
    import h5py

    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = X
    file["x"] = h5py.ExternalLink(str(folder / "other.h5"), "x")  # type: ignore[index]


def _h5_virtual(file: object, folder: Path) -> None:
    import h5py

    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", X.shape)
    file.create_virtual_dataset("x", layout)  # type: ignore[attr-defined]


def _h5_objects(file: object, folder: Path) -> None:
    import h5py

    file["x"] = X  # type: ignore[index]
    references = file.create_dataset("data", (60,), h5py.ref_dtype)  # type: ignore[attr-defined]
    references[:] = [file["x"].ref] * 60  # type: ignore[index]
    del file["x"]  # type: ignore[attr-defined]


def _h5_wide(file: object, folder: Path) -> None:
    file.create_dataset("x", (100, 10**9), "f4", chunks=(1, 10**6))  # type: ignore[attr-defined]


def _h5_rows(file: object, folder: Path) -> None:
    file.create_dataset("x", (2**40, 4), "f4", chunks=(10**5, 4))  # type: ignore[attr-defined]


def _h5_depth(file: object, folder: Path) -> None:
    node = file
    for _ in range(300):
        node = node.create_group("g")  # type: ignore[attr-defined]


case("HDF5 with a chunk that unpacks to 700 MB")(_h5(_h5_bomb))
case("HDF5 with a chunk that is packed twice")(_h5(_h5_nested))
case("HDF5 with a chunk of 600 MB")(_h5(_h5_honest))
case("HDF5 with labels that are one text of 30 MB")(_h5(_h5_labels))
case("HDF5 with links in a circle")(_h5(_h5_links))
case("HDF5 with storage in another file")(_h5(_h5_external))
case("HDF5 with a link to another file")(_h5(_h5_link_outside, "data.key=x"))
case("HDF5 with a virtual dataset")(_h5(_h5_virtual))
case("HDF5 with references to objects")(_h5(_h5_objects))
case("HDF5 with examples of 4 GB")(_h5(_h5_wide))
case("HDF5 with 2**40 examples that are not stored", readable=True)(_h5(_h5_rows))
case("HDF5 with groups of depth 300")(_h5(_h5_depth))


# ---- Zarr


def _zarr(
    folder: Path,
    codecs: Sequence[Mapping[str, object]],
    chunk: bytes,
    chunks: Sequence[int] = (60, 4),
) -> Words:
    """A case of a Zarr store of format 3."""
    return train(folder, zarr3_store(folder, codecs, chunk, chunks=chunks))


def _zarr2(folder: Path, compressor: Mapping[str, object], chunk: bytes) -> Words:
    """A case of a Zarr store of format 2."""
    return train(folder, zarr2_store(folder, compressor, chunk))


@case("Zarr with a gzip chunk of 700 MB")
def _zarr_gzip(folder: Path) -> Words:
    codecs = [ZARR_BYTES, {"name": "gzip", "configuration": {"level": 1}}]
    return _zarr(folder, codecs, gzipped(700))


@case("Zarr with a zlib chunk of 700 MB")
def _zarr_zlib(folder: Path) -> Words:
    return _zarr2(folder, {"id": "zlib", "level": 1}, zeros(700, zlib.compressobj))


@case("Zarr with a bz2 chunk of 700 MB")
def _zarr_bz2(folder: Path) -> Words:
    return _zarr2(folder, {"id": "bz2", "level": 1}, zeros(700, bz2.BZ2Compressor))


@case("Zarr with an lzma chunk of 700 MB")
def _zarr_lzma(folder: Path) -> Words:
    chunk = zeros(700, lambda: lzma.LZMACompressor(preset=0))
    return _zarr2(folder, {"id": "lzma"}, chunk)


@case("Zarr with a zstd chunk of 700 MB")
def _zarr_zstd(folder: Path) -> Words:
    import pyarrow as pa

    with pa.CompressedOutputStream(str(folder / "packed"), "zstd") as file:
        for _ in range(700):
            file.write(bytes(MB))
    codecs = [
        ZARR_BYTES,
        {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
    ]
    return _zarr(folder, codecs, (folder / "packed").read_bytes())


@case("Zarr with a blosc chunk that declares 700 MB")
def _zarr_blosc(folder: Path) -> Words:
    from numcodecs import Blosc

    chunk = bytearray(Blosc("zlib", 1).encode(bytes(700 * MB)))
    compressor = {"id": "blosc", "cname": "zlib", "clevel": 1, "shuffle": 0}
    return _zarr2(folder, {**compressor, "blocksize": 0}, bytes(chunk))


@case("Zarr with an lz4 chunk that declares 700 MB")
def _zarr_lz4(folder: Path) -> Words:
    from numcodecs import LZ4

    return _zarr2(
        folder, {"id": "lz4", "acceleration": 1}, LZ4().encode(bytes(700 * MB))
    )


@case("Zarr with gzip inside of shards")
def _zarr_shards(folder: Path) -> Words:
    bomb = gzipped(700)
    index = struct.pack("<QQ", 0, len(bomb))
    inner = [ZARR_BYTES, {"name": "gzip", "configuration": {"level": 1}}]
    sharding = {
        "chunk_shape": [60, 4],
        "codecs": inner,
        "index_location": "end",
        "index_codecs": [ZARR_BYTES],
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return _zarr(folder, codecs, bomb + index)


@case("Zarr with the codec pickle")
def _zarr_pickle(folder: Path) -> Words:
    chunk = pickle.dumps(Evil(folder / MARKER))
    return _zarr2(folder, {"id": "pickle", "protocol": 4}, chunk)


@case("Zarr with chunks of 200 GB")
def _zarr_chunks(folder: Path) -> Words:
    return _zarr(folder, [ZARR_BYTES], b"", chunks=(50, 10**9))


@case("Zarr with a link to another file")
def _zarr_link(folder: Path) -> Words:
    words = _zarr(folder, [ZARR_BYTES], bytes(960))
    chunk = folder / "x.zarr" / "c" / "0" / "0"
    chunk.unlink()
    chunk.symlink_to(folder / SECRET)
    return words


@case("Zarr with metadata of depth 20,000")
def _zarr_depth(folder: Path) -> Words:
    words = _zarr(folder, [ZARR_BYTES], bytes(960))
    path = folder / "x.zarr" / "zarr.json"
    path.write_text('{"attributes": ' + "[" * 20_000 + "]" * 20_000 + "}")
    return words


# ---- parquet and feather


def _write_parquet(
    path: Path, columns: Mapping[str, object], **options: object
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(dict(columns)), path, **options)


def _repeated(value: object, count: int) -> object:
    """A dictionary-encoded column that repeats one value."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [value])


@case("parquet of 2 GB of one number")
def _parquet_numbers(folder: Path) -> Words:
    column = _repeated(1.5, 25 * MB)
    table = dict.fromkeys("abcdefghij", column)
    groups = {"row_group_size": 25 * MB, "store_schema": False}
    _write_parquet(folder / "x.parquet", table, **groups)
    return train(folder, folder / "x.parquet")


@case("parquet of a text of 1 MB a hundred thousand times", readable=True)
def _parquet_texts(folder: Path) -> Words:
    table = {"t": _repeated("z" * MB, 100_000), "a": np.arange(100_000) * 0.5}
    _write_parquet(folder / "x.parquet", table, store_schema=False)
    return train(folder, folder / "x.parquet")


@case("parquet of labels of 1 MB a hundred thousand times")
def _parquet_labels(folder: Path) -> Words:
    table = {"label": _repeated("z" * MB, 100_000), "a": np.arange(100_000) * 0.5}
    _write_parquet(folder / "x.parquet", table, store_schema=False)
    return train(folder, folder / "x.parquet")


@case("parquet of an image of 1 MB a hundred thousand times", readable=True)
def _parquet_images(folder: Path) -> Words:
    import pyarrow as pa

    image = png(8, 8, zlib.compress(bytes(72))) + bytes(MB)
    column = _repeated(image, 100_000)
    assert isinstance(column, pa.DictionaryArray)
    _write_parquet(folder / "x.parquet", {"image": column}, store_schema=False)
    return train(folder, folder / "x.parquet")


@case("parquet with a page of more than its footer declares")
def _parquet_page(folder: Path) -> Words:
    from pyarrow import parquet

    path = folder / "x.parquet"
    rows = 90 * MB
    options = {"use_dictionary": False, "data_page_size": 2**31 - 1}
    groups = {"row_group_size": rows, "compression": "gzip"}
    columns = {"a": np.zeros(rows), "b": np.ones(rows)}
    _write_parquet(path, columns, write_statistics=False, **options, **groups)
    group = parquet.ParquetFile(path).metadata.row_group(0)
    sizes = [group.column(i).total_uncompressed_size for i in range(2)]
    declare_less(path, {group.num_rows, group.total_byte_size, *sizes})
    return train(folder, path)


@case("parquet whose images name another file")
def _parquet_paths(folder: Path) -> Words:
    rows = [{"bytes": None, "path": str(folder / SECRET)}] * 30
    _write_parquet(folder / "x.parquet", {"image": rows})
    return train(folder, folder / "x.parquet")


@case("parquet with metadata of pandas of depth 20,000", readable=True)
def _parquet_depth(folder: Path) -> Words:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    about = {b"pandas": b"[" * 20_000 + b"]" * 20_000}
    parquet.write_table(table.replace_schema_metadata(about), folder / "x.parquet")
    return train(folder, folder / "x.parquet")


@case("parquet of 3,000 columns of long names")
def _parquet_wide(folder: Path) -> Words:
    table = {f"{'n' * 200}{i}": ["?"] for i in range(3000)}
    _write_parquet(folder / "x.parquet", table)
    return train(folder, folder / "x.parquet")


@case("parquet of nested lists")
def _parquet_lists(folder: Path) -> Words:
    import pyarrow as pa

    kind = pa.float32()
    value: object = [1.5]
    for _ in range(60):
        kind = pa.list_(kind)
        value = [value]
    _write_parquet(folder / "x.parquet", {"x": pa.array([[]] * 9, pa.list_(kind))})
    return train(folder, folder / "x.parquet")


def _feather(folder: Path, columns: Mapping[str, object]) -> Words:
    import pyarrow as pa
    from pyarrow import feather

    table = pa.table(dict(columns))
    feather.write_feather(
        table, folder / "x.feather", compression="zstd", chunksize=2**30
    )
    return train(folder, folder / "x.feather")


@case("feather of 2 GB of zeros")
def _feather_zeros(folder: Path) -> Words:
    column = np.zeros(25 * MB)
    return _feather(folder, dict.fromkeys("abcdefghij", column))


@case("feather of a text of 1 MB 1,500 times")
def _feather_texts(folder: Path) -> Words:
    import pyarrow as pa

    return _feather(folder, {"t": pa.array(["z" * MB] * 1500)})


# ---- tar files


def _tar(folder: Path, name: str, change: Callable[[tarfile.TarFile], None]) -> Words:
    """A shard of 30 images and what a function adds."""
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(folder / name, mode) as file:  # type: ignore[call-overload]
        for i in range(30):
            content = png(8, 8, zlib.compress(bytes(72)))
            member = tarfile.TarInfo(f"{i:03}.png")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        change(file)
    return train(folder, f"wds:{folder / name}")


@case("a tar file with a link")
def _tar_link(folder: Path) -> Words:
    def add(file: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("099.png")
        member.type = tarfile.SYMTYPE
        member.linkname = str(folder / SECRET)
        file.addfile(member)

    return _tar(folder, "x.tar", add)


@case("a tar.gz file with a member of 1.1 GB")
def _tar_bomb(folder: Path) -> Words:
    class Zeros(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(max(0, size))

    def add(file: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("099.png")
        member.size = 1100 * MB
        file.addfile(member, Zeros())  # type: ignore[arg-type]

    return _tar(folder, "x.tar.gz", add)


@case("a tar file with a device")
def _tar_device(folder: Path) -> Words:
    def add(file: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("099.png")
        member.type = tarfile.CHRTYPE
        file.addfile(member)

    return _tar(folder, "x.tar", add)


@case("a tar file with a header of 100 MB")
def _tar_header(folder: Path) -> Words:
    def add(file: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": "c" * (700 * MB)}
        file.addfile(member)

    return _tar(folder, "x.tar.gz", add)


@case("a tar file whose examples hold a pickle")
def _tar_pickle(folder: Path) -> Words:
    def add(file: tarfile.TarFile) -> None:
        for ending in ("pyd", "pickle", "pth"):
            content = pickle.dumps(Evil(folder / MARKER))
            member = tarfile.TarInfo(f"099.{ending}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))

    return _tar(folder, "x.tar", add)


# ---- run folders


def weights(header: object, body: bytes = bytes(64), size: int | None = None) -> bytes:
    """A file of safetensors with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if size is None else size
    return length.to_bytes(8, "little") + text + body


def _tensor(start: int, stop: int, shape: Sequence[int], kind: str = "F32") -> object:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, stop]}


WEIGHTS: dict[str, bytes] = {
    "offsets beyond the end": weights({"a": _tensor(0, 10**12, [4])}),
    "offsets that overlap": weights(
        {"a": _tensor(0, 64, [16]), "b": _tensor(32, 64, [8])}
    ),
    "offsets below 0": weights({"a": _tensor(-64, 0, [16])}),
    "offsets with a gap": weights({"a": _tensor(32, 64, [8])}),
    "a header of 2**63 bytes": weights({}, size=2**63 - 1),
    "a header of 100 MB": weights(b" " * (100 * MB)),
    "a header of depth 100,000": weights(b"[" * 100_000),
    "an axis of 5,000 digits": weights(
        b'{"a": {"dtype": "F32", "shape": ['
        + b"9" * 5000
        + b'], "data_offsets": [0, 4]}}'
    ),
    "a product beyond int64": weights({"a": _tensor(0, 64, [2**40, 2**40])}),
    "an unknown type": weights({"a": _tensor(0, 64, [16], "OBJECT")}),
    "no object": weights(b"[1, 2, 3]"),
    "a million tensors": weights({f"t{i}": _tensor(0, 0, [0]) for i in range(100_000)}),
}
TREES: dict[str, bytes] = {
    "depth 100,000": b"[" * 100_000,
    "objects of depth 100,000": b'{"a":' * 100_000,
    "an integer of 5,000 digits": b'{"format": ' + b"9" * 5000 + b"}",
    "zero bytes": bytes(1000),
    "a text of 100 MB": b'{"format": "' + b"z" * (100 * MB) + b'"}',
}


def _run_file(shared: Path, name: str, content: bytes, words: Sequence[str]) -> Make:
    """A finished run of which one file is replaced."""

    def make(folder: Path) -> Words:
        shutil.copytree(shared, folder / "run")
        (folder / "run" / name).write_bytes(content)
        return _on_run(folder, words)

    return make


def _on_run(folder: Path, words: Sequence[str]) -> Words:
    """The words of a command on the run of a folder."""
    command, *more = words
    if command == "train":
        words = ["train", "digits", "--out", folder / "run", "--resume", "--quiet"]
        return [*words, "--budget", "1s"]
    if "--out" in more:
        more = [*more, str(folder / "out.npz")]
    return [command, folder / "run", *more]


def run_cases(shared: Path) -> dict[str, tuple[Make, bool]]:
    """Cases on the folder of a finished run.

    Args:
        shared: The folder of the run, which is copied.
    """
    sample = ("sample", "--n", "3", "--out")
    cases: dict[str, tuple[Make, bool]] = {}
    for what, content in WEIGHTS.items():
        make = _run_file(shared, "ema.safetensors", content, sample)
        cases[f"weights with {what}"] = (make, False)
    for what, content in TREES.items():
        shown = _run_file(shared, "evaluation.json", content, ("show",))
        cases[f"an evaluation with {what}"] = (shown, True)
        log = _run_file(shared, "log.jsonl", content, ("show",))
        cases[f"a log with {what}"] = (log, True)
        state = _run_file(shared, "state.pt", content, ("train",))
        cases[f"a state with {what}"] = (state, True)
    settings = (shared / "config.toml").read_bytes()
    for what, content in TOML.items():
        if b"[train]" not in content:
            content += b"\n" + settings
        make = _run_file(shared, "config.toml", content, sample)
        cases[f"a run's settings with {what}"] = (make, False)
    for kind in ("pipe", "zero", "loop", "folder"):
        for name in ("config.toml", "ema.safetensors", "log.jsonl", "evaluation.json"):
            is_needed = name in ("config.toml", "ema.safetensors")
            words = sample if is_needed else ("show",)
            make = _special_of_run(shared, kind, name, words)
            cases[f"a run whose {name} is a {kind}"] = (make, not is_needed)
    return cases


def _special_of_run(shared: Path, kind: str, name: str, words: Sequence[str]) -> Make:
    def make(folder: Path) -> Words:
        shutil.copytree(shared, folder / "run")
        (folder / "run" / name).unlink(missing_ok=True)
        _special(kind, folder / "run" / name)
        return _on_run(folder, words)

    return make


# ---- the cases of the campaign


_LARGE = re.compile(
    r"\d (MB|GB|rows)|thousand|terabyte|2\*\*|megabyte|million|,000|zero bytes"
)


class HostileFiles:
    """The hostile inputs, in an order that mixes their kinds, the large ones last."""

    def __init__(self, folder: Path) -> None:
        run = folder / "run"
        values = dict(setting.split("=") for setting in SETTINGS)
        tb.train("digits", out=run, settings=values, display="none", report=False)
        self.cases = [(name, *made) for name, made in CASES.items()]
        self.cases += [(name, *made) for name, made in run_cases(run).items()]
        random.Random(0).shuffle(self.cases)
        self.cases.sort(key=lambda named: bool(_LARGE.search(named[0])))

    def case(self, number: int, folder: Path, wait: float) -> Verdict:
        """Write a hostile input and run its command."""
        name, make, is_readable = self.cases[number % len(self.cases)]
        (folder / SECRET).write_text(TEXT_OF_SECRET)
        (folder / "evil_code.py").write_text(
            f"from pathlib import Path\nPath({str(folder / MARKER)!r}).touch()\n"
            "class Part:\n    pass\n"
        )
        words = [str(word) for word in make(folder)]

        def work() -> int:
            os.chdir(folder)
            return run_command(words)

        outcome = in_process(work, folder, wait)
        wrong = fault(outcome, lambda: None if is_readable else "was read")
        texts = outcome.output + outcome.error
        if (folder / MARKER).exists():
            wrong = "ran code"
        elif TEXT_OF_SECRET in texts:
            wrong = "read another file"
        elif "\x1b" in texts:
            wrong = "wrote control characters to the terminal"
        text = wrong and f"{name}: {wrong}"
        return Verdict(text, outcome.status == 2)
