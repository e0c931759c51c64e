"""z drawn evenly from the manifold that a posterior's variances describe; a sampler, without a
density.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.core.component import EncodedData, Prior
from tightbound.core.options import Count
from tightbound.core.trace import Context, Draw
from tightbound.distributions import NoiseForm, ReparameterisedDistribution
from tightbound.runtime.errors import TightboundError

WANTED = 0.65  # of proposals accepted


class RiemannianUniform(ReparameterisedDistribution):
    """Density sqrt(det G(z)) up to its constant: Hamiltonian Monte Carlo from one of the centres, n
    rows.

    Noise: n rows of normals: one picks the centre, then for each move a momentum (d,) and one that
    accepts.
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
        """The same: it has no temperature."""
        return self

    def from_noise(self, noise: Tensor) -> tuple[Tensor, None]:
        return self.run(noise)[0], None

    @torch.no_grad()
    def run(self, noise: Tensor) -> tuple[Tensor, float]:
        """The last z of each chain, and the share of proposals that were accepted."""
        centres = self.prior.get_buffer("mean")
        step = self.prior.get_buffer("step")
        z = centres[
            (torch.special.ndtr(noise[:, 0]) * len(centres))
            .long()
            .clamp(max=len(centres) - 1)
        ]
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
    """Uniform with respect to the volume of G(z) = sum_i w_i(z) S_i^-1 + least exp(-decay |z|^2) I;
    no density.

    w_i(z) = exp(-(z - mean_i)' S_i^-1 (z - mean_i) / rho^2), mean_i and S_i those of q(z|x_i) at
    `centres` examples, rho the largest distance of one to its nearest.  Chadebec and Allassonniere
    2022 (arXiv:2209.07370), section 3. centres: examples that make the metric.  moves, leapfrog:
    proposals of a chain, and steps of each.
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
        """Takes centres spread over the examples; raises TightboundError where there are fewer."""
        mean, scale, rho, step = (
            self.get_buffer(name) for name in ("mean", "scale", "rho", "step")
        )
        if len(data.z) < len(mean):
            raise TightboundError(
                f"{len(mean)} centres need as many examples, and there are {len(data.z)}"
            )
        some = torch.linspace(0, len(data.z) - 1, len(mean)).long()
        means, scales = data.moments()
        mean.copy_(means[some])
        scale.copy_(scales[some].clamp(min=1e-4))
        far = ((mean[:, None] - mean[None]) / scale[:, None]).norm(dim=-1)
        rho.copy_(
            (far + torch.diag(torch.full_like(mean[:, 0], torch.inf)))
            .amin(1)
            .max()
            .clamp(min=1e-3)
        )
        step.copy_(data.z.std(0).mean())
        dist = RiemannianUniform(self, 100)
        noise = dist.noise_form.draw(
            torch.Generator().manual_seed(data.seed), "cpu"
        ).to(mean)
        while dist.run(noise)[1] < WANTED:
            step.mul_(0.7)

    @torch.enable_grad()
    def volume(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log sqrt(det G(z)), (n,), and its gradient (n, d)."""
        mean = self.get_buffer("mean")
        scale = self.get_buffer("scale")
        z = z.detach().requires_grad_(True)
        near = -(
            ((z[:, None] - mean) / scale).square().sum(-1)
            / self.get_buffer("rho").square()
        )
        metric = (
            near.exp() @ scale**-2
            + self.least * (-self.decay * z.square().sum(-1, keepdim=True)).exp()
        )
        f = 0.5 * metric.log().sum(-1)
        (slope,) = torch.autograd.grad(f.sum(), z)
        return f.detach(), slope

    def forward(self, ctx: Context, draw: Draw, state: Any) -> Distribution:
        return RiemannianUniform(self, ctx.n)
