"""Examples from shards, wds:PATTERN and hf:NAME: held out, shuffled, resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.shards import npy, pictures, png, shard

import tightbound.data as td
from tightbound.config import configure
from tightbound.data.on_disk import OnDisk
from tightbound.data.streams import huggingface as hub
from tightbound.data.streams.interleave import InterleavedReader
from tightbound.runtime.errors import TightboundError
from tightbound.training.batches import batches, count
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit
from tightbound.training.trainer import Interrupted

S = td.DataSettings
CPU = torch.device("cpu")


def values(x: torch.Tensor) -> list[int]:
    assert bool((x.flatten(1) == x.flatten(1)[:, :1]).all())
    return x.flatten(1)[:, 0].long().tolist()


def test_few_shards_hold_out_every_so_many_th_example(tmp_path: Path) -> None:
    data = td.load(pictures(tmp_path, 4, 40))
    assert (
        isinstance(data.train, td.ShardSplit)
        and data.held_out
        and data.spec.shape == (1, 6, 6)
    )
    valid, test = (
        values(s.batch(torch.arange(len(s)))) for s in (data.valid, data.test)
    )
    train = [v for _, x in data.train.batches(7) for v in values(x)]
    assert (
        sorted(train + valid + test) == list(range(160))
        and len(valid) == len(test) == 16
    )
    assert data.valid.y is not None and data.valid.y.tolist() == [v % 3 for v in valid]
    assert count(data.train) is None and data.label_names == ("0", "1", "2")
    assert td.load(f"wds:{tmp_path}/s-*.tar").digest == data.digest
    again = td.load(f"wds:{tmp_path}/s-0[01].tar")
    assert again.digest != data.digest


def test_many_shards_hold_out_some_whole(tmp_path: Path) -> None:
    data = td.load(pictures(tmp_path, 20, 5))
    assert isinstance(data.train, td.ShardSplit)
    parts = [values(s.batch(torch.arange(len(s)))) for s in (data.valid, data.test)]
    assert [len({v // 5 for v in part}) for part in parts] == [2, 2] and [
        len(p) for p in parts
    ] == [10, 10]
    train = [v for _, x in data.train.batches(50) for v in values(x)]
    assert sorted(train + parts[0] + parts[1]) == list(range(100))
    assert len(data.train.shards) == 16 and any(
        "held out" in note for note in data.notices
    )


def test_shards_train_by_lanes_and_resume_within_an_epoch(tmp_path: Path) -> None:
    train = td.load(pictures(tmp_path, 4, 30), S(shuffle_buffer=20)).train
    assert isinstance(train, td.ShardSplit)
    reading = InterleavedReader(train.shards, 8, 0, shuffle_buffer=20)
    steps = [reading() for _ in range(20)]
    seen = [v for rows in steps[:12] for v in values(rows)]
    assert len(reading.readers) == 4 and sorted(set(seen)) == sorted(
        v for v in range(120) if v % 30 % 10 > 1
    )
    assert sorted(seen) == sorted(set(seen)), (
        "96 rows, each once before any comes again"
    )
    parts = [
        InterleavedReader(train.shards, 8, 0, shuffle_buffer=20, rank=r, world=2)
        for r in range(2)
    ]
    for _ in range(5):
        for part in parts:
            part()
    state = parts[0].state_dict() | parts[1].state_dict()
    for world in (1, 2, 4):
        fresh = [
            InterleavedReader(
                train.shards, 8, 0, shuffle_buffer=20, rank=r, world=world
            )
            for r in range(world)
        ]
        for reader in fresh:
            reader.load_state_dict(state)
        for at in range(5, 20):
            assert torch.equal(torch.cat([reader() for reader in fresh]), steps[at])
    with pytest.raises(TightboundError, match="4 pieces are too few for 8 processes"):
        batches(train, 8, 0, CPU, (0, 8))


def test_arrays_in_shards_and_dynamic_binarisation(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    for s in range(3):
        shard(
            tmp_path / f"{s}.tar",
            [
                {"npy": npy(np.full((3, 4), s, np.float32)), "json": b"{}"}
                for _ in range(9)
            ],
        )
    data = td.load(f"wds:{tmp_path}/{{0..2}}.tar")
    assert data.spec.shape == (1, 3, 4) and data.spec.levels == 3
    grey = td.load(pictures(tmp_path, 2, 30), S(binarize="dynamic"))
    train = batches(grey.train, 4, 0, CPU)
    assert set(train(0).x.unique().tolist()) <= {0, 1} and grey.spec.domain == "binary"
    assert set(grey.valid.x.unique().tolist()) <= {0, 1}  # type: ignore[union-attr]
    with pytest.raises(TightboundError, match=r"binarize=static needs rows that stay"):
        td.load(f"wds:{tmp_path}/s-*.tar", S(binarize="static"))


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    source = pictures(tmp_path, 3, 30)
    broken = tmp_path / "s-01.tar"
    whole = broken.read_bytes()
    for cut in (
        10,
        100,
        700,
        1200,
    ):  # within a header, which Python's own reader takes for the end, and within a file
        broken.write_bytes(whole[: len(whole) // 2 + cut])
        with pytest.raises(
            TightboundError, match=r"s-01.tar is damaged after \d+ examples"
        ):
            td.load(source)
    shard(
        broken, [{"png": png(1)}] * 12 + [{"png": b"no image"}] + [{"png": png(2)}] * 12
    )
    with pytest.raises(
        TightboundError, match=r"example \S*s-01-012 cannot be used.*--skip-bad"
    ):
        td.load(source)
    skipping = td.load(source, S(skip_bad=True))
    assert sum(len(x) for _, x in skipping.train.batches(100)) == 24 + 24 + 18
    shard(broken, [{"txt": b"words"}])
    with pytest.raises(
        TightboundError,
        match=r"s-01.tar: example \S*s-01-000 has txt and no image or .npy",
    ):
        td.load(source)
    shard(broken, [{"npy": b"\x80\x04K\x01."}] * 3)
    with pytest.raises(TightboundError, match=r"s-01.tar is damaged"):
        td.load(source)


# ---- hf:NAME


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return found


def test_a_saved_set(datasets: object, tmp_path: Path) -> None:
    x = np.random.RandomState(0).rand(60, 4, 4).astype(np.float32)
    made = datasets.Dataset.from_dict({"x": x, "label": np.arange(60) % 2})
    made.save_to_disk(tmp_path / "one")
    data = td.load(f"hf:{tmp_path}/one")
    assert (
        data.spec.shape == (1, 4, 4) and data.train.y is not None and data.name == "one"
    )  # type: ignore[union-attr]
    assert torch.equal(data.train.x, torch.from_numpy(x)), (
        "numbers come through the table unchanged"
    )  # type: ignore[union-attr]
    with pytest.raises(TightboundError, match=r"no column 'z' for data.key"):
        td.load(f"hf:{tmp_path}/one", S(key="z"))
    with pytest.raises(TightboundError, match=r"drop data.streaming"):
        td.load(f"hf:{tmp_path}/one", S(streaming=True))
    with pytest.raises(TightboundError, match=r"hf:no/such cannot be opened"):
        td.load("hf:no/such")


def test_an_image_folder_and_its_published_test_split(
    datasets: object, tmp_path: Path
) -> None:
    for split, n in (("train", 30), ("test", 6)):
        for i in range(n):
            folder = tmp_path / "images" / split / ("cat" if i % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i:02d}.png").write_bytes(png(i * 8))
    data = td.load(f"hf:{tmp_path}/images")
    assert (
        data.label_names == ("cat", "dog")
        and data.spec.shape == (1, 6, 6)
        and data.spec.levels == 256
    )
    assert [len(data.train), len(data.valid), len(data.test)] == [27, 3, 6]
    streamed = td.load(f"hf:{tmp_path}/images", S(streaming=True))
    assert (
        isinstance(streamed.train, td.ShardSplit)
        and len(streamed.test) == 6
        and len(streamed.valid) == 3
    )
    steps = batches(streamed.train, 9, 0, CPU)
    assert sorted(set(values(torch.cat([steps(i).x for i in range(3)])))) == sorted(
        {v for _, x in streamed.train.batches(9) for v in values(x)}
    )


def test_a_table_too_large_for_memory_and_its_stream(
    datasets: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.arange(800)[:, None].repeat(300, 1)
    made = datasets.Dataset.from_dict({"x": x, "y": np.arange(800) % 4})
    (tmp_path / "p").mkdir()
    for i in range(2):
        made.select(range(i * 400, (i + 1) * 400)).to_parquet(
            tmp_path / "p" / f"train-{i}.parquet"
        )
    monkeypatch.setattr(hub, "BLOCK", 50)
    far = td.load(f"hf:{tmp_path}/p", S(memory=1))
    assert isinstance(far.train.x, OnDisk) and far.train.x.block == 50  # type: ignore[union-attr]
    assert values(far.train.x[torch.tensor([799, 3])]) == [799, 3]  # type: ignore[union-attr]
    stream = td.load(f"hf:{tmp_path}/p", S(streaming=True))
    assert isinstance(stream.train, td.ShardSplit) and len(stream.train.shards) == 2
    assert sorted(
        v
        for s in (stream.valid, stream.test)
        for v in values(s.batch(torch.arange(len(s))))
    ) == sorted(v for v in range(800) if v % 400 % 10 < 2)
    again = td.read_parts(f"hf:{tmp_path}/p", stream.spec, S(streaming=True), 1)
    rows = list(again.rows(1, 150))
    assert (
        len(again) == 2
        and again.total is None
        and [len(r) for r in rows] == [150, 150, 100]
    )
    assert [v for r in rows for v in values(r.x)] == list(range(400, 800)), (
        "in order, nothing held out"
    )
    assert rows[2].labels == [v % 4 for v in range(700, 800)] and rows[
        2
    ].numbers.tolist() == list(range(300, 400))
    made.select(range(400)).to_parquet(tmp_path / "p" / "train-1.parquet")
    assert (
        td.read_parts(f"hf:{tmp_path}/p", stream.spec, S(streaming=True), 1).digest
        != again.digest
    )


# ---- training on them


@pytest.mark.parametrize("kind", ["npy", "wds"])
def test_training_resumes_within_an_epoch_bit_for_bit(
    kind: str, tmp_path: Path
) -> None:
    class Press(Quiet):
        def record(self, record: dict[str, object]) -> None:
            if record["step"] == 10:
                os.kill(os.getpid(), signal.SIGINT)

    if kind == "npy":
        np.save(
            tmp_path / "x.npy",
            np.random.RandomState(0).randint(0, 256, (20_000, 8, 8)).astype(np.uint8),
        )
        source = str(tmp_path / "x.npy")
    else:
        source = pictures(tmp_path, 4, 60)
    values = {
        "recipe.size": "s",
        "latent": 2,
        "train.steps": 30,
        "train.batch": 32,
        "train.validate_every": 10,
    }
    values |= {
        "train.validate_n": 4,
        "train.save_seconds": 0,
        "data.memory": 1,
        "data.shuffle_buffer": 100,
        "data.valid": 50,
    }
    config = configure(source, "vae", values=values)
    fit(config, source, tmp_path / "whole", Quiet())
    with pytest.raises(Interrupted):
        fit(config, source, tmp_path / "cut", Press())
    run = fit(config, source, tmp_path / "cut", Quiet(), mode="resume")
    for name in ("model.safetensors", "ema.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
    assert (
        isinstance(run.data.train.x, OnDisk)
        if kind == "npy"
        else run.data.train.size is None
    )
