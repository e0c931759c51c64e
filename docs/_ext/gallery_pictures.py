"""The PNG files that an example writes, as its pictures in the gallery."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sphinx_gallery.scrapers import figure_rst


def scrape(
    block: object, variables: Mapping[str, object], configuration: Mapping[str, object]
) -> str:
    """Move the pictures of an example to the gallery.

    Args:
        block: The block of the example that was run; not used.
        variables: Of the block: the names of pictures and the file of the example.
        configuration: Of the gallery.

    Returns:
        Text in reStructuredText that shows them.
    """
    names = variables["image_path_iterator"]
    assert hasattr(names, "__next__")
    folder = Path(str(variables["src_file"])).parent
    pictures = []
    for file in sorted(folder.glob("*.png")):
        target = str(next(names))
        shutil.move(file, target)
        pictures.append(target)
    return figure_rst(pictures, str(configuration["src_dir"]))
