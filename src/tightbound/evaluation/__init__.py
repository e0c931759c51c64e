"""How good a model is, in nats, with errors."""

from tightbound.evaluation.account import Evaluation, evaluate
from tightbound.evaluation.diagnosis import Diagnosis, diagnose
from tightbound.evaluation.figure import Figure
from tightbound.evaluation.likelihood import score

__all__ = ["Diagnosis", "Evaluation", "Figure", "diagnose", "evaluate", "score"]
