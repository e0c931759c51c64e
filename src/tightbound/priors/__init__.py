"""p(z); one line per prior of the topmost latent."""

from tightbound.priors.codes import UniformCodesPrior
from tightbound.priors.curved import SphereUniformPrior, WrappedNormalPrior
from tightbound.priors.fitted import FullNormalPrior, GaussianMixturePrior
from tightbound.priors.flow import FlowPrior
from tightbound.priors.mixture import ExemplarPrior, MixturePrior, VampPrior
from tightbound.priors.normal import ConditionalNormal, LearnedNormal, StandardNormal
from tightbound.priors.seen import Seen

PRIORS = {
    "standard": StandardNormal,
    "learned": LearnedNormal,
    "mixture": MixturePrior,
    "normal": FullNormalPrior,
    "gaussian-mixture": GaussianMixturePrior,
    "vamp": VampPrior,
    "exemplar": ExemplarPrior,
    "flow": FlowPrior,
    "sphere": SphereUniformPrior,
    "wrapped-normal": WrappedNormalPrior,
    "codes": UniformCodesPrior,
}

__all__ = ["PRIORS", "ConditionalNormal", "Seen"]
