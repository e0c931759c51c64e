"""The graphs of a model as modules of tensors: encoder, decoder, prior, codebook."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.likelihoods.dependence import Dependence
from tightbound.components.likelihoods.product import Chain
from tightbound.core.batch import Batch
from tightbound.core.component import Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.latent import Latent
from tightbound.distributions import (
    Blend,
    Codebook,
    Flow,
    Mixture,
    VonMisesFisher,
    noise_form,
    point,
)
from tightbound.exporting.families import Tensors, parameters
from tightbound.exporting.flow_maps import replace_flows
from tightbound.models.vae import VAE


class Graph(nn.Module):
    """Base class of graphs: tensors in raw units to named tensors.

    `forward` returns the tensors of `outputs` in their order.
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def outputs(self, *inputs: Tensor) -> Tensors:
        """The outputs by name."""
        raise NotImplementedError(f"{type(self).__name__} must define outputs")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # a copy of each, since outputs of a file that are one tensor would have one name
        return tuple(value.clone() for value in self.outputs(*inputs).values())

    def condition(self, rows: Sequence[Tensor]) -> Tensor | None:
        """c of raw conditions: class numbers (n,), or raw numbers (n, width)."""
        condition = self.model.spec.condition
        if condition is None:
            return None
        return condition.encode(rows[0])

    def joined(self, latents: Mapping[str, Latent]) -> Tensor:
        """The values of all sites side by side (n, d), z1 (next to x) first."""
        return torch.cat([latents[name].z for name in self.model.site_widths], -1)

    def given(self, z: Tensor) -> dict[str, Tensor]:
        """The value of each site of latents side by side (n, d)."""
        widths = self.model.site_widths
        pieces = z.split(list(widths.values()), -1)
        return dict(zip(widths, pieces, strict=True))

    def generated(
        self, z: Tensor, condition: Sequence[Tensor]
    ) -> tuple[Mapping[str, Latent], Distribution]:
        """The record of a pass from given latents, and p(x|z)."""
        # no noise: a site that is not given, as that of a second stage, takes its centre
        draw = Draw(source="p", given=self.given(z), noise=_no_noise)
        trace = self.model.generate(z.shape[0], draw, self.condition(condition))
        return trace.latents, trace.px


def _no_noise(name: str, dist: Distribution) -> Tensor:
    form = noise_form(dist)
    return torch.zeros(form.rows, *form.event, dtype=form.dtype, device=form.device)


class EncoderGraph(Graph):
    """x in raw units -> codes, and the parameters of q of each site."""

    def inferred(self, *inputs: Tensor) -> Mapping[str, Latent]:
        """The record of each site, at the posterior means."""
        x, *condition = inputs
        batch = Batch(self.model.spec.to_model(x), self.condition(condition))
        return self.model.visit(batch, Draw(source="point"))

    def outputs(self, *inputs: Tensor) -> Tensors:
        latents = self.inferred(*inputs)
        values = {"codes": self.joined(latents)}
        for name in self.model.site_widths:
            q = latents[name].q
            assert q is not None
            values.update(parameters(q, f"q.{name}"))
        return values


class PosteriorGraph(Graph):
    """x in raw units and z of all sites -> the parameters of q of each site given the others."""

    def outputs(self, *inputs: Tensor) -> Tensors:
        x, z, *condition = inputs
        batch = Batch(self.model.spec.to_model(x), self.condition(condition))
        latents = self.model.visit(batch, Draw(given=self.given(z)))
        values: Tensors = {}
        for name in self.model.site_widths:
            q = latents[name].q
            assert q is not None
            values.update(parameters(q, f"q.{name}"))
        return values


class PosteriorSampleGraph(Graph):
    """x in raw units and noise of each site -> z, a draw from q(z|x), and log q(z|x)."""

    def __init__(self, model: VAE, names: Sequence[str]) -> None:
        super().__init__(model)
        self.names = list(names)

    def outputs(self, *inputs: Tensor) -> Tensors:
        count = len(self.names)
        x, *more = inputs
        noise = dict(zip(self.names, more[:count], strict=True))
        batch = Batch(self.model.spec.to_model(x), self.condition(more[count:]))
        draw = Draw(noise=lambda name, dist: noise[name])
        latents = self.model.visit(batch, draw)
        log_q = [latents[name].log_q[0] for name in self.names]
        return {"z": self.joined(latents), "log_q": torch.stack(log_q).sum(0)}


class DecoderGraph(Graph):
    """z of all sites -> E[x|z] in raw units, and the parameters of p(x|z) in model units.

    With the parameters of p of each site that depends on the sites above.
    """

    def __init__(self, model: VAE, dependent: Sequence[str]) -> None:
        super().__init__(model)
        self.dependent = list(dependent)

    def outputs(self, *inputs: Tensor) -> Tensors:
        z, *condition = inputs
        latents, px = self.generated(z, condition)
        values = self.mean(px)
        values.update(parameters(px, "px"))
        for name in self.dependent:
            p = latents[name].p
            assert p is not None
            values.update(parameters(p, f"p.{name}"))
        return values

    def mean(self, px: Distribution) -> Tensors:
        """E[x|z] in raw units by its name."""
        return {"mean": self.model.spec.to_raw(point(px))}


