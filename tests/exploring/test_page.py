"""The page in a browser: what it decodes and computes, its controls, its layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from exploring.pages import small_run
from PIL import Image
from support.extras import skip_without

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.exploring import one_file
from tightbound.exploring.assets import Assets
from tightbound.exploring.explore import Options, page_of
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
RECIPES: dict[str, dict[str, Any]] = {
    "vae": {"latent": 2, **SMALL},
    "conditional": {"latent": 2, **SMALL},
    "vq-conv": {"latent": None},
    "vdvae": {"latent": None},
}
LONG = bool(os.environ.get("TIGHTBOUND_LONG"))
# its five graphs take two minutes to be made, and with two latents of one feature still 40 s
WITH_VDVAE = pytest.mark.skipif(not LONG, reason="long, two minutes: TIGHTBOUND_LONG=1")
NAMES = [
    pytest.param(name, marks=[WITH_VDVAE] if name == "vdvae" else [])
    for name in RECIPES
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
        runs = [small_run(self.folder / name, name, **RECIPES[name])]
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


def raw_condition(batch: Batch) -> list[float] | None:
    """The class number of a batch with one row."""
    return None if batch.c is None else [float(batch.c.argmax())]


def test_the_page_computes_the_mean_of_a_mixture_over_colours(
    tmp_path: Path, assets: Assets, browser: Browser
) -> None:
    """The graph has the parameters alone: with the mean it takes a hundred times as long."""
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    run = small_run(tmp_path / "run", "vae", x, likelihood="logistic-mixture")
    with torch.no_grad():
        for value in run.model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    data, pages = page_of([run], Options(points=20, scenes=False), one_file=False)
    outputs = [port["name"] for port in pages[0].networks.graphs["decoder"].outputs]
    assert outputs == ["px.logits", "px.location", "px.log_scale", "px.slope"]
    one_file.write(data, tmp_path / "page.html", assets, overwrite=True)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("main[aria-busy=false]")
    code = "a => window.tightbound.page.main.model.means(Float64Array.from(a), 3, null)"
    z = torch.tensor([[0.0, 0.0], [3.0, -3.0], [-1.0, 2.0]])
    means = page.evaluate(f"async a => [...await ({code})(a)]", z.flatten().tolist())
    page.close()
    with torch.no_grad():
        expected = run.spec.to_raw(run.predictor.decode(Batch(z)).mean)
    shown = np.array(means).reshape(3, 8, 8, 3)
    assert np.abs(shown - expected.numpy()).max() < 0.3
    assert np.ptp(shown) > 50


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
                Batch(batch.x.double(), None if batch.c is None else batch.c.double()),
                Draw(given={key: value.double() for key, value in given.items()}),
            )
            for site in trace.latents.values():
                site.source = "q"  # as `Trace.again` does: z was drawn from it
            expected = (
                float(trace.log_px),
                float(sum(site.log_p for site in trace.latents.values())),
                float(sum(site.log_q for site in trace.latents.values())),
            )
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
        for key, value in zip(names, expected, strict=True):
            assert abs(terms[key] - value) <= max(1e-3, 1e-6 * abs(value)), key
        weight = expected[0] + expected[1] - expected[2]
        assert abs(terms["logWeight"] - weight) <= 3e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_page_from_disk_asks_for_nothing(pages: Pages, name: str) -> None:
    shown = pages(name)
    for tab in TABS:
        shown.page.click(f"#tab-{tab}")
        shown.settle()
    assert shown.requests == [shown.address]
    assert shown.errors == []


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
    for name in ("vae", "vq-conv", *(["vdvae"] if LONG else [])):
        shown = pages(name)
        shown.page.set_viewport_size({"width": width, "height": 844})
        shown.page.emulate_media(color_scheme=scheme)
        language = "en" if scheme == "light" else "ko"
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
