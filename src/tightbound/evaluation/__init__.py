"""How good a model is, in nats, with errors."""

from tightbound.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from tightbound.evaluation.estimators.bdmc import Bracket, bdmc
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.methods import METHODS, log_px, score
from tightbound.evaluation.result import Evaluation
from tightbound.evaluation.run_evaluation import evaluate
from tightbound.evaluation.statistic import Mean

__all__ = [
    "METHODS",
    "Bracket",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "Mean",
    "bdmc",
    "diagnose",
    "evaluate",
    "log_px",
    "score",
]
