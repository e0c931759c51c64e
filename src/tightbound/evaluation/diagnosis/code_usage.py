"""Use of codebooks: entries in use, and their perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.core.batch import Batch
from tightbound.distributions import Quantized
from tightbound.distributions.codes import CodeDistribution
from tightbound.runs.run import Run


@dataclass(frozen=True)
class CodeUsage:
    """Use of the codebook of one site by the codes of n examples.

    Args:
        site: name of the site.
        n: number of examples.
        entries: entries K of a table.
        tables: number of tables; each group of a categorical latent, and each level of a
            residual quantisation, has its own.
        codes: codes of an example that a table is used for.
        used: entries that some code has, the mean over tables.
        perplexity: exp of the entropy of the entries, in nats and as a mean over tables:
            how many entries in equal use have the same entropy.
    """

    site: str
    n: int
    entries: int
    tables: int
    codes: int
    used: float
    perplexity: float

    @property
    def share(self) -> float:
        """The entropy as a share of the largest that n examples can show, 0 to 1."""
        most = min(self.entries, self.n * self.codes)
        return math.log(self.perplexity) / math.log(most) if most > 1 else 1.0


def code_usage(run: Run, x: Batch) -> list[CodeUsage]:
    """The use of each codebook by the most probable codes of examples.

    Args:
        run: the run.
        x: examples (n, *shape) in model units.
    """
    numbers: dict[str, list[Tensor]] = {}
    sizes: dict[str, int] = {}
    with torch.no_grad():
        for part in x.split(1000):
            for name, site in run.predictor.latents(part).items():
                q = site.q
                if name not in run.model.site_widths:  # classes are no features
                    continue
                if isinstance(q, Quantized):
                    index = q.code.index
                elif isinstance(q, CodeDistribution):
                    index = q.codebook.index(site.z)
                else:
                    continue
                numbers.setdefault(name, []).append(q.codebook.by_table(index).cpu())
                sizes[name] = q.codebook.size
    return [
        _usage(name, len(x), sizes[name], torch.cat(parts, 1))
        for name, parts in numbers.items()
    ]


def _usage(site: str, n: int, entries: int, numbers: Tensor) -> CodeUsage:
    """The use of tables by entry numbers (tables, m)."""
    counts = torch.stack([row.bincount(minlength=entries) for row in numbers]).double()
    share = counts / counts.sum(1, keepdim=True)
    entropy = -torch.xlogy(share, share).sum(1).mean()
    return CodeUsage(
        site=site,
        n=n,
        entries=entries,
        tables=len(numbers),
        codes=numbers.shape[1] // n,
        used=float((counts > 0).double().sum(1).mean()),
        perplexity=float(entropy.exp()),
    )
