"""The optimiser by import path, the learning rate as a function of the step, and the health of each step."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from tightbound.config import TrainSettings
from tightbound.errors import TightboundError

SETTLED = 50


def optimizer(model: nn.Module, settings: TrainSettings, *, trust: bool = True) -> torch.optim.Optimizer:
    """The optimiser that `train.optimizer` names; matrices decay, biases and scales do not.  Fused where it can be.

    Raises TightboundError where it cannot be imported or does not take the options, and, for a config that was loaded
    (`trust=False`), where it is not torch's own.
    """
    if not (trust or settings.optimizer.startswith("torch.optim.")):
        raise TightboundError(
            f"optimiser {settings.optimizer!r} is code from outside tightbound, named in a file that you did not write "
            "now: read it, then go on with trust=True"
        )
    module, _, name = settings.optimizer.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
        takes = inspect.signature(cls).parameters
    except (ImportError, AttributeError, ValueError, TypeError) as e:
        raise TightboundError(
            f"train.optimizer = {settings.optimizer!r} cannot be imported ({e}): name one as torch.optim.AdamW"
        ) from e
    options: dict[str, Any] = {"lr": settings.lr} | settings.optimizer_options
    if "fused" in takes:
        options.setdefault("fused", True)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = {n for n, p in named if p.dim() > 1 and n.endswith("weight")}
    groups: list[dict[str, Any]] = [{"params": [p for n, p in named if (n in matrices) == m]} for m in (True, False)]
    if "weight_decay" in takes:
        groups[0]["weight_decay"] = settings.weight_decay
        groups[1]["weight_decay"] = 0.0
    try:
        return cls([g for g in groups if g["params"]], **options)
    except (TypeError, ValueError, RuntimeError) as e:
        raise TightboundError(f"optimiser {settings.optimizer} does not take {options}: {e}") from e


def learning_rate(settings: TrainSettings, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to `lr_final` of the highest rate (Loshchilov and Hutter 2017)."""
    rise = settings.warmup * steps
    if step < rise:
        return settings.lr * (step + 1) / (rise + 1)
    fall = (step - rise) / max(1.0, steps - rise)
    return settings.lr * (settings.lr_final + (1 - settings.lr_final) * 0.5 * (1 + math.cos(math.pi * fall)))


class Health:
    """Watches each step on the device: cuts large gradients, marks steps to leave out, counts them.

    A step is left out if its loss or its gradient norm is not finite, or if the norm is `skip` times its running mean;
    norms above `clip` times the mean are cut.  counts: [left out in all, in a row now, most in a row].
    """

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        self.clip, self.skip = settings.clip, settings.skip
        self.mean = torch.zeros((), device=device)
        self.seen = torch.zeros((), device=device)
        self.counts = torch.zeros(3, dtype=torch.long, device=device)

    def check(self, loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
        """True (a tensor) where the step may be taken; gradients are cut in place."""
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(grads)
        settled = self.seen >= SETTLED
        usual = torch.where(settled, self.mean, norm)
        ok = loss.detach().isfinite() & norm.isfinite() & (norm <= self.skip * usual)
        if self.clip:
            factor = (self.clip * usual / norm.clamp(min=1e-30)).clamp(max=1.0)
            torch._foreach_mul_(grads, factor)
        weight = (1 / (self.seen + 1)).clamp(min=0.01)
        self.mean = torch.where(ok, self.mean.lerp(norm, weight), self.mean)
        self.seen = self.seen + ok
        row = torch.where(ok, 0, self.counts[1] + 1)
        self.counts = torch.stack([self.counts[0] + ~ok, row, torch.maximum(self.counts[2], row)])
        return ok

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "seen": self.seen, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean, self.seen, self.counts = (state[k].to(self.mean.device) for k in ("mean", "seen", "counts"))


def take_step(opt: torch.optim.Optimizer, ok: Tensor) -> None:
    """An optimiser step where `ok`: fused optimisers decide on the device, others are asked from the host."""
    if all(group.get("fused") for group in opt.param_groups):
        opt.grad_scale, opt.found_inf = None, (~ok).float()  # type: ignore[attr-defined]
        opt.step()
    elif bool(ok):
        opt.step()
