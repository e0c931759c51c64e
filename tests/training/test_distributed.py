"""One, two and four processes train alike: the same losses to rounding, the same decisions, states
for any number.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.distributed_cases import CASES, FOUR, STEPS, cut, train, train_all
from support.processes import launch

from tightbound.distributions.random import StepNoise, part_of
from tightbound.runtime.atomic_files import load_weights
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext
from tightbound.training.distributed.data_parallel import gather_rows


def curve(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]


def same_curve(a: Path, b: Path) -> None:
    for one, two in zip(curve(a), curve(b), strict=True):
        assert (one["step"], one["skipped"], one["best"]) == (
            two["step"],
            two["skipped"],
            two["best"],
        )
        for part in ("train", "valid"):
            assert one[part].keys() == two[part].keys()
            for name, value in one[part].items():
                assert value == pytest.approx(two[part][name], rel=2e-5), (
                    a.name,
                    one["step"],
                    part,
                    name,
                )
    for name in ("model.safetensors", "ema.safetensors"):
        weights, others = load_weights(a / name)[0], load_weights(b / name)[0]
        assert weights.keys() == others.keys()
        for key, value in weights.items():
            # Adam divides by the gradient's size, so that rounding moves a weight whose gradient is
            # almost zero.
            assert float((value - others[key]).abs().double().mean()) < 1e-4, (
                a.name,
                key,
            )


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    cut(tmp_path, "samples in shards", "samples in shards 1 to 2")
    launch(partial(train_all, tmp_path), tmp_path)
    for case in CASES:
        train(tmp_path, case, f"{case} 1")
        same_curve(tmp_path / f"{case} 1", tmp_path / f"{case} 2")
    for case in ("samples in shards", "from the disk"):
        train(tmp_path, case, f"{case} 2 to 1")
        same_curve(tmp_path / f"{case} 1", tmp_path / f"{case} 2 to 1")
        assert (
            "1 processes go on where 2 saved"
            in (tmp_path / f"{case} 2 to 1" / "log.jsonl").read_text()
        )
    same_curve(tmp_path / "samples in shards 1", tmp_path / "samples in shards 1 to 2")
    assert curve(tmp_path / "two losses 2")[-1]["skipped"] == 1, (
        "one process met it, both left the step out"
    )
    shards = sorted(
        path.name
        for path in (tmp_path / "samples in shards 2" / "state").glob("shards-*")
    )
    assert shards == ["shards-20", f"shards-{STEPS}"], (
        "two states are kept, and their shards with them"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="long: TIGHTBOUND_LONG=1"
)
def test_four_processes_train_as_one(tmp_path: Path) -> None:
    launch(partial(train_all, tmp_path), tmp_path, processes=4)
    for case in FOUR:
        train(tmp_path, case, f"{case} 1")
        same_curve(tmp_path / f"{case} 1", tmp_path / f"{case} 4")


def test_a_damaged_shard_falls_back_to_the_state_before(tmp_path: Path) -> None:
    train(tmp_path, "samples in shards", "run")
    weights = (tmp_path / "run" / "ema.safetensors").read_bytes()
    shard = next((tmp_path / "run" / "state" / f"shards-{STEPS}").iterdir())
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    (tmp_path / "run" / "ema.safetensors").unlink()
    run = train(tmp_path, "samples in shards", "run")
    assert run.folder is not None and curve(run.folder)[-1]["step"] == STEPS
    assert (run.folder / "ema.safetensors").read_bytes() == weights, (
        "the last ten steps, again"
    )


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_one_after_another_are_the_whole_batch(
    tmp_path: Path, parts: int
) -> None:
    for case in ("binarised, moved", "samples in shards"):
        train(tmp_path, case, "whole", **{"train.accumulate": 1})
        train(tmp_path, case, "parts", **{"train.accumulate": parts})
        same_curve(tmp_path / "whole", tmp_path / "parts")
        for name in ("whole", "parts"):
            (tmp_path / name).rename(tmp_path / f"{name} {case}")
    with pytest.raises(
        TightboundError,
        match=r"train.accumulate = 2 splits batches, and objective Elbo takes",
    ):
        train(tmp_path, "free bits", "run", **{"train.accumulate": 2})
    with pytest.raises(TightboundError, match=r"train.batch = 32 .* 5 parts"):
        train(tmp_path, "binarised, moved", "run", **{"train.accumulate": 5})


def test_noise_is_that_of_the_whole_batch_cut() -> None:
    dist = torch.distributions.Normal(torch.zeros(12, 3), 1.0)
    whole = StepNoise(0, "x", k=2)(
        "z", torch.distributions.Normal(torch.zeros(24, 3), 1.0)
    )
    parts = [StepNoise(0, "x", k=2, share=(i, 2))("z", dist) for i in range(2)]
    rows = whole.reshape(2, 12, 3)
    for i, part in enumerate(parts):
        assert torch.equal(part.reshape(2, 6, 3), rows[:, i * 6 : (i + 1) * 6])
        assert torch.equal(part_of(whole, 2, (i, 2)), part)


def test_only_what_takes_a_statistic_of_the_batch_gathers() -> None:
    from tightbound.components.objectives.elbo import Elbo
    from tightbound.config import TrainSettings

    two = LaunchContext(0, 2)
    assert gather_rows(two, Elbo(), TrainSettings()) is None
    assert gather_rows(two, Elbo(free_bits=1.0), TrainSettings()) is not None
    assert gather_rows(LaunchContext(), Elbo(free_bits=1.0), TrainSettings()) is None


@pytest.mark.parametrize(("rank", "says"), [("0", True), ("1", False)])
def test_what_is_not_shared_out_is_refused(
    rank: str,
    says: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tightbound.cli import main

    launch = {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
    launch |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert main(["compare", "runs/x"]) == 2
    assert (
        "compare is not shared out over processes, only train, evaluate, encode and score"
        in capsys.readouterr().err
    ) == says
