"""Locate the files of the built-in sets, or download them with a checked sha256."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tightbound.data.cache import cache_dirs, whole_file, writable_cache
from tightbound.runtime.atomic_files import NO_ROOM
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import Steady
from tightbound.runtime.reading import expanded

_TIMEOUT = 30.0
BASE = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
}
SHA256 = {
    "mnist/train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea37026"
    "5605f56be210a4024d2ca8f203523609",
    "mnist/train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cc"
    "a23d567ec52cac8be1a0730e8010255c",
    "mnist/t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e3"
    "3eeafee792b84584aec276f5a2dbc4e6",
    "mnist/t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd"
    "2371eca3ffa0defaefb259924204aec6",
    "fashion_mnist/train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed27"
    "1626dd12800ba2636569512369268a84",
    "fashion_mnist/train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc"
    "97de4d1bfaf8ba1a3aa29af54cc90845",
    "fashion_mnist/t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a4"
    "84bd415d4595297633bb08f03db6a073",
    "fashion_mnist/t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3c"
    "d6d1c2608764d35dfb1850b086bf8dd5",
}


def user_folder() -> Path | None:
    """`$TIGHTBOUND_DATA`, where it is set."""
    folder = os.environ.get("TIGHTBOUND_DATA")
    if folder:
        return expanded(folder)
    return None


def places(name: str) -> list[Path]:
    """The paths that a file of a built-in set may have, first choice first.

    Args:
        name: folder and file, as "mnist/train-images-idx3-ubyte.gz"; a file that is
            already unpacked is accepted too.
    """
    given = user_folder()
    folders = [*([] if given is None else [given]), *cache_dirs()]
    forms = dict.fromkeys((name, name.removesuffix(".gz")))
    return [folder / form for folder in folders for form in forms]


def locate(name: str) -> Path | None:
    """The first path where the file exists, or None; damaged downloads are skipped."""
    for place in places(name):
        if place.is_file() and (
            not any(folder in place.parents for folder in cache_dirs())
            or SHA256.get(name) in (None, _sha256(place))
        ):
            return place
    return None


def obtain(name: str) -> Path:
    """The path of the file, which is downloaded to the cache if it does not exist.

    `$TIGHTBOUND_MIRROR` names another server.
    """
    path = locate(name)
    if path is not None:
        return path
    folder, file = name.split("/")
    mirror = os.environ.get("TIGHTBOUND_MIRROR")
    base = f"{mirror.rstrip('/')}/{folder}" if mirror else BASE[folder]
    target = writable_cache() / folder / file
    fetch(f"{base}/{file}", target, SHA256[name])
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, target: Path, sha256: str) -> None:
    """Download a file; `target` is replaced only if the content has this sha256."""
    if not url.startswith(("http://", "https://")):
        raise TightboundError(
            f"TIGHTBOUND_MIRROR must begin with http:// or https://, so {url} is not fetched"
        )
    advice = "try again, or put the file in the folder that TIGHTBOUND_DATA names"
    digest = hashlib.sha256()
    received = 0
    length = None
    with whole_file(target) as file:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as reply:
                length = reply.headers.get("Content-Length")
                total = int(length) if length else None
                progress = Steady(f"downloading {url}", total, " bytes")
                while block := reply.read(1 << 16):
                    file.write(block)
                    digest.update(block)
                    received += len(block)
                    progress.add(len(block))
        except urllib.error.HTTPError as error:
            raise TightboundError(
                f"{url} cannot be downloaded (HTTP {error.code} {error.reason}): {advice}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in NO_ROOM:
                raise
            raise TightboundError(
                f"{url} cannot be downloaded ({getattr(error, 'reason', error)}): {advice}"
            ) from None
        if length is not None and received != int(length):
            raise TightboundError(
                f"{url} broke off after {received} of {length} bytes: {advice}"
            )
        if digest.hexdigest() != sha256:
            raise TightboundError(
                f"{url} does not have the expected sha256 {sha256[:12]}..., so it is not "
                f"used: {advice}"
            )
