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

from torch import Tensor, nn

from tightbound.components.priors import PRIORS
from tightbound.core.component import Prior
from tightbound.core.data_spec import DataSpec
from tightbound.models.compatibility import check
from tightbound.models.recipes import Part, Recipe, loaded
from tightbound.runtime.atomic_files import load_weights, make_folder, save_weights
from tightbound.runtime.errors import TightboundError, nearest
from tightbound.runtime.foreign_errors import last_line

FOLDER, FILE = "priors", "prior.safetensors"
OF_PRIOR = (
    "hierarchy.prior.",
    "hierarchy.priors.0.",
)  # of a flat model, of a hierarchy


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


def place(run: Path, name: str, *, overwrite: bool = False) -> Path:
    """The folder of a new prior; raises TightboundError where the name is none, or is taken and not
    to be replaced.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise TightboundError(
            f"{name!r} cannot name a fitted prior: use letters, digits, - and _"
        )
    folder = run / FOLDER / name
    if (folder / FILE).exists() and not overwrite:
        raise TightboundError(
            f"{run} has a fitted prior {name!r}: add --overwrite to replace "
            "it, or --name to keep both"
        )
    return folder


def save(folder: Path, prior: Fitted) -> None:
    """Writes a prior whole or not at all; figures of one that it replaces are removed."""
    make_folder(folder)
    for old in ("evaluation.json", "report.html"):
        (folder / old).unlink(missing_ok=True)
    about = {
        "prior": json.dumps(prior.part.model_dump()),
        "n": str(prior.n),
        "weights": prior.weights,
    }
    save_weights(folder / FILE, prior.state, {"format": "tightbound", **about})


def saved(run: Path) -> list[str]:
    """The names of the fitted priors of a run."""
    return sorted(found.parent.name for found in run.glob(f"{FOLDER}/*/{FILE}"))


def read(run: Path | None, name: str) -> Fitted:
    """A prior by name; raises TightboundError where there is none, with the nearest that there is,
    or it is damaged.
    """
    if run is None:
        raise TightboundError(
            f"this run is not saved in a folder, so it keeps no prior {name!r}: use tb.fit_prior"
        )
    path = run / FOLDER / name / FILE
    if not path.is_file():
        known = saved(run)
        hint = (
            nearest(name, known)
            if known
            else f"fit one with tightbound fit-prior {run} {name}"
        )
        raise TightboundError(f"{run} has no fitted prior {name!r}: {hint}")
    state, about = load_weights(path)
    try:
        return Fitted(
            name,
            Part(**json.loads(about["prior"])),
            state,
            int(about["n"]),
            about["weights"],
        )
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


def nearby(folder: Path) -> str:
    """The runs inside a folder that is none itself, as `demo` is none and `demo/vae` is one."""
    inner = sorted(path.parent for path in folder.glob("*/config.toml"))
    names = " or ".join(str(path) for path in inner[:3]) + (
        " or another one in it" if len(inner) > 3 else ""
    )
    return (
        f"did you mean {names}?"
        if inner
        else "name a folder that tightbound train wrote"
    )


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
