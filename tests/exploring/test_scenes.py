"""The ten scenes on theory in a browser: their controls, their figures, their layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from exploring.pages import small_run
from support.extras import skip_without

import tightbound as tb
from tightbound.core.batch import Batch
from tightbound.exploring import one_file
from tightbound.exploring.assets import Assets
from tightbound.exploring.examples import read_examples
from tightbound.exploring.explore import Options, page_of
from tightbound.models.vae import VAE
from tightbound.runs.run import Run, with_data
from tightbound.runtime.errors import TightboundError
from tightbound.training import own_loop

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

skip_without(
    "onnxruntime", "onnxscript", "playwright", reason="needs the extras explore and dev"
)

STEPS = 120
POINTS = 40
SMALL = {"latent": 2, "network.width": 32, "network.depth": 1}
DOCS = Path(__file__).parents[2] / "docs" / "scenes.md"
TOLERANCE = 0.05  # nats

# each scene, how it is moved, and an element that shows it
SCENES = {
    "features": ("plane", "[data-name=z]"),
    "mean-and-variance": ("slider", "[data-name=mean-1]"),
    "encoder-and-decoder": ("button", "[data-name=z-1]"),
    "ae-and-vae": ("plane", ".scene-two .example canvas"),
    "generation": ("plane", "[data-name=prior]"),
    "marginalisation": ("slider", "[data-name=so-far]"),
    "out-of-reach": ("slider", "[data-name=from-prior]"),
    "bayes-rule": ("slider", "[data-name=log-px]"),
    "three-terms": ("slider", "[data-name=reconstruction]"),
    "elbo": ("plane", "[data-name=elbo]"),
}

# elements that are wider or higher than the box in which they are, and empty labels
LAYOUT = """() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`page ${root.scrollWidth}`);
  for (const e of document.querySelectorAll('.scene *:not(math *)')) {
    if (e.closest('[hidden]') || e.closest('.unseen')) continue;
    const name = `${e.tagName} ${e.className} ${e.textContent.slice(0, 30)}`;
    const box = e.getBoundingClientRect();
    if (box.width > 0 && box.right > root.clientWidth + 0.5) faults.push(`right: ${name}`);
    const isText = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== '');
    if ((isText || e.matches('.formula')) && e.scrollWidth > e.clientWidth + 1 &&
        getComputedStyle(e).display !== 'inline') faults.push(`clipped: ${name}`);
    const isUnnamed = e.matches('canvas[role=img]') && !e.getAttribute('aria-label');
    const isEmpty = e.matches('dt, .scene-heading') && e.textContent.trim() === '';
    if (isUnnamed || isEmpty) faults.push(`no label: ${name}`);
  }
  return faults;
}"""


def trained(model: VAE, run: Run) -> None:
    """Train the model of a run in place for a few steps."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    x = run.data.splits["train"].examples(torch.arange(512)).x
    for step in range(STEPS):
        batch = Batch(x[(torch.arange(128) + 128 * step) % 512])
        model.backward(model(batch), step / STEPS)
        optimiser.step()
        optimiser.zero_grad()
    model.eval()


def run_of(folder: Path, recipe: str) -> Run:
    """A run with two features that was trained for a few steps."""
    run = small_run(folder / f"untrained-{recipe}", recipe, **SMALL)
    run.model.requires_grad_(True)
    trained(run.model, run)
    saved = own_loop.save(run.model, folder / recipe)
    return with_data(saved, run.data)


@dataclass
class Theory:
    """The page with its scenes.

    Args:
        page: The page.
        run: The run with two features.
        requests: Addresses of all requests.
        errors: Errors of its scripts and of the console.
    """

    page: Page
    run: Run
    requests: list[str]
    errors: list[str]

    def open(self, scene: str) -> None:
        """Open a scene and wait until its figures are computed."""
        self.page.evaluate("document.activeElement.blur()")
        position = list(SCENES).index(scene)
        self.page.locator(".scene-list button").nth(position).click()
        self.settle()
        assert self.page.locator(f"#scene-{scene}").count() == 1

    def settle(self) -> None:
        self.page.wait_for_selector(
            ".stage-scene[data-ready=true], .view:not(.theory)", timeout=120_000
        )
        self.page.evaluate(
            "() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )

    def figure(self, name: str) -> float:
        """A number of the open scene."""
        return float(
            self.page.locator(f"[data-name={name}]").get_attribute("data-value")
            or "nan"
        )

    def state(self, selector: str) -> str:
        """Text of an element, or the pixels of a canvas."""
        return str(
            self.page.eval_on_selector(
                selector, "e => e.tagName === 'CANVAS' ? e.toDataURL() : e.textContent"
            )
        )

    def move(self, kind: str) -> None:
        """Move the control of the open scene, by keys."""
        stage = self.page.locator(".stage-scene")
        if kind == "button":
            stage.get_by_role("button").first.press("Enter")
        else:
            selector = "input[type=range]" if kind == "slider" else "[role=application]"
            control = stage.locator(selector).first
            is_first = kind == "slider" and control.input_value() == "0"
            keys = {"slider": "End" if is_first else "Home", "plane": "ArrowLeft"}
            control.press(keys[kind])
        self.settle()


@pytest.fixture(scope="module")
def theory(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> Iterator[Theory]:
    try:
        assets = Assets()
    except TightboundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("scenes")
    runs = [run_of(folder, recipe) for recipe in ("vae", "ae")]
    data, _ = page_of(runs, Options(points=POINTS), one_file=False)
    path = folder / "page.html"
    one_file.write(data, path, assets, overwrite=True)
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, reduced_motion="reduce"
    )
    opened = Theory(context.new_page(), runs[0], [], [])
    page = opened.page
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            opened.errors.append(message.text) if message.type == "error" else None
        ),
    )
    page.goto(f"{path.as_uri()}#scene-features")
    page.wait_for_selector("main[aria-busy=false]")
    yield opened
    context.close()


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_opens_and_its_control_changes_it(theory: Theory, scene: str) -> None:
    kind, selector = SCENES[scene]
    theory.open(scene)
    before = theory.state(selector)
    theory.move(kind)
    assert theory.state(selector) != before
    assert theory.page.locator(".scene .failure:visible").count() == 0
    assert theory.page.locator(".scene .sentence").inner_text().count(".") >= 1
    assert theory.page.locator(".scene .formula math").count() >= 1
    assert theory.errors == []


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_in_a_scene_overflows_or_is_clipped(theory: Theory, width: int) -> None:
    languages = ("ko", "en") if width == 390 else ("en",)
    for language in languages:
        theory.page.set_viewport_size({"width": width, "height": 900})
        theory.page.locator("header select").first.select_option(language)
        for scene in SCENES:
            theory.open(scene)
            assert theory.page.evaluate(LAYOUT) == [], (scene, width, language)
    theory.page.set_viewport_size({"width": 1280, "height": 900})


