"""The families of distributions in exported graphs: their parameters by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
)

from tightbound.components.likelihoods.colour import LogisticMixture
from tightbound.components.likelihoods.product import Chain, Product
from tightbound.distributions import (
    Codes,
    ContinuousBernoulli,
    Delta,
    DiscretizedLogistic,
    Flow,
    FullNormal,
    LogNormal,
    LogScaleNormal,
    PowerSpherical,
    Quantized,
    VonMisesFisher,
    WrappedNormal,
    ZeroInflated,
    ZeroInflatedNormal,
)
from tightbound.runtime.errors import TightboundError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family.

    Args:
        meaning: Its meaning, in the metadata of a graph.
        of: The parameter (n, ...) of a distribution.
    """

    meaning: str
    of: Callable[..., Tensor]


@dataclass(frozen=True)
class Family:
    """A family of distributions.

    Args:
        kind: The class of its distributions.
        name: Its name in the metadata.
        density: The density or mass function in terms of the parameters.
        parameters: The parameters by name.
        constants: Numbers of a distribution that are no tensors.
    """

    kind: type[Distribution]
    name: str
    density: str
    parameters: Mapping[str, Parameter]
    constants: Callable[..., dict[str, float]] = lambda _: {}


FAMILIES: tuple[Family, ...] = (
    Family(
        Delta,
        "point mass",
        "z = value, without a density",
        {"value": Parameter("the value", lambda d: d.value)},
    ),
    Family(
        FullNormal,
        "normal with full covariance",
        "N(z; mean, L L'), L = scale_tril",
        {
            "mean": Parameter("mean (n, d)", lambda d: d.loc),
            "scale_tril": Parameter(
                "lower Cholesky factor L of the covariance (n, d, d)",
                lambda d: d.scale_tril,
            ),
        },
    ),
    Family(
        WrappedNormal,
        "wrapped normal",
        "z = mean (+) u in normal coordinates of hyperbolic space, u ~ N(0, diag scale^2)",
        {
            "mean": Parameter("centre, in normal coordinates (n, d)", lambda d: d.loc),
            "scale": Parameter(
                "scale of u, in units of hyperbolic distance (n, d)", lambda d: d.scale
            ),
        },
        lambda d: {"curvature": d.curvature},
    ),
    Family(
        VonMisesFisher,
        "von Mises-Fisher",
        "proportional to exp(concentration * direction'z) on the unit sphere",
        {
            "direction": Parameter("mean direction (n, d)", lambda d: d.loc),
            "concentration": Parameter("concentration (n,)", lambda d: d.concentration),
        },
    ),
    Family(
        PowerSpherical,
        "power spherical",
        "proportional to (1 + direction'z)^concentration on the unit sphere",
        {
            "direction": Parameter("mean direction (n, d)", lambda d: d.loc),
            "concentration": Parameter("concentration (n,)", lambda d: d.concentration),
        },
    ),
    Family(
        Quantized,
        "quantised code",
        "all mass on the entry of each code",
        {
            "index": Parameter(
                "entry number of each code (n, codes)", lambda d: d.code.index
            ),
            "encoding": Parameter("encoding before it is quantised", lambda d: d.raw),
        },
        lambda d: {"codes": d.codebook.groups, "entries": d.codebook.size},
    ),
    Family(
        Codes,
        "categorical codes",
        "product over codes of softmax(logits)",
        {
            "logits": Parameter(
                "logits of the entries of each code (n, codes, entries)",
                lambda d: d.logits,
            )
        },
        lambda d: {"codes": d.codebook.groups, "entries": d.codebook.size},
    ),
    Family(
        LogScaleNormal,
        "normal",
        "product over dimensions of N(mean, exp(log_variance))",
        {
            "mean": Parameter("mean of each dimension", lambda d: d.loc),
            "log_variance": Parameter(
                "log of the variance of each dimension", lambda d: 2 * d.log_scale
            ),
        },
    ),
    Family(
        Normal,
        "normal",
        "product over dimensions of N(mean, exp(log_variance))",
        {
            "mean": Parameter("mean of each dimension", lambda d: d.loc),
            "log_variance": Parameter(
                "log of the variance of each dimension", lambda d: 2 * d.scale.log()
            ),
        },
    ),
    Family(
        LogNormal,
        "log-normal",
        "product over dimensions; log x is N(location, scale^2)",
        {
            "location": Parameter("mean of log x", lambda d: d.loc),
            "scale": Parameter("standard deviation of log x", lambda d: d.scale),
        },
    ),
    Family(
        ZeroInflatedNormal,
        "zero-inflated normal",
        "product over dimensions; 0 with probability sigmoid(logits), else N(mean, scale^2)",
        {
            "logits": Parameter("log-odds of 0", lambda d: d.logits),
            "mean": Parameter("mean of the others", lambda d: d.others.loc),
            "scale": Parameter(
                "standard deviation of the others", lambda d: d.others.scale
            ),
        },
    ),
    Family(
        ZeroInflated,
        "zero-inflated log-normal",
        "product over dimensions; 0 with probability sigmoid(logits), else log x is "
        "N(location, scale^2)",
        {
            "logits": Parameter("log-odds of 0", lambda d: d.logits),
            "location": Parameter("mean of log x", lambda d: d.others.loc),
            "scale": Parameter("standard deviation of log x", lambda d: d.others.scale),
        },
    ),
    Family(
        Laplace,
        "laplace",
        "product over dimensions of Laplace(location, scale)",
        {
            "location": Parameter("mean and median", lambda d: d.loc),
            "scale": Parameter("mean distance from the location", lambda d: d.scale),
        },
    ),
    Family(
        Bernoulli,
        "bernoulli",
        "product over dimensions; the probability of 1 is sigmoid(logits)",
        {"logits": Parameter("log-odds of 1", lambda d: d.logits)},
    ),
    Family(
        ContinuousBernoulli,
        "continuous bernoulli",
        "l exp(l x) / (exp(l) - 1) on [0, 1], l = logits",
        {"logits": Parameter("l of each dimension", lambda d: d.logits)},
    ),
    Family(
        Poisson,
        "poisson",
        "product over dimensions of Poisson(rate)",
        {"rate": Parameter("mean count", lambda d: d.rate)},
    ),
    Family(
        NegativeBinomial,
        "negative binomial",
        "mean m = dispersion * exp(logits), variance m + m^2 / dispersion",
        {
            "dispersion": Parameter("r, the size", lambda d: d.total_count),
            "logits": Parameter("log(m / r)", lambda d: d.logits),
        },
    ),
    Family(
        DiscretizedLogistic,
        "discretised logistic",
        "sigmoid((x + 1/2 - location) / scale) - sigmoid((x - 1/2 - location) / scale); "
        "the levels 0 and levels - 1 take the tails",
        {
            "location": Parameter("mean before rounding, in levels", lambda d: d.loc),
            "scale": Parameter(
                "scale, in levels", lambda d: d.inverse.reciprocal().expand_as(d.loc)
            ),
        },
        lambda d: {"levels": d.levels},
    ),
    Family(
        Categorical,
        "categorical",
        "softmax(logits) of each dimension",
        {
            "logits": Parameter(
                "log-probability of each value, last", lambda d: d.logits
            )
        },
    ),
    Family(
        OneHotCategorical,
        "categorical",
        "softmax(logits) of one-hot values",
        {"logits": Parameter("log-probability of each value", lambda d: d.logits)},
    ),
    Family(
        LogisticMixture,
        "mixture of discretised logistics",
        "sum_k softmax(logits)_k P_k(red) P_k(green | red) P_k(blue | red, green); the location "
        "of green is shifted by slope_0 (red - mid), that of blue by slope_1 (red - mid) + "
        "slope_2 (green - mid), mid = (levels - 1) / 2; of grey images sum_k softmax(logits)_k "
        "P_k(grey)",
        {
            "logits": Parameter("of the components (n, K, H, W)", lambda d: d.logits),
            "location": Parameter("in levels (n, K, C, H, W)", lambda d: d.loc),
            "log_scale": Parameter("log of the scale", lambda d: d.log_scale),
            "slope": Parameter("between the channels", lambda d: d.slope),
        },
        lambda d: {"levels": d.levels},
    ),
)


