"""p(z); one line per prior of the topmost latent."""

from tightbound.priors.codes import UniformCodesPrior
from tightbound.priors.curved import SphereUniformPrior, WrappedNormalPrior
from tightbound.priors.flow import FlowPrior
from tightbound.priors.mixture import ExemplarPrior, MixturePrior, VampPrior
from tightbound.priors.normal import ConditionalNormal, LearnedNormal, StandardNormal

PRIORS = {
    "standard": StandardNormal,
    "learned": LearnedNormal,
    "mixture": MixturePrior,
    "vamp": VampPrior,
    "exemplar": ExemplarPrior,
    "flow": FlowPrior,
    "sphere": SphereUniformPrior,
    "wrapped-normal": WrappedNormalPrior,
    "codes": UniformCodesPrior,
}

__all__ = ["PRIORS", "ConditionalNormal"]
