"""Own training loops: build, backward and save against `tb.train`, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tightbound as tb
from tightbound.distributions.random import StepNoise, seed_for
from tightbound.runtime.errors import TightboundError
from tightbound.training.own_loop import TrainingData

STEPS = 12
PLAIN: dict[str, Any] = {
    "recipe.size": "s",
    "train.optimizer": "torch.optim.SGD",
    "train.lr": 1e-4,
    "train.lr_final": 1,
    "train.warmup": 0,
    "train.weight_decay": 0,
    "train.ema": 0,
    "train.clip": 0,
    "train.batch": 32,
    "train.steps": STEPS,
    "train.validate_every": STEPS,
    "train.validate_n": 8,
    "data.limit": 200,
}


def table(tmp_path: Path) -> str:
    """A numeric table with missing cells, as a file."""
    x = np.random.default_rng(0).normal(size=(150, 4))
    x[::7, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    return str(tmp_path / "x.npy")


CASES: dict[str, dict[str, Any]] = {
    "vae": {"latent": 3},
    "iwae": {"latent": 3, "k": 4},
    "m2": {"latent": 3},
    "conditional": {"latent": 3},
    "exemplar": {"latent": 3, "prior.count": 40, "prior.step": 10},
    "missing-data": {"latent": 2},
    "aae": {"latent": 3},
    "vq-vae": {"latent": 8},
    "vamp": {"latent": 3, "prior.components": 7},
}


def own_loop(model: tb.VAE, data: TrainingData, seed: int) -> None:
    """A training loop with the noise that `tb.train` draws."""
    optimizer = torch.optim.SGD(model.parameters(), PLAIN["train.lr"])
    k = model.run_settings.recipe.k
    step = 0
    while step < STEPS:
        for batch in data.train:
            if step == STEPS:
                break
            noise = StepNoise(seed, "noise", step, k=k)
            torch.default_generator.manual_seed(seed_for(seed, "parts", step))
            trace = model(batch, tb.Draw(k, noise=noise, enumerate=True))
            model.backward(trace, progress=step / STEPS)
            optimizer.step()
            optimizer.zero_grad()
            model.after_step()
            step += 1


@pytest.mark.parametrize("recipe", CASES)
def test_an_own_loop_gives_the_weights_of_train(recipe: str, tmp_path: Path) -> None:
    data: Any = table(tmp_path) if recipe == "missing-data" else "digits"
    settings = PLAIN | CASES[recipe]
    run = tb.train(
        data,
        recipe,
        out=tmp_path / "run",
        display="none",
        report=False,
        settings=settings,
    )
    model, read = tb.build(recipe, data, seed=0, settings=settings)
    own_loop(model, read, seed=0)
    trained: dict[str, Tensor] = run.model.state_dict()
    own = model.state_dict()
    assert list(own) == list(trained)
    different = [name for name in own if not torch.equal(own[name], trained[name])]
    assert different == []


def test_save_copies_and_is_a_run(tmp_path: Path) -> None:
    model, data = tb.build(
        "vae", "digits", latent=2, seed=0, settings={"recipe.size": "s"}
    )
    run = tb.save(model, tmp_path / "mine")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model.train()
    for batch in data.train:
        model.backward(model(batch))
        optimizer.step()
        optimizer.zero_grad()
    after = run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(
        model.state_dict()["encoder.body.0.weight"], after["encoder.body.0.weight"]
    )
    again = tb.load(tmp_path / "mine")
    assert torch.equal(again.encode("digits:0"), run.encode("digits:0"))
    with pytest.raises(TightboundError, match="exists"):
        tb.save(model, tmp_path / "mine")
    assert tb.save(model, tmp_path / "mine", overwrite=True).model.site_widths == {
        "z": 2
    }


def test_what_a_loop_lacks_is_said(tmp_path: Path) -> None:
    model, data = tb.build("aae", "digits", latent=2, seed=0)
    batch = next(iter(data.train))
    with pytest.raises(TightboundError, match=r"model\.losses"):
        model.loss(model(batch))
    model, data = tb.build("exemplar", "digits", latent=2, seed=0)
    with pytest.raises(TightboundError, match="index"):
        model.loss(model(batch.x))
    model, data = tb.build("m2", "digits", latent=2, seed=0)
    with pytest.raises(TightboundError, match="labels"):
        model.loss(model(batch.x))
    model, data = tb.build("conditional", "digits", latent=2, seed=0)
    with pytest.raises(ValueError, match="conditional"):
        model(batch.x)
    with pytest.raises(TightboundError, match="needs data"):
        tb.build("vae")


@pytest.mark.parametrize("recipe", ["vae", "hvae", "vq-vae", "ae", "svae", "vae-iaf"])
def test_gradients_flow_through_encode_and_decode(recipe: str) -> None:
    model, data = tb.build(recipe, "digits", seed=0, settings={"recipe.size": "s"})
    x = data.train.examples(6).x.requires_grad_()
    q = model.encode(x)
    model.decode(q.mean).log_prob(x.detach()).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    assert q.mean.shape == (6, *model.latent_shape)


def test_an_encoding_has_the_density_of_its_posterior() -> None:
    model, data = tb.build("vae", "digits", latent=3, seed=0)
    batch = data.train.examples(5)
    trace = model(batch)
    (site,) = trace.latents.values()
    q = model.encode(batch)
    assert torch.allclose(q.log_prob(site.z), trace.latents["z"].log_q[0], atol=1e-5)
    assert q.rsample().requires_grad and q.stddev.shape == (5, 3)
    model, data = tb.build("vae-planar", "digits", latent=3, seed=0)
    with pytest.raises(TightboundError, match="own draws"):
        model.encode(batch).log_prob(torch.zeros(5, 3))


def test_levels_under_a_density_are_read_as_reals_in_the_unit_interval() -> None:
    model, data = tb.build("vae", "digits", likelihood="gaussian", latent=2, seed=0)
    x = data.train.examples(50).x
    assert model.spec.domain == data.spec.domain == "unit"
    assert float(x.min()) == 0 and float(x.max()) == 1
    assert any("read as reals" in notice for notice in data.notices)


def test_after_step_without_a_pass_changes_nothing() -> None:
    model, data = tb.build("vq-vae", "digits", latent=8, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.after_step()
    assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
    model.backward(model(next(iter(data.train))))
    model.after_step()
    table = "hierarchy.posterior.codebook.table"
    assert not torch.equal(before[table], model.state_dict()[table])
