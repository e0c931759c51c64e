"""Pages of small untrained runs, and files that stand in for the built page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tightbound.exploring.assets import SCRIPT, STYLE, TEMPLATE, WASM, Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.explore import Options, page_of
from tightbound.exploring.run_data import PageRun
from tightbound.runs.run import Run
from tightbound.training.own_loop import build, save

STAND_IN = """<!doctype html><html lang="{{language}}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{policy}}"><title>{{title}}</title>
<style>{{style}}</style></head><body>{{data}}<script>{{script}}</script></body></html>
"""


def small_run(
    folder: Path, recipe: str = "vae", source: Any = "digits", **more: Any
) -> Run:
    """An untrained run with two features unless the settings say otherwise."""
    values = {"latent": 2, "recipe.size": "s", **more}
    model, data = build(recipe, source, seed=0, settings=values)
    return save(model, folder).with_data(data.splits)


def small_page(folder: Path) -> tuple[PageData, list[PageRun]]:
    """The served page of a small VAE with two features, without scenes."""
    run = small_run(folder / "run")
    return page_of([run], Options(points=40, scenes=False), one_file=False)


def stand_in_assets(folder: Path) -> Assets:
    """A page of a few lines, for tests that need no built one."""
    static = folder / "static"
    static.mkdir()
    (static / TEMPLATE).write_text(STAND_IN)
    (static / SCRIPT).write_text("document.title += '!';const s = '</script>';\r\n")
    (static / STYLE).write_text("body { color: #111 }\n")
    (static / WASM).write_bytes(b"\0asm")
    return Assets(static)
