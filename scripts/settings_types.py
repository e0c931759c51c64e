"""Writes training/settings.py: the settings of tb.train as a TypedDict, from the config's tables.

    python scripts/settings_types.py            writes the module and the list in tb.train
    python scripts/settings_types.py --check    exits with 1 where one is out of date

Editors and type checkers then list the settings that `tb.train` and `tb.build` take as keyword
arguments, and `help(tb.train)` names them.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

import tightbound
from tightbound.config import NOT_SETTABLE, SECTIONS, Config
from tightbound.models.recipes import Part

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "src" / "tightbound" / "training" / "settings.py"
VERBS = ROOT / "src" / "tightbound" / "api.py"
ABOUT_A_RECIPE = {"purpose", "paper"}
WIDTH = 98
LIST = re.compile(
    r"( +)more: The same as keyword arguments.*?(?=\n\n +Raises:)", re.DOTALL
)
HEAD = '''"""The settings of a training as keyword arguments, for editors and type checkers.

Written by `python scripts/settings_types.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from tightbound.models.recipes import Part

PartLike = str | type | Part | Mapping[str, object]


class Settings(TypedDict, total=False):
    """Settings by their names without the section, as `tb.train` and `tb.build` take them.

    Options of parts and names that are in two sections are given by `settings=`, such as
    {"objective.beta": 4, "recipe.size": "s"}.
    """

'''


def fields() -> dict[str, FieldInfo]:
    """The settings that are keyword arguments: those of one section that no argument has."""
    sections = {name: cls.model_fields for name, cls in SECTIONS.items()}
    named = set(inspect.signature(tightbound.train).parameters)
    taken = named | set(SECTIONS) | set(Config.model_fields) | set(NOT_SETTABLE)
    taken |= ABOUT_A_RECIPE
    chosen = {}
    for section, of_section in sections.items():
        for name, info in of_section.items():
            places = [other for other in sections.values() if name in other]
            is_free = name not in taken and f"{section}.{name}" not in taken
            if is_free and len(places) == 1:
                chosen[name] = info
    return chosen


def type_of(annotation: Any) -> str:
    """The type of the values that a setting takes, as it is written in Python."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if annotation is Part:
        return "PartLike"
    if annotation is Any:
        return "object"
    if annotation is NoneType:
        return "None"
    if origin is Annotated:
        return type_of(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, UnionType):
        return " | ".join(map(type_of, arguments))
    if origin is tuple:
        return f"Sequence[{type_of(arguments[0])}]"
    if origin is dict:
        return f"Mapping[{type_of(arguments[0])}, {type_of(arguments[1])}]"
    assert isinstance(annotation, type)
    return str(annotation.__name__)


def module() -> str:
    """The text of the module."""
    lines = [HEAD]
    for name, info in fields().items():
        about = f"{info.description or name}.".replace("\\", "\\\\")
        lines.append(f"    {name}: {type_of(info.annotation)}")
        text = textwrap.fill(
            f'"""{about}"""', 92, initial_indent="    ", subsequent_indent="    "
        )
        lines.append(text)
    command = [sys.executable, "-m", "ruff", "format", "-", "--stdin-filename"]
    result = subprocess.run(
        [*command, str(MODULE)],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return result.stdout


def verbs() -> str:
    """The text of api.py with the names of all settings in the docstring of `train`."""
    text = VERBS.read_text(encoding="utf-8")

    def listed(match: re.Match[str]) -> str:
        indent = match[1]
        about = (
            "more: The same as keyword arguments, without the section: latent=16. They are "
            f"{', '.join(fields())}."
        )
        return textwrap.fill(
            about, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    "
        )

    return LIST.sub(listed, text, count=1)


PAGES: Mapping[Path, Any] = {MODULE: module, VERBS: verbs}


def main() -> int:
    """Write both files, or with --check compare them."""
    stale = []
    for path, make in PAGES.items():
        text = make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv:
        names = ", ".join(path.name for path in stale)
        print(f"out of date: {names}; run python scripts/settings_types.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
