"""q(z|x); one line per posterior."""

from tightbound.posteriors.normal import DeltaPosterior, NormalPosterior

POSTERIORS = {"normal": NormalPosterior, "delta": DeltaPosterior}
