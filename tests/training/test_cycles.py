"""Cycles of the learning rate with averaged weights, and parameter groups of the optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.core_cases import model_of, plain, spec_of
from support.trainings import Listener, train, weights

from tightbound.config import TrainSettings
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError
from tightbound.training.optimization.optimizer import (
    cycle_at,
    learning_rate_factor,
    optimizer,
    optimizer_groups,
)
from tightbound.training.trainer import Interrupted


def test_each_cycle_is_a_schedule_of_its_own() -> None:
    settings = TrainSettings(steps=25, cycles=2, warmup=0.2)
    bounds = [cycle_at(settings, step) for step in range(25)]
    assert bounds == [(1, 0, 12)] * 12 + [(2, 12, 25)] * 13
    alone = TrainSettings(steps=13, warmup=0.2)
    for step in range(13):
        _, first, end = cycle_at(settings, 12 + step)
        ours = learning_rate_factor(settings, 12 + step - first, end - first)
        assert ours == learning_rate_factor(alone, step, 13)
    extended = TrainSettings(steps=20, extensions=((10, 10),), cycles=2)
    numbers = [cycle_at(extended, step) for step in (0, 5, 9, 10, 15, 19)]
    assert numbers == [
        (1, 0, 5),
        (2, 5, 10),
        (2, 5, 10),
        (1, 10, 15),
        (2, 15, 20),
        (2, 15, 20),
    ]


def test_the_weights_are_the_mean_of_those_at_the_ends_of_cycles_also_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbound.training.optimization.ema import Average

    ends: list[dict[str, torch.Tensor]] = []
    end_cycle = Average.end_cycle

    def kept(self: Any, number: int) -> None:
        ends.append({n: p.clone() for n, p in self.model.named_parameters()})
        end_cycle(self, number)

    monkeypatch.setattr(Average, "end_cycle", kept)
    settings: dict[str, Any] = {"train__cycles": 3, "train__steps": 30}
    settings |= {"train__validate_every": 30}
    train(tmp_path / "a", **settings)
    assert len(ends) == 3
    found = load_file(tmp_path / "a" / "ema.safetensors")
    for name, first in ends[0].items():
        mean = torch.stack([first, ends[1][name], ends[2][name]]).mean(0)
        torch.testing.assert_close(found[name].reshape(mean.shape), mean)
    assert any((ends[0][n] != ends[2][n]).any() for n in ends[0])

    settings["train__validate_every"] = 15
    train(tmp_path / "b", **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "c", Listener(press_at=15), **settings)
    train(tmp_path / "c", resume=True, **settings)
    assert weights(tmp_path / "b") == weights(tmp_path / "c")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ema": 0}, "set train.ema above 0"),
        ({"parallel": "fsdp2"}, "train.parallel=ddp"),
        ({"steps": 1}, "set fewer cycles"),
    ],
)
def test_cycles_that_make_no_sense_are_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    values = {f"train__{key}": value for key, value in settings.items()}
    with pytest.raises(TightboundError, match=words):
        train(tmp_path / "a", **{"train__cycles": 2, **values})
    assert not (tmp_path / "a" / "config.toml").exists()


def test_the_decoder_alone_can_be_decayed() -> None:
    model, _ = model_of(plain(prior=part("flow", steps=1)), spec_of("real", (6,)))
    groups = optimizer_groups(model)
    assert {"inference", "generative", "prior", "decoder"} == set(groups)
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {key: {names[id(p)] for p in groups[key]} for key in groups}
    assert inside["prior"] | inside["decoder"] == inside["generative"]
    assert all(".prior." in name for name in inside["prior"]) and inside["prior"]
    assert not any(".prior." in name for name in inside["decoder"])
    settings = TrainSettings(
        weight_decay=0.0, groups={"decoder": {"weight_decay": 0.2}}
    )
    for group in optimizer(model, settings).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_matrix = parameter.dim() > 1 and name.endswith("weight")
            decayed = name in inside["decoder"] and is_matrix
            assert group["weight_decay"] == (0.2 if decayed else 0.0)
