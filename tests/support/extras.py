"""Packages that only some tests need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def skip_without(*packages: str, reason: str) -> None:
    """Skip a module of tests where packages are not installed; they are not imported yet.

    `pytest.importorskip` imports them while tests are collected, in every worker.
    """
    if not all(map(find_spec, packages)):
        pytest.skip(reason, allow_module_level=True)
