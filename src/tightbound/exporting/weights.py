"""The safetensors format: the weights of a module, and the settings that rebuild it."""

from __future__ import annotations

import json
from pathlib import Path

from tightbound.core.data_spec import DataSpec
from tightbound.exporting.folder import ABOUT
from tightbound.models.build import build
from tightbound.models.recipes import Recipe
from tightbound.models.vae import VAE
from tightbound.runs import fitted_prior
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import load_weights, save_weights, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import read_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def write(run: Run, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` of a run to an existing folder."""
    config = {
        "recipe": run.config.recipe.model_dump(mode="json"),
        "spec": run.spec.model_dump(mode="json"),
    }
    save_weights(folder / WEIGHTS, run.model.state_dict(), {"format": "pt"})
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False))


def read_module(folder: str | Path, *, trust: bool = False) -> VAE:
    """Rebuild the module of an export to safetensors, in eval mode and in model units.

    Args:
        folder: The folder of `tightbound export RUN --format safetensors`.
        trust: Run code that the config names by import path.

    Returns:
        The VAE; `model.encode`, `model.decode` and `model.spec` as of `tb.build`.

    Raises:
        TightboundError: The folder is not such an export, or is damaged.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / CONFIG)
        recipe = Recipe.model_validate(config["recipe"])
        spec = DataSpec.model_validate(config["spec"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TightboundError(
            f"{str(folder)!r} has no readable {CONFIG}: name a folder of tightbound export "
            f"--format safetensors, which holds {ABOUT}"
        ) from error
    model, _ = build(recipe, spec, trust=trust)
    state, _ = load_weights(folder / WEIGHTS)
    fitted_prior.fill(model, state, folder / WEIGHTS)
    return model.eval().requires_grad_(False)
