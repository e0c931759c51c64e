"""The device of a run."""

from __future__ import annotations

import torch

from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import current_launch


def pick_device(name: str) -> torch.device:
    """`auto` as the GPU where there is one, else the CPU; raises TightboundError for a device that
    is not there.

    Among several processes of a machine, each has the GPU of its number.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise TightboundError(f"device {name!r} is not known: write auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise TightboundError(
            "there is no CUDA device here: write --device cpu, or auto"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return (
        torch.device("cuda", current_launch().local_rank)
        if current_launch().world_size > 1
        else torch.device("cuda")
    )
