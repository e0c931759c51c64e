"""The graphs that a run is exported to, with example inputs and the meaning of each tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.components.likelihoods.product import Chain
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import (
    Blend,
    CodeChain,
    CodeDistribution,
    Codes,
    Flow,
    Hamiltonian,
    NoiseForm,
    Quantized,
    ReparameterisedDistribution,
    SphereUniform,
    UniformCodes,
    UnitNormal,
    VonMisesFisher,
    noise_form,
)
from tightbound.distributions.random import seeded
from tightbound.exporting.families import described, plain
from tightbound.exporting.graphs import (
    CodebookGraph,
    DecoderGraph,
    EncoderGraph,
    Graph,
    LikelihoodGraph,
    PosteriorGraph,
    PosteriorSampleGraph,
    PriorGraph,
    PriorSampleGraph,
    exportable,
    on_cpu,
)
from tightbound.exporting.inputs import raw_conditions, raw_dtype, raw_examples
from tightbound.models.vae import VAE
from tightbound.runtime.errors import TightboundError

MOST_CODES = 64  # of a chain of codes that is sampled one after another in a graph

#: Example inputs of n rows, a function of n and a seed.
Examples = Callable[[int, int], list[Tensor]]


@dataclass(frozen=True)
class Planned:
    """One graph of a run.

    Args:
        name: Name of the file without its ending.
        module: Tensors to a tuple of tensors, of the copy of the model that can be traced.
        reference: The same of the model as it is.
        inputs: Meaning of each input by its name.
        examples: Example inputs.
        outputs: Meaning of outputs by their names; of parameters, see the families.
        codes: Columns of the first input that hold codes, which a small change makes others.
        has_columns: Whether the first input is a table, whose columns have scales of their own.
        noise: Kind of the noise of each input of noise: "normal" or "uniform".
    """

    name: str
    module: Graph
    reference: Graph
    inputs: Mapping[str, str]
    examples: Examples
    outputs: Mapping[str, str]
    codes: Sequence[int] = ()
    has_columns: bool = False
    noise: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The graphs of a run.

    Args:
        graphs: The graphs.
        posterior: Family of q of each site.
        prior: Family of p of each site.
        likelihood: Family of p(x|z).
        left_out: Graphs that are not exported, with the reason.
    """

    graphs: Sequence[Planned]
    posterior: Mapping[str, object]
    prior: Mapping[str, object]
    likelihood: Mapping[str, object]
    left_out: Mapping[str, str]


