"""The settings of a run: what `config.toml` holds, `--set` changes and every error names by key."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from tightbound.core.data_spec import DataSpec
from tightbound.data.settings import DataSettings
from tightbound.models.recipes import RECIPES, Part, Recipe, import_path
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError, lookup, nearest

FORMAT_VERSION = 2  # 2: the file ends with LAST_LINE
LAST_LINE = "# end of config.toml"
M = TypeVar("M", bound=BaseModel)


class TrainSettings(BaseModel):
    """How a model is trained; "auto" is resolved before the first step and saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Literal["auto"] | PositiveInt = Field(
        "auto", description="optimiser steps; auto: from epochs or budget"
    )
    epochs: Literal["auto"] | PositiveFloat = Field(
        "auto", description="passes over the training data"
    )
    budget: PositiveFloat | None = Field(
        None, description="seconds that training may take; fits the steps to them"
    )
    batch: PositiveInt = Field(128, description="examples per step")
    optimizer: str = Field(
        "torch.optim.AdamW", description="import path of the optimiser"
    )
    optimizer_options: dict[str, Any] = Field(
        {}, description="further arguments of the optimiser"
    )
    lr: PositiveFloat = Field(1e-3, description="learning rate at its highest")
    lr_final: NonNegativeFloat = Field(
        0.01, description="share of lr that the cosine ends at"
    )
    warmup: NonNegativeFloat = Field(
        0.02, description="share of the run over which lr rises from 0"
    )
    weight_decay: NonNegativeFloat = Field(
        5e-2, description="decay of matrices, not of biases"
    )
    clip: NonNegativeFloat = Field(
        5.0,
        description="gradient norms above clip x their running mean are cut; 0: never",
    )
    skip_gradient_above: PositiveFloat = Field(
        100.0,
        description="steps with a gradient norm above this x the running mean are skipped",
    )
    ema: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="decay of the averaged weights that the run uses; 0: none",
    )
    validate_every: Literal["auto"] | PositiveInt = Field(
        "auto", description="steps between validations"
    )
    validate_k: PositiveInt = Field(
        64, description="samples of the importance-sampled log p(x) in the log"
    )
    validate_n: PositiveInt = Field(
        256, description="validation examples for that log p(x)"
    )
    patience: Literal["auto"] | PositiveInt = Field(
        "auto", description="validations without a new best before stopping"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products; auto: the faster of the two, timed on long runs",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description=(
            "one compiled graph for loss and gradients; auto: where a long run "
            "repays compiling it"
        ),
    )
    groups: dict[str, dict[str, Any]] = Field(
        {},
        description="optimiser arguments of one parameter group, as {critic = {lr = 1e-4}}",
    )
    parallel: Literal["ddp", "fsdp2"] = Field(
        "ddp",
        description=(
            "of processes by torchrun: each has the whole model, or a part of "
            "every parameter"
        ),
    )
    accumulate: PositiveInt = Field(
        1,
        description="parts of a batch that go through the model one after another, for less memory",
    )
    save_seconds: NonNegativeFloat = Field(
        30.0, description="least seconds between two saves of the state"
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        """Reads true and false as "on" and "off"."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Config(BaseModel):
    """All of a run: recipe, data and how to read them, training, seed, and what the data turned out
    to be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    source: str = Field(
        "",
        description="the data: a built-in name or a path; empty for arrays given in Python",
    )
    seed: int = Field(
        0, ge=0, description="fixes initialisation, data order, noise and evaluation"
    )
    device: str = Field("auto", description="auto, cpu or cuda")
    digest: str = Field(
        "",
        description="content of the data, so that a resumed run can tell that they changed",
    )
    recipe: Recipe = Recipe()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    spec: DataSpec | None = None


SECTIONS: dict[str, type[BaseModel]] = {
    "recipe": Recipe,
    "data": DataSettings,
    "train": TrainSettings,
}


def parse(cls: type[M], values: Mapping[str, Any], where: str) -> M:
    """`cls(**values)`, or a `TightboundError` that names the key, the value and the nearest known
    key.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise TightboundError(
            _sentence(cls, error.errors(include_url=False), where)
        ) from None


def _sentence(cls: type[BaseModel], errors: Sequence[Any], where: str) -> str:
    """What is wrong with the first bad key: unknown, or a value that is none of what the
    key takes.
    """
    first = errors[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        owner: Any = cls
        for part in path[:-1]:
            owner = DataSpec if part == "spec" else owner.model_fields[part].annotation
        return f"{where} has no key {'.'.join(path)!r}: {nearest(path[-1], owner.model_fields)}"
    keys = path if len(path) < 2 or path[0] not in SECTIONS else path[:2]
    same = [e for e in errors if [str(part) for part in e["loc"]][: len(keys)] == keys]
    said = _joined([_wanted(e) for e in same])
    choices = [
        name
        for e in same
        for name in re.findall("'([^']+)'", str(e.get("ctx", {}).get("expected", "")))
    ]
    near = (
        f"; {hint}"
        if choices and (hint := nearest(first["input"], choices)).startswith("did you")
        else ""
    )
    return f"{where} {'.'.join(keys)} = {first['input']!r} cannot be used: {said}{near}"


_SHOULD = "Input should be "
_PLAIN = (
    ("a valid dictionary or instance of Part", "a name, or a table with a name"),
    ("a valid integer", "a whole number"),
    ("a valid tuple", "a list"),
    ("a valid dictionary", "a table of keys"),
    ("a valid string", "a text"),
    ("a valid number", "a number"),
    ("a valid boolean", "true or false"),
    ("greater than or equal to", "numbers from"),
    ("greater than", "numbers above"),
    ("less than", "numbers below"),
)


def _wanted(error: Any) -> str:
    """What pydantic says of a value, in plain words: `it takes a whole number`."""
    text = str(error["msg"]).removeprefix("Value error, ")
    if not text.startswith(_SHOULD):
        return f"{text[:1].lower()}{text[1:]}"
    kind = text.removeprefix(_SHOULD).partition(", unable")[0].partition(", got")[0]
    for words, plain in _PLAIN:
        kind = kind.replace(words, plain)
    return f"it takes {kind}"


def _joined(said: Sequence[str]) -> str:
    """`it takes 'auto', or a whole number, or a list`."""
    first, *rest = dict.fromkeys(said)
    return ", ".join(
        [first, *(f"or {other.removeprefix('it takes ')}" for other in rest)]
    )


def literal(text: str) -> Any:
    """A value as it stands on the command line: TOML where it is TOML, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """`["data.binarize=dynamic", "latent=16"]` as {"data.binarize": "dynamic", "latent": 16}."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise TightboundError(
                f"--set wants key=value, not {pair!r}: for example --set train.lr=0.001"
            )
        found[key.strip()] = literal(value.strip())
    return found


def _path(key: str) -> list[str]:
    """`latent` or `recipe.latent` as ["recipe", "latent"]: a key alone is looked for in every
    section.
    """
    parts = key.split(".")
    if parts[0] in SECTIONS or (len(parts) == 1 and parts[0] in Config.model_fields):
        return parts
    homes = [name for name, cls in SECTIONS.items() if parts[0] in cls.model_fields]
    if not homes:
        every = {
            f"{name}.{field}"
            for name, cls in SECTIONS.items()
            for field in cls.model_fields
        }
        known = every | set(Config.model_fields) | {k.partition(".")[2] for k in every}
        raise TightboundError(f"unknown key {key!r}: {nearest(key, known)}")
    if len(homes) > 1:
        raise TightboundError(
            f"key {key!r} is in {' and '.join(homes)}: write {homes[0]}.{key}"
        )
    return [homes[0], *parts]


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        held = tree.get(part)
        if isinstance(held, str):
            held = {"name": held}
        tree[part] = held = held if isinstance(held, dict) else {}
        tree = held
    old = tree.get(path[-1])
    if (
        isinstance(old, dict) and "name" in old
    ):  # a part: another one by its name, or options of the same
        value = (
            {"name": value}
            if isinstance(value, str)
            else old | value
            if isinstance(value, dict)
            else value
        )
    tree[path[-1]] = value


def configure(
    source: str = "",
    recipe: str | Recipe | None = None,
    *,
    file: Path | str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of a new run: the recipe, then the file's keys over it, then single values over
    both.

    values: {"data.binarize": "dynamic", "latent": 16}, each key with or without its section.
    Raises TightboundError for an unknown recipe, key or value, with the nearest name.
    """
    values = dict(values or {})
    if (chosen := values.pop("recipe", None)) is not None and recipe is None:
        recipe = chosen
    for key in ("name", "recipe.name", "format_version", "digest", "source"):
        if key in values:
            raise TightboundError(
                f"key {key!r} is not for setting: a recipe is chosen by "
                "--recipe, data by their path"
            )
    tree: dict[str, Any] = read_toml(file) if file else {}
    table = tree.pop("recipe", {})
    if isinstance(table, str):
        table = {"name": table}
    name = recipe if recipe is not None else table.get("name", "vae")
    base = name if isinstance(name, Recipe) else lookup(RECIPES, name, "recipe")
    parts = {key: value.model_dump() for key, value in base if isinstance(value, Part)}
    merged = parts | base.model_dump(exclude_unset=True)
    for key, value in table.items():
        _put(merged, [key], value)
    merged["name"] = base.name
    tree["recipe"] = merged
    tree["train"] = copy.deepcopy(base.train) | tree.get("train", {})
    for path, value in sorted(
        ((_path(k), v) for k, v in values.items()), key=lambda pair: len(pair[0])
    ):
        _put(
            tree, path, import_path(value)
        )  # a part before its options, whatever their order
    if source:
        tree["source"] = source
    return parse(Config, tree, f"{file}:" if file else "the setting")


def read_toml(path: Path | str) -> dict[str, Any]:
    """A TOML file as a tree; raises TightboundError where it is missing or is not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TightboundError(
            f"cannot read {path} ({error.strerror}): check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TightboundError(
            f"{path} is not valid TOML ({error}): mend the line it names"
        ) from error


def _plain(value: Any) -> Any:
    """TOML has no null: keys without a value are left out."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def to_toml(config: Config) -> str:
    """The complete settings as TOML text."""
    import tomli_w

    return tomli_w.dumps(_plain(config.model_dump(mode="json")))


def write(path: Path, config: Config) -> None:
    """Writes `config.toml`, atomically, with a last line that shows that it is whole."""
    write_atomic(path, f"{to_toml(config)}{LAST_LINE}\n")


def read(path: Path) -> Config:
    """Reads a run's `config.toml`; newer formats are refused, older ones migrated."""
    tree = read_toml(path)
    version = tree.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise TightboundError(
            f"{path} has no format_version, so it is not a run's config: name a run folder"
        )
    if version > FORMAT_VERSION:
        raise TightboundError(
            f"{path} is of format {version}, newer than this tightbound reads "
            f"({FORMAT_VERSION}): update tightbound"
        )
    if version > 1 and LAST_LINE not in path.read_text(encoding="utf-8"):
        raise TightboundError(
            f"{path} is cut short: its last line, {LAST_LINE!r}, is missing; "
            "restore it from a copy, or add that line "
            "if nothing else is missing"
        )
    return parse(Config, tree | {"format_version": FORMAT_VERSION}, f"{path}:")
