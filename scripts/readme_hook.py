"""The hook of the build that gives the package index a README with absolute addresses.

On the page of the index a relative link leads nowhere, and a picture by a relative address is not
shown; in the repository both are relative, so that they work in a clone and on a branch.
"""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

REPOSITORY = "tightbound/tightbound"
PAGES = f"https://github.com/{REPOSITORY}/blob/main/"
PICTURES = f"https://raw.githubusercontent.com/{REPOSITORY}/main/"
LINK = re.compile(
    r"(?P<mark>!?)\[(?P<text>[^]]*)\]\((?P<path>[^):#]+)(?P<anchor>[^)]*)\)"
)


def absolute(text: str) -> str:
    """README.md with the address of the repository before each relative link.

    Args:
        text: Markdown; links that have a scheme, or are an anchor alone, stay as they are.

    Returns:
        The text with absolute links, those of pictures to the files themselves.
    """

    def replaced(link: re.Match[str]) -> str:
        if link["anchor"].startswith(":"):
            return link[0]
        start = PICTURES if link["mark"] else PAGES
        target = f"{start}{link['path']}{link['anchor']}"
        return f"{link['mark']}[{link['text']}]({target})"

    return LINK.sub(replaced, text)


class ReadmeHook(MetadataHookInterface):
    """Sets the field `readme` of the package."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, object]) -> None:
        """Put README.md with absolute addresses into the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text),
        }
