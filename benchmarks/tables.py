"""Synthetic tables: likelihoods of columns, direct dependence on categories, and priors.

    python benchmarks/tables.py --out build/tables.json
    python benchmarks/tables.py --only rare wine --variants before after
    python benchmarks/tables.py --table build/tables.json

Four tables of named columns: a category of 1 % whose numbers differ, a column of which nine values
in ten are 0, scikit-learn's wine with its class as text, and ten columns of its breast cancer data
with the diagnosis and a size in classes. A third of the rows is for testing. Of each variant: -log
p(x) of test rows by importance sampling (no comparison between densities of different kinds, as
with and without exact zeros), the mean distance of the columns and of the associations between
test rows and as many draws (see `evaluation/diagnosis/table_distances.py`), and the accuracy of a
random forest that learns the label from 2,000 draws and is tested on the test rows. Seeds are
averaged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import tightbound as tb
from tightbound.evaluation.diagnosis.table_distances import compare
from tightbound.runtime.atomic_files import write_atomic

#: Settings of each variant; "plain" stands for columns of reals where they are one-sided.
VARIANTS: dict[str, dict[str, Any]] = {
    "before": {"plain": True, "likelihood.depends": "none", "prior": "standard"},
    "columns": {"likelihood.depends": "none", "prior": "standard"},
    "rare": {"likelihood.depends": "rare", "prior": "standard"},
    "all": {"likelihood.depends": "all", "prior": "standard"},
    "rare, mixture": {"likelihood.depends": "rare", "prior": "mixture"},
    "rare, vamp": {
        "likelihood.depends": "rare",
        "prior": "vamp",
        "prior.components": 100,
    },
    "rare, flow": {"likelihood.depends": "rare", "prior": "flow"},
    "after": {},
}
DRAWS = 2000


def rare() -> tuple[pd.DataFrame, str]:
    """A category of 1 % whose numbers differ."""
    rng, n = np.random.default_rng(1), 3000
    is_rare = rng.random(n) < 0.01
    x = np.where(is_rare, rng.normal(8, 1, n), rng.normal(0, 1, n))
    w = rng.normal(size=n) + 0.5 * x
    label = np.where(is_rare, "fraud", "ok")
    return pd.DataFrame({"x": x, "w": w, "status": label}), "status"


def zeros() -> tuple[pd.DataFrame, str]:
    """A column with nine zeros in ten, a skewed one, and two categories."""
    rng, n = np.random.default_rng(2), 3000
    group = rng.integers(0, 3, n)
    buys = rng.random(n) < np.array([0.02, 0.08, 0.2])[group]
    age = rng.normal(40 + 5 * group, 8)
    income = rng.lognormal(3 + 0.3 * group, 0.6)
    spent = np.where(buys, rng.lognormal(2 + 0.02 * age, 0.5), 0.0)
    return pd.DataFrame(
        {
            "age": age,
            "income": income,
            "spent": spent,
            "group": np.array(["a", "b", "c"])[group],
        }
    ), "group"


def wine() -> tuple[pd.DataFrame, str]:
    """scikit-learn's wine, its class as text."""
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    frame = data.data.copy()
    frame["cultivar"] = np.array(data.target_names)[data.target]
    return frame, "cultivar"


def cancer() -> tuple[pd.DataFrame, str]:
    """Ten columns of scikit-learn's breast cancer data, with the diagnosis and a size."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, [1, 4, 6, 7, 10, 12, 13, 17, 21, 27]].copy()
    area = data.data["mean area"]
    frame["size"] = np.array(["small", "middle", "large", "huge"])[
        np.searchsorted([400, 700, 1500], area)
    ]
    frame["diagnosis"] = np.array(["malignant", "benign"])[data.target]
    return frame, "diagnosis"


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, str]]] = {
    "rare": rare,
    "zeros": zeros,
    "wine": wine,
    "cancer": cancer,
}


def accuracy(train: pd.DataFrame, test: pd.DataFrame, label: str) -> float:
    """Balanced accuracy on test rows of a random forest that learned from other rows."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    known = pd.concat([train, test]).drop(columns=label)
    features = pd.get_dummies(known)
    forest = RandomForestClassifier(100, random_state=0)
    forest.fit(features.iloc[: len(train)], train[label])
    predicted = forest.predict(features.iloc[len(train) :])
    return float(balanced_accuracy_score(test[label], predicted))


