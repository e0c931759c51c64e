"""Pictures of the page for README and docs, in docs/images/page.

    python scripts/page_pictures.py FILE [--tabs explore input]

FILE is a page that `tightbound explore RUN --export FILE` wrote. Each view is taken at 390 and
1280 pixels, light and dark.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images" / "page"
TABS = ("explore", "input", "features", "between", "theory")
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
TALLEST = 1700  # pixels


def prepare(page: Page, tab: str) -> None:
    """Open a view and bring it to a state that shows something."""
    page.click(f"#tab-{tab}")
    if tab == "input":
        page.fill("input[type=number]", "7")
        page.press("input[type=number]", "Enter")
    if tab == "between":
        page.locator(".panel input[type=range]").first.fill("0.4")
    page.wait_for_timeout(700)


def small_png(content: bytes) -> bytes:
    """A picture, cut at its foot where it is tall."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, TALLEST)))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def take(browser: Browser, path: Path, tabs: list[str]) -> None:
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = browser.new_page(
                viewport={"width": width, "height": 844},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            page.goto(path.resolve().as_uri())
            page.wait_for_selector("main[aria-busy=false]", timeout=120_000)
            for tab in tabs:
                prepare(page, tab)
                target = FOLDER / f"{tab}-{width}-{scheme}.png"
                target.write_bytes(small_png(page.screenshot(full_page=True)))
                print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")
            page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tabs", nargs="*", default=list(TABS), choices=TABS)
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            headless=True,
            args=["--no-sandbox", "--disable-gpu"],
        )
        take(browser, options.file, options.tabs)
        browser.close()


if __name__ == "__main__":
    main()
