"""The VAE: an encoder, a path through the latents and a likelihood; one pass gives a Trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.core.data_spec import CONDITIONS, DataSpec
from tightbound.core.trace import (
    Batch,
    Clock,
    Context,
    Draw,
    Features,
    Trace,
    folded,
    repeated,
)

Objective = Callable[[Trace, Clock], Tensor | dict[str, Tensor]]


class VAE(nn.Module):
    """p(x, z) = p(z) p(x|z) with q(z|x) beside it, as a plain module: `trace = model(Batch(x),
    Draw(k=5))`.

    x is in domain units (B, *spec.shape); the encoder sees (x - mean) / spread.  Parameters of the
    generative half are theta, of the inference half phi (Kingma and Welling 2014).  critic: what an
    adversarial objective trains beside them, of no use to the finished model.  widths: of the
    sites, from the bottom up, where `build` made the model. told: of a conditional model, [h, c] to
    features. hint: the encoder sees the mask of missing values as further channels.
    """

    widths: Mapping[str, int] = {}

    @property
    def classes(self) -> Mapping[str, int]:
        """The discrete site that can be enumerated and how many classes it has, where there
        is one.
        """
        return getattr(self.path, "classes", {})

    def __init__(
        self,
        spec: DataSpec,
        encoder: nn.Module,
        path: nn.Module,
        likelihood: nn.Module,
        critic: nn.Module | None = None,
        told: nn.Module | None = None,
        hint: bool = False,
    ) -> None:
        super().__init__()
        self.spec, self.encoder, self.path, self.likelihood = (
            spec,
            encoder,
            path,
            likelihood,
        )
        self.critic, self.told, self.hint = critic, told, hint
        self.sites: tuple[str, ...] = path.sites  # type: ignore[assignment]
        self.register_buffer("centre", spec.centre)
        self.register_buffer("spread", spec.spread)
        if spec.condition is not None:
            known = spec.condition.examples
            self.register_buffer(
                "conditions",
                torch.zeros(CONDITIONS, spec.condition.width)
                if known is None
                else known,
            )

    def features(self, batch: Tensor | Batch) -> Features:
        """The encoder's features h of examples, as `Context` has them; of a conditional model, told
        c by `told`.
        """
        batch = Batch.of(batch)
        h = self.encoder(self.inputs(batch))
        return (
            h
            if self.told is None
            else self.told(torch.cat([h, self._need(batch.c)], -1))
        )

    def inputs(self, batch: Batch) -> Tensor:
        """What the encoder sees: (x - centre) / spread, 0 where x is missing, and with `hint` the
        mask.
        """
        mask = self._masked(batch).mask
        x = (batch.x - self.get_buffer("centre")) / self.get_buffer("spread")
        x = x if mask is None else torch.where(mask, x, torch.zeros_like(x))
        return torch.cat([x, mask.to(x)], 1) if self.hint and mask is not None else x

    def _masked(self, batch: Batch) -> Batch:
        """The batch with 0 for NaN and a mask that says where, of data with missing values."""
        if not self.spec.missing or batch.mask is not None:
            return batch
        mask = ~batch.x.isnan()
        return replace(
            batch, x=torch.where(mask, batch.x, torch.zeros_like(batch.x)), mask=mask
        )

    def _need(self, c: Tensor | None) -> Tensor:
        if c is None:
            raise ValueError(
                "this model is conditional: give the condition c of each row, Batch(x, c)"
            )
        return c

    def forward(self, batch: Batch, draw: Draw, h: Features | None = None) -> Trace:
        """One pass; h: the features of the batch where they are known, so that the encoder need not
        run again.
        """
        infers, batch = draw.begin(self.sites, self.classes), self._masked(batch)
        n = draw.k * len(batch)
        if not infers:
            h = None
        elif h is None:
            h = self.features(batch)
        if h is not None:
            h = repeated(h, draw.k)
        c = None if self.told is None else self._need(batch.c).repeat(draw.k, 1)
        index = (
            batch.index
            if batch.index is None or draw.k == 1
            else batch.index.repeat(draw.k)
        )
        return self._pass(
            batch, draw, Context(n, h, index, c, lambda at: self.joint(batch, at))
        )

    def generate(self, n: int, draw: Draw, c: Tensor | None = None) -> Trace:
        """A pass with no x: z from p, or given; the trace's `px` is p(x|z) of n rows, its log-terms
        have no meaning.

        c: the condition of each row of a conditional model; those of the training data in turn
        where None.
        """
        draw.begin(self.sites)
        if c is None and self.told is not None:
            c = self.get_buffer("conditions")[torch.arange(n) % CONDITIONS]
        empty = self.get_buffer("centre").new_empty(0, *self.spec.shape)
        return self._pass(Batch(empty), draw, Context(n, c=c))

    def _pass(self, batch: Batch, draw: Draw, ctx: Context) -> Trace:
        y = self.path(draw, ctx)
        return Trace(self, batch, draw, y, self.likelihood(y, ctx, None), ctx.c)

    def joint(self, batch: Batch, at: Mapping[str, Tensor]) -> Tensor:
        """log p(x, z) in nats at given latents {site: (n, d)}, (n,), for n / B samples of each
        example, K-major.

        The encoder never runs.  A discrete site that is not given is summed over.
        """
        if missing := set(self.sites) - set(at) - set(self.classes):
            raise ValueError(
                "log p(x, z) needs a value of every latent, and "
                f"{sorted(missing)[0]!r} is not given"
            )
        k = len(next(iter(at.values()))) // len(batch)
        fold = math.prod(
            [count for name, count in self.classes.items() if name not in at]
        )
        given = {name: folded(z, k, fold) for name, z in at.items()}
        trace = self(batch, Draw(k, source="p", given=given, enumerate=True))
        total: Tensor = trace.log_px + sum(
            site.log_p for name, site in trace.latents.items() if name in at
        )
        return trace.summed(total).flatten()

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters, parted: {"inference": phi, "generative": theta} and, where there is one,
        "critic".
        """
        told = [] if self.told is None else [self.told]
        modules: list[Any] = [self.encoder, *told, *self.path.inference()]  # type: ignore[operator]
        inner = [p for m in modules for p in m.parameters()]
        own = {} if self.critic is None else {"critic": list(self.critic.parameters())}
        ids = {id(p) for group in (inner, *own.values()) for p in group}
        return {
            "inference": inner,
            "generative": [p for p in self.parameters() if id(p) not in ids],
            **own,
        }
