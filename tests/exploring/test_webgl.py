"""Many points by WebGL, computed by SwiftShader, against those painted pixel by pixel."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from exploring.conftest import CHROMIUM
from exploring.pages import served, small_page
from PIL import Image
from support.extras import skip_without

from tightbound.exploring.assets import Assets
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from playwright.sync_api import Page

skip_without("fastapi", "uvicorn", "playwright", reason="needs the extras explore, dev")

pytestmark = pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="long, a minute: TIGHTBOUND_LONG=1"
)

POINTS = 100_000
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader")
MORE = ("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
# the page leaves out graphics that the processor computes, which are slow
AS_GRAPHICS = """const ask = WebGLRenderingContext.prototype.getParameter;
WebGLRenderingContext.prototype.getParameter = function (name) {
  return name === 0x9246 ? 'graphics' : ask.call(this, name);
};"""
MANY = """n => {
  const { main } = window.tightbound.page;
  let seed = 7;
  const uniform = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const xy = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) {
    const [angle, radius] = [2 * Math.PI * uniform(), 1 + uniform()];
    xy.set([radius * Math.cos(angle), radius * Math.sin(angle)], 2 * i);
  }
  main.planeData.set({ ...main.planeData.value, xy });
}"""
KIND = """() => {
  const canvas = document.querySelector('.plane canvas:nth-of-type(2)');
  return canvas.getContext('webgl') === null ? '2d' : 'webgl';
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        assets = Assets()
    except TightboundError as error:
        pytest.skip(str(error))
    data, runs = small_page(tmp_path_factory.mktemp("webgl"))
    with served(data, runs, assets) as url:
        yield url


def painted(page: Page, address: str, script: str) -> tuple[str, np.ndarray[Any, Any]]:
    """The kind of the canvas of the points, and the grey levels of the plane."""
    page.add_init_script(script)
    page.goto(address)
    page.wait_for_selector("main[aria-busy=false]")
    page.evaluate(MANY, POINTS)
    for language in (
        "ko",
        "en",
    ):  # planes are made anew, with the points from the start
        page.locator("header select").first.select_option(language)
    for name in ("Holes", "p(z)", "Names"):
        page.get_by_label(name, exact=True).first.uncheck()
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.locator(".plane").screenshot()))
    return page.evaluate(KIND), np.asarray(picture.convert("L"), float)


def test_points_by_webgl_are_where_those_of_the_processor_are(address: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs the system package chromium, which is not installed")
    results = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), headless=True, args=[*FLAGS, *MORE]
        )
        for script in (AS_GRAPHICS, ""):
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            results.append(painted(page, address, script))
            page.close()
        browser.close()
    kinds, pictures = zip(*results, strict=True)
    assert kinds == ("webgl", "2d")
    fast, slow = pictures
    is_dotted = slow < slow.max() - 40
    assert 0.2 < is_dotted.mean() < 0.7  # a ring
    assert ((fast < fast.max() - 40) != is_dotted).mean() < 0.02
    assert abs(fast[is_dotted].mean() - slow[is_dotted].mean()) < 12
