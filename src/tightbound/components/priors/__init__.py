"""p(z): the table of priors of the topmost latent."""

from tightbound.components.priors.codes import PixelCNNPrior, UniformCodesPrior
from tightbound.components.priors.fitted import FullNormalPrior, GaussianMixturePrior
from tightbound.components.priors.flow import FlowPrior, IAFPrior, MAFPrior
from tightbound.components.priors.manifold import (
    PoincareMixturePrior,
    SphereMixturePrior,
    SphereUniformPrior,
    WrappedNormalPrior,
)
from tightbound.components.priors.mixture import ExemplarPrior, MixturePrior, VampPrior
from tightbound.components.priors.normal import (
    ConditionalNormal,
    LearnedNormal,
    StandardNormal,
    TopConditional,
)
from tightbound.components.priors.riemannian import RiemannianPrior
from tightbound.components.priors.two_stage import TwoStagePrior
from tightbound.core.component import Prior

PRIORS: dict[str, type[Prior]] = {
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

__all__ = ["PRIORS", "ConditionalNormal"]