def measured(name: str, variant: str, steps: int, seed: int) -> dict[str, float]:
    """One training and its figures."""
    frame, label = TABLES[name]()
    order = np.random.default_rng(seed).permutation(len(frame))
    test = frame.iloc[order[: len(frame) // 3]]
    train = frame.iloc[order[len(frame) // 3 :]]
    settings = dict(VARIANTS[variant])
    if settings.pop("plain", False):
        plain = {c: "real" for c in frame if frame[c].dtype.kind == "f"}
        settings.update({f"data.fields.{c}": kind for c, kind in plain.items()})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = tb.train(
            train,
            test=test,
            out=Path(folder) / "run",
            seed=seed,
            display="none",
            report=False,
            settings={"train.steps": steps, **settings},
        )
        trained = time.perf_counter() - began
        began = time.perf_counter()
        drawn = run.sample(DRAWS)
        sampled = time.perf_counter() - began
        rows = run.data.test.examples(run.data.test.spread(len(test)))
        log_p = tb.score(run, rows, k=100, seed=0)["log_px"]
        rebuilt = run.reconstruct(test)
    columns = run.spec.fields
    coded = [_codes(part, columns) for part in (test, train, drawn)]
    distances = compare(columns, *coded)
    shares = [s for s in distances.shares if s.name == label]
    least = min(shares, key=lambda s: s.data)
    return {
        "neg_log_p": -float(log_p.mean()),
        "marginal": distances.marginal,
        "pairwise": distances.pairwise,
        "rare_share": least.drawn / least.data if least.data else float("nan"),
        "synthetic": accuracy(drawn, test, label),
        "real": accuracy(train, test, label),
        "rebuilt": float((rebuilt[label].values == test[label].values).mean()),
        "train_s": trained,
        "sample_ms": 1000 * sampled,
    }


def _codes(frame: pd.DataFrame, columns: Any) -> Any:
    """Rows (n, columns) as numbers and codes of categories."""
    out = np.empty((len(frame), len(columns)))
    for i, column in enumerate(columns):
        values = frame[column.name]
        if column.values:
            code = {value: k for k, value in enumerate(column.values)}
            values = values.map(code)
        out[:, i] = values
    return out


def table(results: dict[str, dict[str, float]]) -> str:
    """The results in Markdown."""
    head = (
        "table",
        "variant",
        "-log p(x)",
        "marginal",
        "pairwise",
        "share of the rarest, times the data's",
        "accuracy, synthetic (real)",
        "label rebuilt",
        "training, s",
        "2,000 draws, ms",
    )
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for key, row in results.items():
        name, variant = key.split("/")
        cells = (
            name,
            variant,
            f"{row['neg_log_p']:.2f}",
            f"{row['marginal']:.3f}",
            f"{row['pairwise']:.3f}",
            f"{row['rare_share']:.2f}",
            f"{row['synthetic']:.3f} ({row['real']:.3f})",
            f"{row['rebuilt']:.3f}",
            f"{row['train_s']:.1f}",
            f"{row['sample_ms']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the variants, or print a table of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--variants", nargs="+", default=["before", "after"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table is not None:
        print(table(json.loads(options.table.read_text())))
        return
    results: dict[str, dict[str, float]] = {}
    if options.out is not None and options.out.exists():
        results = json.loads(options.out.read_text())
    for name in options.only:
        for variant in options.variants:
            key = f"{name}/{variant}"
            if key in results:
                continue
            rows = [
                measured(name, variant, options.steps, s) for s in range(options.seeds)
            ]
            results[key] = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
            print(table({key: results[key]}).splitlines()[-1], flush=True)
            if options.out is not None:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(options.out, json.dumps(results, indent=1).encode())
    print(table(results))


if __name__ == "__main__":
    main()
