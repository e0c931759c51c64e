"""The optimiser by import path, the learning rate as a function of the step, and the health of each step."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from tightbound.config import TrainSettings
from tightbound.errors import TightboundError, nearest
from tightbound.model import VAE

SETTLED = 50


def optimizer(model: VAE, settings: TrainSettings, *, trust: bool = True) -> torch.optim.Optimizer:
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
    if unknown := set(settings.groups) - set(model.groups()):
        name = sorted(unknown)[0]
        raise TightboundError(f"train.groups has no group {name!r} in this model: {nearest(name, model.groups())}")
    groups = _groups(model, settings, decays="weight_decay" in takes)
    try:
        return cls(groups, **options)
    except (TypeError, ValueError, RuntimeError) as e:
        given = [options, *settings.groups.values()]
        raise TightboundError(f"optimiser {settings.optimizer} does not take {given}: {e}") from e


def _groups(model: VAE, settings: TrainSettings, decays: bool) -> list[dict[str, Any]]:
    """The optimiser's groups: for each of the model's that has settings of its own, and the rest, matrices and others.

    Each remembers its highest learning rate as `top`, and the schedule moves `lr` below it.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    home = {id(p): name for name, group in model.groups().items() if name in settings.groups for p in group}
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in named:
        matrix, own = parameter.dim() > 1 and name.endswith("weight"), home.get(id(parameter), "")
        group = found.setdefault((own, matrix), {"params": []})
        group["params"].append(parameter)
        if decays:
            group["weight_decay"] = settings.weight_decay if matrix else 0.0
        changed = settings.groups.get(own, {})
        group |= {key: value for key, value in changed.items() if matrix or key != "weight_decay"}
        group["top"] = group.get("lr", settings.lr)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], not key[1]))]


def level(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate as a share of its highest: linear warm-up, then half a cosine down to `lr_final`.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5.
    """
    rise = settings.warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    fall = (step - rise) / max(1.0, steps - rise)
    return settings.lr_final + (1 - settings.lr_final) * 0.5 * (1 + math.cos(math.pi * fall))


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

    def check(self, losses: Iterable[Tensor], parameters: list[nn.Parameter]) -> Tensor:
        """True (a tensor) where the step may be taken; gradients are cut in place."""
        grads = [p.grad for p in parameters if p.grad is not None]
        norm: Any = get_total_norm(grads)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of gradients in shards
        loss = torch.stack(list(losses)).detach().sum()
        settled = self.seen >= SETTLED
        usual = torch.where(settled, self.mean, norm)
        ok = loss.isfinite() & norm.isfinite() & (norm <= self.skip * usual)
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


def take_step(opt: torch.optim.Optimizer, level: float, ok: Tensor) -> None:
    """An optimiser step at a share of the highest learning rates, where `ok`.

    Fused optimisers decide on the device, others are asked from the host, which waits for the answer.
    """
    for group in opt.param_groups:
        group["lr"] = level * group["top"]
    if all(group.get("fused") for group in opt.param_groups):
        opt.grad_scale, opt.found_inf = None, (~ok).float()  # type: ignore[attr-defined]
        opt.step()
    elif bool(ok):
        opt.step()
