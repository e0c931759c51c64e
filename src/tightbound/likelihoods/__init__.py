"""p(x|z); one line per likelihood."""

from tightbound.likelihoods.continuous import ContinuousBernoulliLikelihood, GaussianLikelihood
from tightbound.likelihoods.discrete import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
)

LIKELIHOODS = {
    "bernoulli": BernoulliLikelihood,
    "continuous-bernoulli": ContinuousBernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "discretized-logistic": DiscretizedLogisticLikelihood,
    "categorical": CategoricalLikelihood,
}

AUTO = {
    "binary": "bernoulli",
    "levels": "discretized-logistic",
    "categorical": "categorical",
    "unit": "gaussian",
    "real": "gaussian",
}
