"""The optimiser by import path, its parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import nn

from tightbound.config import TrainSettings, is_torch_optimizer
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError, nearest
from tightbound.runtime.outside_code import import_class
from tightbound.training.optimization.fused_adam import call_without_compiler


def optimizer(
    model: VAE, settings: TrainSettings, *, trust: bool = True
) -> torch.optim.Optimizer:
    """Create the optimiser that `train.optimizer` names, fused where it can be.

    Weight decay holds for matrices, not for biases and scales.

    Args:
        trust: False for a config that was loaded; then only optimisers of torch are
            imported.

    Raises:
        TightboundError: where the optimiser cannot be imported, does not take the
            options, or is not trusted.
    """
    cls = _import(settings.optimizer, trust)
    takes = _parameters(cls, settings.optimizer)
    options: dict[str, object] = {"lr": settings.lr} | settings.optimizer_options
    if "fused" in takes:
        options.setdefault("fused", True)
    known = optimizer_groups(model)
    unknown = sorted(set(settings.groups) - set(known))
    if unknown:
        raise TightboundError(
            f"train.groups has no group {unknown[0]!r} in this model: "
            f"{nearest(unknown[0], known)}"
        )
    groups = _groups(model, settings, decays="weight_decay" in takes)
    call_without_compiler()
    try:
        chosen: torch.optim.Optimizer = cls(groups, **options)
        return chosen
    except (TypeError, ValueError, RuntimeError) as error:
        given = [options, *settings.groups.values()]
        raise TightboundError(
            f"optimiser {settings.optimizer} does not take {given}: {error}"
        ) from error


def _import(path: str, trust: bool) -> Any:
    if not trust and not is_torch_optimizer(path):
        raise TightboundError(
            f"optimiser {path!r} is code from outside tightbound, named in a file that "
            "you did not write now: read it, then go on with trust=True (on the command "
            "line: --trust)"
        )
    remedy = "name one as torch.optim.AdamW"
    cls = import_class(path, "train.optimizer =", remedy)
    if not issubclass(cls, torch.optim.Optimizer):
        raise TightboundError(f"train.optimizer = {path!r} is no optimiser: {remedy}")
    return cls


def _parameters(cls: Any, path: str) -> set[str]:
    try:
        return set(inspect.signature(cls).parameters)
    except (ValueError, TypeError) as error:
        raise _import_error(path, error) from error


def _import_error(path: str, error: Exception) -> TightboundError:
    return TightboundError(
        f"train.optimizer = {path!r} cannot be imported ({error}): "
        "name one as torch.optim.AdamW"
    )


def optimizer_groups(model: VAE) -> dict[str, list[nn.Parameter]]:
    """The groups that `train.groups` may name: those of the model, then parts of one.

    "generative" consists of "prior", that of the topmost latent, and "decoder", all else
    in it. A parameter in two groups follows the smaller one.
    """
    groups = model.groups()
    prior = list(model.hierarchy.top_prior.parameters())
    ids = {id(parameter) for parameter in prior}
    decoder = [p for p in groups["generative"] if id(p) not in ids]
    return {**groups, "prior": prior, "decoder": decoder}


def _groups(
    model: VAE, settings: TrainSettings, decays: bool
) -> list[dict[str, object]]:
    """The optimiser's groups: matrices and other parameters of each group of the model.

    Parameters of model groups without settings of their own in `train.groups` are
    joined. `top` is a group's highest learning rate; the schedule sets `lr` below it.
    """
    group_of = {
        id(parameter): name
        for name, parameters in optimizer_groups(model).items()
        if name in settings.groups
        for parameter in parameters
    }
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.dim() > 1 and name.endswith("weight")
        model_group = group_of.get(id(parameter), "")
        key = (model_group, is_matrix)
        if key not in groups:
            groups[key] = _new_group(settings, model_group, is_matrix, decays)
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=_matrices_first)]


def _new_group(
    settings: TrainSettings, model_group: str, is_matrix: bool, decays: bool
) -> dict[str, object]:
    group: dict[str, object] = {"params": []}
    if decays:
        group["weight_decay"] = settings.weight_decay if is_matrix else 0.0
    for name, value in settings.groups.get(model_group, {}).items():
        if is_matrix or name != "weight_decay":
            group[name] = value
    group["top"] = group.get("lr", settings.lr)
    return group


def _matrices_first(key: tuple[str, bool]) -> tuple[str, bool]:
    model_group, is_matrix = key
    return model_group, not is_matrix


def schedule_at(settings: TrainSettings, step: int) -> tuple[int, int]:
    """The learning-rate schedule that a step belongs to: its first step and its end.

    The first one has the steps that were planned for the run. Each extension of a finished
    run is one of its own, so that its learning rate rises and falls again (warm restarts,
    Loshchilov and Hutter 2017, arXiv:1608.03983).
    """
    first = 0
    for begun, planned in settings.extensions:
        if step < begun:
            return first, planned
        first = begun
    return first, int(settings.steps)


def cycle_at(settings: TrainSettings, step: int) -> tuple[int, int, int]:
    """The cycle of the learning rate that a step belongs to: number, first step, end.

    Numbers count from 1 in each schedule.
    """
    first, end = schedule_at(settings, step)
    begun = first
    for number in range(1, settings.cycles + 1):
        cycle_end = first + number * (end - first) // settings.cycles
        if step < cycle_end:
            return number, begun, cycle_end
        begun = cycle_end
    return settings.cycles, begun, end


def check_cycles(settings: TrainSettings) -> None:
    """Refuse cycles where their weights are not averaged, or that have no steps.

    Raises:
        TightboundError: With the setting to change.
    """
    cycles = settings.cycles
    if cycles == 1:
        return
    if not settings.ema:
        raise TightboundError(
            f"train.cycles = {cycles} averages weights that train.ema = 0 turns off: set "
            "train.ema above 0, or leave train.cycles out"
        )
    if settings.parallel == "fsdp2":
        raise TightboundError(
            f"train.cycles = {cycles} averages whole weights, which train.parallel = fsdp2 "
            "holds in shards: set train.parallel=ddp, or leave train.cycles out"
        )
    if settings.steps != "auto" and int(settings.steps) < cycles:
        raise TightboundError(
            f"train.cycles = {cycles} do not fit into train.steps = {settings.steps}: train "
            "for more steps, or set fewer cycles"
        )


def learning_rate_factor(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate as a share of its highest: linear warm-up, then half a cosine.

    The cosine falls to `lr_final`. Loshchilov and Hutter 2017 (arXiv:1608.03983), eq. 5.

    Args:
        step: Steps since the schedule began.
        steps: Steps of the schedule.
    """
    rise = settings.warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    fall = (step - rise) / max(1.0, steps - rise)
    cosine = 0.5 * (1 + math.cos(math.pi * fall))
    return settings.lr_final + (1 - settings.lr_final) * cosine
