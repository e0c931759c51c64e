"""Objectives of training: the table of losses.

An objective declares what it needs by class attributes, see `core/component.py`.
"""

from tightbound.components.objectives.adversarial import Adversarial, Factor
from tightbound.components.objectives.commitment import Commitment
from tightbound.components.objectives.decompose import Dip, TotalCorrelation
from tightbound.components.objectives.divergence import Mmd, Sliced
from tightbound.components.objectives.elbo import Capacity, Distortion, Elbo
from tightbound.components.objectives.importance import (
    Ciwae,
    Dreg,
    Iwae,
    Piwae,
    Renyi,
    StickingTheLanding,
    Vimco,
)
from tightbound.components.objectives.labels import SemiSupervised
from tightbound.components.objectives.perceptual import MsSsim, VaeGan
from tightbound.components.objectives.regularised import Rae
from tightbound.core.component import Objective

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": Elbo,
    "distortion": Distortion,
    "capacity": Capacity,
    "iwae": Iwae,
    "piwae": Piwae,
    "ciwae": Ciwae,
    "renyi": Renyi,
    "dreg": Dreg,
    "stl": StickingTheLanding,
    "vimco": Vimco,
    "total-correlation": TotalCorrelation,
    "dip": Dip,
    "mmd": Mmd,
    "sliced": Sliced,
    "rae": Rae,
    "semi-supervised": SemiSupervised,
    "factor": Factor,
    "adversarial": Adversarial,
    "commitment": Commitment,
    "msssim": MsSsim,
    "vae-gan": VaeGan,
}