def plain(dist: Distribution) -> Distribution:
    """The distribution inside `Independent`, else the distribution itself."""
    if isinstance(dist, Independent):
        base: Distribution = dist.base_dist
        return base
    return dist


def family_of(dist: Distribution) -> Family | None:
    """The family of a distribution; None where it is none of the table."""
    base = plain(dist)
    for family in FAMILIES:
        if isinstance(base, family.kind):
            return family
    return None


def parameters(dist: Distribution, name: str) -> Tensors:
    """The parameters of a distribution by `name.parameter`.

    A flow has those of its base; a product over columns those of each part, given the most
    likely categories where columns depend on these.

    Args:
        dist: A distribution of n rows.
        name: Its name, such as "q.z".

    Raises:
        TightboundError: It is of a family that is not exported.
    """
    if isinstance(dist, Flow):
        return parameters(dist.base, f"{name}.base")
    if isinstance(dist, Chain):
        return parameters(dist.central, name)
    if isinstance(dist, Product):
        values: Tensors = {}
        for part_name, _, part in parts(dist):
            values.update(parameters(part, f"{name}.{part_name}"))
        return values
    family = family_of(dist)
    if family is None:
        raise TightboundError(
            f"{name} is a {type(plain(dist)).__name__}, whose parameters no exported graph can "
            "have: use a distribution of the package's tables"
        )
    base = plain(dist)
    return {f"{name}.{key}": p.of(base) for key, p in family.parameters.items()}


