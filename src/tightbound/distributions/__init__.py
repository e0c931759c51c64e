"""What torch.distributions lacks, and how a pass uses a distribution."""

from tightbound.distributions.bernoulli import BernoulliPixels, ContinuousBernoulli
from tightbound.distributions.codes import Code, CodeChain, Codes, Quantized, UniformCodes
from tightbound.distributions.delta import Delta
from tightbound.distributions.flow import Flow, FromNoise, FullNormal, zuko_maps
from tightbound.distributions.hamiltonian import Euclidean, Hamiltonian, Riemannian
from tightbound.distributions.logistic import DiscretizedLogistic
from tightbound.distributions.mixture import Blend, Mixture
from tightbound.distributions.normal import LogScaleNormal, UnitNormal, diagonal, soft_clip
from tightbound.distributions.poincare import WrappedNormal, from_tangent, to_tangent
from tightbound.distributions.reparam import (
    NoiseForm,
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    log_ratio_per_dimension,
    moments,
    noise_form,
    noise_like,
    point,
)
from tightbound.distributions.sphere import PowerSpherical, SphereUniform, VonMisesFisher

__all__ = [
    "BernoulliPixels",
    "Blend",
    "Code",
    "CodeChain",
    "Codes",
    "ContinuousBernoulli",
    "Delta",
    "DiscretizedLogistic",
    "Euclidean",
    "Flow",
    "FromNoise",
    "FullNormal",
    "Hamiltonian",
    "LogScaleNormal",
    "Mixture",
    "NoiseForm",
    "PowerSpherical",
    "Quantized",
    "Riemannian",
    "SphereUniform",
    "UniformCodes",
    "UnitNormal",
    "VonMisesFisher",
    "WrappedNormal",
    "diagonal",
    "from_noise",
    "from_tangent",
    "is_point_mass",
    "kl",
    "kl_per_dimension",
    "log_ratio_per_dimension",
    "moments",
    "noise_form",
    "noise_like",
    "point",
    "soft_clip",
    "to_tangent",
    "zuko_maps",
]
