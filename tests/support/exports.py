"""Small untrained runs for tests of exports, with weights away from where they start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.test_recipes import OTHER_DATA, READ, small_settings
from models.test_recipes import data as data_of

from tightbound.exporting import export
from tightbound.exporting.plan import Plan
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.training.own_loop import build, save

NARROW = {"prior.steps": 2, "prior.width": 16}
TINY: dict[str, dict[str, Any]] = {
    "flow-prior": NARROW,
    "spline-prior": {**NARROW, "latent": 3},
    "hvae": {"latent": [4, 2]},
    "ladder": {"latent": [4, 3, 2]},
    "iwae-2": {"latent": [4, 2]},
    "hvae-vamp": {"latent": [4, 2]},
    "biva": {"latent": [4, 2]},
    "vae-planar": {"posterior.steps": 2},
    "vae-radial": {"posterior.steps": 2},
    "vae-sylvester": {"posterior.steps": 2, "posterior.rank": 3},
    "vae-householder": {"posterior.steps": 2, "posterior.rank": 3},
    "vae-iaf": {"posterior.steps": 2, "posterior.width": 16},
    "vq-vae": {"posterior.codes": 16, "posterior.dim": 4, "latent": 8},
    "vq-conv": {
        "posterior.codes": 16,
        "posterior.dim": 4,
        "latent": 4,
        "network.channels": 8,
        "network.width": 16,
    },
    "vdvae": {"latent": [2, 2, 2], "network.channels": 8},
    "nvae": {"latent": [2, 2], "network.channels": 8},
}


def gaps() -> np.ndarray:
    """Rows of four numbers, a fifth of which are missing."""
    made = np.random.default_rng(0)
    x = made.normal(size=(200, 4)) * [1, 2, 3, 4] + [0, 5, 0, -5]
    x[made.random(x.shape) < 0.2] = np.nan
    return x


def source_of(name: str) -> Any:
    """The kind of data that a recipe is for."""
    return gaps() if name == "missing-data" else data_of(name)


def moved(model: torch.nn.Module) -> None:
    """Add noise to all weights, so that none is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))


def tiny_run(folder: Path, name: str, source: Any = None, **settings: Any) -> Run:
    """An untrained run of a recipe with narrow networks."""
    values = {
        "recipe.size": "s",
        **READ.get(OTHER_DATA.get(name, ""), {}),
        **small_settings(name),
        **TINY.get(name, {}),
        **settings,
    }
    data = source_of(name) if source is None else source
    model, _ = build(name, data, seed=0, settings=values)
    moved(model)
    return save(model, folder)


def only(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let an export write the graphs that a test looks at; each of the others takes a second."""
    plan_of = export.plan_of

    def plan(model: VAE) -> Plan:
        whole = plan_of(model)
        graphs = [graph for graph in whole.graphs if graph.name in names]
        assert len(graphs) == len(names), f"{names} are not all graphs of this model"
        return replace(whole, graphs=graphs)

    patch.setattr(export, "plan_of", plan)