def parts(dist: Product) -> list[tuple[str, object, Distribution]]:
    """The parts of a product over columns: name, dimensions and distribution."""
    named: list[tuple[str, object, Distribution]] = []
    for at, part in dist.parts:
        base = plain(part)
        if isinstance(at, slice):
            name = f"column{at.start}"
        else:
            name = type(base).__name__.lower().removeprefix("logscale")
        named.append((name, at, part))
    return named


def described(dist: Distribution, name: str) -> dict[str, object]:
    """The family of a distribution with the meaning of each parameter, for metadata.

    Args:
        dist: As in `parameters`.
        name: As in `parameters`.

    Returns:
        A value of JSON: family, density, parameters by the names of outputs, constants.
    """
    if isinstance(dist, Flow):
        return {
            "family": "normalising flow",
            "density": "z = T(z0) with z0 from the base; the maps are inside the graphs",
            "base": described(dist.base, f"{name}.base"),
        }
    if isinstance(dist, Chain):
        return {
            **described(dist.central, name),
            "given": "the most likely categories; likelihood.onnx has the parameters given "
            "the categories of x, on which the other columns depend",
        }
    if isinstance(dist, Product):
        columns = []
        for part_name, at, part in parts(dist):
            row = described(part, f"{name}.{part_name}")
            columns.append({**row, "dimensions": _dimensions(at)})
        return {"family": "product over columns", "parts": columns}
    family = family_of(dist)
    if family is None:
        return {"family": type(plain(dist)).__name__}
    return {
        "family": family.name,
        "density": family.density,
        "parameters": {
            f"{name}.{key}": p.meaning for key, p in family.parameters.items()
        },
        **family.constants(plain(dist)),
    }


def _dimensions(at: object) -> list[int]:
    """The dimensions of a part of a product."""
    if isinstance(at, slice):
        return list(range(at.start, at.stop))
    assert isinstance(at, Tensor)
    return [int(i) for i in at]
