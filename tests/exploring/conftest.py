"""A browser for the tests that open a page: Debian's Chromium by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

CHROMIUM = next((p for p in ("chromium", "chromium-browser") if shutil.which(p)), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Opened:
    """A page in a browser with what it asked for and complained of.

    Args:
        page: The page of playwright.
        requests: The address of each request, the first one that of the page itself.
        errors: Errors of scripts, and messages of the console that are errors.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window; the test is skipped with the reason where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs the package playwright, of the extra dev"
    )
    if CHROMIUM is None:
        pytest.skip("needs the system package chromium, which is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(CHROMIUM), headless=True, args=list(FLAGS)
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open an address: `open_page(url, width=390, scheme="dark", reduced=True)`.

    Each page has a context of its own, so that nothing is kept from one to the next.
    """
    contexts = []

    def open_it(
        url: str,
        *,
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        reduced: bool = False,
    ) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce" if reduced else "no-preference",
        )
        contexts.append(context)
        opened = Opened(context.new_page())

        def note_request(request: Request) -> None:
            opened.requests.append(request.url)

        def note_message(message: object) -> None:
            if message.type == "error":
                opened.errors.append(message.text)

        opened.page.on("request", note_request)
        opened.page.on("console", note_message)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.goto(url)
        return opened

    yield open_it
    for context in contexts:
        context.close()