class LikelihoodGraph(Graph):
    """Rows x in raw units and z -> the parameters of p(x|z) given the categories of x."""

    def outputs(self, *inputs: Tensor) -> Tensors:
        x, z, *condition = inputs
        _, px = self.generated(z, condition)
        assert isinstance(px, Chain)
        return parameters(px.given(self.model.spec.to_model(x)), "px")


class PriorGraph(Graph):
    """z of all sites -> log p(z), and that of each site given those above."""

    def outputs(self, *inputs: Tensor) -> Tensors:
        z, *condition = inputs
        latents, _ = self.generated(z, condition)
        each = {}
        for name in self.model.sites:
            each[f"log_p.{name}"] = latents[name].log_p[0]
        total = torch.stack(list(each.values())).sum(0)
        if len(each) == 1:
            return {"log_p": total}
        return {"log_p": total, **each}


class PriorSampleGraph(Graph):
    """Noise of each site -> z of all sites, a draw from p(z)."""

    def __init__(self, model: VAE, names: Sequence[str]) -> None:
        super().__init__(model)
        self.names = list(names)

    def outputs(self, *inputs: Tensor) -> Tensors:
        count = len(self.names)
        noise = dict(zip(self.names, inputs[:count], strict=True))
        draw = Draw(source="p", noise=lambda name, dist: noise[name])
        c = self.condition(inputs[count:])
        trace = self.model.generate(inputs[0].shape[0], draw, c)
        return {"z": self.joined(trace.latents)}


class CodebookGraph(Graph):
    """Entry number of each code (n, codes) -> z, the vectors of the entries."""

    def __init__(self, model: VAE, codebook: Codebook) -> None:
        super().__init__(model)
        self.codebook = codebook

    def outputs(self, *inputs: Tensor) -> Tensors:
        return {"z": self.codebook.vectors(inputs[0])}


class FixedMixture(Prior):
    """A mixture of diagonal normals with given components."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.register_buffer("loc", mixture.loc.clone())
        self.register_buffer("scale", mixture.scale.clone())
        self.register_buffer("log_weight", mixture.log_weight.clone())

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        loc, scale = self.get_buffer("loc"), self.get_buffer("scale")
        return Mixture(loc, scale, self.get_buffer("log_weight"), ctx.n)


class MappedMixture(FixedMixture):
    """Maps of a flow over a mixture of diagonal normals with given components."""

    def __init__(self, mixture: Mixture, maps: nn.Module) -> None:
        super().__init__(mixture)
        self.maps = maps

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        mixture = super().forward(ctx, draw, state)
        maps = self.maps(None)
        return Flow(mixture, maps.inv.call_and_ladj, maps.call_and_ladj)


class KnownNorm(VonMisesFisher):
    """A von Mises-Fisher distribution whose normalising constant is given."""

    def __init__(self, loc: Tensor, concentration: Tensor, log_norm: Tensor) -> None:
        self.given_log_norm = log_norm
        super().__init__(loc, concentration)

    @property
    def log_norm(self) -> Tensor:
        return self.given_log_norm


class FixedSphereMixture(Prior):
    """A mixture of von Mises-Fisher distributions with given components."""

    def __init__(self, parts: VonMisesFisher, log_weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", parts.loc.clone())
        self.register_buffer("kappa", parts.concentration.clone())
        self.register_buffer("log_norm", parts.log_norm.clone())
        self.register_buffer("log_weight", log_weight.clone())

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        def make(at: slice | Tensor) -> Distribution:
            return KnownNorm(
                self.get_buffer("loc")[at],
                self.get_buffer("kappa")[at],
                self.get_buffer("log_norm")[at],
            )

        return Blend(make, self.get_buffer("log_weight"), ctx.n)


def on_cpu(model: VAE) -> VAE:
    """A copy of a model on the CPU, in eval mode and without gradients."""
    return copy.deepcopy(model).cpu().eval().requires_grad_(False)


def exportable(model: VAE) -> VAE:
    """A copy of a model on the CPU, in eval mode, whose graphs need no more than its weights.

    A mixture prior that encodes inputs is replaced by its components, and the maps of flows by
    modules that torch can trace.
    """
    model = on_cpu(model)
    replace_flows(model)
    for module in model.modules():
        if isinstance(module, Dependence):
            module.fix_order()
    prior = model.hierarchy.top_prior
    if prior.depends_on_state or prior.extra_sites or not prior.has_density:
        return model
    with torch.no_grad():
        p = prior(Context(1), Draw(source="p"), None)
    fixed = _fixed(p, prior)
    if fixed is not None:
        path = model.hierarchy.prior_prefix.removesuffix(".")
        model.hierarchy.set_submodule(path, fixed)
    return model


def _fixed(p: Distribution | None, prior: Prior) -> Prior | None:
    """The prior as a module of constants, of mixtures that need more than operators of ONNX."""
    if isinstance(p, Mixture):
        return FixedMixture(p)
    if isinstance(p, Flow) and isinstance(p.base, Mixture):
        return MappedMixture(p.base, prior.get_submodule("maps"))
    if isinstance(p, Blend) and isinstance(p.parts, VonMisesFisher):
        return FixedSphereMixture(p.parts, p.log_weight)
    return None
