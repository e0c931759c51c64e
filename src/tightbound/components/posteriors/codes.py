"""Posteriors over codes: categories, vector quantisation, finite scalars.

On a grid of places (a convolutional encoder, h (n, *grid, F)) z (n, places * latent) is ordered
by place, one row of the grid after another, and so are the entry numbers (n, N):
N = places * codes of a place * levels, in this order.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from tightbound.core.component import ModelAware, ModelPart, Posterior
from tightbound.core.draw import Context, Examples
from tightbound.core.options import Count, Positive, Share
from tightbound.core.trace import Trace
from tightbound.distributions import Code, Codebook, Codes, Quantized, soft_clip
from tightbound.runtime.errors import TightboundError

# an entry used less than this share of the mean count is dead and restarts at an encoding
LEAST_USED = 0.03


def groups_of(latent: int, dim: int, unit: str) -> int:
    """Number of codes of `dim` features that a latent holds.

    Raises TightboundError where it does not divide evenly.
    """
    if latent % dim:
        raise TightboundError(
            f"latent = {latent} does not divide into codes of {unit}: set latent to a "
            f"multiple of {dim}"
        )
    return latent // dim


class OneHot(Codebook):
    """Codebook of unit vectors: category k of K as one-hot vector."""

    def __init__(self, groups: int, size: int) -> None:
        self.groups = groups
        self.size = size

    def vectors(self, index: Tensor) -> Tensor:
        return F.one_hot(index, self.size).flatten(1).to(torch.get_default_dtype())

    def index(self, z: Tensor) -> Tensor:
        codes: Tensor = z.unflatten(-1, (self.groups, self.size)).argmax(-1)
        return codes

    def moments(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each feature, from probabilities (n, N, K)."""
        return share.flatten(1), (share * (1 - share)).flatten(1)


class CategoricalPosterior(Posterior):
    """Gumbel-softmax: one-hot categories with straight-through gradients.

    latent / classes categories. Jang et al. 2017 (arXiv:1611.01144).
    """

    latent_space = "codes"

    supports_grids = True
    build_arguments = ("places",)

    def __init__(
        self,
        features: int,
        latent: int,
        classes: Annotated[Count, Field(description="values of a category")] = 10,
        temperature: Annotated[
            Positive,
            Field(
                description="temperature of the relaxation that gradients are taken of"
            ),
        ] = 1.0,
        places: int = 1,
    ) -> None:
        super().__init__()
        groups = places * groups_of(latent, classes, f"{classes} classes")
        self.codebook = OneHot(groups, classes)
        self.head = nn.Linear(features, latent)
        self.temperature = temperature

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        logits = soft_clip(self.head(h).flatten(1), -15, 15).unflatten(
            -1, (self.codebook.groups, self.codebook.size)
        )
        return Codes(logits, self.codebook, self.temperature)


