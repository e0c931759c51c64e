"""The optimiser by import path, and the learning rate as a function of the step."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any

import torch

from tightbound.config import TrainSettings
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError, nearest


def optimizer(
    model: VAE, settings: TrainSettings, *, trust: bool = True
) -> torch.optim.Optimizer:
    """The optimiser that `train.optimizer` names; matrices decay, biases and scales do not.  Fused
    where it can be.

    Raises TightboundError where it cannot be imported or does not take the options, and, for a
    config that was loaded (`trust=False`), where it is not torch's own.
    """
    if not (trust or settings.optimizer.startswith("torch.optim.")):
        raise TightboundError(
            f"optimiser {settings.optimizer!r} is code from outside "
            "tightbound, named in a file that you did not write "
            "now: read it, then go on with trust=True"
        )
    module, _, name = settings.optimizer.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
        takes = inspect.signature(cls).parameters
    except (ImportError, AttributeError, ValueError, TypeError) as e:
        raise TightboundError(
            f"train.optimizer = {settings.optimizer!r} cannot be imported "
            f"({e}): name one as torch.optim.AdamW"
        ) from e
    options: dict[str, Any] = {"lr": settings.lr} | settings.optimizer_options
    if "fused" in takes:
        options.setdefault("fused", True)
    if unknown := set(settings.groups) - set(model.groups()):
        name = sorted(unknown)[0]
        raise TightboundError(
            f"train.groups has no group {name!r} in this model: {nearest(name, model.groups())}"
        )
    groups = _groups(model, settings, decays="weight_decay" in takes)
    _leave_the_compiler_out()
    try:
        return cls(groups, **options)
    except (TypeError, ValueError, RuntimeError) as e:
        given = [options, *settings.groups.values()]
        raise TightboundError(
            f"optimiser {settings.optimizer} does not take {given}: {e}"
        ) from e


def _groups(model: VAE, settings: TrainSettings, decays: bool) -> list[dict[str, Any]]:
    """The optimiser's groups: for each of the model's that has settings of its own, and the rest,
    matrices and others.

    Each remembers its highest learning rate as `top`, and the schedule moves `lr` below it.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    home = {
        id(p): name
        for name, group in model.groups().items()
        if name in settings.groups
        for p in group
    }
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in named:
        matrix, own = (
            parameter.dim() > 1 and name.endswith("weight"),
            home.get(id(parameter), ""),
        )
        group = found.setdefault((own, matrix), {"params": []})
        group["params"].append(parameter)
        if decays:
            group["weight_decay"] = settings.weight_decay if matrix else 0.0
        changed = settings.groups.get(own, {})
        group |= {
            key: value
            for key, value in changed.items()
            if matrix or key != "weight_decay"
        }
        group["top"] = group.get("lr", settings.lr)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], not key[1]))]


def _leave_the_compiler_out() -> None:
    """Lets the methods of torch's optimisers that its compiler leaves alone (torch/_compile.py) be
    called without it.

    Otherwise the first call of each imports the compiler to say so, which takes 1.7 s.  Once it is
    imported they are what torch makes of them.
    """
    for method in vars(torch.optim.Optimizer).values():
        plain, code = (
            getattr(method, "__wrapped__", None),
            getattr(method, "__code__", None),
        )
        own = code is not None and code.co_filename.endswith("_compile.py")
        if plain is not None and own and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = _alone(plain)


def _alone(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            plain.__dynamo_disable = torch._dynamo.disable(plain, wrapping=False)  # type: ignore[attr-defined]
            return plain.__dynamo_disable(*args, **options)  # type: ignore[attr-defined]
        return plain(*args, **options)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call


def level(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate as a share of its highest: linear warm-up, then half a cosine down to
    `lr_final`.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5.
    """
    rise = settings.warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    fall = (step - rise) / max(1.0, steps - rise)
    return settings.lr_final + (1 - settings.lr_final) * 0.5 * (
        1 + math.cos(math.pi * fall)
    )
