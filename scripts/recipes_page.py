"""Writes docs/recipes.md: one row and one picture per recipe, from the table of recipes.

    python scripts/recipes_page.py            writes the page
    python scripts/recipes_page.py --check    exits with 1 where the page is out of date

The pictures come from the matrix: python benchmarks/matrix.py --write-docs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tightbound.cli.tables import parts
from tightbound.models.recipes import RECIPES

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, PICTURES = DOCS / "recipes.md", DOCS / "images" / "recipes"
HEAD = """# Recipes

Every named model, when to use it, its parts where they differ from a plain VAE, and its
paper. Written by `python scripts/recipes_page.py` from the table of recipes;
`tightbound recipes` prints the same, `tightbound show NAME` every setting with its meaning,
and [results.md](results.md#the-matrix-every-recipe-on-three-sets) what each reaches.

Pictures, where `python benchmarks/matrix.py --write-docs` has made one: the model after
200 steps on digits with default settings, so they show what a recipe makes and not how good
it gets (patches of photographs, or digits as counts, where a recipe is for those). First row:
test images. Second row: their reconstructions. Third row: new images from the prior; a
deterministic model (marked †) has none, since nothing says where its codes lie.

| recipe | picture | for | parts | paper |
|---|---|---|---|---|
"""


def linked(paper: str) -> str:
    """A paper with its identifiers as links."""
    paper = re.sub(
        r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper
    )
    paper = re.sub(r"doi:(10\.[^\s;,]+)", r"[doi:\1](https://doi.org/\1)", paper)
    return re.sub(
        r"openreview:([\w-]+)",
        r"[openreview:\1](https://openreview.net/forum?id=\1)",
        paper,
    )


def page() -> str:
    """The page as Markdown; a recipe whose picture is not there yet has an empty cell."""
    rows = []
    for name, recipe in RECIPES.items():
        mark = "" if recipe.has_bound else " †"
        picture = (
            f"![{name}](images/recipes/{name}.png)"
            if (PICTURES / f"{name}.png").is_file()
            else ""
        )
        cells = (
            f"`{name}`{mark}",
            picture,
            recipe.purpose,
            ", ".join(parts(recipe)),
            linked(recipe.paper),
        )
        rows.append(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        )
    return HEAD + "\n".join(rows) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
