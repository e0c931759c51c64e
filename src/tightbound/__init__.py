"""Variational autoencoders that say in nats how good they are: `import tightbound as tb;
tb.train("digits")`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tightbound.api import compare as compare
    from tightbound.api import compress as compress
    from tightbound.api import decompress as decompress
    from tightbound.api import demo as demo
    from tightbound.api import evaluate as evaluate
    from tightbound.api import explore as explore
    from tightbound.api import export as export
    from tightbound.api import fit_prior as fit_prior
    from tightbound.api import load as load
    from tightbound.api import train as train
    from tightbound.core.batch import Batch as Batch
    from tightbound.core.component import EncodedData as EncodedData
    from tightbound.core.component import Hierarchy as Hierarchy
    from tightbound.core.component import Likelihood as Likelihood
    from tightbound.core.component import ModelAware as ModelAware
    from tightbound.core.component import Network as Network
    from tightbound.core.component import Objective as Objective
    from tightbound.core.component import Posterior as Posterior
    from tightbound.core.component import Prior as Prior
    from tightbound.core.data_spec import DataSpec as DataSpec
    from tightbound.core.draw import Clock as Clock
    from tightbound.core.draw import Context as Context
    from tightbound.core.draw import Draw as Draw
    from tightbound.core.trace import Trace as Trace
    from tightbound.estimator import VAEEstimator as VAEEstimator
    from tightbound.estimator import VAEOutlierDetector as VAEOutlierDetector
    from tightbound.evaluation import Estimate as Estimate
    from tightbound.evaluation import Evaluation as Evaluation
    from tightbound.evaluation import Mean as Mean
    from tightbound.evaluation import bdmc as bdmc
    from tightbound.evaluation import diagnose as diagnose
    from tightbound.evaluation import log_px as log_px
    from tightbound.evaluation import score as score
    from tightbound.models.encoding import Encoding as Encoding
    from tightbound.models.recipes import RECIPES as RECIPES
    from tightbound.models.recipes import Recipe as Recipe
    from tightbound.models.recipes import part as part
    from tightbound.models.vae import VAE as VAE
    from tightbound.report.figures.pictures import grid as grid
    from tightbound.report.hub import push_to_hub as push_to_hub
    from tightbound.runs.run import Run as Run
    from tightbound.runtime.errors import TightboundError as TightboundError
    from tightbound.training.callbacks import Callback as Callback
    from tightbound.training.own_loop import build as build
    from tightbound.training.own_loop import save as save

_HOME = {
    # Verbs: train a model, judge it, keep it.
    "train": "api",
    "evaluate": "api",
    "compare": "api",
    "load": "api",
    "save": "training.own_loop",
    "fit_prior": "api",
    "export": "api",
    "explore": "api",
    "compress": "api",
    "decompress": "api",
    "demo": "api",
    "build": "training.own_loop",
    "Callback": "training.callbacks",
    "grid": "report.figures.pictures",
    "push_to_hub": "report.hub",
    # Model building: the parts of a model, and base classes for your own.
    "Recipe": "models.recipes",
    "RECIPES": "models.recipes",
    "part": "models.recipes",
    "VAE": "models.vae",
    "Encoding": "models.encoding",
    "DataSpec": "core.data_spec",
    "Batch": "core.batch",
    "Draw": "core.draw",
    "Context": "core.draw",
    "Clock": "core.draw",
    "Trace": "core.trace",
    "Prior": "core.component",
    "Posterior": "core.component",
    "Likelihood": "core.component",
    "Objective": "core.component",
    "Network": "core.component",
    "Hierarchy": "core.component",
    "ModelAware": "core.component",
    "EncodedData": "core.component",
    # Evaluation: what is known of log p(x), with errors.
    "Evaluation": "evaluation",
    "Mean": "evaluation",
    "Estimate": "evaluation",
    "log_px": "evaluation",
    "score": "evaluation",
    "bdmc": "evaluation",
    "diagnose": "evaluation",
    # Trained models and errors.
    "Run": "runs.run",
    "VAEEstimator": "estimator",
    "VAEOutlierDetector": "estimator",
    "TightboundError": "runtime.errors",
}
__all__ = [
    "RECIPES",
    "VAE",
    "Batch",
    "Callback",
    "Clock",
    "Context",
    "DataSpec",
    "Draw",
    "EncodedData",
    "Encoding",
    "Estimate",
    "Evaluation",
    "Hierarchy",
    "Likelihood",
    "Mean",
    "ModelAware",
    "Network",
    "Objective",
    "Posterior",
    "Prior",
    "Recipe",
    "Run",
    "TightboundError",
    "Trace",
    "VAEEstimator",
    "VAEOutlierDetector",
    "__version__",
    "bdmc",
    "build",
    "compare",
    "compress",
    "decompress",
    "demo",
    "diagnose",
    "evaluate",
    "explore",
    "export",
    "fit_prior",
    "grid",
    "load",
    "log_px",
    "part",
    "push_to_hub",
    "save",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that `import tightbound` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
