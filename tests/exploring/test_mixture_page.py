"""The page of a mixture of logistics over colours: means, weights in float16, server, a scene."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from exploring.pages import served, small_run
from support.extras import skip_without

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.core.batch import Batch
from tightbound.exploring import companions
from tightbound.exploring.assets import Assets
from tightbound.exploring.examples import read_examples
from tightbound.exploring.float16 import MOST_ERROR, with_halves
from tightbound.exploring.graphs import Networks, networks_of
from tightbound.exploring.page_data import build
from tightbound.exploring.run_data import Limits, PageRun, export_of
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

skip_without(
    "onnxruntime",
    "onnxscript",
    "fastapi",
    "uvicorn",
    "playwright",
    reason="needs the extras explore and dev",
)

POINTS = 20
LEVELS = 256
WITHIN = 0.3  # levels, of the page's own sum over blocks of levels
Z = torch.tensor([[0.0, 0.0], [3.0, -3.0], [-1.0, 2.0]])
MEANS = "a => window.tightbound.page.main.model.means(Float64Array.from(a), 3, null)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    x = np.random.default_rng(0).integers(0, LEVELS, (60, 8, 8, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("mixture") / "run"
    run = small_run(folder, "vae", x, likelihood="logistic-mixture")
    with torch.no_grad():
        for value in run.model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return run


@pytest.fixture(scope="module")
def networks(run: Run) -> Networks:
    return networks_of(run.model)


@pytest.fixture(scope="module")
def assets() -> Assets:
    try:
        return Assets()
    except TightboundError as error:
        pytest.skip(str(error))


@contextmanager
def opened(
    browser: Browser, page_run: PageRun, assets: Assets, script: str = ""
) -> Iterator[Page]:
    """The served page of a run, which computes the networks that have a file; scripts first."""
    data = build([page_run], Limits(POINTS, POINTS), mode="served")
    with served(data, [page_run], assets) as address:
        page = browser.new_page()
        page.add_init_script(script)
        page.goto(address)
        page.wait_for_selector("main[aria-busy=false]")
        yield page
        page.close()


def px_of(run: Run, z: torch.Tensor) -> LogisticMixture:
    with torch.no_grad():
        px = run.predictor.decode(Batch(z))
    assert isinstance(px, LogisticMixture)
    return px


def shown_means(page: Page) -> np.ndarray[Any, Any]:
    means = page.evaluate(f"async a => [...await ({MEANS})(a)]", Z.flatten().tolist())
    return np.array(means).reshape(3, 8, 8, 3)


def expected_means(run: Run) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = run.spec.to_raw(px_of(run, Z).mean).numpy()
    assert np.ptp(values) > 50
    return values


def test_the_graph_has_the_parameters_alone_and_says_so(
    run: Run, networks: Networks
) -> None:
    """With the mean it takes a hundred times as long: the page computes that itself."""
    names = [port["name"] for port in networks.graphs["decoder"].outputs]
    assert names == ["px.logits", "px.location", "px.log_scale", "px.slope"]
    about = export_of(PageRun("main", run, networks))
    (decoder,) = [each for each in about["graphs"] if each["graph"] == "decoder"]
    assert "mean" not in decoder["outputs"]


def test_a_small_run_plays_the_part_of_a_large_mixture(
    run: Run, tmp_path: Path
) -> None:
    assert companions.scene_role(run) == "scene-vae"
    x = np.random.default_rng(0).integers(0, LEVELS, (20, 16, 16, 3), dtype=np.uint8)
    large = small_run(tmp_path / "run", "vae", x, likelihood="logistic-mixture")
    assert companions.scene_role(large) is None


def test_the_page_computes_the_mean_from_the_parameters(
    run: Run, networks: Networks, assets: Assets, browser: Browser
) -> None:
    page_run = PageRun("main", run, networks)
    with opened(browser, page_run, assets) as page:
        assert np.abs(shown_means(page) - expected_means(run)).max() < WITHIN


def test_weights_in_float16_move_the_mean_by_what_is_stated(
    run: Run, networks: Networks, assets: Assets, browser: Browser
) -> None:
    half = with_halves(run, networks, read_examples(run, "test", POINTS))
    decoder = half.graphs["decoder"]
    assert decoder.error is not None and 0 < decoder.error <= MOST_ERROR
    assert decoder.measured == len(run.data.test)
    whole = networks.graphs["decoder"].content
    assert whole is not None and decoder.content is not None
    assert len(decoder.content) < 0.7 * len(whole)
    page_run = PageRun("main", run, half)
    with opened(browser, page_run, assets) as page:
        difference = np.abs(shown_means(page) - expected_means(run)).max()
        # these z are none of those on which the error was measured
        assert difference < WITHIN + 2 * decoder.error * (LEVELS - 1)
        page.click("#tab-run")
        assert f"over {decoder.measured} examples" in page.inner_text(".panel")


def test_the_server_gives_the_same_means_and_terms(
    run: Run, assets: Assets, browser: Browser
) -> None:
    page_run = PageRun("main", run, networks_of(run.model, most=0))
    batch = run.data.splits["test"].examples(torch.tensor([1]))
    with opened(browser, page_run, assets) as page:
        shown = shown_means(page)
        terms = page.evaluate(
            "async ([x, z]) => { const { model } = window.tightbound.page.main;"
            "const [raw, at] = [Float64Array.from(x), Float64Array.from(z)];"
            "return model.terms(raw, at, await model.posterior(raw, null), null); }",
            [run.spec.to_raw(batch.x).flatten().tolist(), Z[1].tolist()],
        )
    assert np.abs(shown - expected_means(run)).max() < WITHIN
    expected = float(px_of(run, Z[1:2]).log_prob(batch.x).sum())
    assert terms["reconstruction"] == pytest.approx(expected, rel=1e-5)


def test_without_webassembly_the_server_computes_and_a_sentence_says_so(
    run: Run, networks: Networks, assets: Assets, browser: Browser
) -> None:
    """Also what the page would compute itself elsewhere."""
    page_run = PageRun("main", run, networks)
    asked: list[str] = []
    with opened(browser, page_run, assets, "delete globalThis.WebAssembly") as page:
        page.on("request", lambda request: asked.append(request.url))
        note = page.locator(".waiting:visible").all_inner_texts()
        shown = shown_means(page)
    sentence = "This browser has no WebAssembly, so the server computes the networks."
    assert note == [sentence]
    assert np.abs(shown - expected_means(run)).max() < WITHIN
    assert ["compute/main/decoder?rows=3" in url for url in asked] == [True]


def red_of(px: LogisticMixture, row: int, column: int) -> np.ndarray[Any, Any]:
    """P of each level of red at a pixel, by differences of the logistic distribution function."""
    weights = px.logits[0, :, row, column].double().softmax(0)
    location = px.loc[0, :, 0, row, column].double()
    scale = px.log_scale[0, :, 0, row, column].double().exp()
    edges = torch.arange(LEVELS - 1) + 0.5
    below = torch.sigmoid((edges[:, None] - location) / scale) @ weights
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    cdf = torch.cat([ends[:1], below, ends[1:]])
    shares: np.ndarray[Any, Any] = cdf.diff().numpy()
    return shares


def test_the_scene_on_p_x_given_z_has_the_spread_and_one_value(
    run: Run, networks: Networks, assets: Assets, browser: Browser
) -> None:
    page_run = PageRun("main", run, networks)
    with opened(browser, page_run, assets) as page:
        page.evaluate("window.tightbound.page.main.state.move(Float64Array.of(1, -1))")
        page.click("#tab-theory")
        scene = page.locator(".scene-list button", has_text="p(x|z) and")
        scene.click()
        page.wait_for_selector(".stage-scene[data-ready=true]")
        label = page.locator(".wide-chart canvas").get_attribute("aria-label") or ""
        pixels = page.eval_on_selector(
            "canvas[aria-label^=Spread]",
            "c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data]",
        )
        assert page.locator(".failure:visible").count() == 0
    px = px_of(run, torch.tensor([[1.0, -1.0]]))
    place = re.match(r"red of the pixel in row (\d), column (\d): ", label)
    assert place is not None, label
    shares = red_of(px, int(place[1]) - 1, int(place[2]) - 1)
    best, share = re.findall(r"highest at ([\d.]+), there ([\d.]+)", label)[0]
    assert float(best) == shares.argmax()
    assert float(share) == pytest.approx(shares.max(), abs=6e-5)
    torch.manual_seed(0)
    spread = px.sample(torch.Size([400]))[:, 0].std(0).mean()
    shown = (
        np.array(pixels).reshape(8, 8, 4)[..., :3].mean() / 2
    )  # white is half of the range
    assert shown == pytest.approx(float(spread), rel=0.08)
