"""The table of named models: one line each, with its paper and when to use it."""

from tightbound.models.recipes.bounds import BOUNDS
from tightbound.models.recipes.latents import LATENTS
from tightbound.models.recipes.recipe import (
    Part,
    Recipe,
    has_point,
    import_path,
    loaded,
    part,
)

RECIPES: dict[str, Recipe] = {
    name: recipe.model_copy(update={"name": name})
    for name, recipe in (BOUNDS | LATENTS).items()
}

__all__ = [
    "RECIPES",
    "Part",
    "Recipe",
    "has_point",
    "import_path",
    "loaded",
    "part",
]
