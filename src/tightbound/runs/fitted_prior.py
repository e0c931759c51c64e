"""The weights of a run as files, and a prior fitted after training, in
`RUN/priors/NAME/prior.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tightbound.components.priors import PRIORS
from tightbound.core.data_spec import DataSpec
from tightbound.models.compatibility import check
from tightbound.models.recipes import Part, Recipe
from tightbound.runs.folder import PRIOR, RunFolder
from tightbound.runtime.atomic_files import load_weights, make_folder, save_weights
from tightbound.runtime.errors import TightboundError, nearest
from tightbound.runtime.foreign_errors import last_line

OF_PRIOR = ("path.prior.", "path.priors.0.")  # of a flat model, of a hierarchy


@dataclass(frozen=True)
class Fitted:
    """A fitted prior: its part, its weights by their names in the model, to how many examples, and
    to which model.

    weights: the fingerprint of all other weights; a prior is of no use to others.
    """

    name: str
    part: Part
    state: Mapping[str, Tensor]
    n: int
    weights: str

    def __str__(self) -> str:
        """`prior gaussian-mixture (components = 10), fitted after training to 1437 training
        examples`.
        """
        options = ", ".join(
            f"{key} = {value}" for key, value in self.part.options.items()
        )
        kind = (
            self.part.name
            if self.part.name == self.name
            else f"{self.name}, a {self.part.name}"
        )
        to = (
            f"{self.n} training examples" if self.n else "a stream of training examples"
        )
        return f"prior {kind}{f' ({options})' if options else ''}, fitted after training to {to}"

    def joined(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a model with this prior; raises TightboundError where the others are not
        those it fits.
        """
        rest = split(state)[1]
        if fingerprint(rest) != self.weights:
            raise TightboundError(
                f"prior {self.name!r} was fitted to other weights than the "
                "model has now: fit it again, with "
                "--overwrite"
            )
        return {**rest, **self.state}


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the topmost prior, and all others."""
    own = {name: value for name, value in state.items() if name.startswith(OF_PRIOR)}
    return own, {name: value for name, value in state.items() if name not in own}


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """A short hash of weights, so that figures and priors can say which ones they belong to."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(
            name.encode() + value.detach().cpu().contiguous().numpy().tobytes()
        )
    return digest.hexdigest()[:16]


def new_folder(run: Path, name: str, *, overwrite: bool = False) -> Path:
    """The folder of a new prior; raises TightboundError where the name is bad or is taken."""
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
    """Gives a model its weights; raises TightboundError where they are another's."""
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
    found = []
    for name, cls in PRIORS.items():
        with suppress(TightboundError):
            if (hasattr(cls, "fit") or hasattr(cls, "learns")) and _same_decoder(
                recipe, cls
            ):
                check(
                    recipe.model_copy(update={"prior": Part(name=name)}),
                    spec,
                    trust=True,
                )  # its parts are loaded
                found.append(name)
    return found


def _same_decoder(recipe: Recipe, prior: Any) -> bool:
    """Whether a decoder made for the recipe's prior can be read under another: along "labelled" it
    hears of the class beside z, or through z alone where the prior reads the class.
    """
    reads = [
        getattr(cls, "reads_state", False)
        for cls in (PRIORS.get(recipe.prior.name), prior)
    ]
    return recipe.path != "labelled" or reads[0] == reads[1]
