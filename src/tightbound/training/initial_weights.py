"""The weights of a run as the initial weights of another one."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from tightbound.config import Config
from tightbound.core.data_spec import DataSpec
from tightbound.models.recipes import Recipe
from tightbound.runs.fitted_prior import fingerprint
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import Run, load
from tightbound.runtime.errors import TightboundError, cut
from tightbound.training.step.module import Step

# What training minimises, and words, may differ; weights mean the same under them.
_FREE = frozenset({"name", "purpose", "paper", "objective", "train", "k"})
_SIZES = frozenset({"rows", "labelled"})  # of the data, not of their meaning


def weights_of(config: Config, *, trust: bool = False) -> dict[str, Tensor] | None:
    """The initial weights that `train.init` names; None where they are random.

    Args:
        config: Resolved settings, with the spec of the data.
        trust: Whether code that the config of that run names may be imported, other than
            that of these settings.

    Raises:
        TightboundError: The run cannot be read, has other weights than it had when this
            training was begun, or does not fit.
    """
    if not config.train.init:
        return None
    folder = RunFolder(Path(config.train.init))
    if not trust:
        folder.check_code(config)
    run = load(folder.path, trust=True)
    check_fits(run, config)
    state = run.model.state_dict()
    before = config.train.init_weights
    if before and before != fingerprint(state):
        raise TightboundError(
            f"run {cut(config.train.init)} has other weights than when this training was "
            "begun: restore them, or begin anew with --overwrite"
        )
    return state


def set_initial(step: Step, config: Config, *, trust: bool = False) -> None:
    """Give a training pass the weights that its `prepare` starts from.

    The sample of conditions stays that of the data.

    Raises:
        TightboundError: As in `weights_of`.
    """
    state = weights_of(config, trust=trust)
    if state is None:
        return
    own = step.model.state_dict()
    state |= {name: own[name] for name in own if name == "conditions"}
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            raise TightboundError(
                f"the weights of {cut(config.train.init)} do not fit: {name} has another "
                "shape with these data; leave --init out"
            )
    step.initial = state


def pinned(config: Config, *, trust: bool = False) -> Config:
    """The settings with the hash of the initial weights, which a later start compares."""
    state = weights_of(config, trust=trust)
    if state is None:
        return config
    train = config.train.model_copy(update={"init_weights": fingerprint(state)})
    return config.model_copy(update={"train": train})


def check_fits(run: Run, config: Config) -> None:
    """Refuse the weights of a run of another model, or of data in other units.

    Raises:
        TightboundError: With the first key that differs.
    """
    assert config.spec is not None
    where = f"the weights of {cut(config.train.init)} do not fit"
    difference = _first_difference(_model(run.config.recipe), _model(config.recipe))
    if difference is not None:
        key, old, new = difference
        raise TightboundError(
            f"{where}: its recipe.{key} is {cut(repr(old))}, and {cut(repr(new))} was asked "
            "for: set it to the same, or leave --init out"
        )
    difference = _first_difference(_meaning(run.spec), _meaning(config.spec))
    if difference is not None:
        key, old, new = difference
        raise TightboundError(
            f"{where}: the {key} of its data is {cut(repr(old))}, and that of these "
            f"{cut(repr(new))}: read them with the same settings of data, or leave --init out"
        )


def _model(recipe: Recipe) -> dict[str, object]:
    """The settings of a recipe that decide its weights and what they mean."""
    return {
        key: value for key, value in recipe.model_dump().items() if key not in _FREE
    }


def _meaning(spec: DataSpec) -> dict[str, object]:
    """The shape and units of data."""
    meaning = {
        key: value for key, value in spec.model_dump().items() if key not in _SIZES
    }
    columns = [(f.name, f.kind, f.values) for f in spec.fields]
    return meaning | {"fields": columns}


def _first_difference(
    old: dict[str, object], new: dict[str, object]
) -> tuple[str, object, object] | None:
    for key in old:
        if old[key] != new[key]:
            return key, old[key], new[key]
    return None
