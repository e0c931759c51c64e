"""q(y|x) of clusters, which are told apart before training begins."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from tightbound.components.posteriors.codes import CategoricalPosterior
from tightbound.core.batch import Batch
from tightbound.core.component import ModelAware
from tightbound.core.trace import Draw, Examples

SHOWN = 5000
AXES = 30
NEAR = 7
STEPS = 500
RATE = 1e-3


def neighbourhoods(x: Tensor, count: int) -> Tensor:
    """The number of each example's cluster (n,), by normalised cuts of the graph of nearest
    neighbours of x (n, d).

    In the plane of the first 30 principal components.  von Luxburg 2007 (arXiv:0711.0189), section
    4.
    """
    from sklearn.cluster import (
        SpectralClustering,
    )  # only now: importing it takes a second
    from sklearn.decomposition import PCA

    flat = PCA(min(AXES, *x.shape), random_state=0).fit_transform(
        x.double().cpu().numpy()
    )
    cut = SpectralClustering(
        count,
        affinity="nearest_neighbors",
        n_neighbors=min(NEAR, len(x)),
        random_state=0,
    )
    with warnings.catch_warnings():  # of a graph in pieces, which are clusters too
        warnings.simplefilter("ignore")
        return torch.from_numpy(cut.fit_predict(flat)).long().to(x.device)


class ClusterPosterior(ModelAware, CategoricalPosterior):
    """A class of each example, which the encoder learns from a clustering of training examples
    before the first step.

    Left to itself the bound settles early for few and uneven classes; where it begins is not what
    it maximises. Jiang et al. 2017 (arXiv:1611.05148), section 3.3, begin at a mixture fitted to an
    autoencoder's codes.
    """

    def prepare(self, examples: Examples) -> None:
        """Clusters some examples, and moves all weights by the bound given their clusters, and
        q(y|x) to say them.
        """
        model = self.model
        x, _ = examples(SHOWN)
        count = self.codebook.size
        if model.condition_encoder is not None or len(x) <= count:
            return
        x = x.to(self.head.weight.device)
        number = neighbourhoods(model.inputs(Batch(x)).flatten(1), count)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        for _ in range(STEPS):
            some = torch.randint(len(x), (128,), device=x.device)
            y = F.one_hot(number[some], count).to(self.head.weight)
            with torch.enable_grad():
                trace = model(Batch(x[some]), Draw(given={"y": y}))
                (
                    trace.latents["z"].kl
                    - trace.log_px
                    - trace.latents["y"].q.log_prob(y)
                ).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