def test_the_sums_are_log_px_of_the_evaluation(theory: Theory) -> None:
    theory.open("mean-and-variance")
    row = int(theory.page.locator(".stage-scene input[type=range]").input_value())
    x = read_examples(theory.run, "test", POINTS).raw[row : row + 1]
    evaluation = tb.evaluate(theory.run, x, k=200, subset=1, diagnosis=False)
    expected = evaluation.methods["quadrature"].log_px.mean
    names = {
        "marginalisation": ["log-px"],
        "out-of-reach": ["log-px"],
        "bayes-rule": ["log-px"],
        "three-terms": ["log-px", "sum"],
        "elbo": ["log-px", "sum"],
    }
    for scene, figures in names.items():
        theory.open(scene)
        for name in figures:
            assert abs(theory.figure(name) - expected) < TOLERANCE, (scene, name)


def test_the_bound_stays_below_log_px_and_nearly_touches_it(theory: Theory) -> None:
    theory.open("elbo")
    begin = theory.figure("gap")
    assert begin > 0
    assert theory.figure("elbo") <= theory.figure("log-px") + 1e-6
    theory.page.get_by_role("button", name=re.compile("climb")).press("Enter")
    theory.page.wait_for_function(
        "start => Number(document.querySelector('[data-name=gap]').dataset.value) < start / 3",
        arg=begin,
    )
    assert theory.figure("gap") > -1e-6


def test_draws_of_q_need_fewer_draws_than_those_of_the_prior(theory: Theory) -> None:
    theory.open("out-of-reach")
    exact = theory.figure("log-px")
    assert abs(theory.figure("from-q") - exact) < 0.5
    assert theory.figure("carriers-q") > theory.figure("carriers-prior")


def test_with_reduced_motion_the_integral_is_whole_at_once(theory: Theory) -> None:
    """Nothing sweeps, and no button makes it sweep."""
    theory.open("marginalisation")
    stage = theory.page.locator(".stage-scene")
    slider = stage.locator("input[type=range]")
    assert slider.input_value() == slider.get_attribute("max")
    assert stage.get_by_role("button").count() == 0
    before = theory.figure("so-far")
    theory.page.wait_for_timeout(100)
    assert theory.figure("so-far") == before


def test_a_sentence_says_that_small_runs_play_the_parts_of_this_one(
    theory: Theory,
) -> None:
    """It is there where the run is not itself in the scenes, with what differs."""
    page = theory.page
    theory.open("features")
    assert page.locator(".small-runs").count() == 0
    roles = "['theoryVae', 'theoryAe'].map((name) => window.tightbound.page[name].model.run)"
    page.evaluate(
        f"() => {{ const [vae, ae] = {roles};"
        "const before = [window.tightbound.page.main, vae.role, ae.role, vae.export.recipe];"
        "window.restore = () => { [window.tightbound.page.main, vae.role, ae.role,"
        " vae.export.recipe] = before; };"
        "[vae.role, ae.role] = ['scene-vae', 'scene-ae'];"
        "vae.export.recipe = { name: 'vae', likelihood: { name: 'discretized-logistic' } };"
        "window.tightbound.page.main = { model: { run: { ...vae, export: { ...vae.export,"
        " recipe: { name: 'vae', likelihood: { name: 'logistic-mixture' } } } } } }; }"
    )
    page.click("#tab-run")
    page.click("#tab-theory")
    theory.settle()
    text = page.inner_text(".small-runs")
    page.evaluate("window.restore()")
    assert "a small VAE and a small autoencoder with two features" in text
    assert "p(x|z) is discretized-logistic in place of logistic-mixture" in text


def test_no_request_leaves_the_page(theory: Theory) -> None:
    assert [url for url in theory.requests if url.startswith("http")] == []
    assert theory.errors == []


def test_each_question_names_a_scene_that_exists() -> None:
    text = DOCS.read_text(encoding="utf-8")
    questions = re.findall(r"^\d+\. \*\*(.+\?)\*\*(.*)$", text, re.MULTILINE)
    assert len(questions) >= 12
    sources = DOCS.parents[1] / "web" / "src" / "scenes"
    ids = {
        match
        for path in sources.glob("*.ts")
        for match in re.findall(r'^  id: "([\w-]+)",$', path.read_text(), re.MULTILINE)
    }
    assert ids == set(SCENES)
    for question, answer in questions:
        anchors = re.findall(r"`#scene-([\w-]+)`", answer)
        assert anchors, question
        assert set(anchors) <= ids, question
