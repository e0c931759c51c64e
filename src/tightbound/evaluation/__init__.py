"""How good a model is, in nats, with errors."""

from tightbound.evaluation.account import Evaluation
from tightbound.evaluation.bdmc import Bracket, bdmc
from tightbound.evaluation.diagnosis import Diagnosis, diagnose
from tightbound.evaluation.estimate import Estimate
from tightbound.evaluation.figure import Figure
from tightbound.evaluation.likelihood import METHODS, log_px, score
from tightbound.evaluation.measure import evaluate

__all__ = [
    "METHODS",
    "Bracket",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "Figure",
    "bdmc",
    "diagnose",
    "evaluate",
    "log_px",
    "score",
]
