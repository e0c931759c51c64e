"""p(x|z): the table of likelihoods."""

from tightbound.components.likelihoods.colour import LogisticMixtureLikelihood
from tightbound.components.likelihoods.continuous import (
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
)
from tightbound.components.likelihoods.counts import (
    NegativeBinomialLikelihood,
    PoissonLikelihood,
)
from tightbound.components.likelihoods.discrete import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
)
from tightbound.components.likelihoods.fields import FieldsLikelihood
from tightbound.core.component import Likelihood

LIKELIHOODS: dict[str, type[Likelihood]] = {
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

#: The likelihood of "auto" by the domain of the data.
AUTO = {
    "binary": "bernoulli",
    "levels": "discretized-logistic",
    "categorical": "categorical",
    "unit": "gaussian",
    "real": "gaussian",
    "count": "negative-binomial",
    "mixed": "fields",
}
