"""Readers of files, arrays and built-in data sets."""
