"""Variational autoencoders that say in nats how good they are: `import tightbound as tb;
tb.train("digits")`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tightbound.api import compare as compare
    from tightbound.api import demo as demo
    from tightbound.api import evaluate as evaluate
    from tightbound.api import fit_prior as fit_prior
    from tightbound.api import load as load
    from tightbound.api import train as train
    from tightbound.estimator import VAEEstimator as VAEEstimator
    from tightbound.runs.run import Run as Run
    from tightbound.runtime.errors import TightboundError as TightboundError

_HOME = {
    "Run": "runs.run",
    "TightboundError": "runtime.errors",
    "VAEEstimator": "estimator",
    "compare": "api",
    "demo": "api",
    "evaluate": "api",
    "fit_prior": "api",
    "load": "api",
    "train": "api",
}
__all__ = [
    "Run",
    "TightboundError",
    "VAEEstimator",
    "__version__",
    "compare",
    "demo",
    "evaluate",
    "fit_prior",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import tightbound` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
