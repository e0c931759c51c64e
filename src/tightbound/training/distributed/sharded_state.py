"""Training states in shards: each process writes its part of every tensor.

Any number of processes can read them again. The files are safetensors, written by
torch.distributed.checkpoint; they hold no code.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from tightbound.runtime import atomic_files as files
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import LaunchContext, started_by_torchrun

Digests = dict[str, str]


def tensors(
    model: nn.Module, averaged: nn.Module | None, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Every tensor of a training state by name: model.*, ema.*, optimizer.<parameter>.*."""
    names: dict[Tensor, str] = {
        parameter: name for name, parameter in model.named_parameters()
    }
    by_name = {f"model.{name}": value for name, value in model.state_dict().items()}
    if averaged is not None:
        for name, value in averaged.state_dict().items():
            by_name[f"ema.{name}"] = value
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                by_name[f"optimizer.{names[parameter]}.{key}"] = value
    return by_name


def save(folder: Path, state: dict[str, Tensor], launch: LaunchContext) -> Digests:
    """Write a state in shards to a new folder, by all processes together.

    Returns the SHA-256 of each file.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as write

    def clean() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        files.make_folder(folder)

    launch.on_rank_zero(clean)
    with _quiet():
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        write(state, storage_writer=writer, no_dist=not started_by_torchrun())
    names = launch.on_rank_zero(lambda: sorted(path.name for path in folder.iterdir()))
    if not names:
        raise TightboundError(
            f"{folder} is not seen by all processes: let --out be a folder that all "
            "machines share"
        )
    files.sync_folder(folder)
    digests: Digests = {}
    of_this_process = names[launch.rank :: launch.world_size]
    parts = launch.gather({name: digest(folder / name) for name in of_this_process})
    for part in parts:
        digests |= part
    return digests


def load(folder: Path, state: dict[str, Tensor]) -> None:
    """Fill the tensors of a state, in place, from the shards in a folder."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as read

    with _quiet(), torch.no_grad():
        read(
            state,
            storage_reader=HuggingFaceStorageReader(str(folder)),
            no_dist=not started_by_torchrun(),
        )


def first_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the optimiser's state by a step with zero gradients and learning rates."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"] = torch.zeros_like(group["lr"])
        else:
            group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warning that torch.distributed is not initialised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
