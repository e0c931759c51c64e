"""The VAE as an `nn.Module`: an encoder, a hierarchy of latents and a likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.component import Hierarchy, Likelihood, ModelPart, Objective
from tightbound.core.data_spec import CONDITIONS, DataSpec
from tightbound.core.draw import Clock, Context, Draw, Features, folded, repeated
from tightbound.core.latent import Latent
from tightbound.core.trace import Trace
from tightbound.models.encoding import Encoding
from tightbound.runtime.errors import TightboundError

Losses = dict[str, Tensor]


class VAE(nn.Module):
    """p(x, z) = p(z) p(x|z) with an approximate posterior q(z|x).

    x is in model units (B, *spec.shape): `spec.to_model(raw)`. The encoder reads
    (x - mean) / spread, of logs where a column is not negative. Parameters of the generative half
    are theta, of the inference half phi
    (Kingma and Welling 2014, arXiv:1312.6114).

    Args:
        spec: Shape, domain and spread of the data.
        encoder: x (n, *shape) -> h (n, F), or features by scale.
        hierarchy: The latents, with prior, posterior and decoder.
        likelihood: p(x|z) of what the decoder gives.
        critic: The network that an adversarial objective trains beside the model, or None.
        condition_encoder: [h, c] -> features, of a conditional model.
        mask_input: Whether the encoder reads the mask of missing values as further channels.
        objective: What training minimises; needed for `losses`.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> trace = model(data.train.examples(4), k=5)
        >>> trace.log_w.shape
        torch.Size([5, 4])
        >>> model.decode(model.encode(data.train.examples(4)).mean).mean.shape
        torch.Size([4, 1, 8, 8])
    """

    def __init__(
        self,
        spec: DataSpec,
        encoder: nn.Module,
        hierarchy: Hierarchy,
        likelihood: Likelihood,
        *,
        critic: nn.Module | None = None,
        condition_encoder: nn.Module | None = None,
        mask_input: bool = False,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.hierarchy = hierarchy
        self.likelihood = likelihood
        self.critic = critic
        self.condition_encoder = condition_encoder
        self.mask_input = mask_input
        self.objective = objective
        self.register_buffer("centre", spec.centre)
        self.register_buffer("spread", spec.spread)
        self._one_sided = spec.one_sided
        if spec.condition is not None:
            examples = spec.condition.examples
            if examples is None:
                examples = torch.zeros(CONDITIONS, spec.condition.width)
            self.register_buffer("conditions", examples)
        #: The complete settings of a model made by `tb.build`, for `tb.save`.
        self.run_settings: object = None
        self._sums: dict[str, Tensor] | None = None

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the latent sites, the topmost first."""
        return self.hierarchy.sites

    @property
    def site_widths(self) -> Mapping[str, int]:
        """Number of features of each site, z1 (next to x) first: {"z": 16}."""
        return self.hierarchy.site_widths

    @property
    def classes(self) -> Mapping[str, int]:
        """Discrete sites that can be enumerated, and their numbers of classes."""
        return self.hierarchy.classes

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of the joined latents of one example: (d,)."""
        return (sum(self.site_widths.values()),)

    # ---- passes

    def features(self, batch: Tensor | Batch) -> Features:
        """The encoder's features of examples, with their condition.

        Args:
            batch: Examples in model units (B, *shape), or a Batch.

        Returns:
            h (B, F), (B, *grid, F), or a list of such by scale, the finest first.
        """
        batch = Batch.of(batch)
        h = self.encoder(self.inputs(batch))
        features: Features = h
        if self.condition_encoder is not None:
            both = torch.cat([h, self._condition(batch)], -1)
            features = self.condition_encoder(both)
        return features

    def inputs(self, batch: Batch) -> Tensor:
        """The encoder's input: x standardised, 0 where x is missing.

        Args:
            batch: Examples in model units (B, *shape).

        Returns:
            (B, *shape); with the mask beside it, along the first axis of the shape, where the
            network reads it.
        """
        mask = self._masked(batch).mask
        x = self._standardised(batch.x)
        if mask is None:
            return x
        x = torch.where(mask, x, torch.zeros_like(x))
        return torch.cat([x, mask.to(x)], 1) if self.mask_input else x

    def _standardised(self, x: Tensor) -> Tensor:
        """(x - mean) / spread; the same of log x in columns above 0, log(1 + x / mean) with zeros.

        A long tail would leave the other values of a column all but equal.
        """
        centre, spread = self.get_buffer("centre"), self.get_buffer("spread")
        units = (x - centre).div_(spread)
        if not self._one_sided:
            return units
        mean = centre.clamp(min=1e-6)
        variance = (1 + (spread / mean).square()).log()
        columns = list(units.unbind(1))
        for at, has_zeros in self._one_sided.items():
            ratio = x[:, at].clamp(min=0) / mean[at]
            if has_zeros:
                columns[at] = ratio.log1p()
            else:
                log_ratio = ratio.clamp(min=1e-12).log()
                columns[at] = (log_ratio + variance[at] / 2) / variance[at].sqrt()
        return torch.stack(columns, 1)

    def _masked(self, batch: Batch) -> Batch:
        """The batch with 0 for NaN, and its mask, of data with missing values."""
        if not self.spec.missing or batch.mask is not None:
            return batch
        mask = ~batch.x.isnan()
        x = torch.where(mask, batch.x, torch.zeros_like(batch.x))
        return replace(batch, x=x, mask=mask)

    def _condition(self, batch: Batch) -> Tensor:
        if batch.c is None:
            raise ValueError(
                "this model is conditional: give the condition c of each row, Batch(x, c)"
            )
        return batch.c

    def forward(
        self,
        batch: Tensor | Batch,
        draw: Draw | None = None,
        h: Features | None = None,
        *,
        k: int = 1,
    ) -> Trace:
        """Run one pass and record it.

        Args:
            batch: Examples in model units (B, *shape), or a Batch with what else is given of
                them: condition, label, row number, mask.
            draw: Where each latent's value comes from; k samples of q(z|x), discrete sites
                enumerated, where None.
            h: Features of the batch, where they are known already.
            k: Samples of each example, where `draw` is None.

        Returns:
            The trace, with log-terms (K, B) in nats.
        """
        if draw is None:
            draw = Draw(k, enumerate=True)
        batch = self._masked(Batch.of(batch))
        return self._pass(batch, draw, self._context(batch, draw, h))

    def visit(self, batch: Tensor | Batch, draw: Draw) -> dict[str, Latent]:
        """Fill the latents of examples without decoding.

        Args:
            batch: Examples in model units (B, *shape), or a Batch.
            draw: Where each latent's value comes from.

        Returns:
            The record of each site by name.
        """
        batch = self._masked(Batch.of(batch))
        self.hierarchy.visit(draw, self._context(batch, draw))
        return draw.latents

    def _context(self, batch: Batch, draw: Draw, h: Features | None = None) -> Context:
        """Start a draw, and give what the parts may read of its n = K*B rows."""
        infers = draw.begin(self.sites, self.classes)
        n = draw.k * len(batch)
        if not infers:
            h = None
        elif h is None:
            h = self.features(batch)
        if h is not None:
            h = repeated(h, draw.k)
        c = None
        if self.condition_encoder is not None:
            c = self._condition(batch).repeat(draw.k, 1)
        index = batch.index
        if index is not None and draw.k > 1:
            index = index.repeat(draw.k)
        return Context(n, h, index, c, lambda at: self.joint(batch, at))

    def generate(self, n: int, draw: Draw, c: Tensor | None = None) -> Trace:
        """Run a pass without x: z from p, or given; its `px` is p(x|z) of n rows.

        The log-terms of such a trace have no meaning.

        Args:
            n: Number of rows.
            draw: Where the latents come from.
            c: Condition of each row (n, C) of a conditional model; conditions of training
                examples in turn where None.
        """
        draw.begin(self.sites)
        if c is None and self.condition_encoder is not None:
            c = self.get_buffer("conditions")[torch.arange(n) % CONDITIONS]
        empty = self.get_buffer("centre").new_empty(0, *self.spec.shape)
        return self._pass(Batch(empty), draw, Context(n, c=c))

    def _pass(self, batch: Batch, draw: Draw, ctx: Context) -> Trace:
        y = self.hierarchy(draw, ctx)
        return Trace(self, batch, draw, y, self.likelihood(y, ctx, None), ctx.c)

    def joint(self, batch: Batch, at: Mapping[str, Tensor]) -> Tensor:
        """log p(x, z) in nats at given latents; a discrete site that is not given is summed over.

        Args:
            batch: B examples.
            at: {site: (n, d)} for n / B samples of each example, K-major.

        Returns:
            log p(x, z), (n,). The encoder does not run.
        """
        if missing := set(self.sites) - set(at) - set(self.classes):
            raise ValueError(
                "log p(x, z) needs a value of every latent, and "
                f"{sorted(missing)[0]!r} is not given"
            )
        k = len(next(iter(at.values()))) // len(batch)
        summed = [count for name, count in self.classes.items() if name not in at]
        fold = math.prod(summed)  # of a list: the compiler takes no generator
        given = {name: folded(z, k, fold) for name, z in at.items()}
        trace = self(batch, Draw(k, source="p", given=given, enumerate=True))
        total: Tensor = trace.log_px + sum(
            site.log_p for name, site in trace.latents.items() if name in at
        )
        log_joint: Tensor = trace.log_sum_over_classes(total).flatten()
        return log_joint

    # ---- encode and decode

    def encode(self, x: Tensor | Batch, condition: Tensor | None = None) -> Encoding:
        """q(z|x) of examples, with gradients; the decoder does not run.

        Args:
            x: Examples in model units (B, *shape), or a Batch.
            condition: c of each row (B, C) of a conditional model.

        Returns:
            The posterior of each site; `.mean` (B, d) is the code of each example.
        """
        batch = Batch.of(x)
        if condition is not None:
            batch = replace(batch, c=condition)
        return Encoding(self, batch, self.visit(batch, Draw(source="point")))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Distribution:
        """p(x|z) in model units, with gradients.

        Args:
            z: Latents of all sites side by side, (n, d), in the order of `site_widths`.
            condition: c of each row (n, C) of a conditional model.

        Returns:
            A distribution over (*shape), n rows.

        Raises:
            TightboundError: Where z has another width.
        """
        widths = list(self.site_widths.values())
        if z.dim() != 2 or z.shape[1] != sum(widths):
            raise TightboundError(
                f"z has shape {tuple(z.shape)}, but this model wants (n, {sum(widths)})"
            )
        given = dict(zip(self.site_widths, z.split(widths, -1), strict=True))
        return self.generate(len(z), Draw(source="p", given=given), condition).px

    # ---- training

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by group.

        Returns:
            "inference" (phi), "generative" (theta) and, if any, "critic", each a list.
        """
        modules: list[Any] = [self.encoder, *self.hierarchy.inference_modules()]
        if self.condition_encoder is not None:
            modules.insert(1, self.condition_encoder)
        inference = [p for module in modules for p in module.parameters()]
        critic: dict[str, list[nn.Parameter]] = {}
        if self.critic is not None:
            critic["critic"] = list(self.critic.parameters())
        ids = {id(p) for group in (inference, *critic.values()) for p in group}
        generative = [p for p in self.parameters() if id(p) not in ids]
        return {"inference": inference, "generative": generative, **critic}

    def losses(self, trace: Trace, progress: float | Tensor = 1.0) -> Losses:
        """The losses of a pass, by group of parameters; "all" where one loss moves all.

        Args:
            trace: A pass over training examples, `model(batch, k=...)`.
            progress: Share of all training steps that is done, 0 to 1.

        Raises:
            TightboundError: Where the batch lacks labels or row numbers that training needs.
        """
        if self.objective is None:
            raise TightboundError("this model has no objective: make it with tb.build")
        self._check_batch(trace.batch)
        loss = self.objective(trace, Clock(progress))
        return loss if isinstance(loss, dict) else {"all": loss}

    def _check_batch(self, batch: Batch) -> None:
        assert self.objective is not None
        if self.objective.learns_from_labels and batch.y is None:
            raise TightboundError(
                "this objective learns from labels: give a Batch with y, -1 where unknown"
            )
        if self.hierarchy.top_prior.needs_row_numbers and batch.index is None:
            raise TightboundError(
                "this prior leaves out each example's own row: give a Batch with index"
            )

    def loss(self, trace: Trace, progress: float | Tensor = 1.0) -> Tensor:
        """The loss of a pass in nats per example, of an objective with a single one.

        Raises:
            TightboundError: For an objective with a loss for each group of parameters.
        """
        losses = self.losses(trace, progress)
        if set(losses) != {"all"}:
            raise TightboundError(
                f"this objective has a loss for each of {', '.join(losses)}: use model.losses, "
                "or model.backward, which gives each group its own gradient"
            )
        return losses["all"]

    def backward(
        self, trace: Trace, progress: float | Tensor = 1.0
    ) -> dict[str, Tensor]:
        """Add the gradients of a pass to `.grad`: each group gets that of its own loss.

        Statistics for `after_step` (codebooks, optimal scales) are taken from the trace.

        Returns:
            The losses, detached.
        """
        losses = self.losses(trace, progress)
        groups = self.groups()
        last = len(losses) - 1
        for i, (name, loss) in enumerate(losses.items()):
            parameters = list(self.parameters()) if name == "all" else groups[name]
            trained = [p for p in parameters if p.requires_grad]
            loss.backward(inputs=trained, retain_graph=i < last)
        with torch.no_grad():
            self._sums = {
                name: value
                for part in self.statistics_keepers()
                for name, value in part.statistics(trace).items()
            }
        return {name: loss.detach() for name, loss in losses.items()}

    def after_step(self) -> None:
        """Update codebooks, optimal scales and the like after an optimiser's step.

        Does nothing where `backward` was not called since the last time.

        Example:
            >>> import torch, tightbound as tb
            >>> model, data = tb.build("vq-vae", "digits", latent=8, seed=0)
            >>> optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
            >>> losses = model.backward(model(data.train.examples(16)))
            >>> optimiser.step()
            >>> model.after_step()
        """
        if self._sums is None:
            return
        with torch.no_grad():
            for part in self.statistics_keepers():
                part.after_step(self._sums)
        self._sums = None

    def statistics_keepers(self) -> list[ModelPart]:
        """The modules that keep running statistics of training.

        Returns:
            Modules with `keeps_statistics`, in the order of `modules()`.
        """
        return [
            m for m in self.modules() if isinstance(m, ModelPart) and m.keeps_statistics
        ]
