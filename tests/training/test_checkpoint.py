"""Checkpoints against kills, faults and power cuts at every operation on the disk, damage, and a
second writer.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from tightbound.runtime import atomic_files as files
from tightbound.runtime.atomic_files import load_weights, save_weights, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.lock import RunLock
from tightbound.training.checkpoint import StateStore


class Died(BaseException):
    """The process is gone: nothing that it would still do reaches the disk."""


class Disk(files.Ops):
    """The disk, which refuses operation `stop` with `error`, or where the process dies at it
    (`error` None).

    With `power_cut` the death also loses what was not yet synced: content is halved, renames are
    undone.
    """

    def __init__(
        self, stop: int | None = None, error: int | None = None, power_cut: bool = False
    ):
        self.stop, self.error, self.power_cut = stop, error, power_cut
        self.operations: list[str] = []
        self.dead = False
        self.unsynced: set[Path] = set()
        self.renamed: list[tuple[Path, bytes | None]] = []

    def at(self, name: str) -> None:
        if self.dead:
            raise Died
        self.operations.append(name)
        if len(self.operations) - 1 != self.stop:
            return
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        self.dead = True
        if self.power_cut:
            for path in self.unsynced:
                os.truncate(path, path.stat().st_size // 2)
            for path, before in reversed(self.renamed):
                path.unlink() if before is None else path.write_bytes(before)
        raise Died

    def open(self, path: Path) -> BinaryIO:
        self.at("open")
        self.unsynced.add(path)
        return File(self, super().open(path))  # type: ignore[return-value]

    def fsync(self, file: BinaryIO) -> None:
        self.at("fsync")
        super().fsync(file)
        self.unsynced.discard(Path(file.name))

    def replace(self, old: Path, new: Path) -> None:
        self.at("replace")
        self.renamed.append((new, new.read_bytes() if new.exists() else None))
        if old in self.unsynced:
            self.unsynced.add(new)
        super().replace(old, new)
        self.unsynced.discard(old)

    def unlink(self, path: Path) -> None:
        self.at("unlink")
        super().unlink(path)
        self.unsynced.discard(path)

    def sync_folder(self, folder: Path) -> None:
        self.at("sync_folder")
        super().sync_folder(folder)
        self.renamed.clear()


class File:
    """An open file whose writes are operations of a `Disk`; one that is cut short writes half."""

    def __init__(self, disk: Disk, file: BinaryIO):
        self.disk, self.file = disk, file
        self.fileno, self.name = file.fileno, file.name

    def write(self, content: bytes) -> None:
        try:
            self.disk.at("write")
        except BaseException:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise
        self.file.write(content)

    def flush(self) -> None:
        self.disk.at("flush")
        self.file.flush()

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def state(step: int) -> dict[str, Any]:
    """A state all of whose parts say which step it is of."""
    parts = {name: torch.full((50,), float(step)) for name in "abc"}
    return {
        "step": step,
        "model": parts,
        "list": [step, (str(step), None, step / 2)],
        "random": bytes([step]),
    }


def is_whole(loaded: Any, step: int) -> bool:
    expected = state(step)
    same = all(torch.equal(loaded["model"][k], v) for k, v in expected["model"].items())
    return same and all(loaded[k] == expected[k] for k in ("step", "list", "random"))


def each_fault(
    action: Callable[[], None], monkeypatch: pytest.MonkeyPatch, **fault: Any
) -> Iterator[Disk]:
    """Runs the action on a disk that fails at its first operation, then at its second, until one
    run sees no fault.
    """
    for stop in range(100):
        with monkeypatch.context() as patch:
            disk = Disk(stop, **fault)
            patch.setattr(files, "_ops", disk)
            with suppress(Died, TightboundError):
                action()
        yield disk
        if len(disk.operations) <= stop:
            return
    raise AssertionError("the action never ended")


FAULTS = [{"error": errno.EIO}, {"error": errno.ENOSPC}, {}, {"power_cut": True}]


@pytest.mark.parametrize("fault", FAULTS, ids=["error", "full", "killed", "power-cut"])
def test_a_state_is_old_or_new_whatever_operation_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    store = StateStore(tmp_path / "state")
    for step in (1, 2):
        store.save(step, state(step))
    steps, operations = set(), []
    for disk in each_fault(lambda: store.save(3, state(3)), monkeypatch, **fault):
        loaded = store.load()
        assert loaded is not None and loaded[1] == []
        steps.add(loaded[0]["step"])
        assert is_whole(loaded[0], loaded[0]["step"])
        if fault.get("error"):
            assert not list(store.folder.glob(files.TEMPORARY))
        operations = disk.operations
        store.save(3, state(3))  # the next save mends everything
        assert sorted(p.name for p in store.folder.iterdir()) == [
            "state-2.pt",
            "state-3.pt",
        ]
        (store.folder / "state-3.pt").unlink()
        store.save(1, state(1))
        store.save(2, state(2))
    assert steps == {2, 3}
    assert operations == [
        "open",
        "write",
        "write",
        "flush",
        "fsync",
        "replace",
        "sync_folder",
        "unlink",
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=["error", "full", "killed", "power-cut"])
def test_weights_are_old_or_new_whatever_operation_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    steps = set()

    def save(step: int) -> None:
        save_weights(path, state(step)["model"], {"step": str(step)})

    save(1)
    for _ in each_fault(lambda: save(2), monkeypatch, **fault):
        weights, metadata = load_weights(path)
        assert all(
            bool((tensor == float(metadata["step"])).all())
            for tensor in weights.values()
        )
        steps.add(metadata["step"])
        save(1)
    assert steps == {"1", "2"}


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "evaluation.json"
    write_atomic(path, "old")
    monkeypatch.setattr(files, "_ops", Disk(1, errno.ENOSPC))
    with pytest.raises(
        TightboundError,
        match=r"no room on the disk for .*evaluation\.json: free some space",
    ):
        write_atomic(path, "new" * 1000)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["evaluation.json"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TightboundError, match="No such file"):
        write_atomic(tmp_path / "missing" / "log.jsonl", "")
    (tmp_path / "file").touch()
    with pytest.raises(TightboundError, match="cannot write"):
        StateStore(tmp_path / "file" / "state").save(1, state(1))


def test_a_killed_process_leaves_a_whole_state(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    store.save(0, state(0))
    delays, last = random.Random(5), 0
    for kill in range(
        60
    ):  # longer and longer ones, since on a busy machine no save may end within the first
        if kill >= 20 and last > 0:
            break
        child = os.fork()
        if child == 0:
            for step in range(last + 1, 1_000_000):
                store.save(step, state(step))
            os._exit(0)
        time.sleep(delays.uniform(0.0, 0.03 * max(1, kill - 18)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        loaded = store.load()
        assert (
            loaded is not None
            and loaded[1] == []
            and is_whole(loaded[0], loaded[0]["step"])
        )
        assert loaded[0]["step"] >= last
        last = loaded[0]["step"]
    assert last > 0


def damages(content: bytes) -> Iterator[bytes]:
    """The content cut at several lengths, and with one bit turned at many places."""
    size = len(content)
    for length in (
        0,
        1,
        7,
        8,
        31,
        32,
        33,
        size // 4,
        size // 2,
        size - 33,
        size - 32,
        size - 8,
        size - 1,
    ):
        yield content[:length]
    for place in range(0, size, max(1, size // 60)):
        yield content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path,
) -> None:
    store = StateStore(tmp_path)
    for step in (100, 200):
        store.save(step, state(step))
    newest = tmp_path / "state-200.pt"
    for content in damages(newest.read_bytes()):
        newest.write_bytes(content)
        loaded = store.load()
        assert loaded is not None and is_whole(loaded[0], 100)
        assert (
            len(loaded[1]) == 1
            and "state-200.pt is damaged" in loaded[1][0]
            and "step 100" in loaded[1][0]
        )
    store.save(150, state(150))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "state-100.pt",
        "state-150.pt",
    ]
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(TightboundError, match=r"state-150\.pt, state-100\.pt"):
        store.load()


def test_no_state_yet_is_none_and_foreign_files_are_ignored(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    assert store.load() is None
    store.folder.mkdir()
    for name in (".state-7.pt.0a1b2c3d.tmp", "state-x.pt", "notes.txt"):
        (store.folder / name).write_text("x")
    assert store.load() is None
    store.save(8, state(8))
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "notes.txt",
        "state-8.pt",
        "state-x.pt",
    ]


def test_a_state_holds_plain_values_only_and_a_view_saves_only_itself(
    tmp_path: Path,
) -> None:
    store = StateStore(tmp_path)
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a object"):
        store.save(1, {"a": [0, object()]})
    store.save(
        1,
        {
            "row": torch.zeros(1000, 1000)[3],
            "optimiser": torch.nn.Linear(2, 2).state_dict(),
        },
    )
    assert (tmp_path / "state-1.pt").stat().st_size < 10_000
    assert torch.load(tmp_path / "state-1.pt", weights_only=True)["row"].shape == (
        1000,
    )


def test_weights_return_as_they_were(tmp_path: Path) -> None:
    tied = torch.randn(3, 5)
    tensors = {
        "a": tied,
        "b": tied.T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "scalar": torch.tensor(7),
    }
    metadata = {f"key{i}": "값\n" * i for i in range(9)}
    save_weights(tmp_path / "1", tensors, metadata)
    save_weights(tmp_path / "2", tensors, metadata)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    weights, loaded_metadata = load_weights(tmp_path / "1")
    assert loaded_metadata == metadata
    assert weights.keys() == tensors.keys()
    assert all(
        torch.equal(weights[k], v) and weights[k].dtype == v.dtype
        for k, v in tensors.items()
    )


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, state(3)["model"], {"config": "seed = 0"})
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(TightboundError, match=r"model\.safetensors are damaged"):
            load_weights(path)
    path.unlink()
    with pytest.raises(
        TightboundError, match=r"cannot read the weights .*model\.safetensors"
    ):
        load_weights(path)


def test_weights_of_another_program_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "theirs.safetensors")
    weights, metadata = load_weights(tmp_path / "theirs.safetensors")
    assert torch.equal(weights["a"], torch.ones(2)) and metadata == {}


def test_a_run_folder_has_one_writer(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        RunLock(folder),
        pytest.raises(TightboundError, match=r"another process is training in .*run"),
        RunLock(folder),
    ):
        raise AssertionError("two writers")
    (folder / ".log.jsonl.0a1b2c3d.tmp").touch()
    with RunLock(folder):
        assert os.listdir(folder) == [".lock"]


def test_a_lock_dies_with_its_process_though_a_worker_of_it_lives_on(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with RunLock(tmp_path):
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
            os.write(writing, worker.to_bytes(8, "little"))
            time.sleep(60)
    worker = int.from_bytes(os.read(reading, 8), "little")
    with pytest.raises(TightboundError, match="another process"), RunLock(tmp_path):
        raise AssertionError("two writers")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.kill(worker, 0)  # the worker is alive
    try:
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
