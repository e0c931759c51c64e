"""The page in Chromium: time from z to a painted canvas, frames a second, first paint, size.

    python benchmarks/page.py [--only mlp conv points export] [--out FILE]

Untrained models: an MLP over 28 x 28 pixels, a convolution over 64 x 64 pixels in colour. The time
starts where a hand moves z and ends when the decoded pixels are on their canvas. Frames are those
of a plane with 100,000 points in which, in each frame, z is dragged, the view is moved or zoomed;
beside them stand the milliseconds of processor that a frame takes of the page's thread, which say
more on a busy machine (60 frames a second leave 16.7). The sizes are those of files that
`tightbound explore --export` writes. The browser has no GPU here.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from tightbound.exploring import one_file
from tightbound.exploring.assets import Assets
from tightbound.exploring.blocks import Blocks, PageData
from tightbound.exploring.explore import Options, export_page, page_of
from tightbound.runs.run import Run, with_data
from tightbound.training.own_loop import build, save

PAGES = {"mlp": "MLP 28 x 28", "conv": "convolution 64 x 64 x 3"}
CASES = (*PAGES, "points", "export")
POINTS = 100_000
MOVES = 400
SECONDS = 2
REPEATS = 5
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

TIMES = """async ([moves]) => {
  const { main } = window.tightbound.page;
  const scope = { add() {} };
  let painted = () => {};
  main.state.decoded.watch(() => painted(), scope);
  const times = [];
  for (let i = 0; i < moves; i++) {
    const z = main.state.z.value.map((_, k) => Math.sin(i + k));
    const start = performance.now();
    await new Promise((done) => {
      painted = done;
      main.state.move(z);
    });
    times.push(performance.now() - start);
  }
  return times;
}"""

MOVEMENTS = ("none", "drag", "pan", "zoom")
FRAMES = """async ([kind, seconds]) => {
  const plane = document.querySelector('.plane');
  const box = plane.getBoundingClientRect();
  plane.setPointerCapture = () => {};
  const fire = (type, x, y) => plane.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, pointerType: 'mouse', button: 0, bubbles: true, shiftKey: kind === 'pan',
    clientX: box.x + x, clientY: box.y + y,
  }));
  const hasPointer = kind === 'drag' || kind === 'pan';
  if (hasPointer) fire('pointerdown', 200, 200);
  const start = performance.now();
  let frames = 0;
  while (performance.now() - start < 1000 * seconds) {
    await new Promise(requestAnimationFrame);
    frames += 1;
    if (hasPointer) {
      fire('pointermove', 200 + 100 * Math.sin(frames / 10), 200 + 100 * Math.cos(frames / 10));
    } else if (kind === 'zoom') {
      plane.dispatchEvent(new WheelEvent('wheel', {
        deltaY: frames % 40 < 20 ? -20 : 20, clientX: box.x + 200, clientY: box.y + 200,
      }));
    }
  }
  const rate = frames / ((performance.now() - start) / 1000);
  if (hasPointer) fire('pointerup', 200, 200);
  return [frames, rate];
}"""

PAINT = """() => {
  const [first] = performance.getEntriesByName('first-contentful-paint');
  return first ? first.startTime : null;
}"""


def untrained(folder: Path, shape: tuple[int, ...], **settings: Any) -> Run:
    """An untrained VAE over noise of a shape."""
    x = np.random.default_rng(0).integers(0, 256, (300, *shape), dtype=np.uint8)
    model, data = build("vae", x, seed=0, settings=settings)
    return with_data(save(model, folder), data.splits)


def with_points(page: PageData, count: int) -> PageData:
    """The page with its codes repeated and moved a little, without spreads and terms."""
    manifest = copy.deepcopy(page.manifest)
    blocks = Blocks(dict(page.blocks))
    runs: Any = manifest["runs"]
    points = runs[0]["points"]
    rng = np.random.default_rng(1)
    for key in ("z", "x"):
        block = points[key]
        values = np.frombuffer(page.blocks[block["block"]], dtype=block["dtype"])
        values = np.resize(values.reshape(block["shape"]), (count, *block["shape"][1:]))
        if key == "z":
            noise = rng.normal(0, 0.3, size=values.shape)
            values = (values + noise).astype(np.float32)
        points[key] = blocks.add(f"many.{key}", values, block["dtype"])
    points.update(n=count, scale=None, labels=None, terms=None, sprite=None)
    return PageData(manifest, blocks.content)


def opened(browser: Browser, path: Path) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector("main[aria-busy=false]", timeout=120_000)
    page.wait_for_timeout(1500)
    return page


def seconds_of(browser: Browser, path: Path, moves: int) -> dict[str, float]:
    """Quantiles of milliseconds from z to the canvas, and the first paint."""
    page = opened(browser, path)
    busy = thread_time(page)
    page.evaluate(TIMES, [moves])  # the first moves compile
    before = busy()
    times = np.array(page.evaluate(TIMES, [moves]))
    cost = (busy() - before) / moves
    first = page.evaluate(PAINT)
    page.close()
    return {
        "moves": moves,
        "z to canvas, ms": round(float(np.median(times)), 2),
        "5 %, ms": round(float(np.quantile(times, 0.05)), 2),
        "95 %, ms": round(float(np.quantile(times, 0.95)), 2),
        "processor ms a move": round(cost, 2),
        "first paint, ms": round(first),
        "file, MB": round(path.stat().st_size / 1e6, 2),
    }


def thread_time(page: Page) -> Callable[[], float]:
    """A clock of the processor of the page's thread, in milliseconds."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        values = {row["name"]: row["value"] for row in metrics}
        return 1000 * float(values["TaskDuration"])

    return busy


