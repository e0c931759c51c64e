"""The report's words: one TOML file per language, values filled in, mathematics set in its own
face.
"""

from __future__ import annotations

import re
import string
import tomllib
from importlib import resources
from typing import Any

from tightbound.runtime.errors import lookup

LANGUAGES = {"en": "en.toml", "ko": "ko.toml"}


class _Numbers(string.Formatter):
    """`str.format` with a true minus sign in numbers."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = str(super().format_field(value, format_spec))
        return text.replace("-", "−") if isinstance(value, int | float) else text


def number(value: float, spec: str = ",.1f") -> str:
    """A number with a true minus sign, and none before a zero."""
    text = format(value, spec)
    return (text if any(c in "123456789" for c in text) else text.lstrip("-")).replace(
        "-", "−"
    )


def with_error(mean: float, se: float) -> tuple[str, str]:
    """A mean and its standard error to the same places: 2 where the error is below 2, else 1 or
    none.
    """
    spec = ",.2f" if se < 2 else ",.1f" if se < 20 else ",.0f"
    return number(mean, spec), number(se, spec)


class Text:
    """The sentences of one language: `text("recon.caption", kept=0.95)`; `shared` values stand in
    every sentence.

    Raises TightboundError for a language that there is no file for.
    """

    def __init__(self, lang: str) -> None:
        name = lookup(LANGUAGES, lang, "language")
        source = (
            resources.files("tightbound.report")
            .joinpath("text", name)
            .read_text(encoding="utf-8")
        )
        self.lang, self.table = lang, tomllib.loads(source)
        self.shared: dict[str, Any] = {}

    def count(self, what: str, n: int) -> str:
        """A number of things in words: `count("features", 1)` is "1 feature"."""
        return self(f"count.{what}_one" if n == 1 else f"count.{what}", n=n)

    def __call__(self, key: str, **values: Any) -> str:
        section, _, name = key.partition(".")
        return _Numbers().format(self.table[section][name], **{**self.shared, **values})


def rich(text: str) -> Any:
    """Plain text to HTML: everything escaped, then `backticks` set as mathematics."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", _mathematics, str(escape(text))))


def _mathematics(match: re.Match[str]) -> str:
    body = re.sub(r"_(\w)", r"<sub>\1</sub>", match.group(1))
    kind = "m" if len(match.group(1)) < 28 else "m long"
    return f'<span class="{kind}">{body}</span>'
