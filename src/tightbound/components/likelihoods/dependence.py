"""Dependence of the columns of a table on the categories of their row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tightbound.components.likelihoods.product import Product

MOST_SLOTS = 64  # categories that others may depend on
ROWS = 4000  # training examples of the initial fit
ITERATIONS = 30
PENALTY = 1.0  # precision of the normal prior on each coefficient of the fit

#: Independent columns of rows from (decoder's output at 0) + shift, (m, C, D).
Columns = Callable[[Tensor], Product]


class Dependence(nn.Module):
    """Linear shift of the decoder's output by the categories of a row.

        y_k + sum_s mask_sk shift_sk (c_s - mean_s)

    c_s is 1 in rows of category s. With normal columns this is the general location model of
    Olkin and Tate 1961 (doi:10.1214/aoms/1177705052), here given z. Columns of numbers depend on
    those of categories, and these on columns of categories before them, so that the product of
    the columns is a density. The column with the rarest category comes first.

    Args:
        places: Dimensions of each column.
        categories: Which columns hold categories or truth values.
        channels: Values C that the likelihood takes for each dimension.
        dims: Number of dimensions D.
    """

    def __init__(
        self,
        places: Sequence[slice],
        categories: Sequence[bool],
        channels: int,
        dims: int,
    ) -> None:
        super().__init__()
        self.places = places
        self.parents = [
            p for p, is_one in zip(places, categories, strict=True) if is_one
        ]
        self.candidates = [d for p in self.parents for d in range(p.start, p.stop)]
        size = min(len(self.candidates), MOST_SLOTS)
        self.register_buffer("slots", torch.tensor(self.candidates[:size]))
        self.register_buffer("sequence", torch.arange(len(self.parents)))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("mask", torch.zeros(size, dims))
        self.shift = nn.Parameter(torch.zeros(channels, size, dims))
        self._fixed: list[slice] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The shift of each value of the decoder's output, (m, C, D), of rows (m, D)."""
        hot = x[:, self.get_buffer("slots")] - self.get_buffer("mean")
        weight = self.shift * self.get_buffer("mask")
        return torch.einsum("ms,csd->mcd", hot, weight)

    @property
    def order(self) -> list[slice]:
        """The columns of categories that another column depends on, in order."""
        if self._fixed is not None:
            return self._fixed
        active = self.get_buffer("slots")[self.get_buffer("mask").any(1)].tolist()
        return [place for place in self._in_sequence() if _holds_any(place, active)]

    def _in_sequence(self) -> list[slice]:
        """The columns of categories in the order in which they are drawn."""
        return [self.parents[i] for i in self.get_buffer("sequence").tolist()]

    def fix_order(self) -> None:
        """Read `order` from the weights once, for graphs that cannot depend on values."""
        self._fixed = self.order

    # ---- initial values

    def start(self, x: Tensor, columns: Columns, allowed: Tensor) -> None:
        """Set slots, order, mask and shift by penalised maximum likelihood without latents.

        The fit maximises log p(x) at a decoder's output of 0, with a normal prior on each
        coefficient. A column keeps the dependence on a category where that raises its
        log-likelihood by more than the Bayesian information criterion takes off.

        Args:
            x: Training rows (n, D) in model units.
            columns: The columns from their output (n, C, D).
            allowed: Which dimensions others may depend on, (D,).
        """
        spread = x.std(0)
        dims = [d for d in self.candidates if allowed[d] and spread[d] > 0]
        if not dims:
            return
        rarest = torch.stack([_rarest(x[:, place]) for place in self.parents])
        self.get_buffer("sequence").copy_(rarest.argsort(stable=True))
        slots = self.get_buffer("slots")
        chosen = _strongest(x, torch.tensor(dims), len(slots))
        slots[: len(chosen)] = chosen
        self.get_buffer("mean").copy_(x[:, slots].mean(0))
        self.allow(len(chosen))
        self._fit(x, columns)
        self._prune(x, columns)

    def allow(self, count: int) -> None:
        """Let numbers, and categories drawn later, depend on each of the first slots."""
        mask = self.get_buffer("mask")
        sequence = self._in_sequence()
        for s, dim in enumerate(self.get_buffer("slots")[:count].tolist()):
            own = next(p for p in sequence if p.start <= dim < p.stop)
            mask[s] = 1
            for place in sequence[: sequence.index(own) + 1]:
                mask[s, place] = 0

    def _fit(self, x: Tensor, columns: Columns) -> None:
        """Maximise the penalised likelihood by L-BFGS."""
        shift = self.shift.detach().clone().requires_grad_()
        mask = self.get_buffer("mask")
        hot = x[:, self.get_buffer("slots")] - self.get_buffer("mean")
        search = torch.optim.LBFGS(
            [shift],
            max_iter=ITERATIONS,
            max_eval=2 * ITERATIONS,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            search.zero_grad()
            y = torch.einsum("ms,csd->mcd", hot, shift * mask)
            penalty = PENALTY * (shift * mask).square().sum() / 2
            loss = (penalty - columns(y).log_prob(x).sum()) / len(x)
            loss.backward(inputs=[shift])
            return loss

        with torch.enable_grad():
            search.step(closure)
        if bool(shift.isfinite().all()):
            self.shift.copy_(shift.detach() * mask)

    def _prune(self, x: Tensor, columns: Columns) -> None:
        """Remove each dependence that the Bayesian information criterion does not keep."""
        mask = self.get_buffer("mask")
        full = self._by_column(x, columns)
        keep = torch.zeros_like(mask)
        for s in range(len(mask)):
            if not bool(mask[s].any()):
                continue
            before = mask[s].clone()
            mask[s] = 0
            gain = full - self._by_column(x, columns)
            mask[s] = before
            for place, nats in zip(self.places, gain.tolist(), strict=True):
                width = place.stop - place.start
                free = len(self.shift) * max(1, width - 1)
                if nats > free * math.log(len(x)) / 2:
                    keep[s, place] = before[place]
        mask.copy_(keep)
        self.shift.mul_(mask)

    def _by_column(self, x: Tensor, columns: Columns) -> Tensor:
        """Log-likelihood of each column, (columns,)."""
        each = columns(self(x)).log_prob_each(x)
        return torch.stack([each[:, place].sum() for place in self.places])


def _rarest(x: Tensor) -> Tensor:
    """The share of the rarest category of a column (n, width); of one value, 1."""
    share = x.mean(0)
    if x.shape[1] == 1:
        share = torch.cat([share, 1 - share])
    return torch.where(share > 0, share, 1.0).min()


def _strongest(x: Tensor, candidates: Tensor, most: int) -> Tensor:
    """At most `most` of the candidate dimensions, those with the largest correlations."""
    if len(candidates) <= most:
        return candidates
    unit = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    correlation = (unit[:, candidates].T @ unit / len(x)).abs()
    correlation[torch.arange(len(candidates)), candidates] = 0
    strongest = correlation.amax(1).topk(most).indices.sort().values
    return candidates[strongest]


def _holds_any(place: slice, dims: Sequence[int]) -> bool:
    """Whether any of the dimensions lies in a place."""
    return any(place.start <= dim < place.stop for dim in dims)
