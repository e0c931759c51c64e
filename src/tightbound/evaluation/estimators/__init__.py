"""Estimators of log p(x) and of the inference gap."""
