"""Reference pages that are generated from the package: API, command line, settings, recipes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

import tightbound
from tightbound.cli.app import app as command_line
from tightbound.config import Config
from tightbound.models.recipes import RECIPES, Recipe

TIER = re.compile(r"^    # (?P<title>[^:]+): (?P<about>.+)$")
NAME = re.compile(r'^    "(?P<name>\w+)": "[\w.]+",$')


def tiers() -> dict[tuple[str, str], list[str]]:
    """The public names by the comment that heads them in the package's table of names."""
    groups: dict[tuple[str, str], list[str]] = {}
    current: list[str] = []
    for line in inspect.getsource(tightbound).splitlines():
        if heading := TIER.match(line):
            current = groups.setdefault((heading["title"], heading["about"]), [])
        elif name := NAME.match(line):
            current.append(name["name"])
    missing = set(tightbound.__all__) - {n for names in groups.values() for n in names}
    missing -= {"__version__"}
    if missing:
        raise ValueError(
            f"these public names stand under no heading: {sorted(missing)}"
        )
    return groups


def first_line(value: object) -> str:
    """The first sentence of a docstring, on one line and safe in a table."""
    text = inspect.getdoc(value) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def directive(name: str) -> str:
    """The directive that documents a public name."""
    value = getattr(tightbound, name)
    path = f"tightbound.{name}"
    if inspect.isclass(value):
        lines = [f".. autoclass:: {path}", "   :members:", "   :show-inheritance:"]
    elif callable(value):
        lines = [f".. autofunction:: {path}"]
    else:
        lines = [f".. autodata:: {path}", "   :no-value:", "   :no-index:"]
        return f"{first_line(value)}\n\nThe {len(RECIPES)} names: " + ", ".join(
            f"`{key}`" for key in RECIPES
        )
    return "\n".join(["```{eval-rst}", *lines, "```"])


def api_pages() -> Iterator[tuple[str, str]]:
    """One page for each public name, and the index of all."""
    index = [
        "# Python",
        "",
        "`import tightbound as tb`. Every name here is public; the changelog has each change.",
        "",
    ]
    names = []
    for (title, about), members in tiers().items():
        index += [f"## {title}", "", f"{about[0].upper()}{about[1:]}", ""]
        index += ["| name | |", "|---|---|"]
        for name in members:
            summary = first_line(getattr(tightbound, name))
            index.append(f"| [`tb.{name}`]({name}.md) | {summary} |")
            names.append(name)
            yield f"api/{name}.md", f"# `tb.{name}`\n\n{directive(name)}\n"
        index.append("")
    index += ["```{toctree}", ":hidden:", "", *names, "```", ""]
    yield "api/index.md", "\n".join(index)


def commands_page() -> str:
    """The help of every command."""
    text = command_line.generate_docs(output_format="markdown")
    text = text.replace("```console", "```text")
    _, _, body = text.partition("## Table of Contents")
    _, _, commands = body.partition("\n## ")
    intro = (
        "# Command line\n\nEvery command has `--help`, which says the same. "
        "The exit status is 0, or 2 with one sentence that says what is wrong.\n\n## "
    )
    return intro + commands


def settings_rows(model: type, prefix: str) -> Iterator[str]:
    """A row for each field of a model of settings."""
    for key, field in model.model_fields.items():
        about = (field.description or "").replace("|", "\\|")
        default = field.get_default(call_default_factory=True)
        shown = "not set" if default is None else default
        if isinstance(shown, bool):
            shown = str(shown).lower()
        if isinstance(shown, str | int | float):
            yield f"| `{prefix}{key}` | `{shown}` | {about} |"
        else:
            yield f"| `{prefix}{key}` | | {about} |"


def settings_page() -> str:
    """Every setting of a run with its default and its meaning."""
    lines = [
        "# Settings",
        "",
        "Any of them is changed by `--set KEY=VALUE` on the command line and by "
        "`settings={...}` or keywords of `tb.train`. `tightbound show RECIPE` prints those of "
        "a recipe with the options of its components; `config.toml` in the run folder has "
        "those of a run.",
        "",
    ]
    head = ["| setting | default | meaning |", "|---|---|---|"]
    for section, title in (("train", "Training"), ("data", "Data")):
        model = type(getattr(Config.model_construct(), section, None))
        if model is type(None):
            model = Config.model_fields[section].annotation
        lines += [f"## {title}", "", *head, *settings_rows(model, f"{section}."), ""]
    skipped = {"name", "purpose", "paper", "train"}
    rows = [
        row
        for row in settings_rows(Recipe, "")
        if re.match(r"\| `(\w+)`", row)[1] not in skipped
    ]
    lines += ["## Model", "", *head, *rows, ""]
    return "\n".join(lines)


def counts_page() -> str:
    """How many there are of what, for other pages."""
    return f"{len(RECIPES)}"


def write(app: Sphinx) -> None:
    """Write the generated pages, each only where it changes."""
    folder = Path(app.srcdir) / "generated"
    pages = dict(api_pages())
    pages["commands.md"] = commands_page()
    pages["settings.md"] = settings_page()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def literal_stars(
    app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Keep stars of shapes such as (B, *shape), which mark emphasis in reStructuredText."""
    for number, line in enumerate(lines):
        pieces = line.split("`")
        for at in range(0, len(pieces), 2):
            pieces[at] = re.sub(r"\*", r"\\*", pieces[at])
        lines[number] = "`".join(pieces)


def whole_sentences(
    app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Keep a colon in the first line of a property, which would part a type from a text."""
    if kind in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(": ", "\\: ")


def skipped(
    app: Sphinx, kind: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    """Leave out the methods that scikit-learn adds for the routing of metadata."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the generator."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", literal_stars)
    app.connect("autodoc-process-docstring", whole_sentences, priority=100)
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
