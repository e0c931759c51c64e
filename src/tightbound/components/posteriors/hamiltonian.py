"""Hamiltonian posteriors: a normal moved along the gradient of log p(x, z)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.core.component import ModelAware, Posterior
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Context, Examples
from tightbound.core.options import Count, Positive, Weight
from tightbound.distributions import Euclidean, Hamiltonian, Riemannian


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


class HamiltonianPosterior(Posterior):
    """Hamiltonian VAE: leapfrog steps from a normal along grad log p(x, z).

    Step lengths and tempering are learned. Caterini, Doucet and Sejdinovic 2018
    (arXiv:1805.11328), algorithm 1.
    """

    compatible_hierarchies = ("flat",)
    evaluates_given_z = False
    uses_log_joint = True
    first = 0.3

    def __init__(
        self,
        features: int,
        latent: int,
        steps: Annotated[Count, Field(description="leapfrog steps")] = 3,
        longest: Annotated[
            Positive,
            Field(
                description="bound on a step's length, in units of the scale of the normal"
            ),
        ] = 1.0,
    ) -> None:
        super().__init__()
        self.start = NormalPosterior(features, latent)
        self.steps = steps
        self.longest = longest
        self.length = nn.Parameter(torch.full((latent,), _logit(self.first)))
        self.cool = nn.Parameter(torch.tensor(_logit(0.9)))

    def motion(self, q: Distribution) -> tuple[Euclidean | Riemannian, Tensor]:
        """The phase space, and the unit of a step's length."""
        return Euclidean(), q.stddev

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q = self.start(h, ctx, p)
        log_joint = ctx.joint
        assert log_joint is not None
        motion, unit = self.motion(q)
        step = self.longest * self.length.sigmoid() * unit
        cool = self.cool.sigmoid()
        return Hamiltonian(
            q, lambda z: log_joint({"z": z}), motion, step, cool, self.steps
        )


class RiemannianPosterior(ModelAware, HamiltonianPosterior):
    """Riemannian Hamiltonian VAE: leapfrog steps in a space with a learned metric.

    Directions along which the data vary are short. The centres of the metric are the means of the
    base at training examples, its factors are linear in their features. Chadebec, Mantoux and
    Allassonniere 2020 (arXiv:2010.11518).
    """

    build_arguments = ("spec",)
    first = 0.2
    encodes_unconditionally = True

    def __init__(
        self,
        features: int,
        latent: int,
        spec: DataSpec,
        steps: Annotated[Count, Field(description="leapfrog steps")] = 3,
        longest: Annotated[
            Positive, Field(description="bound on a step's length")
        ] = 1.0,
        count: Annotated[Count, Field(description="centres of the metric")] = 100,
        reach: Annotated[
            Weight,
            Field(description="range of a centre, times the square root of latent"),
        ] = 1.0,
        least: Annotated[
            Weight, Field(description="inverse metric far from all centres")
        ] = 0.1,
    ) -> None:
        super().__init__(features, latent, steps, longest)
        self.factor = nn.Linear(features, latent * latent)
        self.reach = reach * latent**0.5
        self.least = least
        nn.init.normal_(self.factor.weight, std=1e-3)
        nn.init.zeros_(self.factor.bias)
        self.register_buffer("inputs", torch.randn(count, *spec.shape))

    def prepare(self, examples: Examples) -> None:
        """Set the examples whose codes are the centres, in units of the encoder."""
        inputs = self.get_buffer("inputs")
        inputs.copy_(self.encoder_inputs(examples, len(inputs))[0])

    def motion(self, q: Distribution) -> tuple[Euclidean | Riemannian, Tensor]:
        h = self.model.encoder(self.get_buffer("inputs"))
        centres = self.start.mean(h)
        width = q.event_shape[0]
        square = self.factor(h).unflatten(-1, (width, width))
        diagonal = square.diagonal(dim1=-2, dim2=-1).tanh().exp()
        factor = square.tril(-1) + diagonal.diag_embed()
        motion = Riemannian(centres, factor, self.reach, self.least)
        return motion, self.length.new_ones(())
