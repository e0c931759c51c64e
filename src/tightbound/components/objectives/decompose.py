"""Objectives that look into the KL: its total correlation, the covariance of the codes.

They see the whole batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from pydantic import Field
from torch import Tensor
from torch.distributions import Independent

from tightbound.core.component import Objective
from tightbound.core.options import Weight
from tightbound.core.trace import Clock, Gather, Latent, Trace


class Parts(NamedTuple):
    """KL(q(z|x), p(z)) in three, each (K, B) at the drawn z: index-code information, total
    correlation, the rest.
    """

    information: Tensor
    correlation: Tensor
    dimensions: Tensor


def log_shares(b: int, n: int, like: Tensor) -> Tensor:
    """Log-weights (B, B) under which row i's weighted sum of q(z|x_j) is an unbiased estimate of
    q(z).

    1/N on the example z came from, (N - 1) / N shared equally by the others: minibatch stratified
    sampling (Chen et al. 2018, arXiv:1802.04942, appendix C.2), averaged over which of the others
    takes their odd weight.
    """
    shares = like.new_full(
        (b, b), math.log((n - 1) / (n * max(1, b - 1))) if n > 1 else -math.inf
    )
    return shares.fill_diagonal_(-math.log(n))


def decompose(
    site: Latent, n: int | None = None, gather: Gather = lambda rows: rows
) -> Parts:
    """The parts of a site's KL, from the q of a batch out of n examples; their sum is log q(z|x) -
    log p(z).
    """
    assert isinstance(site.q, Independent)
    log_p = gather(site.log_p.T).T
    k, b = site.log_p.shape
    z = gather(site.z.reshape(k, b, -1).transpose(0, 1)).transpose(0, 1)
    base = site.q.base_dist  # of whose K copies of each row one will do
    q = type(base)(
        **{name: gather(getattr(base, name)[:b]) for name in base.arg_constraints},
        validate_args=False,
    )
    each = q.log_prob(z[:, :, None])  # (K, B, B, d): row i's z under the q of j
    b = len(each[0])
    shares = log_shares(b, max(n or b, b), each)
    log_q = each.sum(-1)
    log_qz = (log_q + shares).logsumexp(2)
    log_marginals = (each + shares[..., None]).logsumexp(2).sum(-1)
    own = log_q.diagonal(dim1=1, dim2=2)
    return Parts(own - log_qz, log_qz - log_marginals, log_marginals - log_p)


@dataclass(frozen=True)
class TotalCorrelation(Objective):
    """distortion + alpha I(x; z) + beta TC(z) + gamma sum_j KL(q(z_j), p(z_j)): the beta-TC-VAE.

    beta: weight of the total correlation.  alpha: weight of I(x; z).  gamma: weight of the rates of
    single features. Chen et al. 2018 (arXiv:1802.04942), eq. 4, estimated on the batch with their
    stratified weights; alpha = beta = gamma = 1 is the ELBO.  rows: the number of training
    examples.
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
    """-ELBO + off sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2: DIP-VAE.

    kind: C is the covariance of the posterior means (1) or of q(z), their mean variance added (2).
    off: weight of the covariances.  diagonal: weight of the distance of the variances from 1.
    Kumar, Sattigeri and Balakrishnan 2018 (arXiv:1711.00848), eq. 6 and 7.
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
        apart = cov.square().sum() - diagonal.square().sum()
        return (
            self.off * apart
            + self.diagonal * (diagonal - 1).square().sum()
            - trace.elbo.mean()
        )
