"""The settings of a run, in `config.toml` and on the command line."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

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
from tightbound.runtime.errors import (
    LARGEST,
    TightboundError,
    cut,
    lookup,
    nearest,
    os_reason,
    written,
)
from tightbound.runtime.reading import Options, Tree, read_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FORMAT_VERSION = 3
LAST_LINE = "# end of config.toml"  # a file without it was cut short
MOST_SAMPLES = 10_000_000  # of an importance-sampled log p(x)
MOST_BYTES = 4_000_000  # of a file of settings
M = TypeVar("M", bound=BaseModel)


class TrainSettings(BaseModel):
    """How a model is trained; "auto" is resolved before the first step and saved."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Literal["auto"] | PositiveInt = Field(
        "auto", description="optimiser steps; auto: from epochs or budget"
    )
    epochs: Literal["auto"] | PositiveFloat = Field(
        "auto", description="passes over the training data"
    )
    budget: PositiveFloat | None = Field(
        None, description="seconds that training may take; fits the steps to them"
    )
    batch: PositiveInt = Field(128, le=1_000_000_000, description="examples per step")
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
    cycles: PositiveInt = Field(
        1,
        le=100,
        description=(
            "times that the learning rate rises and falls; above 1 the weights are the mean "
            "of those at the ends of the cycles"
        ),
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
        64,
        le=MOST_SAMPLES,
        description="samples of the importance-sampled log p(x) in the log",
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
        description=(
            "optimiser arguments of one parameter group, as {critic = {lr = 1e-4}}: inference, "
            "generative or its parts decoder and prior, critic"
        ),
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
    init: str = Field(
        "", description="run folder whose weights are the initial ones; empty: random"
    )
    init_weights: str = Field("", description="hash of the weights of init")
    extensions: tuple[tuple[PositiveInt, PositiveInt], ...] = Field(
        (),
        description=(
            "of each --extend: the step at which it begins, and the steps planned until then"
        ),
    )

    @field_validator("compile", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        """Read true and false as "on" and "off"."""
        if isinstance(value, bool):
            if value:
                return "on"
            return "off"
        return value


class Config(BaseModel):
    """All settings of a run, and the spec of the data that they were resolved on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format_version: int = FORMAT_VERSION
    seed: int = Field(
        0,
        ge=0,
        le=LARGEST,
        description="fixes initialisation, data order, noise and evaluation",
    )
    device: str = Field("auto", description="auto, cpu or cuda")
    digest: str = Field(
        "",
        description="hash of the data; a resumed run is refused if they have changed",
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
# Keys that no user sets: the recipe and the data are arguments of their own.
NOT_SETTABLE = (
    "name",
    "recipe.name",
    "format_version",
    "digest",
    "source",
    "data.source",
    "init_weights",
    "train.init_weights",
    "extensions",
    "train.extensions",
)


# ---- pydantic's errors as sentences


def parse(cls: type[M], values: Mapping[str, object], where: str) -> M:
    """`cls(**values)`, or a TightboundError about the first key that is wrong."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise TightboundError(_sentence(cls, errors, where)) from None


def _sentence(cls: type[BaseModel], errors: Sequence[ErrorDetails], where: str) -> str:
    """One sentence about the first key that is unknown or has a wrong value."""
    first = errors[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        fields = _owner(cls, path).model_fields
        name = cut(repr(".".join(path)))
        return f"{where} has no key {name}: {nearest(path[-1], fields)}"
    keys = path if len(path) < 2 or path[0] not in SECTIONS else path[:2]
    same_key = [error for error in errors if _is_about(error, keys)]
    allowed = _either([_allowed(error) for error in same_key])
    key = cut(".".join(keys))
    sentence = f"{where} {key} = {written(first['input'])} cannot be used: {allowed}"
    choices = [name for error in same_key for name in _choices(error)]
    if choices:
        hint = nearest(first["input"], choices)
        if hint.startswith("did you"):
            return f"{sentence}; {hint}"
    return sentence


def _is_about(error: ErrorDetails, keys: Sequence[str]) -> bool:
    place = [str(part) for part in error["loc"]]
    return place[: len(keys)] == keys


def _owner(cls: type[BaseModel], path: Sequence[str]) -> Any:
    """The model that the last key of a path would belong to."""
    owner: Any = cls
    for part in path[:-1]:
        owner = DataSpec if part == "spec" else owner.model_fields[part].annotation
    return owner


_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table of keys",
    "model_type": "a table of keys",
}
_LIMITS = {
    "greater_than": ("gt", "numbers above"),
    "greater_than_equal": ("ge", "numbers from"),
    "less_than": ("lt", "numbers below"),
    "less_than_equal": ("le", "numbers up to"),
}


def _allowed(error: ErrorDetails) -> str:
    """The values that one of pydantic's errors allows: `it takes a whole number`."""
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "value_error":
        return _lower_first(str(context["error"]))
    if kind == "literal_error":
        return f"it takes {context['expected']}"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        limit = context[key]
        return f"it takes {words} {int(limit) if limit == int(limit) else limit}"
    if kind == "model_type" and context.get("class_name") == Part.__name__:
        return "it takes a name, or a table with a name"
    if kind in _KINDS:
        return f"it takes {_KINDS[kind]}"
    return _lower_first(str(error["msg"]))


def _lower_first(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}"


def _choices(error: ErrorDetails) -> list[str]:
    """The names that a value may have, of an error about such a value."""
    if error["type"] != "literal_error":
        return []
    return re.findall("'([^']+)'", str(error["ctx"]["expected"]))


def _either(alternatives: Sequence[str]) -> str:
    """`it takes 'auto', or a whole number, or a list`."""
    first, *others = dict.fromkeys(alternatives)
    or_others = [f"or {other.removeprefix('it takes ')}" for other in others]
    return ", ".join([first, *or_others])


# ---- keys and values as they are typed


def literal(text: str) -> Any:
    """A value of the command line: TOML if it is valid TOML, else the text itself."""
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise TightboundError(
            f"{cut(repr(text))} is no value of a setting: {cut(error)}"
        ) from error
    return values["value"] if len(values) == 1 else text


def assignments(pairs: Iterable[str]) -> Tree:
    """`["latent=16", "train.lr=0.01"]` as {"latent": 16, "train.lr": 0.01}."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise TightboundError(
                f"--set wants key=value, not {cut(repr(pair))}: for example --set "
                "train.lr=0.001"
            )
        values[key.strip()] = literal(value.strip())
    return values


def keyed(settings: object, more: Options | None = None) -> Tree:
    """Settings given in Python by their keys, with further ones.

    Raises:
        TightboundError: They are no dict with texts as keys.
    """
    if settings is None:
        settings = {}
    if not isinstance(settings, Mapping) or not all(
        isinstance(key, str) for key in settings
    ):
        raise TightboundError(
            f"settings = {cut(repr(settings))} cannot be used: give a dict by keys, such as "
            '{"train.lr": 0.001}'
        )
    return {**settings, **(more or {})}


def key_path(key: str) -> list[str]:
    """`latent` or `recipe.latent` as ["recipe", "latent"].

    A key without its section is looked for in every section.
    """
    parts = key.split(".")
    if parts[0] in SECTIONS or (len(parts) == 1 and parts[0] in Config.model_fields):
        return parts
    sections = [name for name, cls in SECTIONS.items() if parts[0] in cls.model_fields]
    if not sections:
        full = [
            f"{name}.{key}"
            for name, cls in SECTIONS.items()
            for key in cls.model_fields
        ]
        short = [key.partition(".")[2] for key in full]
        raise TightboundError(
            f"unknown key {cut(repr(key))}: {nearest(key, {*full, *short, *Config.model_fields})}"
        )
    if len(sections) > 1:
        raise TightboundError(
            f"key {key!r} is in {' and '.join(sections)}: write {sections[0]}.{key}"
        )
    return [sections[0], *parts]


def value_at(config: Config, key: str) -> Any:
    """The value of a key with or without its section, or None where it has none."""
    value: Any = config.model_dump(mode="json")
    for part in key_path(key):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _put(tree: Tree, path: list[str], value: Any) -> None:
    """Set one key of a tree of settings.

    A part that is replaced by name loses its options; options alone are added to the part.
    """
    for part in path[:-1]:
        branch = tree.get(part)
        if isinstance(branch, str):
            branch = {"name": branch}
        elif not isinstance(branch, dict):
            branch = {}
        tree[part] = branch
        tree = branch
    key = path[-1]
    old = tree.get(key)
    if isinstance(old, dict) and "name" in old:
        if isinstance(value, str):
            value = {"name": value}
        elif isinstance(value, dict):
            value = old | value
    tree[key] = value


def configure(
    data: str = "",
    recipe: str | Recipe | None = None,
    *,
    file: Path | str | None = None,
    values: Options | None = None,
    trust: bool = False,
) -> Config:
    """The settings of a new run: a recipe, changed by a file and by single values.

    Args:
        data: The data as `config.toml` names them; empty for arrays given in Python.
        recipe: A recipe or its name; that of the file, or "vae", where None.
        file: A TOML file of settings.
        values: {"data.binarize": "dynamic", "latent": 16}, with or without the section.
        trust: Whether the file may name code from outside, such as a prior of one's own.

    Raises:
        TightboundError: A recipe, key or value is unknown or cannot be used, or the file
            names code and `trust` is False.
    """
    values = dict(values or {})
    chosen = values.pop("recipe", None)
    if recipe is None:
        recipe = chosen
    _check_settable(values)
    tree: Tree = read_toml(file) if file else {}
    _check_sections(tree, file)
    table = tree.pop("recipe", {})
    if isinstance(table, str):
        table = {"name": table}
    name = recipe if recipe is not None else table.get("name", "vae")
    base = name if isinstance(name, Recipe) else lookup(RECIPES, name, "recipe")
    tree["recipe"] = _merged(base, table)
    tree["train"] = copy.deepcopy(base.train) | tree.get("train", {})
    if data:
        _put(tree, ["data", "source"], data)
    for path, value in _by_depth(values):
        _put(tree, path, copy.deepcopy(import_path(value)))
    if file is None:
        return parse(Config, tree, "the setting")
    config = parse(Config, tree, f"{file}:")
    if not trust:
        refuse_code(code_names(config) - _given_code(recipe, values), file)
    return config


def _given_code(recipe: str | Recipe | None, values: Mapping[str, object]) -> set[str]:
    """The code that the caller names beside the file, which is trusted."""
    names = set(_texts([import_path(value) for value in values.values()]))
    if isinstance(recipe, Recipe):
        names |= code_names(Config(recipe=recipe))
    return names


def _by_depth(values: Mapping[str, object]) -> list[tuple[list[str], object]]:
    """Settings by the path of their keys: a part before its options, whatever their order."""
    paths = [(key_path(key), value) for key, value in values.items()]
    return sorted(paths, key=lambda pair: len(pair[0]))


def _check_settable(values: Mapping[str, object]) -> None:
    """Refuse keys that other arguments give."""
    for key in NOT_SETTABLE:
        if key in values:
            raise TightboundError(
                f"key {key!r} is not for setting: a recipe is chosen by "
                "--recipe, data by their path, more steps by --extend"
            )


def _check_sections(tree: Mapping[str, object], file: Path | str | None) -> None:
    """Refuse sections of a file that are no tables; a recipe may be a name."""
    for section in SECTIONS:
        takes = Mapping | str if section == "recipe" else Mapping
        if not isinstance(tree.get(section, {}), takes):
            raise TightboundError(
                f"{cut(file)}: {section} = {written(tree[section])} cannot be used: it "
                "takes a table of keys"
            )


def code_names(config: Config) -> set[str]:
    """The import paths in settings of code from outside the package and torch."""
    parts = [value for _, value in config.recipe if isinstance(value, Part)]
    names = {part.name for part in parts if ":" in part.name}
    if not is_torch_optimizer(config.train.optimizer):
        names.add(config.train.optimizer)
    return names


def is_torch_optimizer(path: str) -> bool:
    """True for the import path of a class of torch.optim itself."""
    return re.fullmatch(r"torch\.optim\.[A-Za-z]\w*", path) is not None


def _texts(value: object) -> Iterator[str]:
    """All texts inside nested settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Part):
        yield value.name
    elif isinstance(value, Sequence):
        for entry in value:
            yield from _texts(entry)


def refuse_code(names: Iterable[str], file: Path | str) -> None:
    """Refuse settings of a file that name code, which would run."""
    for name in sorted(names):
        raise TightboundError(
            f"{cut(file)} names code from outside tightbound, {cut(repr(name))}: read that "
            "code, then add --trust (in Python trust=True)"
        )


def _merged(base: Recipe, table: Options) -> Tree:
    """The settings of a recipe with the keys of a table over them."""
    parts = {key: value.model_dump() for key, value in base if isinstance(value, Part)}
    merged = parts | base.model_dump(exclude_unset=True)
    for key, value in table.items():
        _put(merged, [key], value)
    return merged | {"name": base.name}


# ---- files


def read_toml(path: Path | str) -> Tree:
    """A TOML file as a tree; raises TightboundError if it is missing or is not TOML."""
    return _tree(path, _file_text(path))


def _file_text(path: Path | str, errors: str = "strict") -> str:
    try:
        return read_text(path, MOST_BYTES, errors)
    except OSError as error:
        raise TightboundError(
            f"cannot read {cut(path)} ({os_reason(error)}): check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise TightboundError(
            f"{cut(path)} is not valid TOML ({error}): save it as text in UTF-8"
        ) from error


def _tree(path: Path | str, text: str) -> Tree:
    # ValueError: a number of thousands of digits
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TightboundError(
            f"{cut(path)} is not valid TOML ({cut(error)}): mend the line it names"
        ) from error


def _without_nulls(value: Any) -> Any:
    """The value without its keys that are None, which TOML cannot hold."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return value


def to_toml(config: Config) -> str:
    """The complete settings as TOML text."""
    import tomli_w

    return tomli_w.dumps(_without_nulls(config.model_dump(mode="json")))


# What may differ from the settings that weights or a state were written with: where things
# are, and how often a state is saved.
_MAY_MOVE = (
    ("device",),
    ("data", "source"),
    ("data", "memory"),
    ("data", "skip_bad"),
    ("train", "save_seconds"),
)


def changed_key(
    config: Config, text: str, *, training: bool
) -> tuple[str, str, str] | None:
    """The first key whose value is not that of older settings, with both values.

    Args:
        config: The settings as they are.
        text: The older settings as TOML, of `to_toml`.
        training: Whether the settings of training are compared, too. A state depends on
            them; what finished weights mean does not.

    Returns:
        The key, its value and its older value as TOML; None where all are equal.
    """
    now = _flat(_tree("config.toml", to_text(config)))
    older = _tree("the settings in it", text)
    with suppress(TightboundError):  # keys that are new since then get their defaults
        older = _tree("it", to_text(parse(Config, older, "it")))
    before = _flat(older)
    for key in sorted({*now, *before}):
        old = before.get(key)
        if key in _MAY_MOVE or (key[0] == "train" and not training):
            continue
        if now.get(key) != old:
            return ".".join(key), _shown(now.get(key)), _shown(old)
    return None


def _flat(tree: Options, under: tuple[str, ...] = ()) -> dict[Any, Any]:
    """Nested settings by the tuple of their keys."""
    flat: dict[Any, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, (*under, key))
        else:
            flat[(*under, key)] = value
    return flat


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)


def to_text(config: Config) -> str:
    """The complete settings as TOML that any program reads: names as \\xff if no UTF-8."""
    raw = to_toml(config).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def write(path: Path, config: Config) -> None:
    """Write `config.toml` atomically, with a last line that marks its end."""
    text = f"{to_toml(config)}{LAST_LINE}\n"
    write_atomic(path, text.encode("utf-8", "surrogateescape"))


def read(path: Path) -> Config:
    """Read a run's `config.toml`.

    Raises:
        TightboundError: The file is missing, incomplete, of another format version or no
            run's config.
    """
    text = _file_text(path, "surrogateescape")
    tree = _tree(path, text)
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
    if version < FORMAT_VERSION:
        raise TightboundError(
            f"{path} is of format {version}, older than this tightbound reads "
            f"({FORMAT_VERSION}): train the run again"
        )
    if LAST_LINE not in text:
        raise TightboundError(
            f"{path} is cut short: its last line, {LAST_LINE!r}, is missing; restore it "
            "from a copy, or add that line if nothing else is missing"
        )
    return parse(Config, tree, f"{path}:")
