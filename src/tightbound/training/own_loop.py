"""Models for a training loop of your own: build one from data, and save it as a run."""

from __future__ import annotations
