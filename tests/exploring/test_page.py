"""The page in a browser: what it decodes and computes, its controls, its layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from exploring.pages import small_run
from PIL import Image
from support.extras import skip_without

import tightbound as tb
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.exploring import one_file
from tightbound.exploring.assets import Assets
from tightbound.exploring.explore import Options, page_of
from tightbound.exploring.graphs import networks_of
from tightbound.exploring.page_data import build
from tightbound.exploring.run_data import Limits, PageRun
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

skip_without(
    "onnxruntime", "onnxscript", "playwright", reason="needs the extras explore and dev"
)

RUNS = ("main", "second")
TABS = ("explore", "input", "features", "between", "run")
SMALL = {"network.width": 24, "network.depth": 1}
SHORT: dict[str, dict[str, Any]] = {
    "vae": {"latent": 2, **SMALL},
    "conditional": {"latent": 2, **SMALL},
    "vq-conv": {"latent": None},
}
# each takes seconds to two minutes, for its graphs
OTHERS: dict[str, dict[str, Any]] = {
    "conv": {"recipe": "vae", "latent": 2, "network": "conv"},
    "iwae": {"latent": 2, **SMALL},
    "ae": {"latent": 2, **SMALL},
    "hvae": {"latent": None, **SMALL},
    "ladder": {"latent": None, **SMALL},
    "vamp": {"latent": 2, **SMALL},
    "flow-prior": {"latent": 2, **SMALL},
    "missing-data": {"latent": 2, **SMALL},
    "m2": {"latent": 2, **SMALL},
    "vq-vae": {"latent": None},
    "vdvae": {"latent": None},
}
RECIPES = SHORT | OTHERS
LONG = bool(os.environ.get("TIGHTBOUND_LONG"))
LONG_ONES = pytest.mark.skipif(not LONG, reason="long, minutes: TIGHTBOUND_LONG=1")
NAMES = [
    pytest.param(name, marks=[] if name in SHORT else [LONG_ONES]) for name in RECIPES
]


@dataclass
class Shown:
    """A page that is open in the browser.

    Args:
        page: The page.
        runs: Its runs.
        address: Its address.
        requests: Addresses of all requests since it was opened.
        errors: Errors of its scripts and of the console.
    """

    page: Page
    runs: list[Run]
    address: str
    requests: list[str]
    errors: list[str]

    def compute(self, code: str, *arguments: object) -> Any:
        """The value of an expression in the page; `run` is its main run, `a` the arguments."""
        function = f"async (a) => {{ const run = window.tightbound.page.main; {code} }}"
        return self.page.evaluate(function, list(arguments))

    def settle(self) -> None:
        """Wait for two frames, after which what was asked for has been painted."""
        self.page.evaluate(
            "() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )

    def wait(self, condition: str, *arguments: object) -> None:
        """Wait until an expression of `run` is true; the policy forbids playwright's own way."""
        for _ in range(500):
            if self.compute(f"return Boolean({condition})", *arguments):
                self.settle()
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{condition} has not come true")

    def pixels(self, selector: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Red of the pixels of a canvas."""
        values = self.page.eval_on_selector(
            selector,
            "c => [c.width, c.height, ...c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data]",
        )
        width, height = values[:2]
        return np.array(values[2:], dtype=float).reshape(height, width, 4)[..., 0]

    def digest(self, selector: str) -> str:
        """SHA-256 of the pixels of a large canvas."""
        code: str = self.page.eval_on_selector(
            selector,
            "async c => { const { data } = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height);"
            "const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', data));"
            "return [...hash].join(' '); }",
        )
        return code


@pytest.fixture(scope="module")
def assets() -> Assets:
    try:
        return Assets()
    except TightboundError as error:
        pytest.skip(str(error))


class Pages:
    """Pages by name, each written and opened once."""

    def __init__(self, folder: Path, assets: Assets, browser: Browser) -> None:
        self.folder = folder
        self.assets = assets
        self.browser = browser
        self.opened: dict[str, Shown] = {}

    def __call__(self, name: str) -> Shown:
        if name not in self.opened:
            self.opened[name] = self._open(name)
        return self.opened[name]

    def _open(self, name: str) -> Shown:
        settings = dict(RECIPES[name])
        recipe = settings.pop("recipe", name)
        data: Any = with_gaps() if name == "missing-data" else "digits"
        runs = [small_run(self.folder / name, recipe, data, **settings)]
        if name == "vae":
            runs.append(small_run(self.folder / "ae", "ae", **RECIPES[name]))
        data, _ = page_of(runs, Options(points=60, scenes=False), one_file=False)
        path = self.folder / f"{name}.html"
        one_file.write(data, path, self.assets, overwrite=True)
        requests: list[str] = []
        errors: list[str] = []
        page = self.browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text) if message.type == "error" else None
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("main[aria-busy=false]")
        return Shown(page, runs, path.as_uri(), requests, errors)


def with_gaps() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Digits (n, 8, 8) of which a tenth of the values is missing."""
    from sklearn.datasets import load_digits

    x = load_digits().images.astype(np.float32)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    return x


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, assets: Assets, browser: Browser
) -> Iterator[Pages]:
    opened = Pages(tmp_path_factory.mktemp("pages"), assets, browser)
    yield opened
    for shown in opened.opened.values():
        shown.page.close()


