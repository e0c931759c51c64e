"""Write tests/reference.json: log-probabilities and variances of torch for the page's tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
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
from tightbound.components.likelihoods.product import Product
from tightbound.distributions import (
    ContinuousBernoulli,
    DiscretizedLogistic,
    FullNormal,
    LogNormal,
    ZeroInflated,
    ZeroInflatedNormal,
)
from tightbound.exporting.families import described, parameters

FILE = Path(__file__).with_name("reference.json")
N = 2
#: Families whose variance torch does not give.
NO_VARIANCE = (LogisticMixture, Categorical)


def independent(dist: Distribution, event: int) -> Distribution:
    """A distribution whose last `event` axes are one example."""
    return Independent(dist, event, validate_args=False)


def mixture(
    values: list[Tensor], spread: float, log_scale: float, levels: int
) -> LogisticMixture:
    """A mixture with locations of this spread and scales about exp(log_scale)."""
    logits, location, scales, slopes = values
    location = spread * location + (levels - 1) / 2
    return LogisticMixture(logits, location, scales + log_scale, slopes.tanh(), levels)


def cases() -> dict[str, tuple[Distribution, Tensor]]:
    """Distributions of N rows with values (N, *event)."""
    torch.manual_seed(0)
    y = torch.randn(N, 1, 2, 3, dtype=torch.float64) * 3
    levels = torch.tensor([0, 1, 5, 15, 16, 8]).reshape(1, 1, 2, 3).expand_as(y)
    unit = torch.rand(N, 1, 2, 3, dtype=torch.float64)
    counts = torch.tensor([0, 1, 7, 30, 200, 2]).reshape(1, 1, 2, 3).expand_as(y)
    scale = torch.tensor([0.02, 0.5, 3.0]).double().expand(N, 1, 2, 3)
    wide = torch.tensor([[[0.7]]]).double().expand(N, 1, 1, 1)
    rate = torch.exp(y / 2)
    small = torch.randn(N, 1, 2, 3, 4, dtype=torch.float64)
    colour = [
        torch.randn(N, 2, *event, 2, 2).double() for event in ((), (3,), (3,), (3,))
    ]
    pixels = torch.randint(0, 256, (N, 3, 2, 2)).double()
    table = torch.tensor([[0.3, 1.0, 0.0, 1.0, 0.0, 4.0]] * N).double()
    row = torch.randn(N, 6, dtype=torch.float64)
    return {
        "normal": (independent(Normal(y, scale), 3), unit * 4),
        "normal, one scale": (independent(Normal(y, wide), 3), unit * 4),
        "log-normal": (independent(LogNormal(y / 4, scale), 3), unit * 4 + 0.1),
        "zero-inflated normal": (
            independent(ZeroInflatedNormal(y.flip(-1), y, scale), 3),
            unit * (unit > 0.5),
        ),
        "zero-inflated log-normal": (
            independent(ZeroInflated(y.flip(-1), LogNormal(y / 4, scale)), 3),
            unit * (unit > 0.5),
        ),
        "laplace": (independent(Laplace(y, scale), 3), unit),
        "bernoulli": (independent(Bernoulli(logits=y * 5), 3), (unit > 0.5).double()),
        "continuous bernoulli": (
            independent(ContinuousBernoulli(y * y * y / 3), 3),
            unit,
        ),
        "continuous bernoulli near 0": (
            independent(ContinuousBernoulli(y / 30), 3),
            unit,
        ),
        "poisson": (independent(Poisson(rate), 3), counts.double()),
        "negative binomial": (
            independent(NegativeBinomial(scale * 9, logits=y), 3),
            counts.double(),
        ),
        "discretised logistic": (
            independent(DiscretizedLogistic(y * 4 + 8, 1 / scale, 17), 3),
            levels.double(),
        ),
        "categorical": (independent(Categorical(logits=small), 3), counts.clamp(max=3)),
        "logistic mixture": (mixture(colour, 90, 2, 256), pixels),
        "logistic mixture, narrow": (mixture(colour, 90, -1, 256), pixels),
        "logistic mixture, wide": (mixture(colour, 40, 4, 256), pixels),
        "logistic mixture at the ends": (mixture(colour, 300, 1, 256), pixels),
        "logistic mixture, 8 levels": (mixture(colour, 3, 0, 8), pixels % 8),
        "logistic mixture, 64 levels": (mixture(colour, 30, 1, 64), pixels % 64),
        "logistic mixture, grey": (
            mixture(
                [each[:, :, :1] if i else each for i, each in enumerate(colour)],
                90,
                2,
                256,
            ),
            pixels[:, :1],
        ),
        "product": (
            Product(
                [
                    (
                        torch.tensor([0, 5]),
                        independent(Normal(row[:, :2], row[:, 2:4].exp()), 1),
                    ),
                    (
                        torch.tensor([1]),
                        independent(Bernoulli(logits=row[:, 4:5]), 1),
                    ),
                    (slice(2, 5), OneHotCategorical(logits=row[:, 1:4])),
                ],
                N,
                6,
            ),
            table,
        ),
        "normal with full covariance": (
            FullNormal(
                row[:, :3],
                scale_tril=torch.tril(small[:, 0, 0, :, :3] / 3, -1)
                + torch.diag_embed(row[:, 3:].exp()),
            ),
            table[:, :3],
        ),
    }


def tensor(value: Tensor) -> dict[str, object]:
    """A tensor as JSON."""
    return {"data": value.double().flatten().tolist(), "shape": list(value.shape)}


def main() -> None:
    """Write the file."""
    rows = {}
    for name, (dist, value) in cases().items():
        base = dist.base_dist if isinstance(dist, Independent) else dist
        variance = None if isinstance(base, NO_VARIANCE) else dist.variance
        mean = dist.mean if isinstance(base, LogisticMixture) else None
        rows[name] = {
            "family": described(dist, "px"),
            "parameters": {k: tensor(v) for k, v in parameters(dist, "px").items()},
            "x": tensor(value),
            "log_prob": dist.log_prob(value).tolist(),
            "mean": None if mean is None else mean.flatten().tolist(),
            "variance": None
            if variance is None
            else variance.double().flatten().tolist(),
        }
    FILE.write_text(json.dumps(rows, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
