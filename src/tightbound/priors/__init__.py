"""p(z); one line per prior of the topmost latent."""

from tightbound.priors.codes import PixelCNNPrior, UniformCodesPrior
from tightbound.priors.curved import (
    PoincareMixturePrior,
    SphereMixturePrior,
    SphereUniformPrior,
    WrappedNormalPrior,
)
from tightbound.priors.fitted import FullNormalPrior, GaussianMixturePrior
from tightbound.priors.flow import FlowPrior, IAFPrior, MAFPrior
from tightbound.priors.mixture import ExemplarPrior, MixturePrior, VampPrior
from tightbound.priors.normal import ConditionalNormal, LearnedNormal, StandardNormal, TopConditional
from tightbound.priors.riemannian import RiemannianPrior
from tightbound.priors.second import TwoStagePrior
from tightbound.priors.seen import Seen

PRIORS = {
    "standard": StandardNormal,
    "learned": LearnedNormal,
    "conditional": TopConditional,
    "mixture": MixturePrior,
    "normal": FullNormalPrior,
    "gaussian-mixture": GaussianMixturePrior,
    "vamp": VampPrior,
    "exemplar": ExemplarPrior,
    "flow": FlowPrior,
    "maf": MAFPrior,
    "iaf": IAFPrior,
    "two-stage": TwoStagePrior,
    "riemannian": RiemannianPrior,
    "sphere": SphereUniformPrior,
    "sphere-mixture": SphereMixturePrior,
    "wrapped-normal": WrappedNormalPrior,
    "poincare-mixture": PoincareMixturePrior,
    "codes": UniformCodesPrior,
    "pixelcnn": PixelCNNPrior,
}

__all__ = ["PRIORS", "ConditionalNormal", "Seen"]
