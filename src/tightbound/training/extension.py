"""More steps for a finished run, as a learning-rate schedule of their own."""

from __future__ import annotations

import tomllib

from tightbound.config import Config
from tightbound.runs.folder import RunFolder
from tightbound.runtime.errors import TightboundError
from tightbound.training.checkpoint import State


def extended(config: Config, begun: int, more: int) -> Config:
    """The settings of a run that takes more steps.

    Validations stay as far apart as they were, and `train.patience` holds anew.

    Args:
        config: The settings of the finished run.
        begun: The step at which it ended.
        more: The number of further steps.
    """
    train = config.train
    extensions = (*train.extensions, (begun, int(train.steps)))
    return _with_steps(config, begun + more, extensions)


def as_written(config: Config, text: str | None) -> Config:
    """The settings before the extensions that an older text of them does not have.

    Args:
        config: The settings of a run.
        text: The settings in a state as TOML; None where it has none.
    """
    if text is None:
        return config
    tree = tomllib.loads(text)
    count = len(tree.get("train", {}).get("extensions", ()))
    while len(config.train.extensions) > count:
        *earlier, (_, planned) = config.train.extensions
        config = _with_steps(config, planned, tuple(earlier))
    return config


def _with_steps(
    config: Config, steps: int, extensions: tuple[tuple[int, int], ...]
) -> Config:
    train = config.train
    per_epoch = round(int(train.steps) / float(train.epochs))
    update = {"steps": steps, "epochs": steps / per_epoch, "extensions": extensions}
    return config.model_copy(update={"train": train.model_copy(update=update)})


def check_finished(folder: RunFolder, config: Config, state: State | None) -> State:
    """The last state of a run that took its last step, or that stopped early.

    Raises:
        TightboundError: There is no state, or training was interrupted.
    """
    if any(line.get("solved") for line in folder.history()):
        raise TightboundError(
            f"run {str(folder)!r} was solved in closed form, so no further step improves it: "
            "train another with more features (recipe.latent)"
        )
    if state is None:
        raise TightboundError(
            f"run {str(folder)!r} has no state to train on from: start a new run from its "
            f"weights, with --init {folder}"
        )
    train = config.train
    waited = int(state["validations_without_improvement"])
    if int(state["step"]) < int(train.steps) and waited < int(train.patience):
        raise TightboundError(
            f"run {str(folder)!r} is at step {state['step']} of {train.steps}: finish it with "
            "--resume first, then add steps with --extend"
        )
    text = state.get("config")
    folder.check_unchanged(
        as_written(config, text), text, folder.state_folder, training=True
    )
    return state
