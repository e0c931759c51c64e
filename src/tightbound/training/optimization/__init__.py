"""The optimiser, its step, and averaged weights."""
