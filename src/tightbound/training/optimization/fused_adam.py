"""The optimiser's step: where the gradients are healthy, at the schedule's rate, by the shortest
way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KERNELS: dict[type, Any] = {
    torch.optim.Adam: torch._fused_adam_,
    torch.optim.AdamW: torch._fused_adamw_,
}
STATE = ("exp_avg", "exp_avg_sq", "step")
Held = tuple[dict[str, Any], list[list[Tensor]], Tensor]


def as_laid(x: Any, parameter: Tensor) -> Any:
    """A gradient or a moment in its parameter's memory layout, which is all that the kernels can
    read.
    """
    if x is None or x.stride() == parameter.stride():
        return x
    return torch.empty_like(parameter).copy_(x)


def _begun(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    """The state before the first step, as torch's own `step` makes it."""
    state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
    for name in STATE[:2]:
        state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state


class Updates:
    """Takes the steps of an optimiser.

    The fused kernels of Adam and AdamW are called straight: torch's own `step` spends half as long
    again on finding their arguments, and imports the compiler.  The state stays in the optimiser.
    Any other takes its own `step`.
    """

    def __init__(self, opt: torch.optim.Optimizer) -> None:
        self.opt, groups = opt, opt.param_groups
        self.fused = all(group.get("fused") for group in groups)
        odd = (
            "amsgrad",
            "differentiable",
            *(("decoupled_weight_decay",) if type(opt) is torch.optim.Adam else ()),
        )
        plain = not any(group.get(name) for group in groups for name in odd)
        self.kernel = KERNELS.get(type(opt)) if self.fused and plain else None
        self.held: list[Held] = []
        self.laid = [
            p for group in groups for p in group["params"] if not p.is_contiguous()
        ]

    def __call__(self, level: float, ok: Tensor, divisor: Tensor | None) -> None:
        """A step at a share of the highest learning rates, with the gradients divided, where `ok`.

        On an accelerator a fused optimiser decides by itself, since asking it would make every step
        wait; on the CPU there is nothing to wait for, and nothing is written that need not be.
        """
        for group in self.opt.param_groups:
            group["lr"] = level * group["top"]
        for p in self.laid:
            p.grad = as_laid(p.grad, p)
        if self.fused and ok.device.type != "cpu":
            self._step(divisor, (~ok).float())
        elif ok.numpy(force=True):
            if divisor is not None and divisor.numpy(force=True) > 1:
                grads = [
                    p.grad
                    for group in self.opt.param_groups
                    for p in group["params"]
                    if p.grad is not None
                ]
                torch._foreach_div_(grads, divisor)
            self._step(None, None)

    def reset(self) -> None:
        """Forgets the optimiser's state, which was replaced."""
        self.held = []

    def _step(self, divisor: Tensor | None, bad: Tensor | None) -> None:
        if self.kernel is not None and not self.held:
            self.held = self._hold()
        grads = [[p.grad for p in parameters] for _, (parameters, *_), _ in self.held]
        if (
            self.kernel is None
            or not grads
            or any(g is None for some in grads for g in some)
        ):
            if self.fused:
                self.opt.grad_scale, self.opt.found_inf = divisor, bad  # type: ignore[attr-defined]
            self.opt.step()
            return
        for (group, (parameters, means, squares, steps), count), some in zip(
            self.held, grads, strict=True
        ):
            count.add_(1)
            self.kernel(
                parameters,
                some,
                means,
                squares,
                [],
                steps,
                grad_scale=divisor,
                found_inf=bad,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                amsgrad=False,
                maximize=group["maximize"],
            )
            if bad is not None:
                count.sub_(bad)

    def _hold(self) -> list[Held]:
        """The kernel's arguments, a group at a time, its step counts as one; none where a parameter
        has no gradient.
        """
        state, groups = self.opt.state, self.opt.param_groups
        if any(p.grad is None for group in groups for p in group["params"]):
            return []
        held = []
        for group in groups:
            own = [
                state[p] if p in state else _begun(state[p], p) for p in group["params"]
            ]
            for p, some in zip(group["params"], own, strict=True):
                some |= {name: as_laid(some[name], p) for name in STATE[:2]}
            count = torch.stack([some["step"] for some in own])
            for some, step in zip(own, count.unbind(), strict=True):
                some["step"] = step
            held.append(
                (
                    group,
                    [
                        group["params"],
                        *([some[name] for some in own] for name in STATE),
                    ],
                    count,
                )
            )
        return held
