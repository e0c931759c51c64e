"""p(x|z); one line per likelihood."""

from tightbound.likelihoods.colour import LogisticMixtureLikelihood
from tightbound.likelihoods.continuous import ContinuousBernoulliLikelihood, GaussianLikelihood, LaplaceLikelihood
from tightbound.likelihoods.counts import NegativeBinomialLikelihood, PoissonLikelihood
from tightbound.likelihoods.discrete import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
)
from tightbound.likelihoods.fields import FieldsLikelihood

LIKELIHOODS = {
    "bernoulli": BernoulliLikelihood,
    "continuous-bernoulli": ContinuousBernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "laplace": LaplaceLikelihood,
    "poisson": PoissonLikelihood,
    "negative-binomial": NegativeBinomialLikelihood,
    "logistic-mixture": LogisticMixtureLikelihood,
    "discretized-logistic": DiscretizedLogisticLikelihood,
    "categorical": CategoricalLikelihood,
    "fields": FieldsLikelihood,
}

AUTO = {
    "binary": "bernoulli",
    "levels": "discretized-logistic",
    "categorical": "categorical",
    "unit": "gaussian",
    "real": "gaussian",
    "count": "negative-binomial",
    "mixed": "fields",
}
