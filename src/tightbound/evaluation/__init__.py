"""How good a model is, in nats, with errors."""

from tightbound.evaluation.account import Evaluation
from tightbound.evaluation.diagnosis import Diagnosis, diagnose
from tightbound.evaluation.estimate import Estimate
from tightbound.evaluation.figure import Figure
from tightbound.evaluation.likelihood import METHODS, log_px, score
from tightbound.evaluation.measure import evaluate

__all__ = ["METHODS", "Diagnosis", "Estimate", "Evaluation", "Figure", "diagnose", "evaluate", "log_px", "score"]
