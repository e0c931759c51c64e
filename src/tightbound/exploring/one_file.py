"""A page in one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from pathlib import Path

from tightbound.exploring.assets import WASM, Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.page_data import text_of
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.errors import TightboundError

MOST_BYTES = 500_000_000  # of a page, which browsers read as one text


@dataclass(frozen=True)
class WrittenPage:
    """A page that was written.

    Attributes:
        path: The file.
        size: Its bytes.
        float16: Networks with weights in float16, as role.name, with the largest difference of
            a decoded value, relative to its range.
        float32: The other networks.
        points: Number of points of the main run.
    """

    path: Path
    size: int
    float16: dict[str, float]
    float32: list[str]
    points: int

    def lines(self) -> list[str]:
        """The page in words, a line for each fact."""
        lines = [
            f"{self.path}: {self.size / 1e6:.1f} MB, {self.points:,} points; it opens in a browser "
            "without a network"
        ]
        if self.float16:
            name = max(self.float16, key=lambda key: self.float16[key])
            lines.append(
                f"weights in float16: {', '.join(self.float16)}; the largest difference of a "
                f"decoded value, measured by onnxruntime, is {self.float16[name]:.1e} of its "
                f"range ({name}), below 1/255"
            )
        if self.float32:
            lines.append(f"weights in float32: {', '.join(self.float32)}")
        return lines


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that is taken, or a folder.

    Raises:
        TightboundError: With what to do.
    """
    if path.is_dir():
        raise TightboundError(
            f"{str(path)!r} is a folder: name a file, such as page.html"
        )
    if path.exists() and not overwrite:
        raise TightboundError(
            f"{str(path)!r} exists: add --overwrite to replace it, or choose another --export"
        )


def write(
    page: PageData, path: Path, assets: Assets, *, overwrite: bool
) -> WrittenPage:
    """Write a page to one file, whole or not at all.

    Args:
        page: Its data.
        path: The file.
        assets: The built page.
        overwrite: Replace the file if there is one.

    Raises:
        TightboundError: The file exists, or the page would be too large for a browser.
    """
    check_target(path, overwrite=overwrite)
    blocks = {WASM: assets.wasm, **page.blocks}
    elements = [_manifest_element(page), *(_element(*item) for item in blocks.items())]
    text = assets.page(
        title=str(page.manifest["title"]),
        language=str(page.manifest["language"]),
        blocks="\n".join(elements),
        connects=False,
    )
    content = text.encode()
    if len(content) > MOST_BYTES:
        raise TightboundError(
            f"the page would have {len(content):,} bytes, more than a browser reads as one file: "
            "leave out --export, so that it is served"
        )
    make_folder(path.parent)
    check_target(path, overwrite=overwrite)
    write_atomic(path, content)
    return _written(page, path, len(content))


def _manifest_element(page: PageData) -> str:
    # < is escaped, so that no text of a run ends the element
    text = text_of(page.manifest).replace("<", "\\u003c")
    return f'<script type="application/json" id="manifest">{text}</script>'


def _element(name: str, content: bytes) -> str:
    packed = gzip.compress(content, 9, mtime=0)
    text = base64.b64encode(packed).decode()
    return f'<script type="text/plain" id="block-{name}">{text}</script>'


def _written(page: PageData, path: Path, size: int) -> WrittenPage:
    runs = page.manifest["runs"]
    assert isinstance(runs, list)
    float16 = {}
    float32 = []
    for run in runs:
        for name, graph in run["graphs"].items():
            if graph["block"] is None:
                continue
            if graph["float16"]:
                float16[f"{run['role']}.{name}"] = graph["error"]
            else:
                float32.append(f"{run['role']}.{name}")
    return WrittenPage(path, size, float16, float32, runs[0]["points"]["n"])
