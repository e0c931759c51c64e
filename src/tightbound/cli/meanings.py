"""What each key of a config means: a row for each setting and each option of a component."""

from __future__ import annotations

from typing import Any

from tightbound.models.recipes import Part, Recipe


def described(cls: Any) -> dict[str, str]:
    """The description of each field of settings."""
    return {key: field.description or "" for key, field in cls.model_fields.items()}


def options(kind: str, part: Part) -> list[tuple[str, Any, str]]:
    """(name, value, description) of every option of a component, set or at its default.

    Of an "auto" component those that are set.
    """
    from tightbound.models.parts import find_component, options_of

    if part.name == "auto":
        return [(name, value, "") for name, value in part.options.items()]
    return [
        (option.name, part.options.get(option.name, option.default), option.description)
        for option in options_of(kind, find_component(kind, part, trust=True))
    ]


def rows(recipe: Recipe) -> list[tuple[str, object, str]]:
    """Every key of a recipe, each component followed by its options."""
    table: list[tuple[str, object, str]] = []
    for key, description in described(Recipe).items():
        if key in ("name", "purpose", "paper", "train"):
            continue
        value = getattr(recipe, key)
        if not isinstance(value, Part):
            table.append((f"recipe.{key}", value, description))
            continue
        table.append((f"recipe.{key}", value.name, description))
        for name, given, meaning in options(key, value):
            table.append((f"recipe.{key}.{name}", given, meaning))
    return table
