"""q(z|x): the table of posteriors."""

from tightbound.components.posteriors.codes import (
    CategoricalPosterior,
    FiniteScalarPosterior,
    VectorQuantizedPosterior,
)
from tightbound.components.posteriors.flow import (
    InverseAutoregressivePosterior,
    PlanarPosterior,
    RadialPosterior,
    SylvesterPosterior,
)
from tightbound.components.posteriors.hamiltonian import (
    HamiltonianPosterior,
    RiemannianPosterior,
)
from tightbound.components.posteriors.manifold import (
    PowerSphericalPosterior,
    VonMisesFisherPosterior,
    WrappedNormalPosterior,
)
from tightbound.components.posteriors.normal import (
    DeltaPosterior,
    FullNormalPosterior,
    LadderPosterior,
    NormalPosterior,
    ResidualPosterior,
)
from tightbound.core.component import Posterior

POSTERIORS: dict[str, type[Posterior]] = {
    "normal": NormalPosterior,
    "full-normal": FullNormalPosterior,
    "residual": ResidualPosterior,
    "ladder": LadderPosterior,
    "planar": PlanarPosterior,
    "radial": RadialPosterior,
    "sylvester": SylvesterPosterior,
    "inverse-autoregressive": InverseAutoregressivePosterior,
    "hamiltonian": HamiltonianPosterior,
    "riemannian": RiemannianPosterior,
    "von-mises-fisher": VonMisesFisherPosterior,
    "power-spherical": PowerSphericalPosterior,
    "wrapped-normal": WrappedNormalPosterior,
    "categorical": CategoricalPosterior,
    "vector-quantized": VectorQuantizedPosterior,
    "finite-scalar": FiniteScalarPosterior,
    "delta": DeltaPosterior,
}