class VectorTables(ModelPart, Codebook):
    """Learned codebook: `levels` tables of K vectors (D,), residual quantisation.

    Each level quantises the residual of the levels before; N = parts * levels. The tables are
    running means of the encodings that chose each entry. Dead entries restart at an encoding; over
    several processes, at a weighted mean with nearly all weight on one process. van den Oord et al.
    2017 (arXiv:1711.00937), appendix A.1; Lee et al. 2022 (arXiv:2203.01941), eq. 3.
    """

    keeps_statistics = True

    def __init__(
        self, parts: int, size: int, dim: int, levels: int, decay: float
    ) -> None:
        super().__init__()
        self.parts = parts
        self.size = size
        self.dim = dim
        self.levels = levels
        self.decay = decay
        self.groups = parts * levels
        scale = 2 ** torch.arange(levels)[:, None, None]
        self.register_buffer("table", torch.randn(levels, size, dim) / scale)
        self.register_buffer("count", torch.ones(levels, size))
        self.register_buffer("total", self.get_buffer("table").clone())

    def vectors(self, index: Tensor) -> Tensor:
        table = self.get_buffer("table")
        index = index.unflatten(-1, (self.parts, self.levels))
        chosen = [table[level][index[..., level]] for level in range(self.levels)]
        return torch.stack(chosen).sum(0).flatten(1)

    def by_table(self, index: Tensor) -> Tensor:
        by_table: Tensor = (
            index.unflatten(-1, (self.parts, self.levels)).flatten(0, 1).T
        )
        return by_table

    def quantise(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Entry numbers (n, parts, levels) of raw (n, parts, D), and residuals.

        The residual after each level: (levels, n, parts, D).
        """
        residual = raw
        numbers = []
        residuals = []
        for table in self.get_buffer("table"):
            number = _nearest(residual, table)
            residual = residual - table[number]
            numbers.append(number)
            residuals.append(residual)
        return torch.stack(numbers, -1), torch.stack(residuals)

    def index(self, z: Tensor) -> Tensor:
        """Entry numbers (n, N) of vectors; of several levels, by greedy decomposition."""
        return self.quantise(z.unflatten(-1, (self.parts, self.dim)))[0].flatten(1)

    def forward(self, raw: Tensor) -> Quantized:
        index, left = self.quantise(raw.detach())
        code = Code(index.flatten(1), self.vectors(index.flatten(1)))
        through = code.vector + (raw - raw.detach()).flatten(1)
        commitment = (raw - (raw.detach() - left)).square().sum((0, 2, 3))
        return Quantized(code, through, commitment, self, raw.detach())

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """Counts and sums of the encodings by entry, and encodings for dead entries."""
        q = next(
            site.q
            for site in trace.latents.values()
            if isinstance(site.q, Quantized) and site.q.codebook is self
        )
        index, residuals = self.quantise(q.raw)
        before = torch.cat([q.raw[None], residuals[:-1]]).flatten(1, 2)
        chosen = F.one_hot(index.flatten(0, 1).T, self.size).to(before)
        rows = torch.randint(before.shape[1], (self.size,), device=before.device)
        # of the weighted mean over processes, nearly all weight is on one process
        weight = (60 * torch.rand(self.size, 1, device=before.device) - 60).exp()
        return {
            "codes/count": chosen.sum(1),
            "codes/total": chosen.mT @ before,
            "codes/fresh": before[:, rows] * weight,
            "codes/lot": weight,
        }

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Update the running means by an accepted step, and restart dead entries."""
        table = self.get_buffer("table")
        count = self.get_buffer("count")
        total = self.get_buffer("total")
        count.lerp_(sums["codes/count"], 1 - self.decay)
        total.lerp_(sums["codes/total"], 1 - self.decay)
        usual = count.mean(-1, keepdim=True)
        dead = (count < LEAST_USED * usual).unsqueeze(-1)
        fresh = sums["codes/fresh"] / sums["codes/lot"]
        total.copy_(torch.where(dead, fresh * usual.unsqueeze(-1), total))
        count.copy_(torch.where(dead.squeeze(-1), usual, count))
        table.copy_(total / count.unsqueeze(-1).clamp(min=1e-6))

    def start(self, raw: Tensor) -> None:
        """Set the tables to random encodings raw (m, parts, D), level by level."""
        residual = raw.flatten(0, 1)
        for level, table in enumerate(self.get_buffer("table")):
            rows = torch.randperm(len(residual))[
                torch.arange(self.size) % len(residual)
            ]
            chosen = residual[rows.to(residual.device)]
            table.copy_(chosen + 1e-3 * residual.std() * torch.randn_like(chosen))
            residual = residual - table[_nearest(residual, table)]
            self.get_buffer("total")[level].copy_(table)


def _nearest(x: Tensor, table: Tensor) -> Tensor:
    """Number of the nearest row of a table (K, D) to each vector of x (..., D)."""
    return (table.square().sum(-1) - 2 * x @ table.T).argmin(-1)


class VectorQuantizedPosterior(ModelAware, Posterior):
    """VQ-VAE: each code is the nearest learned vector to a linear map of h.

    latent / dim codes, to be trained with objective commitment. With several levels, residual
    quantisation. van den Oord et al. 2017 (arXiv:1711.00937), eq. 1 and 2.
    """

    latent_space = "codes"
    evaluates_given_z = False
    encodes_unconditionally = True
    supports_grids = True
    build_arguments = ("places",)

    def __init__(
        self,
        features: int,
        latent: int,
        codes: Annotated[Count, Field(description="vectors of a table")] = 512,
        dim: Annotated[Count, Field(description="features of a code")] = 8,
        levels: Annotated[
            Count, Field(description="tables, each for the residual of those before")
        ] = 1,
        decay: Annotated[
            Share,
            Field(description="decay of the running means that the vectors follow"),
        ] = 0.99,
        places: int = 1,
    ) -> None:
        super().__init__()
        parts = places * groups_of(latent, dim, f"{dim} features")
        self.head = nn.Linear(features, latent)
        self.codebook = VectorTables(parts, codes, dim, levels, decay)

    def prepare(self, examples: Examples) -> None:
        """Set the codebook to encodings of training examples."""
        x, _ = examples(2 * self.codebook.size)
        h = self.model.features(x.to(self.head.weight.device))
        self.codebook.start(self._encoding(h))

    def _encoding(self, h: Tensor) -> Tensor:
        shape = (self.codebook.parts, self.codebook.dim)
        encoding: Tensor = self.head(h).flatten(1).unflatten(-1, shape)
        return encoding

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q: Distribution = self.codebook(self._encoding(h))
        return q


class LevelGrid(Codebook):
    """Codebook of a fixed grid: D features of L_1, ..., L_D levels each, in [-1, 1].

    K is the product of the levels.
    """

    def __init__(self, groups: int, levels: tuple[int, ...]) -> None:
        self.groups = groups
        self.size = math.prod(levels)
        self.levels = torch.tensor(levels)
        one = torch.ones(1, dtype=torch.long)
        self.basis = torch.cat([one, self.levels[:-1]]).cumprod(0)

    def vectors(self, index: Tensor) -> Tensor:
        half = (self.levels // 2).to(index.device)
        high_digits = index.unsqueeze(-1) // self.basis.to(index.device)
        digits = high_digits % self.levels.to(index.device)
        return ((digits - half) / half).flatten(1)

    def index(self, z: Tensor) -> Tensor:
        half = (self.levels // 2).to(z.device)
        digits = (z.unflatten(-1, (self.groups, -1)) * half).round().long() + half
        codes: Tensor = (digits * self.basis.to(z.device)).sum(-1)
        return codes

    def by_table(self, index: Tensor) -> Tensor:
        return index.reshape(1, -1)


class FiniteScalarPosterior(Posterior):
    """Finite scalar quantisation: features bounded by tanh, rounded to few levels.

    No codebook is learned, so no code can become unused. Mentzer et al. 2024 (arXiv:2309.15505),
    section 3.1.
    """

    latent_space = "codes"
    evaluates_given_z = False
    supports_grids = True
    build_arguments = ("places",)

    def __init__(
        self,
        features: int,
        latent: int,
        levels: Annotated[
            tuple[Count, ...], Field(description="levels of each feature of a code")
        ] = (8, 5, 5, 5),
        places: int = 1,
    ) -> None:
        super().__init__()
        if min(levels) < 2:
            raise TightboundError(
                f"levels = {levels} leaves a feature with one level, which carries no "
                "information: give 2 or more"
            )
        self.codebook = LevelGrid(
            places * groups_of(latent, len(levels), f"{len(levels)} features"),
            tuple(levels),
        )
        self.head = nn.Linear(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        raw = self.head(h).flatten(1).unflatten(-1, (self.codebook.groups, -1))
        levels = self.codebook.levels.to(h.device)
        half = (levels - 1) * 1.001 / 2
        shift = 0.5 * (levels % 2 == 0)  # half a level for an even number of levels
        bounded = (raw + torch.atanh(shift / half)).tanh() * half - shift
        code_of = bounded.round() / (levels // 2)
        through = code_of + (bounded - bounded.detach()) / (levels // 2)
        vector = code_of.detach().flatten(1)
        code = Code(self.codebook.index(vector), vector)
        return Quantized(
            code,
            through.flatten(1),
            torch.zeros_like(vector[:, 0]),
            self.codebook,
            raw.detach(),
        )
