"""Models that differ in what training minimises, or in the scale of their likelihood."""

from __future__ import annotations

from tightbound.models.recipes.recipe import Recipe, part

BOUNDS = {
    "vae": Recipe(
        purpose="features with a mean and a variance, and new data: the place to start",
        paper="Kingma and Welling 2014, arXiv:1312.6114",
    ),
    "ae": Recipe(
        posterior=part("delta"),
        objective=part("distortion"),
        purpose="features only, nothing to sample from: the comparison a VAE is shown against",
        paper="Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647",
    ),
    "beta-vae": Recipe(
        objective=part("elbo", beta=4.0),
        purpose="fewer, more separate features at the cost of detail",
        paper="Higgins et al. 2017, openreview:Sy2fzU9gl",
    ),
    "iwae": Recipe(
        objective=part("iwae"),
        k=50,
        purpose="a tighter bound from K samples: a better density model of the same size",
        paper="Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519",
    ),
    "missing-data": Recipe(
        objective=part("iwae"),
        k=20,
        missing="zero",
        purpose=(
            "data with missing values: a density of what was observed, and "
            "imputations with their spread"
        ),
        paper="Mattei and Frellsen 2019, arXiv:1812.02633",
    ),
    "miwae": Recipe(
        objective=part("iwae", m=8),
        k=64,
        purpose="as iwae, but the encoder learns better: the mean of 8 bounds of 8 samples",
        paper="Rainforth et al. 2018, arXiv:1802.04537",
    ),
    "piwae": Recipe(
        objective=part("piwae", m=8),
        k=64,
        purpose=(
            "the decoder learns from a bound of 64 samples, the encoder from 8 "
            "bounds of 8: the best of both"
        ),
        paper="Rainforth et al. 2018, arXiv:1802.04537",
    ),
    "ciwae": Recipe(
        objective=part("ciwae", beta=0.05),
        k=64,
        purpose="between VAE and iwae: a tight bound whose encoder still gets a signal",
        paper="Rainforth et al. 2018, arXiv:1802.04537",
    ),
    "iwae-dreg": Recipe(
        objective=part("dreg"),
        k=64,
        purpose=(
            "as iwae with an encoder gradient of less noise; best where k is "
            "large; two passes a step"
        ),
        paper="Tucker et al. 2019, arXiv:1810.04152",
    ),
    "vae-stl": Recipe(
        objective=part("stl"),
        purpose="as vae with a gradient whose noise vanishes where q is right; two passes a step",
        paper="Roeder, Wu and Duvenaud 2017, arXiv:1703.09194",
    ),
    "disentangled-beta-vae": Recipe(
        objective=part("capacity", gamma=1000.0),
        purpose=(
            "separate features without beta's loss of detail: the rate is let up "
            "to 25 nats by and by"
        ),
        paper="Burgess et al. 2018, arXiv:1804.03599",
    ),
    "beta-tc-vae": Recipe(
        objective=part("total-correlation", beta=6.0),
        purpose="separate features: only their dependence is penalised, not what they tell of x",
        paper="Chen et al. 2018, arXiv:1802.04942",
    ),
    "dip-vae-1": Recipe(
        objective=part("dip", kind=1, off=10.0, diagonal=100.0),
        purpose="separate features by uncorrelated posterior means",
        paper="Kumar, Sattigeri and Balakrishnan 2018, arXiv:1711.00848",
    ),
    "dip-vae-2": Recipe(
        objective=part("dip", kind=2, off=10.0, diagonal=10.0),
        purpose=(
            "separate features by an uncorrelated q(z); more steady than dip-vae-1 "
            "in many dimensions"
        ),
        paper="Kumar, Sattigeri and Balakrishnan 2018, arXiv:1711.00848",
    ),
    "wae-mmd": Recipe(
        posterior=part("delta"),
        objective=part("mmd", weight=10.0, kernel="imq"),
        purpose=(
            "an autoencoder whose codes together follow the prior, so that one may "
            "sample; no density"
        ),
        paper="Tolstikhin et al. 2018, arXiv:1711.01558",
    ),
    "info-vae": Recipe(
        objective=part("mmd", weight=999.0, rate_weight=1.0, kernel="rbf"),
        purpose="features that tell much of x while q(z) as a whole matches the prior",
        paper="Zhao, Song and Ermon 2019, arXiv:1706.02262",
    ),
    "swae": Recipe(
        posterior=part("delta"),
        objective=part("sliced", weight=10.0),
        purpose="as wae-mmd with sorted projections instead of a kernel: cheap in large batches",
        paper="Kolouri et al. 2018, arXiv:1804.01947",
    ),
    "rae-l2": Recipe(
        posterior=part("delta"),
        objective=part("rae", codes=0.01),
        train={"groups": {"inference": {"weight_decay": 0.0}}},
        purpose=(
            "an autoencoder with small codes and a decayed decoder; sample it by a "
            "prior fitted afterwards"
        ),
        paper="Ghosh et al. 2020, arXiv:1903.12436",
    ),
    "rae-gp": Recipe(
        posterior=part("delta"),
        objective=part("rae", codes=0.01, smooth=0.01),
        train={"weight_decay": 0.0},
        purpose="as rae-l2, its decoder kept smooth by a gradient penalty",
        paper="Ghosh et al. 2020, arXiv:1903.12436",
    ),
    "factor-vae": Recipe(
        objective=part("factor", gamma=35.0),
        purpose=(
            "separate features, as beta-tc-vae with a critic instead of an "
            "estimate over the batch"
        ),
        paper="Kim and Mnih 2018, arXiv:1802.05983",
    ),
    "aae": Recipe(
        posterior=part("delta"),
        objective=part("adversarial"),
        purpose=(
            "an autoencoder whose codes follow the prior as far as a critic can "
            "tell; no density"
        ),
        paper="Makhzani et al. 2015, arXiv:1511.05644",
    ),
    "vae-gan": Recipe(
        objective=part("vae-gan"),
        likelihood=part("gaussian", scale="optimal"),
        purpose=(
            "images that a critic takes for true, compared by what it sees and not "
            "pixel by pixel"
        ),
        paper="Larsen et al. 2016, arXiv:1512.09300",
    ),
    "msssim-vae": Recipe(
        objective=part("msssim"),
        likelihood=part("gaussian", scale="optimal"),
        purpose=(
            "reconstructions that keep edges and texture; its nats are those of a "
            "Gaussian all the same"
        ),
        paper="Snell et al. 2017, arXiv:1511.06409",
    ),
    "sigma-vae": Recipe(
        likelihood=part("gaussian", scale="optimal"),
        purpose=(
            "real or grey data with one calibrated noise level: no beta to tune "
            "between rate and distortion"
        ),
        paper="Rybkin, Daniilidis and Levine 2021, arXiv:2006.13202",
    ),
    "ppca": Recipe(
        posterior=part("normal", scale="shared"),
        likelihood=part("gaussian", scale="shared", floor=0.0001),
        network=part("linear"),
        train={"lr": 0.01, "weight_decay": 0.0},
        purpose=(
            "linear and Gaussian: the optimum is known, principal components; a "
            "baseline and a check"
        ),
        paper=(
            "Tipping and Bishop 1999, doi:10.1111/1467-9868.00196; Lucas et al. "
            "2019, arXiv:1911.02469"
        ),
    ),
}
