"""Links of pages to files of the repository outside docs/, made absolute."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

REPOSITORY = "https://github.com/tightbound/tightbound/blob/main/"
LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[\w./-]+)(?P<anchor>#[\w-]*)?\)")


def absolute(app: Sphinx, name: str, content: list[str]) -> None:
    """Replace links that leave docs/ by those of the repository."""
    page = Path(app.env.doc2path(name)).resolve()
    docs = Path(app.srcdir).resolve()

    def replaced(link: re.Match[str]) -> str:
        target = (page.parent / link["path"]).resolve()
        if target.is_relative_to(docs) or not target.is_relative_to(docs.parent):
            return link[0]
        path = target.relative_to(docs.parent).as_posix()
        return f"]({REPOSITORY}{path}{link['anchor'] or ''})"

    content[0] = LINK.sub(replaced, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the replacement."""
    app.connect("source-read", absolute)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
