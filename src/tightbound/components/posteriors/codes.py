"""q(z|x) over codes: categories, a learned codebook, residual codebooks, and a fixed grid.

On a grid of places (a convolutional encoder, h (n, *grid, F)) z (n, places * latent) goes place by
place, one row of the grid after another, and so do the codes' numbers (n, N): N = places * codes of
a place * levels, in this order.
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
from tightbound.core.options import Count, Positive, Share
from tightbound.core.trace import Context, Examples, Trace
from tightbound.distributions import Code, Codes, Quantized, soft_clip
from tightbound.runtime.errors import TightboundError

# of the mean count: a code that is used less is dead and starts again at an encoding
LEAST_USED = 0.03


def groups_of(latent: int, dim: int, what: str) -> int:
    """How many codes of `dim` features a latent holds; raises TightboundError where it does not
    part evenly.
    """
    if latent % dim:
        raise TightboundError(
            f"latent = {latent} does not part into codes of {what}: set latent "
            f"to a multiple of {dim}"
        )
    return latent // dim


class OneHot:
    """A codebook of unit vectors: category k of K as a one at place k."""

    def __init__(self, groups: int, size: int) -> None:
        self.groups = groups
        self.size = size

    def vectors(self, index: Tensor) -> Tensor:
        return F.one_hot(index, self.size).flatten(1).to(torch.get_default_dtype())

    def index(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (self.groups, self.size)).argmax(-1)

    def moments(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each feature, whose chance to be 1 is `share` (n, N, K)."""
        return share.flatten(1), (share * (1 - share)).flatten(1)


