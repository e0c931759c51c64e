"""The parts of a model: priors, posteriors, likelihoods, objectives and networks."""
