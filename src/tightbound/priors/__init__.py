"""p(z); one line per prior of the topmost latent."""

from tightbound.priors.normal import ConditionalNormal, LearnedNormal, StandardNormal

PRIORS = {"standard": StandardNormal, "learned": LearnedNormal}

__all__ = ["PRIORS", "ConditionalNormal"]
