"""The language of Korean pages in their HTML, for screen readers and line breaks."""

from __future__ import annotations

from sphinx.application import Sphinx

KOREAN = ".ko"


def name_language(
    app: Sphinx, name: str, template: str, context: dict[str, object], tree: object
) -> None:
    """Give the pages whose names end in `.ko` the attribute lang="ko"."""
    if name.endswith(KOREAN):
        context["language"] = "ko"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the language."""
    app.connect("html-page-context", name_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
