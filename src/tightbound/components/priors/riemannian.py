"""A prior on the manifold described by the variances of a posterior."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.core.component import EncodedData, Prior
from tightbound.core.draw import Context, Draw
from tightbound.core.options import Count
from tightbound.distributions import NoiseForm, ReparameterisedDistribution
from tightbound.runtime.errors import TightboundError

LEAST_ACCEPTED = 0.65  # share of accepted proposals


class RiemannianUniform(ReparameterisedDistribution):
    """Density proportional to sqrt(det G(z)), sampled by Hamiltonian Monte Carlo.

    A row of noise has one normal that selects the centre at which the chain starts, then for each
    move a momentum (d,) and a normal that accepts or rejects.
    """

    has_density = False
    support = constraints.real_vector

    def __init__(self, prior: RiemannianPrior, n: int) -> None:
        self.prior = prior
        self.d = prior.get_buffer("mean").shape[1]
        super().__init__(torch.Size([n]), torch.Size([self.d]), validate_args=False)

    @property
    def noise_form(self) -> NoiseForm:
        like = self.prior.get_buffer("mean")
        event = (1 + self.prior.moves * (self.d + 1),)
        return NoiseForm(self.batch_shape[0], event, like.dtype, like.device)

    def tempered(self, temperature: float) -> RiemannianUniform:
        """The same distribution: it has no temperature."""
        return self

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        return self.run(noise)[0], None

    @torch.no_grad()
    def run(self, noise: Tensor) -> tuple[Tensor, float]:
        """The last z of each chain, and the share of accepted proposals."""
        centres = self.prior.get_buffer("mean")
        step = self.prior.get_buffer("step")
        number = (torch.special.ndtr(noise[:, 0]) * len(centres)).long()
        z = centres[number.clamp(max=len(centres) - 1)]
        f, slope = self.prior.volume(z)
        accepted = []
        for move in noise[:, 1:].unflatten(1, (self.prior.moves, self.d + 1)).unbind(1):
            momentum = move[:, :-1]
            level = torch.special.ndtr(move[:, -1]).log()
            at = z
            force = slope
            v = momentum + 0.5 * step * slope
            for _ in range(self.prior.leapfrog):
                at = at + step * v
                g, force = self.prior.volume(at)
                v = v + step * force
            v = v - 0.5 * step * force
            gain = g - f - 0.5 * (v.square() - momentum.square()).sum(-1)
            ok = level < gain
            accepted.append(ok.float().mean())
            z = torch.where(ok[:, None], at, z)
            f = torch.where(ok, g, f)
            slope = torch.where(ok[:, None], force, slope)
        return z, float(torch.stack(accepted).mean())


class RiemannianPrior(Prior):
    """Riemannian uniform prior: uniform with respect to the volume of a metric G(z).

        G(z) = sum_i w_i(z) S_i^-1 + least exp(-decay |z|^2) I
        w_i(z) = exp(-(z - mean_i)' S_i^-1 (z - mean_i) / rho^2)

    mean_i and S_i are those of q(z|x_i) at `centres` examples, rho is the largest distance of
    one to its nearest. It has no density. Chadebec and Allassonniere 2022 (arXiv:2209.07370),
    section 3.
    """

    has_density = False
    compatible_posteriors = ("normal",)

    def __init__(
        self,
        latent: int,
        centres: Annotated[
            Count, Field(description="examples that make the metric")
        ] = 200,
        moves: Annotated[Count, Field(description="proposals of a chain")] = 40,
        leapfrog: Annotated[
            Count, Field(description="leapfrog steps of a proposal")
        ] = 8,
    ) -> None:
        super().__init__()
        self.moves = moves
        self.leapfrog = leapfrog
        self.least = 1e-3
        self.decay = 1e-2
        for name in ("mean", "scale"):
            self.register_buffer(name, torch.ones(centres, latent))
        for name in ("rho", "step"):
            self.register_buffer(name, torch.ones(()))

    def fit(self, data: EncodedData) -> None:
        """Set the centres from the examples; TightboundError where they are too few."""
        mean = self.get_buffer("mean")
        scale = self.get_buffer("scale")
        step = self.get_buffer("step")
        if len(data.z) < len(mean):
            raise TightboundError(
                f"{len(mean)} centres need as many examples, and there are {len(data.z)}"
            )
        rows = torch.linspace(0, len(data.z) - 1, len(mean)).long()
        means, scales = data.moments()
        mean.copy_(means[rows])
        scale.copy_(scales[rows].clamp(min=1e-4))
        distance = ((mean[:, None] - mean[None]) / scale[:, None]).norm(dim=-1)
        to_itself = torch.diag(torch.full_like(mean[:, 0], torch.inf))
        nearest = (distance + to_itself).amin(1)
        self.get_buffer("rho").copy_(nearest.max().clamp(min=1e-3))
        step.copy_(data.z.std(0).mean())
        dist = RiemannianUniform(self, 100)
        generator = torch.Generator().manual_seed(data.seed)
        noise = dist.noise_form.draw(generator, "cpu").to(mean)
        while dist.run(noise)[1] < LEAST_ACCEPTED:
            step.mul_(0.7)

    @torch.enable_grad()
    def volume(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log sqrt(det G(z)), (n,), and its gradient (n, d)."""
        mean = self.get_buffer("mean")
        scale = self.get_buffer("scale")
        z = z.detach().requires_grad_(True)
        distance = ((z[:, None] - mean) / scale).square().sum(-1)
        weight = -(distance / self.get_buffer("rho").square())
        floor = self.least * (-self.decay * z.square().sum(-1, keepdim=True)).exp()
        metric = weight.exp() @ scale**-2 + floor
        f = 0.5 * metric.log().sum(-1)
        (grad,) = torch.autograd.grad(f.sum(), z)
        return f.detach(), grad

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        return RiemannianUniform(self, ctx.n)
