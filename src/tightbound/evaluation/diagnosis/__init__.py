"""Measurements of a trained model and the verdicts drawn from them."""