class Case:
    """A model that is to be exported, with one pass over example inputs.

    Attributes:
        model: A copy on the CPU.
        traced: A copy that can be traced.
        latents: The record of each site of a pass of the encoder.
        generated: The record of each site of a pass from given latents.
        px: p(x|z) of that pass.
    """

    def __init__(self, model: VAE) -> None:
        self.model = on_cpu(model)
        self.traced = exportable(model)
        graph = EncoderGraph(self.model)
        condition = raw_conditions(self.model, 2, 0)
        x = self.model.spec.to_model(raw_examples(self.model, 2, 0))
        with torch.no_grad(), seeded(0):
            self.latents = self.model.visit(
                Batch(x, graph.condition(condition)), Draw(source="point")
            )
            z = graph.joined(self.latents)
            self.generated, self.px = graph.generated(z, condition)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the latent sites, the topmost first."""
        return self.model.sites

    def q(self, name: str) -> Distribution:
        """The posterior of a site."""
        q = self.latents[name].q
        assert q is not None
        return q

    def planned(
        self,
        name: str,
        make: Callable[[VAE], Graph],
        inputs: Mapping[str, str],
        examples: Examples,
        outputs: Mapping[str, str],
    ) -> Planned:
        """A graph of the copy that can be traced, with that of the model as reference."""
        codes: list[int] = []
        columns = self.model.spec.fields if "x" in inputs else ()
        for i, column in enumerate(columns):
            if column.kind in ("categorical", "binary"):
                codes.append(i)
        return Planned(
            name,
            make(self.traced),
            make(self.model),
            inputs,
            examples,
            outputs,
            codes,
            has_columns=bool(columns),
        )


Result = Planned | tuple[str, str] | None


def plan_of(model: VAE) -> Plan:
    """The graphs of a model.

    Raises:
        TightboundError: Its posterior is iterative, or a family is not exported.
    """
    case = Case(model)
    for name in case.model.site_widths:
        _refuse_iterative(name, case.q(name))
    planned = [_encoder(case), _decoder(case)]
    left_out: dict[str, str] = {}
    for make in (_likelihood, _posterior_sample, _prior, _prior_sample, _codebook):
        result = make(case)
        if isinstance(result, Planned):
            planned.append(result)
        elif result is not None:
            left_out[result[0]] = result[1]
    return Plan(
        planned,
        {name: described(case.q(name), f"q.{name}") for name in case.model.site_widths},
        {name: _prior_of(case.generated[name].p, name) for name in case.sites},
        described(case.px, "px"),
        left_out,
    )


def _refuse_iterative(name: str, q: Distribution) -> None:
    if isinstance(q, Hamiltonian):
        raise TightboundError(
            f"q of {name!r} takes steps along the gradient of log p(x, z), which an exported "
            "graph cannot take: export with --format safetensors, or train a recipe whose q is a "
            "network alone"
        )


# ---- one function for each graph


def _encoder(case: Case) -> Planned:
    model = case.model

    def examples(n: int, seed: int) -> list[Tensor]:
        return [raw_examples(model, n, seed), *raw_conditions(model, n, seed)]

    outputs = {
        "codes": "posterior mean (or most likely code) of all sites side by side (n, d)"
    }
    inputs = {"x": _about_x(model), **_condition_input(model)}
    return case.planned("encoder", EncoderGraph, inputs, examples, outputs)


def _decoder(case: Case) -> Planned:
    model = case.model
    top = case.sites[0]
    dependent = [name for name in model.site_widths if name != top]
    if model.hierarchy.top_prior.depends_on_state and not model.classes:
        dependent.append(top)
    dependent = [name for name in dependent if not _is_standard(case.generated[name].p)]
    outputs = {
        "mean": "E[x|z] in raw units and layout; the most probable value where values have "
        "no order"
    }
    return case.planned(
        "decoder",
        lambda m: DecoderGraph(m, dependent),
        _z_input(model),
        latents_of(model),
        outputs,
    )


def latents_of(model: VAE) -> Examples:
    """Example latents: draws of q(z|x) at example inputs, with their conditions."""

    def examples(n: int, seed: int) -> list[Tensor]:
        condition = raw_conditions(model, n, seed)
        graph = EncoderGraph(model)
        x = model.spec.to_model(raw_examples(model, n, seed))
        with torch.no_grad(), seeded(seed):
            latents = model.visit(Batch(x, graph.condition(condition)), Draw())
        return [graph.joined(latents).contiguous(), *condition]

    return examples


def posterior_plan(model: VAE) -> Planned | None:
    """The parameters of q of each site at given latents; None for a single site.

    The encoder's are those given the posterior means of the other sites.
    """
    if len(model.site_widths) == 1:
        return None
    case = Case(model)

    def examples(n: int, seed: int) -> list[Tensor]:
        z = latents_of(case.model)(n, seed)[0]
        x = raw_examples(case.model, n, seed)
        return [x, z, *raw_conditions(case.model, n, seed)]

    inputs = {"x": _about_x(model), **_z_input(model)}
    return case.planned("posterior", PosteriorGraph, inputs, examples, {})


def _likelihood(case: Case) -> Result:
    """The parameters of p(x|z) given categories, where other columns depend on these."""
    if not isinstance(case.px, Chain):
        return None
    model = case.model

    def examples(n: int, seed: int) -> list[Tensor]:
        return [raw_examples(model, n, seed), *latents_of(model)(n, seed)]

    inputs = {"x": _about_x(model), **_z_input(model)}
    return case.planned("likelihood", LikelihoodGraph, inputs, examples, {})


def _posterior_sample(case: Case) -> Result:
    """Draws of q, where its parameters alone do not give them."""
    model = case.model
    sites = {name: case.q(name) for name in model.site_widths}
    if not any(isinstance(q, Flow) for q in sites.values()):
        return None
    forms = {name: noise_form(q) for name, q in sites.items()}

    def examples(n: int, seed: int) -> list[Tensor]:
        x = raw_examples(model, n, seed)
        return [x, *_noise(forms, n, seed), *raw_conditions(model, n, seed)]

    inputs = {"x": _about_x(model), **_noise_inputs(forms), **_condition_input(model)}
    outputs = {"z": "a draw from q(z|x) (n, d)", "log_q": "log q(z|x) in nats (n,)"}
    names = list(forms)
    planned = case.planned(
        "posterior_sample",
        lambda m: PosteriorSampleGraph(m, names),
        inputs,
        examples,
        outputs,
    )
    return replace(planned, noise=_noise_kinds(forms))


def _prior(case: Case) -> Result:
    """log p(z), where p(z) is no standard distribution."""
    if len(case.sites) == 1 and _is_standard(case.generated[case.sites[0]].p):
        return None
    prior = case.model.hierarchy.top_prior
    if prior.extra_sites:
        return "prior", "log p(z) is an integral over the latents of a second stage"
    if not prior.has_density:
        return "prior", "this prior has no density"
    outputs = {"log_p": "log p(z) of all sites in nats (n,)"}
    if len(case.sites) > 1:
        for name in case.sites:
            outputs[f"log_p.{name}"] = f"log p({name} | the sites above) in nats (n,)"
    inputs = _z_input(case.model)
    return case.planned("prior", PriorGraph, inputs, latents_of(case.model), outputs)


def _is_standard(p: Distribution | None) -> bool:
    return p is not None and isinstance(
        plain(p), UnitNormal | UniformCodes | SphereUniform
    )


def _prior_sample(case: Case) -> Result:
    """z of all sites from standard noise, where p(z) is no standard distribution."""
    name = "prior_sample"
    if len(case.sites) == 1 and _is_standard(case.generated[case.sites[0]].p):
        return None
    forms = {}
    for site, latent in case.generated.items():
        assert latent.p is not None
        if reason := _not_a_map(latent.p):
            return name, reason
        forms[site] = noise_form(latent.p)

    def examples(n: int, seed: int) -> list[Tensor]:
        return [*_noise(forms, n, seed), *raw_conditions(case.model, n, seed)]

    inputs = {**_noise_inputs(forms), **_condition_input(case.model)}
    outputs = {"z": "a draw from p(z), all sites side by side (n, d)"}
    names = list(forms)
    planned = case.planned(
        name, lambda m: PriorSampleGraph(m, names), inputs, examples, outputs
    )
    return replace(planned, noise=_noise_kinds(forms))


def _not_a_map(p: Distribution) -> str | None:
    """The reason why a prior's draws are no graph of standard noise; None where they are."""
    if isinstance(p, CodeChain) and p.codebook.groups > MOST_CODES:
        return (
            f"its {p.codebook.groups} codes are drawn one after another, which a graph of at "
            f"most {MOST_CODES} steps cannot"
        )
    if isinstance(p, Blend) and isinstance(p.parts, VonMisesFisher):
        return (
            "draws on a sphere invert a distribution function by numerical integration"
        )
    if isinstance(p, ReparameterisedDistribution) and not p.has_density:
        return "its draws are those of a Markov chain"
    return None


