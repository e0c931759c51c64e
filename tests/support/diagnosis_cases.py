"""The models of benchmarks/diagnosis.py by their keys."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import diagnosis as campaign

CASES = {case.key: case for case in campaign.cases()}
__all__ = ["CASES", "campaign"]
