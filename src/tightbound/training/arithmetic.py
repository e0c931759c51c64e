"""What decides the rounding of a training beside its settings, kept in its states."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import torch


def arithmetic(device: torch.device) -> dict[str, str | int]:
    """Version, hardware and threads, on which the bits of every sum depend."""
    facts: dict[str, str | int] = {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "CPU instructions": torch.backends.cpu.get_cpu_capability(),
        "device": device.type,
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def differences(before: Mapping[str, str | int], now: Mapping[str, str | int]) -> str:
    """Each fact that has changed, as "threads 2 instead of 1"; "" where none has."""
    return " and ".join(
        f"{name} {now.get(name, 'unknown')} instead of {before.get(name, 'unknown')}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )
