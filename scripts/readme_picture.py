"""The picture of README, docs/images/ae-and-vae.png, from the report of the demo.

    make demo
    python scripts/readme_picture.py [REPORT]

Shows the head of the report, inputs and reconstructions, and new images, of the autoencoder beside
the VAE, as a browser shows them, without the paragraphs between. Ends with 1 where the report
lacks one of these, or where something would be cut off.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "ae-and-vae.png"
WIDTH = 1000
SCALE = 1.5
SHOWN = ("recon", "samples")
STYLE = """
  nav, footer, p.lead, figcaption, .under-title, h1, details { display: none !important; }
  main > section { display: none !important; }
  main > section#recon, main > section#samples { display: block !important; }
  header, section.chapter { margin-top: 0 !important; padding-top: 12px !important;
    padding-bottom: 0 !important; margin-bottom: 0 !important; border: 0 !important; }
  body { padding-bottom: 20px !important; margin-bottom: 0 !important; }
  main { padding-bottom: 0 !important; margin-bottom: 0 !important; }
  .panels { row-gap: 0 !important; }
  section.chapter > h2 { margin-bottom: 16px !important; }
  header { padding-top: 0 !important; }
"""
CUT_OFF = """
() => [...document.querySelectorAll('header *, #recon *, #samples *')].filter(element => {
  const box = element.getBoundingClientRect();
  if (box.width === 0 || box.height === 0) return false;
  return box.right > window.innerWidth + 0.5 || box.left < -0.5
    || (element instanceof HTMLElement && element.scrollWidth > element.clientWidth + 1
        && getComputedStyle(element).overflowX !== 'visible');
}).map(element => element.outerHTML.slice(0, 80))
"""


def take(page: Page, report: Path) -> bytes:
    """The picture of a report as PNG.

    Raises:
        ValueError: A section is not there, or something is cut off.
    """
    page.goto(report.resolve().as_uri())
    for name in SHOWN:
        if page.locator(f"main > section#{name} figure.panel").count() != 2:
            raise ValueError(f"{report} has no section {name} of two runs")
    page.add_style_tag(content=STYLE)
    page.wait_for_timeout(300)
    cut_off = page.evaluate(CUT_OFF)
    if cut_off:
        raise ValueError(f"cut off at {WIDTH} pixels: {cut_off[0]}")
    return page.screenshot(full_page=True)


def small(content: bytes) -> bytes:
    """The PNG with at most 128 colours, which grey digits and text do not show."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    file = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def main() -> int:
    """Write the picture; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "report", nargs="?", type=Path, default=Path("demo/report.html")
    )
    report = parser.parse_args().report
    if not report.is_file():
        print(f"there is no {report}: run `make demo` first", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 600},
            device_scale_factor=SCALE,
            color_scheme="light",
            reduced_motion="reduce",
        )
        try:
            PICTURE.write_bytes(small(take(page, report)))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            browser.close()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
