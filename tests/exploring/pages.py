"""Pages of small untrained runs, and files that stand in for the built page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tightbound.exploring.assets import SCRIPT, STYLE, TEMPLATE, WASM, Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.explore import Options
from tightbound.exploring.graphs import Networks, networks_of
from tightbound.exploring.page_data import build
from tightbound.exploring.run_data import Limits, PageRun
from tightbound.runs.run import Run, with_data
from tightbound.training import own_loop

STAND_IN = """<!doctype html><html lang="{{language}}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{policy}}"><title>{{title}}</title>
<style>{{style}}</style></head><body>{{data}}<script>{{script}}</script></body></html>
"""


def small_run(
    folder: Path, recipe: str = "vae", source: Any = "digits", **more: Any
) -> Run:
    """An untrained run with two features unless the settings say otherwise.

    A setting that is None is left out: the recipe's own value holds.
    """
    values = {"latent": 2, "recipe.size": "s", **more}
    values = {key: value for key, value in values.items() if value is not None}
    model, data = own_loop.build(recipe, source, seed=0, settings=values)
    return with_data(own_loop.save(model, folder), data.splits)


def small_page(folder: Path) -> tuple[PageData, list[PageRun]]:
    """The page of a small VAE with two features, whose networks all are on the server.

    None is made an ONNX graph, which takes seconds.
    """
    run = small_run(folder / "run")
    runs = [PageRun("main", run, networks_of(run.model, most=0))]
    return build(runs, Limits(40, 40), mode="served", scenes=False), runs


def page_without_networks(
    runs: list[Run], options: Options, *, one_file: bool
) -> tuple[PageData, list[PageRun]]:
    """In place of `explore.page_of`: a page of one run with nothing to be computed."""
    about = {"graphs": {}, "points": {"n": 3}}
    manifest: dict[str, Any] = {"title": "t", "language": "en", "runs": [about]}
    return PageData(manifest, {}), [PageRun("main", runs[0], Networks())]


@contextmanager
def served(page: PageData, runs: Sequence[PageRun], assets: Assets) -> Iterator[str]:
    """The address of a page that another thread serves on this machine."""
    import uvicorn

    from tightbound.exploring.server import Served, access_of, application, listen

    with listen("127.0.0.1", 0) as listening:
        access = access_of("127.0.0.1", listening)
        app = application(Served(page, runs, assets), access)
        config = uvicorn.Config(app, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        serving = threading.Thread(
            target=lambda: asyncio.run(server.serve([listening])), daemon=True
        )
        serving.start()
        yield access.url
        server.should_exit = True
        serving.join(20)


def stand_in_assets(folder: Path) -> Assets:
    """A page of a few lines, for tests that need no built one."""
    static = folder / "static"
    static.mkdir()
    (static / TEMPLATE).write_text(STAND_IN)
    (static / SCRIPT).write_text("document.title += '!';const s = '</script>';\r\n")
    (static / STYLE).write_text("body { color: #111 }\n")
    (static / WASM).write_bytes(b"\0asm")
    return Assets(static)
