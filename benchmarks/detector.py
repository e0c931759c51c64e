"""Outlier detection on public tables with classes as anomalies, beside scikit-learn's.

    OMP_NUM_THREADS=1 python benchmarks/detector.py --seeds 3 --steps 1000 --out detector.json
    python benchmarks/detector.py --table detector.json
    OMP_NUM_THREADS=1 python benchmarks/detector.py --uniform 100 --out uniform.json

Each case is a table and one of its classes, which is the anomaly: a detector is fitted to half of
the other rows and ranks the other half together with the anomalies; the figure is the area under
the ROC curve. The tables are those inside the wheel of scikit-learn, and of statsmodels where it
is installed; pyod's detectors take part where it is installed. Columns are standardised by the
rows of `fit`. PCA is the error of reconstruction from components with 90 % of the variance, kNN
the mean distance to the 5 nearest rows.

With --uniform N, p-values of inliers over N seeds, each with new splits and calibration rows and
K = 20: the Kolmogorov-Smirnov test of one row's p-value of each seed, and the false discovery rate
of Benjamini and Hochberg's procedure at 0.1 with a tenth of anomalies.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import tightbound as tb

Array = NDArray[Any]
Detector = Callable[[Array, Array, int, int], Array]
TABLES = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
ANOMALIES = {"iris": (0, 1, 2), "wine": (0, 1, 2), "breast cancer": (0,)}
DIGITS = (0, 1, 5, 8)
SCORES = {"log p(x)": "log_px", "regret": "regret", "codes": "mahalanobis"}
MOST_ANOMALIES = 0.2  # of the rows that are ranked


def cases() -> Iterator[tuple[str, Array, Array]]:
    """Name, rows, and True for the anomalies of each case."""
    for table, load in TABLES.items():
        data = load()
        for label in ANOMALIES.get(table, DIGITS):
            name = f"{table}: {data.target_names[label]}"
            yield name, np.asarray(data.data, float), data.target == label
    if importlib.util.find_spec("statsmodels") is not None:
        from statsmodels import datasets

        for table, column in (("spector", "GRADE"), ("fair", "affairs")):
            frame = getattr(datasets, table).load_pandas().data
            anomaly = frame[column].to_numpy() > 0
            yield (
                f"{table}: {column}",
                frame.drop(columns=column).to_numpy(float),
                anomaly,
            )


def split(x: Array, anomaly: Array, seed: int) -> tuple[Array, Array, Array]:
    """Half of the inliers, the other half with anomalies, and which of these they are."""
    rng = np.random.default_rng(seed)
    inliers = rng.permutation(np.nonzero(~anomaly)[0])
    half = len(inliers) // 2
    most = round(MOST_ANOMALIES / (1 - MOST_ANOMALIES) * (len(inliers) - half))
    anomalies = rng.permutation(np.nonzero(anomaly)[0])[: max(1, most)]
    rows = np.concatenate([inliers[half:], anomalies])
    scaler = StandardScaler().fit(x[inliers[:half]])
    is_anomaly = np.arange(len(rows)) >= len(inliers) - half
    return scaler.transform(x[inliers[:half]]), scaler.transform(x[rows]), is_anomaly


def vae(train: Array, test: Array, seed: int, steps: int) -> dict[str, Array]:
    """Each score of one fitted detector; higher is more of an outlier."""
    fitted = detector("mahalanobis", seed, steps).fit(train)
    return {
        name: -fitted.set_params(method=method).score_samples(test)
        for name, method in SCORES.items()
    }


def detector(method: str, seed: int, steps: int) -> tb.VAEOutlierDetector:
    """The detector with the recipe's defaults."""
    return tb.VAEOutlierDetector(method=method, steps=steps, random_state=seed)


def pca(train: Array, test: Array, seed: int, steps: int) -> Array:
    """Error of reconstruction from principal components."""
    fitted = PCA(0.9, random_state=seed).fit(train)
    rebuilt = fitted.inverse_transform(fitted.transform(test))
    return np.square(test - rebuilt).sum(1)


