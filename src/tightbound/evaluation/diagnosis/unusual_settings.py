"""Settings of a run that are far from those of its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tightbound.config import TrainSettings
from tightbound.evaluation.diagnosis.progress import was_solved
from tightbound.models.build import resolve
from tightbound.models.recipes import RECIPES, Recipe
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Options, Tree

# Times more or less than the recipe's from which a setting spoils a model. Ten times the
# weight decay, or a tenth of the clipping, does not (docs/results.md).
FAR = 10.0
FAR_BY_KEY = {"weight_decay": 50.0, "clip": 100.0}
# Reference of settings that are 0 in some recipes.
REFERENCE = {"train.weight_decay": 0.05, "objective.free_bits": 0.1}
# Settings for which only less, or only more, than the recipe's can spoil a model.
ONLY_LESS = ("train.batch", "train.clip")
ONLY_MORE = ("train.weight_decay", "objective.free_bits")
OF_TRAINING = ("lr", "weight_decay", "batch", "clip")
OF_GROUPS = ("lr", "weight_decay")


@dataclass(frozen=True)
class Unusual:
    """A setting that is far from the recipe's.

    Args:
        key: its key, such as train.lr.
        value: its value.
        usual: the recipe's value, "" where the recipe leaves it out.
        times: how many times more or less; infinite where the two are no numbers.
    """

    key: str
    value: Any
    usual: Any
    times: float

    @property
    def words(self) -> str:
        """The setting, its value and the recipe's."""
        return f"{self.key}={_short(self.value)} (the recipe's is {_short(self.usual)})"

    @property
    def change(self) -> str:
        """The recipe's value of the setting, and the one it has."""
        return f"{self.key}={_short(self.usual)} (it is {_short(self.value)})"


def _short(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return str(value)


def unusual_settings(run: Run) -> list[Unusual]:
    """The settings of a run that are many times the recipe's, or a small part.

    Compared are the learning rate, weight decay, batch, clipping, those of single
    parameter groups, the weights of the objective, the number of features, and a
    likelihood of a fixed scale; those of training not where the model was solved in closed
    form, on which they have no effect. The farthest comes first.
    """
    recipe = run.config.recipe
    base = RECIPES.get(recipe.name, Recipe())
    usual = TrainSettings(**base.train)
    training: list[Unusual] = []
    if not was_solved(run):
        training = [
            *_of_training(run.config.train, usual),
            *_of_groups(run.config.train, usual),
        ]
    settings = [
        *training,
        *_of_objective(recipe, base),
        *_of_likelihood(recipe, base),
        *_of_latents(run, base),
    ]
    return sorted(settings, key=lambda setting: -setting.times)


def _times(key: str, value: float, usual: float) -> float:
    """How many times more or less; 1 where that direction is harmless."""
    usual = max(usual, REFERENCE.get(key, 0.0))
    name = key if key in REFERENCE else f"train.{key.rpartition('.')[2]}"
    usual = max(usual, REFERENCE.get(name, 0.0))
    if usual <= 0 or value <= 0:
        return 1.0
    ratio = value / usual
    if key in ONLY_LESS or name in ONLY_LESS:
        return max(1.0, 1 / ratio)
    if key in ONLY_MORE or name in ONLY_MORE:
        return max(1.0, ratio)
    return max(ratio, 1 / ratio)


def _of_training(train: TrainSettings, usual: TrainSettings) -> Iterator[Unusual]:
    values = train.model_dump()
    for name, default in usual.model_dump().items():
        if name not in OF_TRAINING:
            continue
        times = _times(f"train.{name}", float(values[name]), float(default))
        if times >= FAR_BY_KEY.get(name, FAR):
            yield Unusual(f"train.{name}", values[name], default, times)


def _of_groups(train: TrainSettings, usual: TrainSettings) -> Iterator[Unusual]:
    """Arguments of one parameter group, compared with those of all parameters."""
    of_all = train.model_dump()
    for group, arguments in train.groups.items():
        for name, value in arguments.items():
            if usual.groups.get(group, {}).get(name) == value or name not in OF_GROUPS:
                continue
            key = f"train.groups.{group}.{name}"
            times = _times(key, float(value), float(of_all[name]))
            if times >= FAR_BY_KEY.get(name, FAR):
                yield Unusual(key, value, of_all[name], times)


def _of_objective(recipe: Recipe, base: Recipe) -> Iterator[Unusual]:
    """The weights of the objective; 1 is the usual beta of another objective."""
    same = recipe.objective.name == base.objective.name
    defaults: Options = base.objective.options if same else {}
    for name, value in recipe.objective.options.items():
        key = f"objective.{name}"
        usual = defaults.get(name, 1.0 if name == "beta" else 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        times = _times(key, float(value), float(usual))
        if times >= FAR:
            yield Unusual(key, value, usual, times)


def _of_likelihood(recipe: Recipe, base: Recipe) -> Iterator[Unusual]:
    """A scale that is fixed where the recipe's is not."""
    scale = recipe.likelihood.options.get("scale")
    if scale == "fixed" and base.likelihood.options.get("scale") != "fixed":
        usual = base.likelihood.options.get("scale", "learned")
        yield Unusual("likelihood.scale", "fixed", usual, float("inf"))


def _of_latents(run: Run, base: Recipe) -> Iterator[Unusual]:
    """More features than ten times those that the recipe takes for these data."""
    latent = run.config.recipe.latent
    if not isinstance(latent, int):
        return
    usual = base.latent
    if usual == "auto":
        recipe = run.config.recipe.model_copy(update={"latent": "auto"})
        try:
            usual = resolve(recipe, run.spec).latent
        except TightboundError:
            return
    if isinstance(usual, int) and latent >= FAR * usual:
        yield Unusual("recipe.latent", latent, usual, latent / usual)


def remedy(settings: Sequence[Unusual]) -> Tree:
    """The settings that bring these back to the recipe's; "" leaves a key out."""
    values = {setting.key: setting.usual for setting in settings}
    if "likelihood.scale" in values:
        values["likelihood.value"] = ""
    return values