def _codebook(case: Case) -> Result:
    """Codes by entry numbers to vectors, of a flat model whose z are codes."""
    if len(case.sites) != 1:
        return None
    q = case.q(case.sites[0])
    if not isinstance(q, Codes | Quantized):
        return None
    codebook = q.codebook

    def examples(n: int, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        size = (n, codebook.groups)
        return [torch.randint(codebook.size, size, generator=generator)]

    inputs = {"index": f"entry number of each code (n, {codebook.groups}), int64"}
    outputs = {"z": "the vectors of the entries (n, d)"}
    return case.planned(
        "codebook", lambda m: CodebookGraph(m, codebook), inputs, examples, outputs
    )


# ---- inputs and families


def _about_x(model: VAE) -> str:
    dtype = str(raw_dtype(model.spec)).removeprefix("torch.")
    text = f"examples in raw units and layout (n, ...), {dtype}"
    if model.spec.missing:
        text += "; NaN where a value is missing"
    if model.spec.fields:
        text += "; one number or code for each column, in the order of spec.fields"
    return text


def _z_input(model: VAE) -> dict[str, str]:
    widths = ", ".join(f"{name}: {width}" for name, width in model.site_widths.items())
    about = f"latents of all sites side by side (n, {sum(model.site_widths.values())})"
    return {"z": f"{about}, {widths}", **_condition_input(model)}


def _condition_input(model: VAE) -> dict[str, str]:
    condition = model.spec.condition
    if condition is None:
        return {}
    names = ", ".join(condition.names)
    if condition.mean:
        dtype = ", float64" if condition.is_far else ""
        return {"condition": f"raw numbers (n, {condition.width}){dtype}: {names}"}
    return {"condition": f"class number (n,), int64, in the order {names}"}


def _noise_inputs(forms: Mapping[str, NoiseForm]) -> dict[str, str]:
    kinds = {"normal": "standard normal", "uniform": "uniform on [0, 1)"}
    return {
        f"noise.{name}": f"{kinds[form.kind]} noise (n, {_sizes(form)}), float32"
        for name, form in forms.items()
    }


def _noise_kinds(forms: Mapping[str, NoiseForm]) -> dict[str, str]:
    return {f"noise.{name}": form.kind for name, form in forms.items()}


def _sizes(form: NoiseForm) -> str:
    return ", ".join(str(size) for size in form.event)


def _noise(forms: Mapping[str, NoiseForm], n: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = []
    for form in forms.values():
        rows = form._replace(rows=n, device=torch.device("cpu"))
        noise.append(rows.draw(generator, "cpu"))
    return noise


def _prior_of(p: Distribution | None, name: str) -> dict[str, object]:
    """The family of p of a site, for metadata."""
    if p is None:
        return {"family": "inferred by a second stage"}
    base = plain(p)
    if isinstance(base, UnitNormal):
        return {"family": "standard normal", "density": "N(z; 0, I)"}
    if isinstance(base, UniformCodes):
        size = base.codebook.size
        return {"family": "uniform codes", "density": f"{size}^-{base.codebook.groups}"}
    if isinstance(base, SphereUniform):
        return {"family": "uniform on the unit sphere", "density": "1 / area"}
    if isinstance(base, Blend | CodeDistribution | Flow):
        return {"family": type(base).__name__, "density": "log p(z): prior.onnx"}
    return described(p, f"p.{name}")
