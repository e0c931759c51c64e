"""What training minimises; one line per objective."""

from tightbound.objectives.commitment import Commitment
from tightbound.objectives.elbo import Distortion, Elbo, Iwae

OBJECTIVES = {"elbo": Elbo, "distortion": Distortion, "iwae": Iwae, "commitment": Commitment}
