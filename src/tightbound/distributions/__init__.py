"""Distributions beyond torch's, and the operations of a pass on a distribution."""

from tightbound.distributions.base import (
    ExtendedDistribution,
    NoiseForm,
    ReparameterisedDistribution,
)
from tightbound.distributions.bernoulli import BernoulliPixels, ContinuousBernoulli
from tightbound.distributions.codes import (
    Code,
    Codebook,
    CodeChain,
    CodeDistribution,
    Codes,
    Quantized,
    UniformCodes,
)
from tightbound.distributions.delta import Delta
from tightbound.distributions.flow import Flow, FullNormal, zuko_maps
from tightbound.distributions.hamiltonian import Euclidean, Hamiltonian, Riemannian
from tightbound.distributions.logistic import DiscretizedLogistic
from tightbound.distributions.mixture import Blend, Mixture
from tightbound.distributions.normal import (
    LogScaleNormal,
    UnitNormal,
    diagonal,
    soft_clip,
    standard_normal,
)
from tightbound.distributions.one_sided import (
    LogNormal,
    ZeroInflated,
    ZeroInflatedNormal,
)
from tightbound.distributions.poincare import WrappedNormal
from tightbound.distributions.reparam import (
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    log_prob_each,
    log_ratio_per_dimension,
    moments,
    noise_form,
    noise_like,
    point,
)
from tightbound.distributions.sphere import (
    PowerSpherical,
    SphereUniform,
    VonMisesFisher,
)
