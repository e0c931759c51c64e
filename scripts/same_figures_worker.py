"""Trains and evaluates the cases of a job: run by same_figures.py with PYTHONPATH set to the `src`
of one tree.

    python same_figures_worker.py JOB.json

The job names functions and settings as the tree has them, so that this program runs unchanged on an
old and a new tree. A case that fails leaves `error.txt` in its folder, one that is done leaves
`done`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def package(source: Path) -> Any:
    """The package of the tree; raises where Python would import that of another."""
    module = importlib.import_module("tightbound")
    if source.resolve() not in Path(str(module.__file__)).resolve().parents:
        raise SystemExit(f"{module.__file__} was imported, which is not in {source}")
    return module


def run_case(tb: Any, names: Mapping[str, str], case: Mapping[str, Any]) -> None:
    """Trains, evaluates, and then the same with a prior fitted after training, where the
    case has one.
    """
    out = Path(case["out"])
    train, evaluate = getattr(tb, names["train"]), getattr(tb, names["evaluate"])
    run = train(case["data"], case["recipe"], **case["train"])
    getattr(evaluate(run, **case["evaluate"]), names["save"])(out)
    if case["prior"]:
        fitted = getattr(tb, names["fit_prior"])(
            run, case["prior"], **case["fit_prior"]
        )
        getattr(evaluate(fitted, **case["evaluate"]), names["save"])(
            out / case["prior_folder"]
        )
    shutil.rmtree(out / "state", ignore_errors=True)  # what a resumed training needs


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tb = package(Path(job["source"]))
    for case in job["cases"]:
        out = Path(case["out"])
        try:
            run_case(tb, job["names"], case)
        except Exception:
            out.mkdir(parents=True, exist_ok=True)
            (out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        else:
            (out / "done").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
