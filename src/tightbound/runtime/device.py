"""The device of a run."""

from __future__ import annotations

import torch

from tightbound.runtime.errors import TightboundError, shortened
from tightbound.runtime.launch_context import current_launch


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu" or "cuda".

    auto: the GPU where there is one, else the CPU. Of several processes on a machine,
    each has the GPU of its local rank.

    Raises:
        TightboundError: for another name, "mps", or "cuda" without a GPU.
    """
    if name == "mps":
        raise TightboundError(
            "device 'mps' is not used: Apple GPUs have no float64, in which data are centred "
            "and log p(x) is summed: write --device cpu, or auto"
        )
    if name not in ("auto", "cpu", "cuda"):
        raise TightboundError(
            f"device {shortened(name)} is not known: write auto, cpu or cuda"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise TightboundError(
            "there is no CUDA device here: write --device cpu, or auto"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    launch = current_launch()
    if launch.world_size > 1:
        return torch.device("cuda", launch.local_rank)
    return torch.device("cuda")
