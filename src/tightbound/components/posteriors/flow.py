"""Normalising flow posteriors: a diagonal normal, then maps that depend on h."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.core.component import Posterior
from tightbound.core.draw import Context
from tightbound.core.options import Count
from tightbound.distributions import Flow, soft_clip, zuko_maps

SHIFT = 0.5413  # softplus(SHIFT) = 1: a map whose parameters are 0 is the identity
LEAST = 0.01  # least scale of a map along a direction, so that no determinant vanishes


class Step(nn.Module):
    """Map z -> (z', log |det|) with parameters of given sizes, linear in h (n, F)."""

    def __init__(self, features: int, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.head = nn.Linear(features, sum(sizes))
        # near the identity at the start; at 0 itself some maps have no gradient
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.mul_(0.1)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.map(z, *self.head(h).split(self.sizes, -1))

    def map(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Planar(Step):
    """Planar map: z + u tanh(w'z + b), with u'w > -1 so that it is invertible.

    w = g q with a unit vector q; u is its component along q, `along` / g, plus the remainder.
    Rezende and Mohamed 2015 (arXiv:1505.05770), eq. 10 to 12 and appendix A.1.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__(features, latent, latent, 1, 1, 1)

    def map(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        direction, u, along, log_g, b = parameters
        q = F.normalize(direction, dim=-1)
        g = soft_clip(log_g, -3, 3).exp()
        along = above_minus_one(along)
        u = u - q * (q * u).sum(-1, keepdim=True) + q * along / g
        t = (g * (q * z).sum(-1, keepdim=True) + b).tanh()
        return z + u * t, torch.log1p((1 - t.square()) * along).squeeze(-1)


class Radial(Step):
    """Radial map: z + beta (z - c) / (alpha + r), r = |z - c|.

    alpha > 0, beta > -alpha.
    Rezende and Mohamed 2015 (arXiv:1505.05770), eq. 14 and appendix A.2.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__(features, latent, 1, 1)

    def map(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        centre, log_alpha, ratio = parameters
        alpha = soft_clip(log_alpha, -3, 3).exp()
        ratio = above_minus_one(ratio)
        away = z - centre
        r = away.norm(dim=-1, keepdim=True)
        pull = alpha * ratio / (alpha + r)
        numerator = r.square() + 2 * alpha * r + alpha.square() * (1 + ratio)
        along = torch.log(numerator / (alpha + r).square())
        ladj = (z.shape[-1] - 1) * torch.log1p(pull) + along
        return z + pull * away, ladj.squeeze(-1)


class Sylvester(Step):
    """Sylvester map: z + Q R1 tanh(R2 Q'z + b), Q (d, M) with orthonormal columns.

    R1 and R2 (M, M) are upper triangular with diagonals in (-1, 1). kind: "orthogonal" makes Q by
    a QR decomposition, M = rank; "householder" as a product of `rank` reflections, M = d. van den
    Berg et al. 2018 (arXiv:1803.05649), eq. 8 to 10, sections 4.1 and 4.2.
    """

    def __init__(self, features: int, latent: int, kind: str, rank: int) -> None:
        self.rank = min(rank, latent)
        self.reflects = kind == "householder"
        m = latent if self.reflects else self.rank
        super().__init__(features, latent * self.rank, m * m, m * m, m)
        self.widths = (self.rank, m, m)

    def map(self, z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        pairs = zip(parameters[:3], self.widths, strict=True)
        q, one, two = (p.unflatten(-1, (-1, n)) for p, n in pairs)
        one = upper(one)
        two = upper(two)
        if self.reflects:
            q = F.normalize(q, dim=-2)
            inner = reflected(z, q)
        else:
            q = torch.linalg.qr(q)[0]
            inner = _times(q.mT, z)
        t = (_times(two, inner) + parameters[3]).tanh()
        move = self._rotated(q, _times(one, t))
        diagonals = one.diagonal(dim1=-2, dim2=-1) * two.diagonal(dim1=-2, dim2=-1)
        return z + move, torch.log1p((1 - t.square()) * diagonals).sum(-1)

    def _rotated(self, q: Tensor, x: Tensor) -> Tensor:
        """Q x."""
        if self.reflects:
            return reflected(x, q.flip(-1))
        return _times(q, x)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)


def above_minus_one(x: Tensor) -> Tensor:
    """Smooth map to (LEAST - 1, inf) that maps 0 to 0."""
    return (F.softplus(x + SHIFT) - 1) * (1 - LEAST)


def upper(r: Tensor) -> Tensor:
    """Upper triangle (..., M, M), its diagonal squashed to (-1, 1).

    The ends are excluded also in float32.
    """
    diagonal = (1 - LEAST) * r.diagonal(dim1=-2, dim2=-1).tanh()
    return r.triu(1) + torch.diag_embed(diagonal)


def reflected(x: Tensor, v: Tensor) -> Tensor:
    """x after Householder reflections by the unit columns of v (..., d, H)."""
    for column in v.unbind(-1):
        x = x - 2 * (x * column).sum(-1, keepdim=True) * column
    return x


class FlowPosterior(Posterior):
    """Normalising flow posterior: z0 from a diagonal normal, then a chain of maps.

    Without an inverse: the density is known only for values that the flow has made.
    """

    evaluates_given_z = False

    def __init__(self, features: int, latent: int, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.base = NormalPosterior(features, latent)
        self.steps = nn.ModuleList(steps)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        return Flow(self.base(h, ctx, p), partial(self._push, h))

    def _push(self, h: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(z[..., 0])
        for step in self.steps:
            z, ladj = step(z, h)
            total = total + ladj
        return z, total


class PlanarPosterior(FlowPosterior):
    """Planar flow. Rezende and Mohamed 2015 (arXiv:1505.05770)."""

    def __init__(
        self,
        features: int,
        latent: int,
        steps: Annotated[Count, Field(description="maps, one after another")] = 10,
    ) -> None:
        maps = [Planar(features, latent) for _ in range(steps)]
        super().__init__(features, latent, maps)


class RadialPosterior(FlowPosterior):
    """Radial flow. Rezende and Mohamed 2015 (arXiv:1505.05770)."""

    def __init__(
        self,
        features: int,
        latent: int,
        steps: Annotated[Count, Field(description="maps, one after another")] = 10,
    ) -> None:
        maps = [Radial(features, latent) for _ in range(steps)]
        super().__init__(features, latent, maps)


class SylvesterPosterior(FlowPosterior):
    """Sylvester flow. van den Berg et al. 2018 (arXiv:1803.05649)."""

    def __init__(
        self,
        features: int,
        latent: int,
        steps: Annotated[Count, Field(description="maps, one after another")] = 4,
        kind: Annotated[
            Literal["orthogonal", "householder"],
            Field(
                description="orthogonal columns by a QR decomposition, or Householder reflections"
            ),
        ] = "orthogonal",
        rank: Annotated[Count, Field(description="columns of Q, or reflections")] = 8,
    ) -> None:
        maps = [Sylvester(features, latent, kind, rank) for _ in range(steps)]
        super().__init__(features, latent, maps)


class InverseAutoregressivePosterior(Posterior):
    """Inverse autoregressive flow (IAF) posterior.

    A sample takes one pass, the density of a given z takes d.
    Affine maps (Kingma et al. 2016, arXiv:1606.04934), splines (Durkan et al. 2019,
    arXiv:1906.04032), or coupling layers, which take one pass both ways (Dinh et al. 2017,
    arXiv:1605.08803).
    """

    def __init__(
        self,
        features: int,
        latent: int,
        kind: Annotated[
            Literal["affine", "spline", "coupling"],
            Field(description="kind of the maps: affine, spline or coupling"),
        ] = "affine",
        steps: Annotated[Count, Field(description="maps, one after another")] = 4,
        width: Annotated[
            Count, Field(description="hidden units of their networks")
        ] = 128,
        context: Annotated[
            Count, Field(description="features of x that the maps see")
        ] = 64,
    ) -> None:
        super().__init__()
        self.base = NormalPosterior(features, latent)
        self.context = nn.Linear(features, context)
        self.maps = zuko_maps(kind, latent, steps, width, context)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        maps = self.maps(self.context(h))
        return Flow(self.base(h, ctx, p), maps.call_and_ladj, maps.inv.call_and_ladj)
