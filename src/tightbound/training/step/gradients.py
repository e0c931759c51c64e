"""Gradients of one loss over all parameters, or of one loss per parameter group."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tightbound.training.step.module import Step

Losses = Mapping[str, Tensor]


class Gradients:
    """The gradients of a step's losses: {"all": loss} or {group: loss}.

    Groups are those of `model.groups()`. The parameters of a group get the gradient of
    that group's loss and of no other (adversarial training, DReG).
    """

    def __init__(self, step: Step) -> None:
        self.groups = step.model.groups()
        self.parameters = [p for p in step.parameters() if p.requires_grad]

    def _pairs(self, losses: Losses) -> list[tuple[Tensor, list[nn.Parameter]]]:
        """Each loss with the parameters that it trains."""
        if set(losses) == {"all"}:
            return [(losses["all"], self.parameters)]
        unknown = sorted(set(losses) - set(self.groups))
        if unknown:
            raise ValueError(
                f"a loss is named {unknown[0]!r}, but the groups are {sorted(self.groups)}"
            )
        pairs = []
        for name, loss in losses.items():
            trained = [p for p in self.groups[name] if p.requires_grad]
            pairs.append((loss, trained))
        return pairs

    def backward(self, losses: Losses) -> None:
        """Put the gradients into `.grad`, None where no loss depends on a parameter."""
        for parameter in self.parameters:
            parameter.grad = None
        pairs = self._pairs(losses)
        for i, (loss, parameters) in enumerate(pairs):
            loss.backward(inputs=parameters, retain_graph=i + 1 < len(pairs))

    def values(self) -> list[Tensor]:
        """The gradients, without those that are None."""
        return [p.grad for p in self.parameters if p.grad is not None]

    def of(self, losses: Losses) -> list[Tensor | None]:
        """Return the gradients of `parameters`, for a pass that is compiled whole."""
        by_parameter: dict[nn.Parameter, Tensor | None] = {}
        pairs = self._pairs(losses)
        for i, (loss, parameters) in enumerate(pairs):
            grads = torch.autograd.grad(
                loss, parameters, retain_graph=i + 1 < len(pairs), allow_unused=True
            )
            by_parameter.update(zip(parameters, grads, strict=True))
        return [by_parameter.get(parameter) for parameter in self.parameters]
