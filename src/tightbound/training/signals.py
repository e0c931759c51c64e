"""The interruption of a training after its state was saved."""

from __future__ import annotations

from tightbound.runtime.signals import Ended


class Interrupted(Ended):
    """Training was ended by Ctrl-C, SIGTERM or SIGHUP after its state was saved."""
