"""The optimiser's step, with a direct call of torch's fused Adam kernels.

This is the one file that relies on internals of torch's optimisers. They are used only
for the versions of torch in `TESTED` (see `internals_are_known`); otherwise every step
is `optimizer.step()`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TESTED = ((2, 9), (2, 14))  # versions from the first on, before the second
MOMENTS = ("exp_avg", "exp_avg_sq")


def internals_are_known() -> bool:
    """True where this torch has the internals that this file relies on."""
    major, minor = torch.__version__.split(".")[:2]
    first, end = TESTED
    known_version = first <= (int(major), int(minor)) < end
    return known_version and all(
        hasattr(torch, name) for name in ("_fused_adam_", "_fused_adamw_")
    )


def in_layout_of(parameter: Tensor, x: Tensor) -> Tensor:
    """A gradient or moment in its parameter's memory layout, which the kernels assume."""
    if x.stride() == parameter.stride():
        return x
    return torch.empty_like(parameter).copy_(x)


class OptimizerStep:
    """Takes an optimiser's step where a gradient check passed, by `optimizer.step()`.

    The check's result is read on the host before each step.
    """

    def __init__(self, opt: torch.optim.Optimizer) -> None:
        self.opt = opt
        parameters = [p for group in opt.param_groups for p in group["params"]]
        self.strided = [p for p in parameters if not p.is_contiguous()]

    def __call__(self, factor: float, ok: Tensor, divisor: Tensor | None) -> None:
        """Step at a share of the highest learning rates, where `ok`.

        Args:
            factor: learning rates as a share of each group's `top`.
            ok: scalar, whether to step at all.
            divisor: scalar that divides the gradients, or None.
        """
        for group in self.opt.param_groups:
            group["lr"] = factor * group["top"]
        for parameter in self.strided:
            if parameter.grad is not None:
                parameter.grad = in_layout_of(parameter, parameter.grad)
        self._step_if(ok, divisor)

    def reset(self) -> None:
        """Follow an optimiser state that was replaced."""

    def _step_if(self, ok: Tensor, divisor: Tensor | None) -> None:
        if not ok.numpy(force=True):
            return
        if divisor is not None and divisor.numpy(force=True) > 1:
            torch._foreach_div_(self._gradients(), divisor)
        self._step()

    def _gradients(self) -> list[Tensor]:
        return [
            p.grad
            for group in self.opt.param_groups
            for p in group["params"]
            if p.grad is not None
        ]

    def _step(self) -> None:
        self.opt.step()


class FusedStep(OptimizerStep):
    """The step of an optimiser of torch with `fused=True`.

    On an accelerator the kernel itself reads the check's result and divides the
    gradients, so that the host does not wait. On the CPU the base class does both.
    """

    def _step_if(self, ok: Tensor, divisor: Tensor | None) -> None:
        if ok.device.type == "cpu":
            super()._step_if(ok, divisor)
        else:
            self._step(divisor, (~ok).float())

    def _step(self, divisor: Tensor | None = None, bad: Tensor | None = None) -> None:
        opt: Any = self.opt
        opt.grad_scale = divisor
        opt.found_inf = bad
        opt.step()


@dataclass(frozen=True)
class KernelGroup:
    """The kernel's arguments for one parameter group.

    The step counts of the parameters are views of `counts`.
    """

    group: dict[str, Any]
    parameters: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    counts: Tensor

    def gradients(self) -> list[Tensor | None]:
        """The gradients of the parameters, None where there is none."""
        return [parameter.grad for parameter in self.parameters]


