"""A page of a table with columns of several kinds that depend on categories, and its scenes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from exploring.pages import served, small_run
from support.extras import skip_without

from tightbound.components.likelihoods.product import Chain
from tightbound.core.draw import Draw
from tightbound.exploring.assets import Assets
from tightbound.exploring.graphs import networks_of
from tightbound.exploring.page_data import build
from tightbound.exploring.run_data import Limits, PageRun
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

skip_without(
    "onnxscript",
    "fastapi",
    "uvicorn",
    "playwright",
    reason="needs the extras explore and dev",
)

POINTS = 30
SETTINGS: dict[str, Any] = {
    "recipe.prior": "standard",
    "likelihood.depends": "all",
    "network.width": 16,
    "network.depth": 1,
}


def write_homes(path: Path) -> None:
    """A table of homes: texts, and numbers of which price, garden and lift depend on these."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["kind", "floor", "lift", "price", "garden", "built"])
        for _ in range(400):
            kind = str(rng.choice(["flat", "house", "studio"], p=[0.6, 0.3, 0.1]))
            is_house = kind == "house"
            level = {"flat": 12.1, "house": 13.0, "studio": 11.2}[kind]
            price = np.exp(level + 0.2 * rng.normal())
            garden = round(float(rng.gamma(2, 120)), 1) if is_house else 0
            floor = "ground" if is_house else str(rng.choice(["ground", "upper"]))
            lift = "yes" if floor == "upper" and rng.random() < 0.6 else "no"
            built = round(1950 + 25 * rng.normal())
            table.writerow([kind, floor, lift, round(price), garden, built])


@dataclass
class Shown:
    """A page that is served and open.

    Args:
        page: The page.
        run: Its run.
        errors: Errors of its scripts and of the console.
    """

    page: Page
    run: Run
    errors: list[str]

    def compute(self, code: str, *arguments: object) -> Any:
        """The value of an expression in the page; `run` is its run, `a` the arguments."""
        start = "const run = window.tightbound.page.main;"
        return self.page.evaluate(f"async (a) => {{ {start} {code} }}", list(arguments))


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, browser: Browser
) -> Iterator[Shown]:
    """The page, whose networks are on the server: making ONNX graphs of them takes a minute."""
    try:
        assets = Assets()
    except TightboundError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("table")
    write_homes(folder / "homes.csv")
    run = small_run(folder / "run", "vae", str(folder / "homes.csv"), **SETTINGS)
    page_runs = [PageRun("main", run, networks_of(run.model, most=0))]
    data = build(page_runs, Limits(POINTS, POINTS), mode="served")
    errors: list[str] = []
    with served(data, page_runs, assets) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("main[aria-busy=false]")
        yield Shown(page, run, errors)
        page.close()


def latents(run: Run, row: int) -> torch.Tensor:
    """A z (1, 2) that differs between rows."""
    torch.manual_seed(row)
    return torch.randn(1, 2)


def px_at(run: Run, z: torch.Tensor) -> Chain:
    """p(x|z) of torch."""
    with torch.no_grad():
        px = run.model.generate(1, Draw(source="p", given={"z": z})).px
    assert isinstance(px, Chain)
    assert px.shift.order
    return px


def test_log_p_of_a_row_is_that_given_its_own_categories(shown: Shown) -> None:
    run = shown.run
    differences = []
    for row in range(8):
        batch = run.data.splits["test"].examples(torch.tensor([row]))
        z = latents(run, row)
        px = px_at(run, z)
        with torch.no_grad():
            expected = float(px.log_prob(batch.x)[0])
            central = float(px.central.log_prob(batch.x)[0])
        terms = shown.compute(
            "const x = Float64Array.from(a[0]); const z = Float64Array.from(a[1]);"
            "const q = await run.model.posterior(x, null);"
            "return run.model.terms(x, z, q, null);",
            run.spec.to_raw(batch.x).flatten().tolist(),
            z[0].tolist(),
        )
        assert terms["reconstruction"] == pytest.approx(expected, abs=2e-3, rel=1e-5)
        differences.append(abs(central - expected))
    assert max(differences) > 0.1  # what the most likely categories would give instead


def test_samples_of_rows_have_their_columns_given_the_categories(shown: Shown) -> None:
    """Shares of the categories, and a mean given one of them, as of draws of torch."""
    run = shown.run
    z = latents(run, 1)
    drawn = np.array(
        shown.compute(
            "const z = Float64Array.from(a[0]); const out = [];"
            "const outputs = await run.model.decode(z, 1, null);"
            "let seed = 1; const random = { below: () => (seed = (seed * 48271) % 2147483647) };"
            "for (let k = 0; k < 80; k++)"
            "  out.push([...await run.model.sample(z, outputs, random, null)]);"
            "return out;",
            z[0].tolist(),
        )
    )
    torch.manual_seed(0)
    rows = run.spec.to_raw(px_at(run, z).sample(torch.Size([4000]))[:, 0]).numpy()
    for column in (0, 1, 2):
        for value in np.unique(rows[:, column]):
            share = (rows[:, column] == value).mean()
            error = np.sqrt(share * (1 - share) / len(drawn)) + 1e-9
            assert abs((drawn[:, column] == value).mean() - share) < 4 * error + 0.01
    kinds = (rows[:, 0] == 0, rows[:, 0] == 1)
    ours = (drawn[:, 0] == 0, drawn[:, 0] == 1)
    gap = rows[kinds[1], 3].mean() - rows[kinds[0], 3].mean()
    error = rows[kinds[0], 3].std() * np.sqrt(1 / ours[0].sum() + 1 / ours[1].sum())
    assert abs(gap) > 4 * error  # so that the next line can fail
    assert abs(drawn[ours[1], 3].mean() - drawn[ours[0], 3].mean() - gap) < 4 * error


def test_its_views_and_scenes_have_no_failure(shown: Shown) -> None:
    page = shown.page
    page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("explore", "features", "between", "run", "input"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(100)
    page.fill("input[type=number]", "3")
    page.press("input[type=number]", "Enter")
    page.wait_for_selector(".bars .row:nth-child(4)")
    assert "no formula" not in page.inner_text(".panel")
    page.click("#tab-theory")
    scenes = page.locator(".scene-list button")
    for number in range(scenes.count()):
        scenes.nth(number).click()
        page.wait_for_selector(".stage-scene[data-ready=true]")
        failures = page.locator(".failure:visible").all_inner_texts()
        assert failures == [], scenes.nth(number).inner_text()
        text = page.inner_text(".scene")
        assert not re.search(r"\bNaN\b|undefined|Infinity", text), text
    assert shown.errors == []
