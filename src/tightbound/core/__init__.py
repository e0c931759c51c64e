"""Data, sampling and the record of one pass: the vocabulary of all models."""
