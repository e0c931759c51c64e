"""The data of a page, from one or two runs: a manifest and blocks of bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tightbound import __version__
from tightbound.exploring.blocks import Blocks, Json, PageData
from tightbound.exploring.companions import scene_role
from tightbound.exploring.run_data import Limits, PageRun, add_run
from tightbound.runs.run import Run, load
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.errors import TightboundError

#: The form of the manifest; raised with each change that a page must know.
FORMAT = 2


def build(
    runs: Sequence[PageRun],
    limits: Limits,
    *,
    mode: str,
    language: str = "en",
    scenes: bool = True,
    sentences: Sequence[str] = (),
) -> PageData:
    """The manifest and the blocks of a page.

    Args:
        runs: The runs with their roles, the main one first.
        limits: How much of the data.
        mode: "served" or "file".
        language: "en" or "ko".
        scenes: Whether the page has the scenes on theory.
        sentences: Notices that the page shows.

    Raises:
        TightboundError: Two runs are of data of different shapes, or the data are gone.
    """
    check_alike([each.run for each in runs])
    blocks = Blocks()
    rows = [add_run(run, blocks, limits) for run in runs]
    names = " and ".join(row.run.name for row in runs if not _is_scene(row))
    manifest: Json = {
        "format": FORMAT,
        "tightbound": __version__,
        "title": f"{names} on {runs[0].run.data.name}",
        "language": language,
        "mode": mode,
        "limits": {"points": limits.points, "training": limits.training},
        "scenes": {
            "vae": _scene(runs, "scene-vae") if scenes else None,
            "ae": _scene(runs, "scene-ae") if scenes else None,
        },
        "runs": rows,
        "sentences": list(sentences),
    }
    return PageData(finite(manifest), blocks.content)


def _scene(runs: Sequence[PageRun], role: str) -> int | None:
    """The position of the run that plays a role in the scenes on theory."""
    for i, each in enumerate(runs):
        if each.role == role or scene_role(each.run) == role:
            return i
    return None


def _is_scene(run: PageRun) -> bool:
    return run.role.startswith("scene-")


def check_alike(runs: Sequence[Run]) -> None:
    """Refuse two runs whose examples cannot be shown under one hand."""
    first = runs[0]
    for other in runs[1:]:
        spec = other.spec
        if (spec.shape, spec.layout) != (first.spec.shape, first.spec.layout):
            raise TightboundError(
                f"{other.name!r} is of examples {spec.shape} and {first.name!r} of "
                f"{first.spec.shape}, so they cannot be shown together: name two runs on the "
                "same data"
            )


def finite(values: Json) -> Json:
    """Values of JSON in which a number that is not finite is null."""
    return {key: _finite(value) for key, value in values.items()}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def text_of(manifest: Json) -> str:
    """The manifest as JSON without blanks."""
    return json.dumps(
        manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def write(page: PageData, folder: Path) -> None:
    """Write `manifest.json` and the folder `blocks` with a file for each block."""
    places = make_folder(folder / "blocks")
    for name, content in page.blocks.items():
        write_atomic(places / name, content)
    write_atomic(folder / "manifest.json", text_of(page.manifest))


def main(
    *runs: Path,
    out: Path,
    points: int = 2000,
    trust: Annotated[bool, "run code that a config names"] = False,
) -> None:
    """Write the data of a page to a folder, for work on the page itself.

    Args:
        runs: One or two run folders.
        out: The folder.
        points: Most points.
        trust: Run code that a config names.
    """
    from tightbound.exploring.graphs import networks_of_run

    roles = ("main", "second")
    loaded = [load(path, trust=trust) for path in runs]
    pairs = zip(roles, loaded, strict=False)
    page_runs = [PageRun(role, run, networks_of_run(run)) for role, run in pairs]
    limits = Limits(points, points)
    write(build(page_runs, limits, mode="served"), out)


if __name__ == "__main__":
    from cyclopts import App

    app = App(help="Write the data of a page to a folder.")
    app.default(main)
    app()
