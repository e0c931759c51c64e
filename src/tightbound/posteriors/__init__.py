"""q(z|x); one line per posterior."""

from tightbound.posteriors.curved import PowerSphericalPosterior, VonMisesFisherPosterior, WrappedNormalPosterior
from tightbound.posteriors.flow import (
    InverseAutoregressivePosterior,
    PlanarPosterior,
    RadialPosterior,
    SylvesterPosterior,
)
from tightbound.posteriors.normal import (
    DeltaPosterior,
    FullNormalPosterior,
    LadderPosterior,
    NormalPosterior,
    ResidualPosterior,
)

POSTERIORS = {
    "normal": NormalPosterior,
    "full-normal": FullNormalPosterior,
    "residual": ResidualPosterior,
    "ladder": LadderPosterior,
    "planar": PlanarPosterior,
    "radial": RadialPosterior,
    "sylvester": SylvesterPosterior,
    "inverse-autoregressive": InverseAutoregressivePosterior,
    "von-mises-fisher": VonMisesFisherPosterior,
    "power-spherical": PowerSphericalPosterior,
    "wrapped-normal": WrappedNormalPosterior,
    "delta": DeltaPosterior,
}
