"""Outlier detection on public tables with classes as anomalies, beside the detectors of pyod.

    make bench-env
    OMP_NUM_THREADS=1 benchmarks/.venv/bin/python benchmarks/detector.py --out detector.json
    python benchmarks/detector.py --table detector.json
    OMP_NUM_THREADS=1 python benchmarks/detector.py --uniform 100 --out uniform.json
    python benchmarks/detector.py --simulate 4000

Each case is a table and one of its classes, which is the anomaly: a detector is fitted to half of
the other rows and ranks the other half together with the anomalies; the figure is the area under
the ROC curve. The tables are those inside the wheels of scikit-learn and of statsmodels; of more
than 400 inliers a part is drawn for each seed. Columns are standardised by the rows of `fit`.
pyod's detectors have its defaults.

With --uniform N, p-values of benign cases of the table of breast cancer over N seeds, each with
new splits and 89 calibration rows (179 with --fitted 0.75 --calibration 0.67), and K = 20: the
Kolmogorov-Smirnov test of one row's p-value of each seed, and the false discovery rate of
Benjamini and Hochberg's procedure at several levels where a third of the rows are malignant. What
is in the file of `--out` is not measured again.

With --simulate N, the same rate over N draws of normal scores instead of those of a model, for
several numbers of calibration scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import tightbound as tb
from tightbound.evaluation.conformal import benjamini_hochberg, conformal_p_values

Array = NDArray[Any]
Detector = Callable[[Array, Array, int], Array]
TABLES = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
ANOMALIES = {"iris": (0, 1, 2), "wine": (0, 1, 2), "breast cancer": (0,)}
DIGITS = (0, 8)
# the table of statsmodels, its column of classes, the smallest value that is an anomaly, and
# columns that are left out: identifiers, and other columns that give the class away
STATSMODELS = {
    "fair": ("affairs", 1e-9, ()),
    "anes96": ("vote", 1, ()),
    "randhie": ("hlthp", 1, ("hlthg", "hlthf")),
    "modechoice": ("mode", 4, ("individual", "choice")),
    "ccard": ("OWNRENT", 1, ()),
}
SCORES = {"log p(x)": "log_px", "regret": "regret", "codes": "mahalanobis"}
MOST_ROWS = 400  # of the inliers of a table
MOST_ANOMALIES = 0.2  # of the rows that are ranked
LEVELS = (0.05, 0.1, 0.2)  # of the false discovery rate
# calibration scores, inliers and anomalies: the splits of --uniform, and larger calibration sets
SIMULATED = ((89, 179, 89), (179, 90, 45), (300, 179, 89), (1000, 179, 89))
APART = (2.0, 3.0)  # mean of the anomalies' normal scores below that of the inliers


def cases() -> Iterator[tuple[str, Array, Array]]:
    """Name, rows, and True for the anomalies of each case."""
    for table, load in TABLES.items():
        data = load()
        for label in ANOMALIES.get(table, DIGITS):
            name = f"{table}: {data.target_names[label]}"
            yield name, np.asarray(data.data, float), data.target == label
    from statsmodels import datasets

    for table, (column, least, left_out) in STATSMODELS.items():
        frame = getattr(datasets, table).load_pandas().data
        anomaly = frame[column].to_numpy() >= least
        rows = frame.drop(columns=[column, *left_out]).to_numpy(float)
        yield f"{table}: {column}", rows, anomaly


def split(
    x: Array,
    anomaly: Array,
    seed: int,
    share: float = MOST_ANOMALIES,
    fitted: float = 0.5,
) -> tuple[Array, Array, Array]:
    """A share of the inliers, the others with anomalies, and which of these they are."""
    rng = np.random.default_rng(seed)
    inliers = rng.permutation(np.nonzero(~anomaly)[0])[:MOST_ROWS]
    count = int(fitted * len(inliers))
    most = round(share / (1 - share) * (len(inliers) - count))
    anomalies = rng.permutation(np.nonzero(anomaly)[0])[: max(1, most)]
    rows = np.concatenate([inliers[count:], anomalies])
    scaler = StandardScaler().fit(x[inliers[:count]])
    is_anomaly = np.arange(len(rows)) >= len(inliers) - count
    return scaler.transform(x[inliers[:count]]), scaler.transform(x[rows]), is_anomaly


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


def peers() -> dict[str, Detector]:
    """The detectors of pyod, with its defaults."""
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.pca import PCA
    from pyod.models.vae import VAE

    def pca(train: Array, test: Array, seed: int) -> Array:
        return PCA(random_state=seed).fit(train).decision_function(test)

    def knn(train: Array, test: Array, seed: int) -> Array:
        return KNN().fit(train).decision_function(test)

    def forest(train: Array, test: Array, seed: int) -> Array:
        return IForest(random_state=seed).fit(train).decision_function(test)

    def pyod_vae(train: Array, test: Array, seed: int) -> Array:
        # it leaves out the last batch of an epoch where that is smaller than the others
        size = min(32, len(train))
        model = VAE(random_state=seed, batch_size=size, verbose=0, device="cpu")
        return model.fit(train).decision_function(test)

    named = {"PCA": pca, "kNN": knn, "IForest": forest, "VAE": pyod_vae}
    return {f"pyod {name}": detect for name, detect in named.items()}


def measure(seeds: int, steps: int, out: Path | None) -> list[dict[str, Any]]:
    """The area under the ROC curve of each detector on each case, for each seed.

    Seeds of a case that are in the file already are not measured again. All cases of a seed come
    before the next seed.
    """
    results: list[dict[str, Any]] = []
    if out is not None and out.is_file():
        results = json.loads(out.read_text())
    by_name = {result["case"]: result for result in results}
    for seed in range(seeds):
        for name, x, anomaly in cases():
            if name not in by_name:
                by_name[name] = {"case": name, "steps": steps, "areas": {}}
                results.append(by_name[name])
            result = by_name[name]
            if result["steps"] != steps:
                raise SystemExit(f"{out} is of {result['steps']} steps: name another")
            if result.get("seeds", 0) > seed:
                continue
            areas = one_seed(x, anomaly, seed, steps)
            for key, area in areas.items():
                result["areas"].setdefault(key, []).append(area)
            result["seeds"] = seed + 1
            print(
                name, seed, {key: round(a, 3) for key, a in areas.items()}, flush=True
            )
            if out is not None:
                complete = [result for result in results if "seeds" in result]
                out.write_text(json.dumps(complete, indent=2) + "\n")
    return results


def one_seed(x: Array, anomaly: Array, seed: int, steps: int) -> dict[str, float]:
    """The area under the ROC curve of each detector for one split."""
    train, test, is_anomaly = split(x, anomaly, seed)
    scores = vae(train, test, seed, steps)
    scores |= {key: detect(train, test, seed) for key, detect in peers().items()}
    return {key: float(roc_auc_score(is_anomaly, v)) for key, v in scores.items()}


def uniform(
    seeds: int, steps: int, out: Path | None, fitted: float, calibration: float
) -> dict[str, Any]:
    """p-values of one inlier for each seed, and the mean false discovery proportions.

    Seeds that are in the file already are not measured again. A share `fitted` of the inliers is
    given to `fit`, which holds the share `calibration` of them out.
    """
    data = load_breast_cancer()
    x, anomaly = np.asarray(data.data, float), data.target == 0
    result: dict[str, Any] = {"p_values": [], "proportions": [], "rejected": []}
    if out is not None and out.is_file():
        result = json.loads(out.read_text())
        if result["steps"] != steps:
            raise SystemExit(f"{out} is of {result['steps']} steps: name another --out")
    for seed in range(len(result["p_values"]), seeds):
        train, test, is_anomaly = split(x, anomaly, seed, 1 / 3, fitted)
        options = {"k": 20, "calibration": calibration}
        model = detector("log_px", seed, steps).set_params(**options).fit(train)
        inliers = int((~is_anomaly).sum())
        p_values = model.p_values(test)
        result["p_values"].append(float(p_values[0]))
        result["calibration"] = len(model.calibration_)
        rejected = [benjamini_hochberg(p_values, level) for level in LEVELS]
        counts = [int(mask.sum()) for mask in rejected]
        false = [int(mask[:inliers].sum()) for mask in rejected]
        result["rejected"].append(counts)
        result["proportions"].append(
            [wrong / max(1, count) for wrong, count in zip(false, counts, strict=True)]
        )
        if (seed + 1) % 5 == 0 or seed + 1 == seeds:
            result |= summary(result, steps)
            if out is not None:
                out.write_text(json.dumps(result) + "\n")
    return result


def summary(result: dict[str, Any], steps: int) -> dict[str, Any]:
    """The Kolmogorov-Smirnov test, and the false discovery rate at each level."""
    n = result["calibration"] + 1
    p_values = np.array(result["p_values"])
    # the p-values are multiples of 1/n: a uniform part of 1/n makes them continuous
    jitter = np.random.default_rng(0).uniform(size=len(p_values)) / n
    proportions = np.array(result["proportions"])
    rates = {
        str(level): {
            "rate": float(proportions[:, column].mean()),
            "error": float(proportions[:, column].std() / len(p_values) ** 0.5),
            "rejected": float(np.mean(np.array(result["rejected"])[:, column])),
        }
        for column, level in enumerate(LEVELS)
    }
    ks = float(stats.kstest(p_values - jitter, "uniform").pvalue)
    seeds = len(p_values)
    return {"seeds": seeds, "steps": steps, "ks": ks, "false discovery rate": rates}


def simulated(draws: int) -> Iterator[str]:
    """Rows of a table: the false discovery rate of normal scores, and the bound."""
    for apart in APART:
        for count, inliers, anomalies in SIMULATED:
            share = inliers / (inliers + anomalies)
            cells = [f"{apart:g}", str(count), str(inliers), str(anomalies)]
            means = rates(count, inliers, anomalies, apart, draws)
            for level, rate in zip(LEVELS, means, strict=True):
                cells.append(f"{rate:.3f} of {level * share:.3f}")
            yield f"| {' | '.join(cells)} |"


def rates(
    count: int, inliers: int, anomalies: int, apart: float, draws: int
) -> list[float]:
    """The mean false discovery proportion at each level over draws of normal scores."""
    proportions = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=inliers + anomalies)
        scores[inliers:] -= apart
        p_values = conformal_p_values(rng.normal(size=count), scores, seed)
        rejected = [benjamini_hochberg(p_values, level) for level in LEVELS]
        proportions.append([m[:inliers].sum() / max(1, m.sum()) for m in rejected])
    means: list[float] = np.mean(proportions, axis=0).tolist()
    return means


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
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--uniform", type=int, default=0)
    parser.add_argument("--simulate", type=int, default=0)
    parser.add_argument("--fitted", type=float, default=0.5)
    parser.add_argument("--calibration", type=float, default=0.5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    if args.simulate:
        print("\n".join(simulated(args.simulate)))
        return
    if args.uniform:
        shares = (args.fitted, args.calibration)
        result = uniform(args.uniform, args.steps, args.out, *shares)
        lists = ("p_values", "proportions", "rejected")
        print({key: value for key, value in result.items() if key not in lists})
        return
    print(table(measure(args.seeds, args.steps, args.out)))


if __name__ == "__main__":
    main()