def knn(train: Array, test: Array, seed: int, steps: int) -> Array:
    """Mean distance to the 5 nearest rows of training."""
    distances, _ = NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)
    return distances.mean(1)


def forest(train: Array, test: Array, seed: int, steps: int) -> Array:
    """Isolation forest of 100 trees."""
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def detectors() -> dict[str, Detector]:
    """The detectors of others that can run here."""
    chosen: dict[str, Detector] = {
        "PCA": pca,
        "kNN": knn,
        "IForest": forest,
    }
    if importlib.util.find_spec("pyod") is not None:
        from pyod.models.ecod import ECOD

        def ecod(train: Array, test: Array, seed: int, steps: int) -> Array:
            return ECOD().fit(train).decision_function(test)

        chosen["pyod ECOD"] = ecod
    return chosen


def measure(seeds: int, steps: int, out: Path | None) -> list[dict[str, Any]]:
    """The area under the ROC curve of each detector on each case, for each seed.

    Cases that are in the file already are not measured again.
    """
    results: list[dict[str, Any]] = []
    if out is not None and out.is_file():
        results = json.loads(out.read_text())
    measured = {result["case"] for result in results}
    for name, x, anomaly in cases():
        if name in measured:
            continue
        areas: dict[str, list[float]] = {}
        for seed in range(seeds):
            train, test, is_anomaly = split(x, anomaly, seed)
            scores = vae(train, test, seed, steps)
            scores |= {k: f(train, test, seed, steps) for k, f in detectors().items()}
            for key, values in scores.items():
                area = float(roc_auc_score(is_anomaly, values))
                areas.setdefault(key, []).append(area)
        results.append({"case": name, "areas": areas})
        print(name, {key: round(float(np.mean(a)), 3) for key, a in areas.items()})
        if out is not None:
            out.write_text(json.dumps(results, indent=2) + "\n")
    return results


def uniform(seeds: int, steps: int, out: Path | None) -> dict[str, Any]:
    """p-values of one inlier for each seed, and the mean false discovery proportion."""
    data = load_breast_cancer()
    x, anomaly = np.asarray(data.data, float), data.target == 0
    single: list[float] = []
    proportions: list[float] = []
    result: dict[str, Any] = {}
    for seed in range(seeds):
        train, test, is_anomaly = split(x, anomaly, seed)
        fitted = detector("log_px", seed, steps).set_params(k=20).fit(train)
        inliers = int((~is_anomaly).sum())
        rows = test[: inliers + inliers // 9]
        single.append(float(fitted.p_values(test[:1])[0]))
        rejected = fitted.rejected(rows, 0.1)
        proportions.append(float(rejected[:inliers].sum() / max(1, rejected.sum())))
        if len(single) % 20 == 0 or len(single) == seeds:
            n = len(fitted.calibration_) + 1
            jitter = np.random.default_rng(0).uniform(size=len(single)) / n
            result = {
                "seeds": len(single),
                "steps": steps,
                "ks": float(stats.kstest(np.array(single) - jitter, "uniform").pvalue),
                "false discovery rate": float(np.mean(proportions)),
                "its error": float(np.std(proportions) / len(single) ** 0.5),
                "p_values": single,
            }
            if out is not None:
                out.write_text(json.dumps(result, indent=2) + "\n")
    return result


def table(results: list[dict[str, Any]]) -> str:
    """A table in Markdown; the best of each row in bold."""
    names = list(results[0]["areas"])
    lines = [f"| anomaly | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    means = [[float(np.mean(r["areas"][name])) for name in names] for r in results]
    for result, row in zip(results, means, strict=True):
        best = max(row)
        cells = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in row]
        lines.append(f"| {result['case']} | {' | '.join(cells)} |")
    over_all = [f"{value:.3f}" for value in np.mean(means, 0)]
    lines.append(f"| mean | {' | '.join(over_all)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or print the table of earlier measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--uniform", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    if args.uniform:
        result = uniform(args.uniform, args.steps, args.out)
        print({key: value for key, value in result.items() if key != "p_values"})
        return
    print(table(measure(args.seeds, args.steps, args.out)))


if __name__ == "__main__":
    main()
