"""Components by name: their classes, their options, and instances of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tightbound.components.likelihoods import LIKELIHOODS
from tightbound.components.networks import NETWORKS
from tightbound.components.objectives import OBJECTIVES
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.component import (
    Component,
    Likelihood,
    MultiscaleNetwork,
    Network,
    Objective,
    Posterior,
    Prior,
)
from tightbound.models.recipes import Part
from tightbound.runtime.errors import TightboundError, cut, lookup, nearest
from tightbound.runtime.outside_code import import_class


@dataclass(frozen=True)
class Kind:
    """A kind of component.

    Args:
        table: Components of the package by name.
        bases: Base classes; a component from outside is a subclass of the first.
        given: How many positional arguments `build` passes to the constructor.
    """

    table: Mapping[str, type[Component]]
    bases: tuple[type[Component], ...]
    given: int


KINDS: dict[str, Kind] = {
    "posterior": Kind(POSTERIORS, (Posterior,), 2),
    "prior": Kind(PRIORS, (Prior,), 1),
    "likelihood": Kind(LIKELIHOODS, (Likelihood,), 1),
    "objective": Kind(OBJECTIVES, (Objective,), 0),
    "network": Kind(NETWORKS, (Network, MultiscaleNetwork), 1),
}


@dataclass(frozen=True)
class Option:
    """An option of a component: its name, type, default and description."""

    name: str
    type: Any
    default: Any
    description: str


def find_component(kind: str, part: Part, trust: bool) -> Any:
    """The class that a part names, in its table or at `package.module:Name`.

    Raises:
        TightboundError: For an unknown name, for code from outside without `trust`, and for a
            class that is no subclass of the base class of its kind.
    """
    if ":" not in part.name:
        return lookup(KINDS[kind].table, part.name, kind)
    if not trust:
        raise TightboundError(
            f"{kind} {cut(repr(part.name))} is code from outside tightbound, named in a file "
            "that you did not write now: read it, then load with trust=True (on the command line: "
            "--trust)"
        )
    cls = import_class(part.name, kind)
    bases = KINDS[kind].bases
    if not issubclass(cls, bases):
        raise TightboundError(
            f"{kind} {part.name!r} is no {kind}: make it a subclass of "
            f"tightbound.{bases[0].__name__}"
        )
    return cls


def options_of(kind: str, cls: type[Component]) -> list[Option]:
    """The options of a component, in the order of its constructor's arguments."""
    parameters = [
        p for p in inspect.signature(cls).parameters.values() if p.name != "self"
    ]
    hints = get_type_hints(cls.__init__, include_extras=True)
    return [
        Option(
            p.name, hints.get(p.name, Any), p.default, _description(hints.get(p.name))
        )
        for p in parameters[KINDS[kind].given :]
        if p.name not in cls.build_arguments
    ]


def _description(hint: Any) -> str:
    """The description that stands beside a type: Annotated[int, Field(description=...)]."""
    if get_origin(hint) is not Annotated:
        return ""
    fields = [extra for extra in get_args(hint)[1:] if isinstance(extra, FieldInfo)]
    return next((field.description for field in fields if field.description), "")


def make_component(
    kind: str, part: Part, trust: bool, *args: Any, **build_arguments: Any
) -> Any:
    """An instance of a part.

    Args:
        kind: Kind of component.
        part: Its name and options.
        trust: Whether code from outside may run.
        *args: Positional arguments of all components of this kind.
        **build_arguments: Further arguments, of which it gets those that it declares.

    Raises:
        TightboundError: For an unknown option, with the nearest name, or a value out of range.
    """
    cls = find_component(kind, part, trust)
    supplied = {name: build_arguments[name] for name in cls.build_arguments}
    declared = {option.name: option for option in options_of(kind, cls)}
    for key in part.options:
        if key not in declared:
            hint = nearest(key, declared) if declared else "it has none, leave it out"
            raise TightboundError(f"{kind} {part.name!r} has no option {key!r}: {hint}")
    options = {
        key: _checked(f"{kind} {part.name!r}", declared[key], value)
        for key, value in part.options.items()
    }
    try:
        return cls(*args, **supplied, **options)
    except (TypeError, RuntimeError) as error:
        raise TightboundError(
            f"{kind} {part.name!r} does not take these options: {error}"
        ) from error


def _checked(owner: str, option: Option, value: Any) -> Any:
    """The value of an option in its type; raises TightboundError where it is none."""
    try:
        return TypeAdapter(option.type, config=_FINITE).validate_python(value)
    except ValidationError as error:
        kind = error.errors()[0]["type"]
        given = f"{owner} has option {option.name} = {cut(repr(value))}"
        if kind in _BOUNDS:
            raise TightboundError(f"{given}: give {_range(option.type)}") from error
        remedy = _WANTED.get(kind.partition("_")[0])
        if choices := _choices(option.type):
            remedy = nearest(str(value), choices)
        raise TightboundError(
            f"{given}, which is none of its values: {remedy or 'see tightbound show'}"
        ) from error


_FINITE = ConfigDict(allow_inf_nan=False)
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_WANTED = {
    "int": "give a whole number",
    "float": "give a number",
    "finite": "give a finite number",
    "bool": "give true or false",
    "tuple": "give a list",
    "string": "give a text",
}


def _range(hint: Any) -> str:
    """The range of an option in words, from the bounds that stand beside its type."""
    low: Any = None
    high: Any = None
    for bound in _metadata(hint):
        if isinstance(bound, Gt):
            return f"more than {bound.gt:g}"
        if isinstance(bound, Ge):
            low = bound.ge
        if isinstance(bound, Le):
            high = bound.le
    if low is None:
        return f"{high:g} or less"
    if high is None:
        return f"{low:g} or more"
    return f"{low:g} to {high:g}"


def _metadata(hint: Any) -> list[Any]:
    """Bounds beside a type, also inside a union or a tuple."""
    if get_origin(hint) is not Annotated:
        return [bound for inner in get_args(hint) for bound in _metadata(inner)]
    inner, *extras = get_args(hint)
    bounds = _metadata(inner)
    for extra in extras:
        if isinstance(extra, FieldInfo):
            bounds += extra.metadata
    return bounds


def _choices(hint: Any) -> list[str]:
    """The values of a Literal, also inside Annotated."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is not Literal:
        return []
    return [str(value) for value in get_args(hint)]
