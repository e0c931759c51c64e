"""What each key of a config means: of a setting from its description, of a part's option from the
part's docstring.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from tightbound.models.recipes import Part, Recipe

GIVEN = {
    "posterior": 2,
    "prior": 1,
    "likelihood": 1,
    "network": 1,
    "objective": 0,
}  # arguments that are no options

_END = re.compile(r"\.?\s+(?:\w+, )*\w+: |(?<!\bal)(?<!\beq)\.(?:\s|$)|$")


def described(cls: Any) -> dict[str, str]:
    """The meaning of each field of settings."""
    return {key: field.description or "" for key, field in cls.model_fields.items()}


def options(kind: str, part: Part) -> list[tuple[str, Any, str]]:
    """(name, value, meaning) of every option of a part, set or at its default; of an "auto" part,
    those set.
    """
    from tightbound.models.compatibility import component

    if part.name == "auto":
        return [(name, value, "") for name, value in part.options.items()]
    cls = component(kind, part, trust=True)
    takes = [p for p in inspect.signature(cls).parameters.values() if p.name != "self"][
        GIVEN[kind] :
    ]
    asked = getattr(cls, "needs", ())
    return [
        (p.name, part.options.get(p.name, p.default), meaning(cls, p.name))
        for p in takes
        if p.name not in asked
    ]


def meaning(cls: Any, option: str) -> str:
    """The clause `option: ...` of a docstring of a class or of its parents; nothing where none has
    it.
    """
    for text in (inspect.cleandoc(c.__doc__) for c in inspect.getmro(cls) if c.__doc__):
        if found := re.search(
            rf"(?:^|\s)(?:\w+, )*{option}(?:, \w+)*: (.+?)(?:{_END.pattern})",
            text,
            re.DOTALL,
        ):
            return re.sub(r"\s+", " ", found[1])
    return ""


def rows(recipe: Recipe) -> list[tuple[str, Any, str]]:
    """Every key of a recipe, each part followed by its options."""
    found: list[tuple[str, Any, str]] = []
    for key, said in described(Recipe).items():
        if key in ("name", "purpose", "paper", "train"):
            continue
        value = getattr(recipe, key)
        if not isinstance(value, Part):
            found.append((f"recipe.{key}", value, said))
            continue
        found.append((f"recipe.{key}", value.name, said))
        found += [
            (f"recipe.{key}.{name}", given, what)
            for name, given, what in options(key, value)
        ]
    return found
