"""The page of `tightbound explore` from an installed wheel, without node.

    python scripts/installed_page.py [--wheel FILE] [--keep FOLDER]

Builds the wheel, unless one is given, installs it with the extra explore into an empty
environment, trains a small model there and serves its page, with a PATH that has no node. The
page and all its blocks are fetched over HTTP, and it is opened in Chromium where this machine has
it and the package playwright, until its networks are computed in the page. Prints what was
checked; ends with 1 at the first failure.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
SECONDS = 300  # of a command of the new environment
# whether the graphs that the server makes first have come to the page
IN_PAGE = """() => Object.values(window.tightbound.page.main.model.run.graphs)
  .every((graph) => graph.where === 'page')"""
CHROMIUM = next((p for p in ("chromium", "chromium-browser") if shutil.which(p)), None)


class Failed(Exception):
    """A check has failed; its text is which one, and what was found instead."""


def check(is_right: bool, what: str) -> None:
    """Print what was checked.

    Raises:
        Failed: It is not right.
    """
    if not is_right:
        raise Failed(what)
    print(f"right: {what}", flush=True)


class Environment:
    """An empty environment with the wheel.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "environment" / "bin"

    def variables(self) -> dict[str, str]:
        """Variables of a process that finds the programs of this environment and no others."""
        kept = ("HOME", "LANG", "TMPDIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE")
        variables = {k: v for k, v in os.environ.items() if k in kept}
        return variables | {"PATH": str(self.programs), "OMP_NUM_THREADS": "1"}

    def run(self, name: str, *words: str) -> None:
        """Run a program of the environment.

        Raises:
            CalledProcessError: It fails.
        """
        subprocess.run(
            [str(self.programs / name), *words],
            cwd=self.folder,
            env=self.variables(),
            check=True,
            timeout=SECONDS,
        )

    def install(self, wheel: Path) -> None:
        """Make the environment, with the wheel and its extra explore."""
        place = str(self.folder / "environment")
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        limits = ["-c", str(ROOT / "constraints.txt")]
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [str(self.programs / "python"), *pip, *limits, f"{wheel}[explore]"]
        subprocess.run(command, cwd=self.folder, check=True)

    @contextmanager
    def served(self, run: str) -> Iterator[str]:
        """Serve the page of a run; gives its address."""
        words = ["explore", run, "--no-browser", "--no-scenes", "--port", "0"]
        with subprocess.Popen(
            [str(self.programs / "tightbound"), *words],
            cwd=self.folder,
            env=self.variables(),
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            try:
                if not address.startswith("http://"):
                    raise Failed(f"explore prints an address, not {address!r}")
                yield address
            finally:
                server.send_signal(signal.SIGINT)


def built_wheel(folder: Path) -> Path:
    """The wheel of the sources of this clone."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("tightbound-*.whl")
    return wheel


def fetched(address: str) -> bytes:
    """The body of an answer."""
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        body: bytes = answer.read()
    return body


def check_answers(address: str) -> None:
    """The page, its manifest and each of its blocks are sent."""
    base = address.rstrip("/")
    page = fetched(address).decode()
    check("Content-Security-Policy" in page and "<script>" in page, "the page is sent")
    manifest = json.loads(fetched(f"{base}/data/manifest.json"))
    names = {"ort.wasm"} | set(block_names(manifest))
    sizes = {name: len(fetched(f"{base}/data/blocks/{name}")) for name in sorted(names)}
    check(
        min(sizes.values()) > 0 and sizes["ort.wasm"] > 1_000_000,
        f"{len(sizes)} blocks are sent, {sum(sizes.values()) / 1e6:.1f} MB",
    )


def block_names(value: object) -> Iterator[str]:
    """The names of the blocks of a manifest."""
    if isinstance(value, dict):
        name = value.get("block")
        if isinstance(name, str):
            yield name
        for each in value.values():
            yield from block_names(each)
    elif isinstance(value, list):
        for each in value:
            yield from block_names(each)


def check_in_browser(address: str) -> None:
    """The page opens in Chromium, decodes, and asks no other server."""
    from playwright.sync_api import sync_playwright

    hosts = set()
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which(str(CHROMIUM)),
            headless=True,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        page.on("request", lambda request: hosts.add(origin_of(request.url)))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("main[aria-busy=false]", timeout=120_000)
        in_page = wait_for_networks(page)
        page.wait_for_timeout(1000)
        levels = page.eval_on_selector(
            ".decoded-card canvas",
            "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size",
        )
        browser.close()
    check(errors == [], f"the page has no errors ({errors})")
    check(in_page, "all networks are computed in the page")
    check(levels > 8, f"the decoded image has {levels} levels")
    check(
        hosts == {origin_of(address)},
        f"it asks its own server alone ({sorted(hosts)})",
    )


def wait_for_networks(page: Page) -> bool:
    """Whether the graphs that the server makes first come to the page.

    Its policy forbids the evaluation of text, by which playwright waits.
    """
    for _ in range(SECONDS):
        if page.evaluate(IN_PAGE):
            return True
        page.wait_for_timeout(1000)
    return False


def origin_of(address: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def walk(folder: Path, wheel: Path | None) -> None:
    """All checks, in a folder."""
    environment = Environment(folder)
    environment.install(wheel or built_wheel(folder / "dist"))
    has_node = shutil.which("node", path=environment.variables()["PATH"]) is not None
    check(not has_node, "the environment has no node")
    settings = ["train.steps=40", "recipe.size=s"]
    environment.run(
        "tightbound", "train", "digits", "--out", "run", "--quiet", "--set", *settings
    )
    with environment.served("run") as address:
        check_answers(address)
        if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
            print("not opened: there is no chromium with playwright")
            return
        check_in_browser(address)


def main() -> int:
    """Walk through it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="a wheel that was built before")
    parser.add_argument("--keep", type=Path, help="write here, and keep it")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="installed-"))
    folder.mkdir(parents=True, exist_ok=True)
    wheel = options.wheel.resolve() if options.wheel else None
    try:
        walk(folder.resolve(), wheel)
    except (subprocess.SubprocessError, Failed, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
