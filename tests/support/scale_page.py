"""The commands of docs/scale.md, read from the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def commands() -> list[list[str]]:
    """The commands of all code blocks in the order of the page, each as its words.

    Inline commands that begin with torchrun come after them.
    """
    text = PAGE.read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", text, re.M | re.S))
    lines = blocks.replace("\\\n", " ").splitlines()
    inline = re.findall(
        r"`(torchrun [^`]*)`", re.sub(r"^```\n.*?^```$", "", text, flags=re.M | re.S)
    )
    return [shlex.split(line, comments=True) for line in [*lines, *inline] if line]
