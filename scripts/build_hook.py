"""The hook of the build: the page of `tightbound explore` is made before it is packed.

Where it cannot be made, and none is there, the package is built without it; `tightbound explore`
then says so in one sentence.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Builds the page for a wheel or an sdist; an editable install uses that of the clone."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Build the page where its sources are there and have changed."""
        root = Path(self.root)
        if version == "editable" or not (root / "web").is_dir():
            return
        page = _module(root / "scripts" / "build_page.py")
        if page.is_current():
            return
        try:
            page.build()
        except page.NotBuilt as error:
            print(f"{error}; the package is built without a new page", file=sys.stderr)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