def example(run: Run, row: int) -> tuple[Batch, torch.Tensor]:
    """A test example as a batch, and draws of q at all sites side by side."""
    batch = run.data.splits["test"].examples(torch.tensor([row]))
    torch.manual_seed(row)
    with torch.no_grad():
        latents = run.model(batch, Draw()).latents
    return batch, torch.cat([latents[name].z for name in run.model.site_widths], -1)


def in_double(batch: Batch) -> Batch:
    """A batch whose numbers are float64."""
    c = None if batch.c is None else batch.c.double()
    return replace(batch, x=batch.x.double(), c=c)


def raw_condition(batch: Batch) -> list[float] | None:
    """The class number of a batch with one row."""
    return None if batch.c is None else [float(batch.c.argmax())]


@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_canvas_has_the_pixels_of_torch(pages: Pages, name: str) -> None:
    shown = pages(name)
    run = shown.runs[0]
    batch, z = example(run, 3)
    with torch.no_grad():
        widths = list(run.model.site_widths.values())
        given = dict(zip(run.model.site_widths, z.split(widths, -1), strict=True))
        px = run.model.generate(1, Draw(source="p", given=given), batch.c).px
    expected = run.spec.to_raw(px.mean)[0].numpy() / 16 * 255
    shown.page.click("#tab-explore")
    shown.compute(
        "run.state.setCondition(a[1] && Float64Array.from(a[1]));"
        "run.state.move(Float64Array.from(a[0]));",
        z[0].tolist(),
        raw_condition(batch),
    )
    shown.wait("run.state.decoded.value?.z[0] === a[0]", float(z[0, 0]))
    canvas = shown.pixels(".decoded-card canvas")
    assert np.abs(canvas - expected).max() <= 1.0
    assert np.ptp(canvas) > 3


