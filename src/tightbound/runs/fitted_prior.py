"""A prior fitted after training: its weights, its file and its model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from tightbound.components.priors import PRIORS
from tightbound.core.component import Prior
from tightbound.core.data_spec import DataSpec
from tightbound.models.compatibility import check
from tightbound.models.hierarchy import (
    Bidirectional,
    BottomUp,
    Flat,
    Labelled,
    TopDown,
)
from tightbound.models.recipes import Part, Recipe, loaded
from tightbound.runs.folder import PRIOR, RunFolder
from tightbound.runtime.atomic_files import load_weights, make_folder, save_weights
from tightbound.runtime.errors import TightboundError, nearest
from tightbound.runtime.foreign_errors import last_line

# The weights of the topmost prior: of a flat model, of a hierarchy.
OF_PRIOR = tuple(
    f"hierarchy.{cls.prior_prefix}"
    for cls in (Flat, TopDown, BottomUp, Bidirectional, Labelled)
)


@dataclass(frozen=True)
class Fitted:
    """A prior that was fitted to a trained model.

    Attributes:
        name: Its name in the run folder.
        part: The prior as a recipe names it.
        state: Its weights by their names in the model.
        n: Number of examples that it was fitted to; 0 for a stream of unknown length.
        weights: The fingerprint of all other weights of the model.
    """

    name: str
    part: Part
    state: Mapping[str, Tensor]
    n: int
    weights: str

    def __str__(self) -> str:
        """`prior gaussian-mixture (components = 10), fitted after training to 1437 ...`."""
        kind = self.name
        if self.part.name != self.name:
            kind = f"{self.name}, a {self.part.name}"
        if self.part.options:
            pairs = [f"{key} = {value}" for key, value in self.part.options.items()]
            kind = f"{kind} ({', '.join(pairs)})"
        examples = f"{self.n} training examples"
        if not self.n:
            examples = "a stream of training examples"
        return f"prior {kind}, fitted after training to {examples}"

    def joined(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a model with this prior.

        Raises:
            TightboundError: The other weights are not those that it was fitted to.
        """
        others = split(state)[1]
        if fingerprint(others) != self.weights:
            raise TightboundError(
                f"prior {self.name!r} was fitted to other weights than the model has now: "
                "fit it again, with --overwrite"
            )
        return {**others, **self.state}


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the topmost prior, and all others."""
    prior = {name: value for name, value in state.items() if name.startswith(OF_PRIOR)}
    others = {name: value for name, value in state.items() if name not in prior}
    return prior, others


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A short hash of weights."""
    digest = hashlib.sha256()
    for name, value in state.items():
        data = value.detach().cpu().contiguous().numpy().tobytes()
        digest.update(name.encode() + data)
    return digest.hexdigest()[:16]


def new_folder(run: Path, name: str, *, overwrite: bool = False) -> Path:
    """The folder of a new prior; raises TightboundError for a bad or taken name."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise TightboundError(
            f"{name!r} cannot name a fitted prior: use letters, digits, - and _"
        )
    place = RunFolder(run)
    if place.prior_file(name).exists() and not overwrite:
        raise TightboundError(
            f"{run} has a fitted prior {name!r}: add --overwrite to replace "
            "it, or --name to keep both"
        )
    return place.prior_folder(name)


def save(folder: Path, prior: Fitted) -> None:
    """Write a prior atomically, and remove the evaluation of one that it replaces."""
    place = RunFolder(make_folder(folder))
    place.evaluation_file.unlink(missing_ok=True)
    place.report_file.unlink(missing_ok=True)
    about = {
        "format": "tightbound",
        "prior": json.dumps(prior.part.model_dump()),
        "n": str(prior.n),
        "weights": prior.weights,
    }
    save_weights(folder / PRIOR, prior.state, about)


def read(run: Path | None, name: str) -> Fitted:
    """A fitted prior by name; raises TightboundError where it is missing or damaged."""
    if run is None:
        raise TightboundError(
            f"this run is not saved in a folder, so it keeps no prior {name!r}: use tb.fit_prior"
        )
    path = RunFolder(run).prior_file(name)
    if not path.is_file():
        names = RunFolder(run).prior_names()
        hint = f"fit one with tightbound fit-prior {run} {name}"
        if names:
            hint = nearest(name, names)
        raise TightboundError(f"{run} has no fitted prior {name!r}: {hint}")
    state, about = load_weights(path)
    try:
        part = Part(**json.loads(about["prior"]))
        return Fitted(name, part, state, int(about["n"]), about["weights"])
    except (KeyError, ValueError, TypeError) as error:
        raise TightboundError(
            f"{path} does not say which prior it holds: fit it again with --overwrite"
        ) from error


def fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load weights into a model; raises TightboundError if they are of another model."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise TightboundError(
            f"{path} does not fit its config.toml "
            f"({last_line(error)}): restore both from one "
            "copy"
        ) from error


def fittable(recipe: Recipe, spec: DataSpec) -> list[str]:
    """The names of the priors that can be fitted to the latent of a trained recipe."""
    names = []
    for name, cls in PRIORS.items():
        if not (cls.can_be_fitted() and _same_decoder(recipe, cls)):
            continue
        other = recipe.model_copy(update={"prior": Part(name=name)})
        with suppress(TightboundError):
            check(other, spec, trust=True)  # its components are loaded already
            names.append(name)
    return names


def _same_decoder(recipe: Recipe, prior: type[Prior]) -> bool:
    """Whether the decoder of a recipe can be used under another prior.

    In a labelled hierarchy the decoder reads the class where the prior does not depend on it.
    """
    trained = loaded(PRIORS, recipe.prior.name)
    depends = trained is not None and trained.depends_on_state
    return recipe.hierarchy != "labelled" or depends == prior.depends_on_state
