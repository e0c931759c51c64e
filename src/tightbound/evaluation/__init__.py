"""How good a model is, in nats, with errors."""

from tightbound.evaluation.account import Evaluation, Figure, evaluate
from tightbound.evaluation.likelihood import score

__all__ = ["Evaluation", "Figure", "evaluate", "score"]
