"""Objectives on parts of the KL: total correlation, covariance of the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field
from torch import Tensor
from torch.distributions import Independent

from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.latent import Latent
from tightbound.core.options import Weight
from tightbound.core.trace import Gather, Trace


class Parts(NamedTuple):
    """KL(q(z|x), p(z)) in three parts, each (K, B) at the drawn z.

    Index-code information, total correlation, and dimension-wise KL.
    """

    information: Tensor
    correlation: Tensor
    dimensions: Tensor


def log_shares(b: int, n: int, like: Tensor) -> Tensor:
    """Log-weights (B, B) for an unbiased estimate of q(z) from a batch, row by row.

    1/N on the example that z came from, (N - 1) / N shared equally by the others: minibatch
    stratified sampling (Chen et al. 2018, arXiv:1802.04942, appendix C.2), averaged over which of
    the others gets their odd weight.
    """
    other = -math.inf
    if n > 1:
        other = math.log((n - 1) / (n * max(1, b - 1)))
    return like.new_full((b, b), other).fill_diagonal_(-math.log(n))


def decompose(
    site: Latent, n: int | None = None, gather: Gather = lambda rows: rows
) -> Parts:
    """Parts of a site's KL, from the q of a batch out of n examples.

    Their sum is log q(z|x) - log p(z).
    """
    assert isinstance(site.q, Independent)
    log_p = gather(site.log_p.T).T
    k, b = site.log_p.shape
    z = gather(site.z.reshape(k, b, -1).transpose(0, 1)).transpose(0, 1)
    base = site.q.base_dist  # its K copies of each row are equal
    parameters = {
        name: gather(getattr(base, name)[:b]) for name in base.arg_constraints
    }
    q = type(base)(**parameters, validate_args=False)
    each = q.log_prob(z[:, :, None])  # (K, B, B, d): row i's z under the q of j
    b = len(each[0])
    shares = log_shares(b, max(n or b, b), each)
    log_q = each.sum(-1)
    log_qz = (log_q + shares).logsumexp(2)
    log_marginals = (each + shares[..., None]).logsumexp(2).sum(-1)
    log_q_of_x = log_q.diagonal(dim1=1, dim2=2)
    return Parts(log_q_of_x - log_qz, log_qz - log_marginals, log_marginals - log_p)


@dataclass(frozen=True)
class TotalCorrelation(Objective):
    """beta-TC-VAE: distortion + alpha I(x; z) + beta TC(z) + gamma dimension-wise KL.

    The last term is sum_j KL(q(z_j), p(z_j)). Estimated on the batch of N = `rows` training
    examples with stratified weights; alpha = beta = gamma = 1 is the ELBO. Chen et al. 2018
    (arXiv:1802.04942), eq. 4.
    """

    rows: int | None = None
    beta: Annotated[Weight, Field(description="weight of the total correlation")] = 6.0
    alpha: Annotated[
        Weight, Field(description="weight of the mutual information I(x; z)")
    ] = 1.0
    gamma: Annotated[
        Weight, Field(description="weight of the rates of single features")
    ] = 1.0
    per_example = False
    build_arguments = ("rows",)
    compatible_hierarchies = ("flat",)
    compatible_posteriors = ("normal",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        (site,) = trace.latents.values()
        parts = decompose(site, self.rows, trace.gather)
        weighed = (
            self.alpha * parts.information
            + self.beta * parts.correlation
            + self.gamma * parts.dimensions
        )
        return trace.distortion.mean() + weighed.mean()


@dataclass(frozen=True)
class Dip(Objective):
    """DIP-VAE: -ELBO + off sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2.

    C is the covariance of the posterior means (kind 1) or of q(z), their mean variance added (kind
    2). Kumar, Sattigeri and Balakrishnan 2018 (arXiv:1711.00848), eq. 6 and 7.
    """

    kind: Annotated[
        Annotated[int, Field(ge=1, le=2)],
        Field(description="covariance of the posterior means (1) or of q(z) (2)"),
    ] = 1
    off: Annotated[Weight, Field(description="weight of the covariances")] = 10.0
    diagonal: Annotated[
        Weight, Field(description="weight of the distance of the variances from 1")
    ] = 100.0
    per_example = False
    compatible_hierarchies = ("flat",)
    compatible_posteriors = ("normal",)

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        (site,) = trace.latents.values()
        assert site.q is not None
        means = trace.gather(site.q.mean)
        centred = means - means.mean(0)
        cov = centred.T @ centred / len(centred)
        if self.kind == 2:
            cov = cov + trace.gather(site.q.variance).mean(0).diag()
        diagonal = cov.diagonal()
        off_diagonal = cov.square().sum() - diagonal.square().sum()
        variances = (diagonal - 1).square().sum()
        penalty = self.off * off_diagonal + self.diagonal * variances
        return penalty - trace.elbo.mean()