@pytest.mark.parametrize("name", NAMES)
def test_the_terms_are_those_of_a_trace_at_the_same_z(pages: Pages, name: str) -> None:
    shown = pages(name)
    run = shown.runs[0]
    for row in (1, 8):
        batch, z = example(run, row)
        widths = list(run.model.site_widths.values())
        given = dict(zip(run.model.site_widths, z.split(widths, -1), strict=True))
        with torch.no_grad():
            trace = run.model.double()(
                in_double(batch),
                Draw(given={key: value.double() for key, value in given.items()}),
            )
            for site in trace.latents.values():
                site.source = "q"  # as `Trace.again` does: z was drawn from it
            expected = [float(trace.log_px)]
            if run.config.recipe.has_bound:
                sites = list(trace.latents.values())
                expected.append(float(sum(site.log_p for site in sites)))
                expected.append(float(sum(site.log_q for site in sites)))
        run.model.float()
        terms = shown.compute(
            "const x = Float64Array.from(a[0]); const c = a[2] && Float64Array.from(a[2]);"
            "const q = await run.model.posterior(x, c);"
            "return run.model.terms(x, Float64Array.from(a[1]), q, c);",
            run.spec.to_raw(batch.x).flatten().tolist(),
            z[0].tolist(),
            raw_condition(batch),
        )
        names = ("reconstruction", "logPrior", "logPosterior")
        for key, value in zip(names, expected, strict=False):
            assert abs(terms[key] - value) <= max(1e-3, 1e-6 * abs(value)), key
        if not run.config.recipe.has_bound:
            assert terms["logWeight"] is None
            continue
        weight = terms["reconstruction"] + terms["logPrior"] - terms["logPosterior"]
        assert terms["logWeight"] == pytest.approx(weight, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_from_disk_asks_for_nothing(pages: Pages, name: str) -> None:
    shown = pages(name)
    for tab in TABS:
        shown.page.click(f"#tab-{tab}")
        shown.settle()
    assert shown.requests == [shown.address]
    assert shown.errors == []


def test_a_file_without_webassembly_says_so_in_a_sentence(pages: Pages) -> None:
    address = pages("vae").address
    page = pages.browser.new_page()
    page.add_init_script("delete globalThis.WebAssembly")
    page.goto(address)
    page.wait_for_selector("main[aria-busy=false]")
    text = page.inner_text("main")
    page.close()
    assert "has no WebAssembly" in text and "tightbound explore" in text
    assert text.count(".") == 1 and "\n" not in text.strip()


def test_holes_are_marked_where_no_data_were_encoded(
    tmp_path: Path, assets: Assets, browser: Browser
) -> None:
    """Codes on a ring: the disc inside it is a hole."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 9000)
    radius = 2 + 0.05 * rng.normal(size=9000)
    noise = 0.1 * rng.normal(size=9000)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle), noise], 1)
    options = {"out": tmp_path / "run", "report": False, "display": "none"}
    settings = {"latent": 2, "train.steps": 1}  # ppca has a closed form
    run = tb.train(x.astype(np.float32), "ppca", settings=settings, **options)
    page_run = PageRun("main", run, networks_of(run.model, most=0))
    data = build([page_run], Limits(900, 900), mode="file", scenes=False)
    one_file.write(data, tmp_path / "page.html", assets, overwrite=True)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("main[aria-busy=false]")
    holes, frame, codes, note = page.evaluate(
        "() => { const { holes, frame, xy } = window.tightbound.page.main.planeData.value;"
        "return [{ ...holes, mask: [...holes.mask] }, frame, [...xy],"
        " document.querySelector('.notes').innerText]; }"
    )
    page.close()
    ring = np.linalg.norm(np.array(codes).reshape(-1, 2), axis=1)
    assert ring.mean() == pytest.approx(2**0.5, abs=0.05) and ring.std() < 0.1
    expected, known = holes_of_codes(np.array(codes).reshape(-1, 2), frame, holes)
    mask = np.array(holes["mask"], bool).reshape(known.shape)
    assert (mask != known).mean() < 0.004  # cells at the edge of a hole
    assert holes["share"] == pytest.approx(expected, abs=0.01)
    assert 0.12 < expected < 0.3
    middle = len(mask) // 2
    assert mask[middle, middle], "z = 0, where p(z) is highest"
    percent = f"{100 * holes['share']:.0f} %"
    assert f"Hatched: holes, {percent} of the mass of p(z)" in note


def holes_of_codes(
    codes: np.ndarray[Any, Any], frame: dict[str, float], holes: dict[str, Any]
) -> tuple[float, np.ndarray[Any, Any]]:
    """The share of N(0, I) in holes and the marked cells, without a grid for the codes."""
    side = round(len(holes["mask"]) ** 0.5)
    at = (np.arange(side) + 0.5) / side
    x = frame["x0"] + at * (frame["x1"] - frame["x0"])
    y = frame["y0"] + at * (frame["y1"] - frame["y0"])
    cells = np.stack(np.meshgrid(x, y), -1)
    prior = np.exp(-0.5 * (cells**2).sum(-1)) / (2 * np.pi)
    bandwidth = np.array(holes["bandwidth"])
    away = (cells[:, :, None] - codes) / bandwidth
    kernel = np.exp(-0.5 * (away**2).sum(-1)) / (2 * np.pi * bandwidth.prod())
    region = prior >= np.exp(-0.5 * -2 * np.log(1 - 0.9)) / (2 * np.pi)
    known = region & (kernel.mean(-1) < 0.1 * prior)
    area = (x[1] - x[0]) * (y[1] - y[0])
    return float(prior[known].sum() * area), known


# ---- controls, on the page of a VAE and an AE


def centre(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def z_of(shown: Shown, run: str = "main") -> list[float]:
    values = shown.page.evaluate(f"[...window.tightbound.page.{run}.state.z.value]")
    return [float(value) for value in values]


def test_a_drag_moves_both_runs(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    x, y = centre(page, ".plane[data-run=main]")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 90, steps=4)
    page.mouse.up()
    shown.settle()
    shares = page.evaluate(
        "window.tightbound.page.shown.map(run => run.shareOf(...run.position()))"
    )
    width = page.locator(".plane[data-run=main]").bounding_box()
    assert width is not None
    expected = (0.5 + 60 / width["width"], 0.5 + 90 / width["width"])
    for share in shares:
        assert share == pytest.approx(expected, abs=0.01)
    decoded = page.evaluate(
        "window.tightbound.page.shown.map(run => [...run.state.decoded.value.z])"
    )
    assert decoded[0] == pytest.approx(z_of(shown))
    assert decoded[1] == pytest.approx(z_of(shown, "second"))


def test_arrow_keys_move_z_and_enter_follows_the_nearest_example(pages: Pages) -> None:
    shown = pages("vae")
    before = z_of(shown)
    shown.page.focus(".plane[data-run=main]")
    shown.page.keyboard.press("ArrowRight")
    after = z_of(shown)
    assert after[0] > before[0]
    assert after[1] == pytest.approx(before[1])
    shown.page.keyboard.press("Enter")
    shown.wait("run.state.input.value !== null")
    point = shown.compute("return run.state.input.value.point")
    codes = shown.compute("return [...run.model.points.z]")
    distances = np.hypot(*(np.array(codes).reshape(-1, 2) - after).T)
    assert distances[point] == pytest.approx(distances.min())


def test_a_slider_sets_its_feature(pages: Pages) -> None:
    shown = pages("vae")
    shown.page.click("#tab-features")
    feature = shown.compute("return run.model.run.latent.features[0].index")
    before = z_of(shown)
    slider = shown.page.locator(".feature-row input[type=range]").first
    slider.focus()
    slider.press("End")
    value = float(slider.input_value())
    after = z_of(shown)
    assert value > 2
    assert after[feature] == pytest.approx(value)
    assert after[1 - feature] == pytest.approx(before[1 - feature])


def test_a_lasso_filters_the_strip(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    page.locator("input[value=lasso]").first.check(force=True)
    planes = [f".plane[data-run={run}] canvas:nth-of-type(2)" for run in RUNS]
    before = [shown.digest(plane) for plane in planes]
    box = page.locator(".plane[data-run=main]").bounding_box()
    assert box is not None
    corners = [(0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98)]
    places = [
        (box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in corners
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()
    shown.settle()
    middle = shown.compute("const f = run.state.frame.value; return (f.x0 + f.x1) / 2")
    codes = np.array(shown.compute("return [...run.planeData.value.xy]")).reshape(-1, 2)
    count = int((codes[:, 0] < middle).sum())
    title = page.locator(".panel h3").first.inner_text()
    assert abs(int(title.split(": ")[1]) - count) <= 2
    for plane, digest in zip(planes, before, strict=True):
        assert shown.digest(plane) != digest, "the same points in both planes"
    page.get_by_text("Clear the lasso").first.click()
    shown.settle()
    assert [shown.digest(plane) for plane in planes] == before, "all points again"
    page.locator("input[value=hand]").first.check(force=True)


def test_a_lasso_is_drawn_by_keys(pages: Pages) -> None:
    """A square to the right of and above z, of 14 steps on each side."""
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    page.locator("input[value=lasso]").first.check(force=True)
    page.focus(".plane[data-run=main]")
    shown.compute("run.state.move(Float64Array.of(-0.1, -0.1))")
    shown.settle()
    corners = [z_of(shown)]
    page.keyboard.press(" ")
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
        for _ in range(14):
            page.keyboard.press(key)
        corners.append(z_of(shown))
    page.keyboard.press(" ")
    shown.settle()
    (left, low), (right, _), (_, high), (back, _) = corners
    assert right > left and high > low and back == pytest.approx(left)
    codes = np.array(shown.compute("return [...run.planeData.value.xy]")).reshape(-1, 2)
    inside = (codes > (left, low)) & (codes < (right, high))
    chosen = shown.compute("return window.tightbound.page.lasso.value")
    assert chosen == np.flatnonzero(inside.all(1)).tolist()
    assert 0 < len(chosen) < len(codes)
    page.keyboard.press("Escape")
    assert shown.compute("return window.tightbound.page.lasso.value") is None
    page.locator("input[value=hand]").first.check(force=True)


def test_the_temperature_scales_the_draws_of_the_prior(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    page.get_by_role("button", name="Draw from p(z)").first.click()
    shown.wait("run.overlay.value.draws !== null")
    draws = np.array(shown.compute("return [...run.overlay.value.draws]"))
    slider = page.get_by_label("Temperature").first
    slider.fill("0.5")
    shown.wait("Math.abs(run.overlay.value.draws[0] - a[0] / 2) < 1e-6", draws[0])
    cooler = np.array(shown.compute("return [...run.overlay.value.draws]"))
    assert cooler == pytest.approx(draws / 2, abs=1e-6)
    assert draws.std() == pytest.approx(1, abs=0.4)
    slider.fill("1")


def test_z_is_set_to_a_minus_b_plus_c(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-between")
    page.get_by_role("button", name="Set z to A").click()
    for run in RUNS:
        labels = f"[...window.tightbound.page.{run}.model.points.labels]"
        codes = f"[...window.tightbound.page.{run}.model.points.z]"
        z = np.array(page.evaluate(codes)).reshape(-1, 2)
        a, b, c = (z[page.evaluate(labels).index(label)] for label in (1, 3, 5))
        assert z_of(shown, run) == pytest.approx(a - b + c, abs=1e-5)
    shown.wait("run.state.decoded.value.z[0] === run.state.z.value[0]")
    decoded = shown.pixels(".decoded-card canvas")
    result = shown.pixels(".equation figure:nth-of-type(4) canvas")
    assert np.abs(decoded - result).max() <= 1


def test_a_tour_goes_from_centre_to_centre_and_plays(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-between")
    step = page.get_by_role("button", name="Next centre")
    places = []
    for _ in range(12):
        step.click()
        places.append(z_of(shown))
    trail = np.array(shown.compute("return run.overlay.value.trail.map((z) => [...z])"))
    assert np.array(places) == pytest.approx(np.roll(trail, -1, axis=0))
    codes = np.array(shown.compute("return [...run.model.points.z]")).reshape(-1, 2)
    nearest = np.linalg.norm(codes[:, None] - trail, axis=-1).argmin(1)
    for k in range(len(trail)):
        assert codes[nearest == k].mean(0) == pytest.approx(trail[k], abs=1e-4)
    page.get_by_role("button", name="Play").click()
    before = z_of(shown)
    shown.wait("run.state.z.value[0] !== a[0]", before[0])
    page.get_by_role("button", name="Stop").click()
    stopped = z_of(shown)
    shown.settle()
    assert z_of(shown) == stopped


def test_nothing_moves_by_itself_where_motion_is_reduced(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.emulate_media(reduced_motion="reduce")
    page.click("#tab-explore")
    page.click("#tab-between")
    assert page.get_by_role("button", name="Play").count() == 0
    duration = "getComputedStyle(document.querySelector('.tab')).transitionDuration"
    assert page.evaluate(duration) in ("0s", "")
    page.emulate_media(reduced_motion="no-preference")
    page.click("#tab-explore")
    page.click("#tab-between")
    assert page.get_by_role("button", name="Play").count() == 1
    assert page.evaluate(duration) not in ("0s", "")


def test_an_entry_is_chosen_for_one_place_of_the_codes(pages: Pages) -> None:
    shown = pages("vq-conv")
    page = shown.page
    page.click("#tab-features")
    places = page.locator(".code-grid button")
    page.locator(".panel .strip button").first.wait_for()
    before = [int(text) for text in places.all_inner_texts()]
    places.nth(1).click()
    assert places.nth(1).get_attribute("aria-pressed") == "true"
    entries = page.locator(".panel .strip button")
    captions = entries.locator(".caption").all_inner_texts()
    other = next(k for k, text in enumerate(captions) if int(text) != before[1])
    entries.nth(other).click()
    shown.wait(
        "document.querySelectorAll('.code-grid button')[1].textContent === a[0]",
        captions[other],
    )
    after = [int(text) for text in places.all_inner_texts()]
    assert after == [before[0], int(captions[other]), *before[2:]]
    vectors = shown.compute(
        "return [...await run.model.codeVectors(Float64Array.from(a[0]), 1)]", after
    )
    assert z_of(shown) == pytest.approx(vectors, abs=1e-6)


@LONG_ONES
def test_upper_groups_are_kept_and_the_rest_is_drawn_again(pages: Pages) -> None:
    shown = pages("hvae")
    page = shown.page
    page.click("#tab-features")
    order = shown.compute("return run.model.run.latent.order")
    sites = {
        site["name"]: slice(site["start"], site["start"] + site["width"])
        for site in shown.compute("return run.model.run.latent.sites")
    }
    upper = page.locator("section", has=page.get_by_label("Keep"))
    page.get_by_label("Keep").select_option("1")
    draws = []
    for again in range(2):
        cells = upper.locator(".strip button")
        page.wait_for_timeout(500)
        for k in (0, 5):
            cells.nth(k).click()
            draws.append(np.array(z_of(shown)))
        if again == 0:
            upper.get_by_role("button", name="Draw the rest again").click()
    kept = np.array([z[sites[order[0]]] for z in draws])
    rest = np.array([z[sites[order[1]]] for z in draws])
    assert np.ptp(kept, axis=0).max() < 1e-6
    assert np.ptp(rest, axis=0).min() > 1e-3


def test_many_points_are_painted_again_only_where_the_view_moves(pages: Pages) -> None:
    """A drag of z paints none of them; a view that rests has all of them again."""
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    shown.compute(
        "const { value } = run.planeData; window.before = value; let seed = 7;"
        "const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647 * 4 - 2;"
        "run.planeData.set({ ...value, xy: Float32Array.from({ length: 18000 }, next) });"
        "window.painted = 0;"
        "const dots = document.querySelector('.plane[data-run=main] canvas:nth-of-type(2)');"
        "const pens = CanvasRenderingContext2D.prototype; window.put = pens.putImageData;"
        "pens.putImageData = function (...all) {"
        "  if (this.canvas === dots) window.painted += 1;"
        "  return window.put.apply(this, all); };"
    )
    plane = ".plane[data-run=main] canvas:nth-of-type(2)"
    shown.settle()
    whole = shown.digest(plane)
    painted = page.evaluate("window.painted")
    x, y = centre(page, ".plane[data-run=main]")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=3)
    page.mouse.up()
    shown.settle()
    assert page.evaluate("window.painted") == painted
    page.mouse.wheel(0, -200)
    shown.wait("window.painted > a[0]", painted)
    page.focus(".plane[data-run=main]")
    page.keyboard.press("0")
    for _ in range(100):
        if shown.digest(plane) == whole:
            break
        page.wait_for_timeout(50)
    assert shown.digest(plane) == whole
    shown.compute(
        "CanvasRenderingContext2D.prototype.putImageData = window.put;"
        "run.planeData.set(window.before);"
    )


def test_the_mouse_over_a_point_shows_its_example(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-explore")
    u, v = shown.compute(
        "const { xy } = run.planeData.value; return run.shareOf(xy[0], xy[1])"
    )
    box = page.locator(".plane[data-run=main]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + u * box["width"], box["y"] + (1 - v) * box["height"])
    tip = page.locator(".plane-holder .tip").first
    label = shown.compute("return run.model.points.labels[0]")
    assert tip.inner_text().strip() == f"Row 0: {label}"
    x = np.array(shown.compute("return [...run.model.points.x.row(0)]")).reshape(8, 8)
    assert np.abs(shown.pixels(".tip canvas") - x / 16 * 255).max() <= 1
    page.mouse.move(box["x"] - 5, box["y"] - 5)
    assert tip.is_hidden()


def test_a_path_goes_between_the_codes_of_each_run(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-between")
    page.get_by_role("button", name="Any row").first.click()
    page.locator(".panel input[type=range]").first.press("End")
    for run in RUNS:
        point = shown.compute("return run.model.points.labels.indexOf(3)")
        code = page.evaluate(
            f"[...window.tightbound.page.{run}.model.points.z.subarray("
            f"{2 * point}, {2 * point + 2})]"
        )
        assert z_of(shown, run) == pytest.approx(code, abs=1e-5)
    assert page.locator(".panel .strip.traversal").count() == 2
    page.get_by_role("button", name="Set z to").click()
    shown.settle()


def test_draws_are_made_again_for_another_condition(pages: Pages) -> None:
    shown = pages("conditional")
    page = shown.page
    page.click("#tab-explore")
    draw = ".view > section:last-of-type .strip canvas"
    shown.settle()
    before = shown.digest(draw)
    number = shown.compute("return run.state.condition.value[0]")
    page.locator(".condition select").select_option(str((int(number) + 1) % 10))
    for _ in range(100):
        if shown.digest(draw) != before:
            break
        page.wait_for_timeout(20)
    assert shown.digest(draw) != before


def test_an_autoencoder_has_no_prior_to_name(pages: Pages) -> None:
    shown = pages("vae")
    names = [
        text
        for text in shown.page.locator(".decoded-card dt").all_inner_texts()
        if text.startswith("log")
    ]
    assert names == ["log p(z)", "log N(z; 0, I)"]


def test_an_image_is_dropped_and_one_is_drawn(pages: Pages, tmp_path: Path) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-input")
    digit = np.arange(64).reshape(8, 8) % 17
    path = tmp_path / "digit.png"
    Image.fromarray((digit * 255 / 16).round().astype(np.uint8)).save(path)
    page.locator("input[type=file]").set_input_files(path)
    shown.wait("run.state.input.value?.point === null")
    x = shown.compute("return [...run.state.input.value.x]")
    assert np.array(x).reshape(8, 8) == pytest.approx(digit)
    shown.compute(
        "const data = new DataTransfer();"
        "const canvas = new OffscreenCanvas(8, 8); canvas.getContext('2d').fillRect(0, 0, 8, 8);"
        "data.items.add(new File([await canvas.convertToBlob()], 'black.png'));"
        "document.querySelector('.drop').dispatchEvent("
        "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))"
    )
    shown.wait("run.state.input.value.x.every(v => v === 0)")
    page.locator(".pad").scroll_into_view_if_needed()
    x0, y0 = centre(page, ".pad")
    page.mouse.move(x0, y0 - 40)
    page.mouse.down()
    page.mouse.move(x0, y0 + 40, steps=6)
    page.mouse.up()
    shown.wait("run.state.input.value.x.some(v => v > 8)")
    x = np.array(shown.compute("return [...run.state.input.value.x]")).reshape(8, 8)
    assert x[2:6, 3:5].mean() > 4
    assert x[:, [0, 7]].max() == 0


def test_a_file_that_is_too_large_or_no_image_is_refused_in_a_sentence(
    pages: Pages, tmp_path: Path
) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-input")
    page.fill("input[type=number]", "3")
    page.press("input[type=number]", "Enter")
    shown.wait("run.state.input.value?.point === 3")
    large, text = tmp_path / "large.png", tmp_path / "text.png"
    Image.new("1", (10_000, 10_000)).save(large)
    text.write_text("no image")
    sentences = {
        large: "This image has 100000000 pixels, more than 40000000: make it smaller.",
        text: "This file is no image that the browser can read.",
    }
    for path, sentence in sentences.items():
        page.locator("input[type=file]").set_input_files(path)
        page.get_by_text(sentence).wait_for()
    assert shown.compute("return run.state.input.value.point") == 3


def test_bars_show_the_terms_and_move_with_z(pages: Pages) -> None:
    shown = pages("vae")
    page = shown.page
    page.click("#tab-input")
    page.fill("input[type=number]", "5")
    page.press("input[type=number]", "Enter")
    shown.wait("run.state.input.value?.point === 5")
    shown.settle()

    def values() -> list[float]:
        texts = page.locator(".bars[data-run=main] .value").all_inner_texts()
        return [float(text.replace("\u2212", "-")) for text in texts]

    first = values()
    assert first[3] == pytest.approx(sum(first[:3]), abs=0.02)
    page.focus(".plane[data-run=main]")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_timeout(100)
    shown.settle()
    second = values()
    assert second[3] == pytest.approx(sum(second[:3]), abs=0.02)
    assert second != first


# ---- layout

CHECKS = """() => {
  const seen = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== 'hidden';
  const named = (e) => (e.getAttribute('aria-label') ?? '') + e.innerText +
    [...(e.labels ?? [])].map(l => l.innerText).join('');
  const all = [...document.querySelectorAll('main *')].filter(seen);
  const isText = (e) => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  return {
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    clipped: all.filter(e => isText(e) && !e.closest('.unseen, select, .pixels') &&
      (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 6) &&
      getComputedStyle(e).display !== 'inline').map(e => e.className + ': ' + e.innerText),
    unlabelled: all.filter(e => e.matches('button, input, select, canvas[role], [role=group]') &&
      !named(e).trim()).map(e => e.outerHTML.slice(0, 120)),
    empty: all.filter(e => e.matches('h2, h3, h4, dt, figcaption, .name, .tab') &&
      !e.innerText.trim()).map(e => e.outerHTML.slice(0, 120)),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_clipped_or_unlabelled(
    pages: Pages, width: int, scheme: Any
) -> None:
    names = (
        "vae",
        "vq-conv",
        *(["vdvae", "hvae", "m2", "conditional"] if LONG else []),
    )
    # each language in both widths and both schemes
    short = ["en" if (scheme == "light") == (width == 390) else "ko"]
    for name, language in product(names, ["en", "ko"] if LONG else short):
        shown = pages(name)
        shown.page.set_viewport_size({"width": width, "height": 844})
        shown.page.emulate_media(color_scheme=scheme)
        shown.page.locator("header select").first.select_option(language)
        for tab in TABS:
            shown.page.click(f"#tab-{tab}")
            shown.settle()
            faults = shown.page.evaluate(CHECKS)
            nothing = {"overflow": 0, "clipped": [], "unlabelled": [], "empty": []}
            assert faults == nothing, (name, language, tab)
        shown.page.locator("header select").first.select_option("en")
        shown.page.set_viewport_size({"width": 1280, "height": 900})


def test_dark_and_light_have_other_colours(pages: Pages) -> None:
    shown = pages("vae")
    colours = []
    for scheme in ("light", "dark"):
        shown.page.emulate_media(color_scheme=scheme)
        script = "getComputedStyle(document.documentElement).backgroundColor"
        shown.settle()
        colours.append(shown.page.evaluate(script))
    assert colours == ["rgb(250, 249, 246)", "rgb(18, 20, 24)"]