class FusedAdamStep(FusedStep):
    """The step of fused Adam and AdamW by a direct call of their kernel.

    `optimizer.step()` takes half as long again to find the kernel's arguments, and
    imports the compiler. The state stays in the optimiser. A step in which a parameter
    has no gradient is taken by `optimizer.step()`.
    """

    def __init__(self, opt: torch.optim.Optimizer, kernel: Callable[..., None]) -> None:
        super().__init__(opt)
        self.kernel = kernel
        self.groups: list[KernelGroup] = []

    def reset(self) -> None:
        """Read the optimiser's state anew at the next step."""
        self.groups = []

    def _step(self, divisor: Tensor | None = None, bad: Tensor | None = None) -> None:
        if not self.groups:
            self.groups = self._kernel_groups()
        grads = [kernel_group.gradients() for kernel_group in self.groups]
        if not grads or any(grad is None for group in grads for grad in group):
            super()._step(divisor, bad)
            return
        for kernel_group, gradients in zip(self.groups, grads, strict=True):
            group = kernel_group.group
            kernel_group.counts.add_(1)
            self.kernel(
                kernel_group.parameters,
                gradients,
                kernel_group.means,
                kernel_group.squares,
                [],
                kernel_group.steps,
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
                kernel_group.counts.sub_(bad)

    def _kernel_groups(self) -> list[KernelGroup]:
        """The kernel's arguments by group; none where a parameter has no gradient."""
        groups = self.opt.param_groups
        if any(p.grad is None for group in groups for p in group["params"]):
            return []
        return [self._kernel_group(group) for group in groups]

    def _kernel_group(self, group: dict[str, Any]) -> KernelGroup:
        parameters: list[Tensor] = group["params"]
        states = [self._state(parameter) for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            for name in MOMENTS:
                state[name] = in_layout_of(parameter, state[name])
        counts = torch.stack([state["step"] for state in states])
        steps = list(counts.unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        return KernelGroup(group, parameters, means, squares, steps, counts)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        """A parameter's state; before the first step, as `optimizer.step()` makes it."""
        state: dict[str, Any] = self.opt.state[parameter]
        if not state:
            state["step"] = torch.zeros(
                (), dtype=torch.float32, device=parameter.device
            )
            for name in MOMENTS:
                state[name] = torch.zeros_like(
                    parameter, memory_format=torch.preserve_format
                )
        return state


def optimizer_step(opt: torch.optim.Optimizer) -> OptimizerStep:
    """The fastest way to take an optimiser's steps with this version of torch."""
    groups = opt.param_groups
    if not internals_are_known() or not all(group.get("fused") for group in groups):
        return OptimizerStep(opt)
    kernel = _kernel(opt)
    if kernel is None:
        return FusedStep(opt)
    return FusedAdamStep(opt, kernel)


def _kernel(opt: torch.optim.Optimizer) -> Callable[..., None] | None:
    """The fused kernel of plain Adam or AdamW; None for their variants and all others."""
    variants = ["amsgrad", "differentiable"]
    if type(opt) is torch.optim.Adam:
        variants.append("decoupled_weight_decay")
    if any(group.get(name) for group in opt.param_groups for name in variants):
        return None
    if type(opt) is torch.optim.Adam:
        return torch._fused_adam_
    if type(opt) is torch.optim.AdamW:
        return torch._fused_adamw_
    return None


def call_without_compiler() -> None:
    """Let methods of torch's optimisers run without importing the compiler.

    torch/_compile.py wraps some of them to exclude them from compilation, and the first
    call of each would import the compiler for that, which takes 1.7 s. Once the
    compiler is imported, the wrappers do what torch made them for.
    """
    if not internals_are_known():
        return
    for method in vars(torch.optim.Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        code = getattr(method, "__code__", None)
        if plain is None or code is None:
            continue
        wrapped_by_compile = code.co_filename.endswith("_compile.py")
        if wrapped_by_compile and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = _uncompiled(plain)


def _uncompiled(plain: Any) -> Callable[..., object]:
    def call(*args: object, **options: object) -> object:
        if "torch._dynamo" in sys.modules:
            plain.__dynamo_disable = torch._dynamo.disable(plain, wrapping=False)
            return plain.__dynamo_disable(*args, **options)
        return plain(*args, **options)

    marked: Any = call
    marked._torchdynamo_disable = True
    return call
