"""The texts of the report in each language, and the formatting of numbers."""

from __future__ import annotations

import re
import string
import tomllib
from importlib import resources
from typing import TYPE_CHECKING

from tightbound.runtime.errors import lookup

if TYPE_CHECKING:
    from markupsafe import Markup

# A setting, a setting with its value, a command, or the name of a component.
CODE = re.compile(r"[a-z_]+[.=]\S+|tightbound .+|[a-z][a-z0-9-]{2,}")
LANGUAGES = {"en": "en.toml", "ko": "ko.toml"}


class _Formatter(string.Formatter):
    """`str.format` with a true minus sign in numbers."""

    def format_field(self, value: object, format_spec: str) -> str:
        text = str(super().format_field(value, format_spec))
        return text.replace("-", "−") if isinstance(value, int | float) else text


def number(value: float, spec: str = ",.1f") -> str:
    """A formatted number with a true minus sign; a rounded zero has no sign."""
    text = format(value, spec)
    if not any(c in "123456789" for c in text):
        text = text.lstrip("-")
    return text.replace("-", "−")


def with_error(mean: float, se: float) -> tuple[str, str]:
    """A mean and its standard error, printed with the same number of decimals.

    Two decimals for an error below 2, one for an error below 20, otherwise none.
    """
    if se < 2:
        spec = ",.2f"
    elif se < 20:
        spec = ",.1f"
    else:
        spec = ",.0f"
    return number(mean, spec), number(se, spec)


class Text:
    """The sentences of one language: `text("recon.caption", kept=0.95)`.

    Values in `shared` are filled in wherever a sentence uses them.

    Raises:
        TightboundError: for a language without a file.
    """

    def __init__(self, lang: str) -> None:
        name = lookup(LANGUAGES, lang, "language")
        file = resources.files("tightbound.report") / "text" / name
        self.lang = lang
        self.table = tomllib.loads(file.read_text(encoding="utf-8"))
        self.shared: dict[str, object] = {}

    def count(self, noun: str, n: int) -> str:
        """A number with its noun: `count("features", 1)` is "1 feature"."""
        return self(f"count.{noun}_one" if n == 1 else f"count.{noun}", n=n)

    def __call__(self, key: str, **values: object) -> str:
        section, _, name = key.partition(".")
        sentence = self.table[section][name]
        return _Formatter().format(sentence, **{**self.shared, **values})


def rich(text: str) -> Markup:
    """Plain text as HTML: escaped, with text in `backticks` as mathematics or code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", _quoted, str(escape(text))))


def _quoted(match: re.Match[str]) -> str:
    if CODE.fullmatch(match.group(1)):
        return f"<code>{match.group(1)}</code>"
    body = re.sub(r"_(\w)", r"<sub>\1</sub>", match.group(1))
    kind = "m" if len(match.group(1)) < 28 else "m long"
    return f'<span class="{kind}">{body}</span>'
