"""Trains and evaluates the cases of a job, for same_figures.py.

    PYTHONPATH=TREE/src python same_figures_worker.py JOB.json

The job names functions and settings as the tree has them, so that this program runs
unchanged on an old and a new tree. A case that fails leaves `error.txt` in its folder, one
that succeeds `done`, which holds the seconds that it took.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FUNCTIONS = ("train", "evaluate", "fit_prior")


def package(source: Path) -> Any:
    """The package of the tree; raises where Python would import that of another."""
    module = importlib.import_module("tightbound")
    if source.resolve() not in Path(str(module.__file__)).resolve().parents:
        raise SystemExit(f"{module.__file__} was imported, which is not in {source}")
    return module


def run_case(tb: Any, names: Mapping[str, str], case: Mapping[str, Any]) -> None:
    """Trains and evaluates, and fits a prior and evaluates again where the case has one."""
    out = Path(case["out"])
    train, evaluate, fit_prior = (getattr(tb, names[f]) for f in FUNCTIONS)
    run = train(case["data"], case["recipe"], **case["train"])
    getattr(evaluate(run, **case["evaluate"]), names["save"])(out)
    if case["prior"]:
        fitted = fit_prior(run, case["prior"], **case["fit_prior"])
        evaluation = evaluate(fitted, **case["evaluate"])
        getattr(evaluation, names["save"])(out / case["prior_folder"])
    shutil.rmtree(out / "state", ignore_errors=True)  # what a resumed training needs


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tb = package(Path(job["source"]))
    for case in job["cases"]:
        out = Path(case["out"])
        started = time.perf_counter()
        try:
            run_case(tb, job["names"], case)
        except Exception:
            out.mkdir(parents=True, exist_ok=True)
            (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        else:
            seconds = time.perf_counter() - started
            (out / "done").write_text(f"{seconds:.1f}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
