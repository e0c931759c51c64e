"""What torch.distributions lacks, and how a pass uses a distribution."""

from tightbound.distributions.bernoulli import BernoulliPixels, ContinuousBernoulli
from tightbound.distributions.delta import Delta
from tightbound.distributions.logistic import DiscretizedLogistic
from tightbound.distributions.normal import diagonal, soft_clip
from tightbound.distributions.reparam import (
    NoiseForm,
    from_noise,
    is_point_mass,
    kl,
    kl_per_dimension,
    log_ratio_per_dimension,
    noise_form,
    noise_like,
    point,
)

__all__ = [
    "BernoulliPixels",
    "ContinuousBernoulli",
    "Delta",
    "DiscretizedLogistic",
    "NoiseForm",
    "diagonal",
    "from_noise",
    "is_point_mass",
    "kl",
    "kl_per_dimension",
    "log_ratio_per_dimension",
    "noise_form",
    "noise_like",
    "point",
    "soft_clip",
]