class CategoricalPosterior(Posterior):
    """latent / classes categories, each one-hot, with straight-through Gumbel-softmax gradients.

    classes: values of a category.  temperature: of the relaxation that the gradient is taken of.
    Jang et al. 2017 (arXiv:1611.01144).
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
        self.codebook = OneHot(
            places * groups_of(latent, classes, f"{classes} classes"), classes
        )
        self.head = nn.Linear(features, latent)
        self.temperature = temperature

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        logits = soft_clip(self.head(h).flatten(1), -15, 15).unflatten(
            -1, (self.codebook.groups, self.codebook.size)
        )
        return Codes(logits, self.codebook, self.temperature)


class Codebook(ModelPart):
    """`levels` tables of K vectors (D,): each level quantises what the levels before left over; N =
    groups * levels.

    The tables are running means of the encodings that chose each entry, decay 0.99; dead entries
    start again at an encoding; of several parts of a step, at a mean with nearly all its weight on
    one part's. van den Oord et al. 2017 (arXiv:1711.00937), appendix A.1; Lee et al. 2022
    (arXiv:2203.01941), eq. 3.
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
        self.register_buffer(
            "table",
            torch.randn(levels, size, dim) / 2 ** torch.arange(levels)[:, None, None],
        )
        self.register_buffer("count", torch.ones(levels, size))
        self.register_buffer("total", self.get_buffer("table").clone())

    def vectors(self, index: Tensor) -> Tensor:
        table = self.get_buffer("table")
        index = index.unflatten(-1, (self.parts, self.levels))
        chosen = [table[level][index[..., level]] for level in range(self.levels)]
        return torch.stack(chosen).sum(0).flatten(1)

    def quantise(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """raw (n, parts, D) to numbers (n, parts, levels) and what is left after each level,
        (levels, n, parts, D).
        """
        rest = raw
        found = []
        left = []
        for table in self.get_buffer("table"):
            far = table.square().sum(-1) - 2 * rest @ table.T
            found.append(far.argmin(-1))
            rest = rest - table[found[-1]]
            left.append(rest)
        return torch.stack(found, -1), torch.stack(left)

    def index(self, z: Tensor) -> Tensor:
        """Numbers (n, N) of vectors; where there are several levels, of the greedy parting of a
        vector.
        """
        return self.quantise(z.unflatten(-1, (self.parts, self.dim)))[0].flatten(1)

    def forward(self, raw: Tensor) -> Quantized:
        index, left = self.quantise(raw.detach())
        code = Code(index.flatten(1), self.vectors(index.flatten(1)))
        through = code.vector + (raw - raw.detach()).flatten(1)
        commitment = (raw - (raw.detach() - left)).square().sum((0, 2, 3))
        return Quantized(code, through, commitment, self, raw.detach())

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """How often each entry was chosen, the sum of what chose it, and encodings to start dead
        entries at.
        """
        q = next(
            site.q
            for site in trace.latents.values()
            if getattr(site.q, "codebook", None) is self
        )
        assert isinstance(q, Quantized)
        index, left = self.quantise(q.raw)
        before = torch.cat([q.raw[None], left[:-1]]).flatten(1, 2)
        chosen = F.one_hot(index.flatten(0, 1).T, self.size).to(before)
        some = torch.randint(before.shape[1], (self.size,), device=before.device)
        lot = (
            60 * torch.rand(self.size, 1, device=before.device) - 60
        ).exp()  # of parts, nearly all is of the first
        found = {
            "count": chosen.sum(1),
            "total": chosen.mT @ before,
            "fresh": before[:, some] * lot,
            "lot": lot,
        }
        return {f"codes/{name}": value for name, value in found.items()}

    def after_step(self, sums: dict[str, Tensor]) -> None:
        """Moves the running means by an accepted step, and dead entries to encodings."""
        table, count, total = (
            self.get_buffer(name) for name in ("table", "count", "total")
        )
        count.lerp_(sums["codes/count"], 1 - self.decay)
        total.lerp_(sums["codes/total"], 1 - self.decay)
        usual = count.mean(-1, keepdim=True)
        dead = (count < LEAST_USED * usual).unsqueeze(-1)
        fresh = sums["codes/fresh"] / sums["codes/lot"]
        total.copy_(torch.where(dead, fresh * usual.unsqueeze(-1), total))
        count.copy_(torch.where(dead.squeeze(-1), usual, count))
        table.copy_(total / count.unsqueeze(-1).clamp(min=1e-6))

    def start(self, raw: Tensor) -> None:
        """Puts the tables on encodings raw (m, parts, D), level by level, each entry on one at
        random.
        """
        rest = raw.flatten(0, 1)
        for level, table in enumerate(self.get_buffer("table")):
            some = torch.arange(self.size) % len(rest)
            chosen = rest[torch.randperm(len(rest))[some].to(rest.device)]
            table.copy_(chosen + 1e-3 * rest.std() * torch.randn_like(chosen))
            rest = (
                rest - table[(table.square().sum(-1) - 2 * rest @ table.T).argmin(-1)]
            )
            self.get_buffer("total")[level].copy_(table)


class VectorQuantizedPosterior(ModelAware, Posterior):
    """latent / dim codes, each the nearest of `codes` learned vectors to a linear map of h; with
    objective commitment.

    codes: vectors of a table.  dim: features of a code.  decay: of the running means that the
    vectors follow. levels: tables, each for what is left over by those before (residual
    quantisation). van den Oord et al. 2017 (arXiv:1711.00937), eq. 1 and 2.
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
        self.codebook = Codebook(parts, codes, dim, levels, decay)

    def prepare(self, examples: Examples) -> None:
        """Puts the codebook on encodings of training examples."""
        x, _ = examples(2 * self.codebook.size)
        self.codebook.start(
            self._encoding(self.model.features(x.to(self.head.weight.device)))
        )

    def _encoding(self, h: Tensor) -> Tensor:
        return (
            self.head(h)
            .flatten(1)
            .unflatten(-1, (self.codebook.parts, self.codebook.dim))
        )

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        q: Distribution = self.codebook(self._encoding(h))
        return q


class Grid:
    """The codes of a fixed grid: D places of L_1, ..., L_D levels each, in [-1, 1]; K = their
    product.
    """

    def __init__(self, groups: int, levels: tuple[int, ...]) -> None:
        self.groups = groups
        self.size = math.prod(levels)
        self.levels = torch.tensor(levels)
        self.basis = torch.cat(
            [torch.ones(1, dtype=torch.long), self.levels[:-1]]
        ).cumprod(0)

    def vectors(self, index: Tensor) -> Tensor:
        half = (self.levels // 2).to(index.device)
        digits = (
            index.unsqueeze(-1)
            // self.basis.to(index.device)
            % self.levels.to(index.device)
        )
        return ((digits - half) / half).flatten(1)

    def index(self, z: Tensor) -> Tensor:
        half = (self.levels // 2).to(z.device)
        digits = (z.unflatten(-1, (self.groups, -1)) * half).round().long() + half
        return (digits * self.basis.to(z.device)).sum(-1)


class FiniteScalarPosterior(Posterior):
    """Each feature, bounded by tanh, is rounded to one of few levels; no codebook is learned and
    none can die.

    levels: per feature of a code; their product is the number of codes.  Mentzer et al. 2024
    (arXiv:2309.15505), 3.1.
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
                f"levels = {levels} leaves a feature with one level, which "
                "says nothing: give 2 or more"
            )
        self.codebook = Grid(
            places * groups_of(latent, len(levels), f"{len(levels)} features"),
            tuple(levels),
        )
        self.head = nn.Linear(features, latent)

    def forward(self, h: Tensor, ctx: Context, p: Distribution | None) -> Distribution:
        raw = self.head(h).flatten(1).unflatten(-1, (self.codebook.groups, -1))
        levels = self.codebook.levels.to(h.device)
        half = (levels - 1) * 1.001 / 2
        odd = 0.5 * (levels % 2 == 0)
        bounded = (raw + torch.atanh(odd / half)).tanh() * half - odd
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
