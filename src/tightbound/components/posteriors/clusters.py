"""q(y|x) of clusters, which starts from a clustering of training examples."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from tightbound.components.posteriors.codes import CategoricalPosterior
from tightbound.core.batch import Batch
from tightbound.core.component import ModelAware
from tightbound.core.draw import Draw, Examples

EXAMPLES = 5000  # training examples that are clustered
COMPONENTS = 30  # principal components
NEIGHBOURS = 7  # of an example in the graph
STEPS = 500  # optimiser steps on the clusters
RATE = 1e-3  # learning rate


def spectral_clusters(x: Tensor, count: int) -> Tensor:
    """Spectral clustering of x (n, d): the cluster number of each example, (n,).

    Normalised cuts of the graph of nearest neighbours in the plane of the first 30 principal
    components. von Luxburg 2007 (arXiv:0711.0189), section 4.
    """
    # imported here, since it takes a second
    from sklearn.cluster import SpectralClustering
    from sklearn.decomposition import PCA

    pca = PCA(min(COMPONENTS, *x.shape), random_state=0)
    projected = pca.fit_transform(x.double().cpu().numpy())
    clustering = SpectralClustering(
        count,
        affinity="nearest_neighbors",
        n_neighbors=min(NEIGHBOURS, len(x)),
        random_state=0,
    )
    with warnings.catch_warnings():  # of a graph that is not connected
        warnings.simplefilter("ignore")
        return torch.from_numpy(clustering.fit_predict(projected)).long().to(x.device)


class ClusterPosterior(ModelAware, CategoricalPosterior):
    """Categorical q(y|x) of clusters, pretrained on a spectral clustering.

    Without it the bound converges early to few and uneven classes; its maximum is not changed.
    Jiang et al. 2017 (arXiv:1611.05148), section 3.3, start from a mixture fitted to the codes of
    an autoencoder.
    """

    def prepare(self, examples: Examples) -> None:
        """Cluster examples, and train all weights on the bound given the clusters.

        q(y|x) is trained to predict the clusters.
        """
        model = self.model
        x, _ = examples(EXAMPLES)
        count = self.codebook.size
        if model.condition_encoder is not None or len(x) <= count:
            return
        x = x.to(self.head.weight.device)
        number = spectral_clusters(model.inputs(Batch(x)).flatten(1), count)
        optimizer = torch.optim.Adam(model.parameters(), RATE)
        for _ in range(STEPS):
            rows = torch.randint(len(x), (128,), device=x.device)
            y = F.one_hot(number[rows], count).to(self.head.weight)
            with torch.enable_grad():
                trace = model(Batch(x[rows]), Draw(given={"y": y}))
                negative_bound = trace.latents["z"].kl - trace.log_px
                loss = negative_bound - trace.latents["y"].q.log_prob(y)
                loss.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
