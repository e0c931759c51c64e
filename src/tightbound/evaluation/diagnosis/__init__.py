"""Diagnosis of a trained model: measurements, and verdicts by fixed rules."""
