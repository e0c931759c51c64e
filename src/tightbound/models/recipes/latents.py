"""Models that differ in their latents: layers, posteriors, priors, codes; and in their
likelihoods.
"""

from __future__ import annotations

from tightbound.models.recipes.recipe import Recipe, part

LATENTS = {
    "m2": Recipe(
        hierarchy="labelled",
        objective=part("semi-supervised"),
        purpose=(
            "labels of which most are missing: a classifier that learns from all "
            "examples, and new data of a class"
        ),
        paper="Kingma et al. 2014, arXiv:1406.5298",
    ),
    "gm-vae": Recipe(
        hierarchy="labelled",
        prior=part("conditional"),
        purpose=(
            "clusters without labels: z is a mixture of normals, and each example "
            "has a chance of each"
        ),
        paper="Dilokthanakul et al. 2016, arXiv:1611.02648; Jiang et al. 2017, arXiv:1611.05148",
    ),
    "vimco": Recipe(
        posterior=part("categorical", classes=2),
        prior=part("codes"),
        objective=part("vimco"),
        latent=64,
        k=10,
        purpose="32 binary choices, learned without a relaxation from a bound of 10 samples",
        paper="Mnih and Rezende 2016, arXiv:1602.06725",
    ),
    "conditional": Recipe(
        conditional=True,
        purpose=(
            "new data of a class that you name, or for numbers that you give; "
            "features of what c leaves open"
        ),
        paper="Sohn, Lee and Yan 2015, NeurIPS 28; Kingma et al. 2014, arXiv:1406.5298",
    ),
    "hvae": Recipe(
        hierarchy="top-down",
        latent=(32, 16),
        purpose=(
            "two layers of features, the upper ones more abstract, each posterior "
            "told what is above it"
        ),
        paper="Sonderby et al. 2016, arXiv:1602.02282",
    ),
    "iwae-2": Recipe(
        hierarchy="bottom-up",
        objective=part("iwae"),
        latent=(100, 50),
        k=50,
        purpose=(
            "two stochastic layers inferred from the bottom up, with the "
            "importance-weighted bound"
        ),
        paper="Burda, Grosse and Salakhutdinov 2016, arXiv:1509.00519, section 2",
    ),
    "vae-full": Recipe(
        posterior=part("full-normal"),
        purpose="features that depend on one another given x: a tighter bound than a diagonal q",
        paper="Kingma and Welling 2019, arXiv:1906.02691, section 2.5.1",
    ),
    "vae-planar": Recipe(
        posterior=part("planar"),
        purpose="a richer q by maps that each bend it along one direction; for few features",
        paper="Rezende and Mohamed 2015, arXiv:1505.05770",
    ),
    "vae-radial": Recipe(
        posterior=part("radial"),
        purpose=(
            "a richer q by maps that each swell or shrink it around one point; for "
            "few features"
        ),
        paper="Rezende and Mohamed 2015, arXiv:1505.05770",
    ),
    "vae-sylvester": Recipe(
        posterior=part("sylvester"),
        purpose="a richer q by maps of rank 8, where planar ones have rank 1",
        paper="van den Berg et al. 2018, arXiv:1803.05649",
    ),
    "vae-householder": Recipe(
        posterior=part("sylvester", kind="householder"),
        purpose="Sylvester maps of full rank, their directions made of 8 reflections",
        paper="van den Berg et al. 2018, arXiv:1803.05649, section 4.2",
    ),
    "vae-iaf": Recipe(
        posterior=part("inverse-autoregressive"),
        purpose="the richest q for many features: each depends on those before it",
        paper="Kingma et al. 2016, arXiv:1606.04934",
    ),
    "hamiltonian": Recipe(
        posterior=part("hamiltonian"),
        purpose=(
            "a q that takes a few steps along the gradient of log p(x, z): "
            "tighter, at some four times the cost"
        ),
        paper="Caterini, Doucet and Sejdinovic 2018, arXiv:1805.11328",
    ),
    "riemannian": Recipe(
        posterior=part("riemannian"),
        purpose=(
            "as hamiltonian, in a space whose metric follows the data; for few "
            "features and few data"
        ),
        paper="Chadebec, Mantoux and Allassonniere 2020, arXiv:2010.11518",
    ),
    "flow-prior": Recipe(
        prior=part("flow"),
        purpose="a better density for the same networks: p(z) moves to where q puts the data",
        paper="Xu et al. 2019, arXiv:1905.13452; Dinh et al. 2017, arXiv:1605.08803",
    ),
    "best": Recipe(
        prior=part("flow"),
        train={"batch": 1024, "lr": 0.003},
        purpose=(
            "the best density for minutes of training: a flow prior, larger batches and a "
            "larger learning rate"
        ),
        paper="Xu et al. 2019, arXiv:1905.13452; Dinh et al. 2017, arXiv:1605.08803",
    ),
    "spline-prior": Recipe(
        prior=part("flow", kind="spline", steps=3),
        purpose=(
            "a flow prior of few, flexible autoregressive maps; slow to sample "
            "with many features"
        ),
        paper="Durkan et al. 2019, arXiv:1906.04032; Chen et al. 2017, arXiv:1611.02731",
    ),
    "mixture-prior": Recipe(
        prior=part("mixture", components=10),
        purpose="a few clusters in feature space, found while training",
        paper="Tomczak and Welling 2018, arXiv:1705.07120, section 4",
    ),
    "vamp": Recipe(
        prior=part("vamp", components=500),
        purpose="a prior made of the posteriors of 500 learned examples; they can be looked at",
        paper="Tomczak and Welling 2018, arXiv:1705.07120",
    ),
    "hvae-vamp": Recipe(
        hierarchy="top-down",
        prior=part("vamp", components=500),
        latent=(40, 40),
        purpose=(
            "two layers, the upper with a VampPrior: a strong density model with "
            "plain networks"
        ),
        paper="Tomczak and Welling 2018, arXiv:1705.07120, section 3",
    ),
    "exemplar": Recipe(
        prior=part("exemplar"),
        purpose="new data as variations of single training examples; helps where data are few",
        paper="Norouzi, Fleet and Norouzi 2020, arXiv:2004.04795",
    ),
    "ladder": Recipe(
        hierarchy="top-down",
        posterior=part("ladder"),
        objective=part("elbo", warmup=0.1, free_bits=0.1),
        latent=(64, 32, 16, 8, 4),
        purpose=(
            "five layers of features that stay active: q weighs what x says "
            "against what is above"
        ),
        paper="Sonderby et al. 2016, arXiv:1602.02282",
    ),
    "svae": Recipe(
        posterior=part("von-mises-fisher"),
        prior=part("sphere"),
        purpose="features that are directions, compared by cosine; up to about 20 of them",
        paper="Davidson et al. 2018, arXiv:1804.00891",
    ),
    "power-spherical": Recipe(
        posterior=part("power-spherical"),
        prior=part("sphere"),
        purpose="features that are directions, with a lighter distribution than von Mises-Fisher",
        paper="De Cao and Aziz 2020, arXiv:2006.04437",
    ),
    "poincare": Recipe(
        posterior=part("wrapped-normal"),
        prior=part("wrapped-normal"),
        purpose="data with a hierarchy: few features, general things near the centre",
        paper="Mathieu et al. 2019, arXiv:1901.06033; Nagano et al. 2019, arXiv:1902.02992",
    ),
    "categorical-vae": Recipe(
        posterior=part("categorical", classes=10),
        prior=part("codes"),
        latent=200,
        purpose="20 categories of 10 values each: features that are choices",
        paper="Jang, Gu and Poole 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712",
    ),
    "vq-vae": Recipe(
        posterior=part("vector-quantized", codes=512, dim=8),
        prior=part("codes"),
        objective=part("commitment"),
        latent=64,
        purpose="an example as 8 numbers out of 512: compression, and codes for a second model",
        paper="van den Oord et al. 2017, arXiv:1711.00937",
    ),
    "rq-vae": Recipe(
        posterior=part("vector-quantized", codes=256, dim=16, levels=4),
        prior=part("codes"),
        objective=part("commitment"),
        latent=64,
        purpose=(
            "codes from coarse to fine: each of 4 tables refines what the ones "
            "before left over"
        ),
        paper="Lee et al. 2022, arXiv:2203.01941; Hosking et al. 2022, arXiv:2203.03463",
    ),
    "fsq": Recipe(
        posterior=part("finite-scalar", levels=[8, 5, 5, 5]),
        prior=part("codes"),
        latent=32,
        purpose=(
            "codes without a codebook: each feature is rounded to a few levels, so "
            "none goes unused"
        ),
        paper="Mentzer et al. 2024, arXiv:2309.15505",
    ),
    "nb-vae": Recipe(
        likelihood=part("negative-binomial"),
        purpose="counts that scatter more than Poisson's; set data.domain=count",
        paper="Lopez et al. 2018, doi:10.1038/s41592-018-0229-2",
    ),
    "mixed": Recipe(
        likelihood=part("fields"),
        purpose=(
            "tables of real, one-sided, binary, categorical and count columns: a likelihood "
            "for each; auto chooses it too"
        ),
        paper="Nazabal et al. 2020, arXiv:1807.03653, section 3, with a VampPrior",
    ),
    "vae-colour": Recipe(
        likelihood=part("logistic-mixture", components=10),
        purpose=(
            "colour images: red, green and blue of a pixel depend on one another, "
            "not only through z"
        ),
        paper="Salimans et al. 2017, arXiv:1701.05517; Child 2021, arXiv:2011.10650",
    ),
    "vq-conv": Recipe(
        posterior=part("vector-quantized", codes=512, dim=16),
        prior=part("codes"),
        objective=part("commitment"),
        network=part("conv", shrink=4),
        latent=16,
        purpose=(
            "images as a grid of codes a quarter as wide and high, to be sampled "
            "by a prior fitted afterwards"
        ),
        paper="van den Oord et al. 2017, arXiv:1711.00937, section 4.1",
    ),
    "autoencoder-kl": Recipe(
        posterior=part("normal", clip="hard"),
        network=part("autoencoder-kl"),
        likelihood=part("gaussian", scale="shared", output="range"),
        latent=4,
        purpose=(
            "images as a grid of normal latents a quarter as wide and high, the first stage "
            "of a latent diffusion model; export writes it for diffusers"
        ),
        paper="Rombach et al. 2022, arXiv:2112.10752",
    ),
    "nvae": Recipe(
        hierarchy="top-down",
        posterior=part("residual"),
        objective=part("elbo", warmup=0.3),
        network=part("pyramid", kind="depthwise"),
        latent=(8,) * 6,
        purpose=(
            "images by six layers on grids from fine to coarse, each q relative to "
            "its p, with NVAE's cells"
        ),
        paper="Vahdat and Kautz 2020, arXiv:2007.03898",
    ),
    "vdvae": Recipe(
        hierarchy="top-down",
        objective=part("elbo", warmup=0.3),
        network=part("pyramid"),
        latent=(8,) * 8,
        train={"batch": 32, "lr": 0.002},
        purpose=(
            "images by eight layers on grids from fine to coarse: the best density "
            "here for photographs"
        ),
        paper="Child 2021, arXiv:2011.10650",
    ),
    "biva": Recipe(
        hierarchy="bidirectional",
        latent=(32, 16, 8),
        purpose=(
            "three layers of two latents, one inferred from the bottom up and one "
            "from the top down"
        ),
        paper="Maaloe et al. 2019, arXiv:1902.02102",
    ),
}