def frames_of(page: Page) -> dict[str, dict[str, float]]:
    """Frames a second, and milliseconds of processor of the page's thread, by movement."""
    busy = thread_time(page)
    figures = {}
    for kind in MOVEMENTS:
        rates, costs = [], []
        for _ in range(REPEATS):
            before = busy()
            frames, rate = page.evaluate(FRAMES, [kind, SECONDS])
            rates.append(rate)
            costs.append((busy() - before) / frames)
        figures[kind] = {
            "frames a second": round(float(np.median(rates)), 1),
            "processor ms a frame": round(float(np.median(costs)), 1),
        }
    return figures


def one_page(folder: Path, name: str) -> Path:
    """The page of an untrained model: an MLP over 28 x 28, or a convolution over colours."""
    if name == "mlp":
        run = untrained(folder / name, (28, 28))
    else:
        run = untrained(folder / name, (64, 64, 3), **{"recipe.network": "conv"})
    page, _ = page_of([run], Options(points=100, scenes=False), one_file=False)
    one_file.write(page, folder / f"{name}.html", Assets(), overwrite=True)
    return folder / f"{name}.html"


def plane_of_many(folder: Path) -> Path:
    """The page of a model of four numbers with many points in its plane."""
    small = untrained(folder / "small", (4,), latent=2)
    page, _ = page_of([small], Options(points=100, scenes=False), one_file=False)
    path = folder / "many.html"
    one_file.write(with_points(page, POINTS), path, Assets(), overwrite=True)
    return path


def export_size(folder: Path) -> float:
    """Megabytes of the export of a VAE of digits with its scenes."""
    model, data = build("vae", "digits", seed=0)
    digits = with_data(save(model, folder / "digits"), data.splits)
    return round(export_page([digits], folder / "digits.html", Options()).size / 1e6, 2)


def measure(folder: Path, only: list[str], moves: int) -> dict[str, object]:
    """The figures of some cases."""
    figures: dict[str, object] = {}
    if "export" in only:
        figures["export of digits, MB"] = export_size(folder)
    files = {name: one_page(folder, name) for name in PAGES if name in only}
    many = plane_of_many(folder) if "points" in only else None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=list(FLAGS)
        )
        for name, path in files.items():
            figures[PAGES[name]] = seconds_of(browser, path, moves)
        if many is not None:
            figures["100,000 points"] = frames_of(opened(browser, many))
        browser.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--moves", type=int, default=MOVES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.only, options.moves)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
