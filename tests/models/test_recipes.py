"""Every recipe from data to samples, small and short."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.small import trained

from tightbound.components.posteriors import clusters
from tightbound.core.draw import Draw
from tightbound.models.recipes import RECIPES
from tightbound.runs.inputs import read_batch
from tightbound.runs.run import Run, load

NETWORK = {
    "recipe.network": "mlp",
    "recipe.network.width": 24,
    "recipe.network.depth": 1,
}
FEWER = {
    "vamp": {"prior.components": 20},
    "hvae-vamp": {"prior.components": 20},
    "exemplar": {"prior.count": 40},
}
FEWER["riemannian"] = {"posterior.count": 20}


def small_settings(name: str) -> dict[str, object]:
    """Narrow networks and few features, where the recipe leaves them open."""
    recipe = RECIPES[name]
    network = NETWORK if recipe.network.name == "auto" else {}
    latent = list(recipe.latent) if isinstance(recipe.latent, tuple) else recipe.latent
    return network | {"latent": 4 if latent == "auto" else latent} | FEWER.get(name, {})


OTHER_DATA = {"nb-vae": "counts", "vae-colour": "colours", "mixed": "table"}

READ: dict[str, dict[str, Any]] = {
    "counts": {"data.domain": "count"},
    "table": {"data.fields": {"0": "real", "1": "binary", "2": "categorical"}},
}


def data(name: str) -> Any:
    """Digits, or the kind of data that a recipe is for."""
    made = np.random.default_rng(0)
    if OTHER_DATA.get(name) == "counts":
        return made.negative_binomial(2, 0.01, (200, 12))
    if OTHER_DATA.get(name) == "table":
        return np.stack(
            [
                made.normal(size=200),
                made.integers(0, 2, 200),
                made.choice([3, 5, 9], 200),
            ],
            1,
        )
    return (
        made.integers(0, 256, (200, 6, 6, 3), np.uint8)
        if name in OTHER_DATA
        else "digits"
    )


def numbers(x: Any) -> torch.Tensor:
    """Examples as numbers, of a table its columns side by side."""
    return (
        x
        if isinstance(x, torch.Tensor)
        else torch.tensor(np.asarray(x, dtype=np.float32))
    )


def weighed(run: Run, x: Any) -> list[torch.Tensor]:
    """log p(x|z), and log p(z) and log q(z) where there are such, of a pass with noise of its own
    seed.
    """
    torch.manual_seed(3)
    with torch.no_grad():
        trace = run.predictor.trace(
            read_batch(x, run.spec, run.config.data), Draw(enumerate=True)
        )
        return [trace.log_px, trace.log_w] if trace.bound else [trace.log_px]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_encodes_samples_and_reloads_on_digits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "STEPS", 20)
    source, counts = data(name), READ.get(OTHER_DATA.get(name, ""), {})
    few = counts | small_settings(name)
    made = trained(
        tmp_path / name, name, source, steps=20, validate_every=20, batch=32, **few
    )
    run = load(
        tmp_path / name
    )  # and below as it was in memory, so that nothing which counts is left unsaved
    last = run.history()[-1]
    assert last["step"] == (1 if name == "ppca" else 20)  # ppca is solved
    assert last["skipped"] == 0
    assert all(
        torch.tensor(v).isfinite()
        for v in [*last["train"].values(), *last["valid"].values()]
    )
    own = isinstance(source, str)
    x = run.data.test.select(torch.arange(5)) if own else torch.as_tensor(source[:5])
    shape = (5, *(run.data.test.x if own else x).shape[1:])
    z = run.encode(x)
    assert z.shape == (5, sum(run.model.site_widths.values())) and z.isfinite().all()
    assert torch.equal(z, made.encode(x))
    assert run.reconstruct(x).shape == shape
    new = numbers(run.sample(3, seed=1))
    assert new.shape == (3, *shape[1:]) and new.isfinite().all()
    assert torch.equal(new, numbers(made.sample(3, seed=1)))
    for one, other in zip(weighed(run, x), weighed(made, x), strict=True):
        assert torch.equal(one, other)
    drawn = numbers(run.sample(3, pixels="draw"))
    assert drawn.isfinite().all() and (
        not run.spec.discrete
        or (drawn.min() >= 0 and drawn.max() <= run.spec.bounds[1])
    )


@pytest.mark.parametrize("name", RECIPES)
def test_papers_are_named_so_that_they_can_be_found(name: str) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.|openreview:", RECIPES[name].paper)
