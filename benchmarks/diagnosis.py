"""The diagnosis on models whose fault is known: broken on purpose, and good ones.

    OMP_NUM_THREADS=1 python benchmarks/diagnosis.py --out diagnosis.json
    python benchmarks/diagnosis.py --table diagnosis.json

The cases are those of `diagnosis_cases.toml`, which was written before the rules. Each model is
trained and diagnosed, then trained again with the change that the first verdict names, and added
to the file; a model that is there already is not trained again.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tightbound as tb
from tightbound.config import key_path
from tightbound.evaluation import diagnose
from tightbound.evaluation.diagnosis.diagnose import Diagnosis
from tightbound.evaluation.diagnosis.outliers import row_name
from tightbound.evaluation.estimators.methods import score
from tightbound.runs.run import Run

CASES = Path(__file__).with_name("diagnosis_cases.toml")
Settings = dict[str, Any]
Array = NDArray[np.float32]
Splits = tuple[Array, Array, Array]
SCORED_WITH = 8  # samples of the ELBO that a remedy must improve


# ---- data


def signals(n: int = 1200) -> Array:
    """Sine waves of random frequency, phase and amplitude, with noise, (n, 32)."""
    random = np.random.default_rng(0)
    time = np.arange(32) / 32
    frequency = random.uniform(1, 3, (n, 1))
    phase = random.uniform(0, 2 * np.pi, (n, 1))
    amplitude = random.uniform(0.5, 1.5, (n, 1))
    noise = 0.3 * random.normal(size=(n, 32))
    wave = amplitude * np.sin(2 * np.pi * frequency * time + phase)
    return (wave + noise).astype(np.float32)


@functools.cache
def splits_of(name: str) -> Splits:
    """Train, valid and test of a data set, 80, 10 and 10 % of its shuffled rows."""
    from sklearn.datasets import load_breast_cancer, load_digits

    x = {
        "digits": lambda: load_digits().images,
        "table": lambda: load_breast_cancer().data,
        "signals": signals,
    }[name]()
    x = x.astype(np.float32)
    x = x[np.random.default_rng(0).permutation(len(x))]
    tenth = len(x) // 10
    return x[2 * tenth :], x[tenth : 2 * tenth], x[:tenth]


# ---- changes of the data that break a model


def _cell(x: Array) -> tuple[int, ...]:
    """A position of an example that varies: the middle of an image, else the fifth."""
    return (4, 4) if x.ndim == 3 else (5,)


def _with_outlier(x: Array, row: int, spreads: float, cells: int = 1) -> Array:
    """One row whose value lies this many standard deviations from the mean."""
    x = x.copy()
    flat = x.reshape(len(x), -1)
    first = int(np.ravel_multi_index(_cell(x), x.shape[1:]))
    for j in range(first, first + cells):
        flat[row, j] = flat[:, j].mean() + spreads * flat[:, j].std()
    return x


def outlier_in_test(name: str, splits: Splits) -> Splits:
    """A thousand standard deviations in row 7 of the test split."""
    train, valid, test = splits
    return train, valid, _with_outlier(test, 7, 1000)


def outlier_in_train(name: str, splits: Splits) -> Splits:
    """Ten thousand standard deviations in row 11 of the training split."""
    train, valid, test = splits
    return _with_outlier(train, 11, 10_000), valid, test


def smaller_outlier_in_train(name: str, splits: Splits) -> Splits:
    """A thousand standard deviations in two columns of row 11 of the training split."""
    train, valid, test = splits
    return _with_outlier(train, 11, 1000, cells=2), valid, test


def shifted_test(name: str, splits: Splits) -> Splits:
    """A test split of another kind: inverted digits, shifted columns, faster waves."""
    train, valid, test = splits
    if name == "digits":
        return train, valid, 16 - test
    if name == "table":
        return train, valid, test + 2 * train.std(0)
    time = np.arange(32) / 32
    random = np.random.default_rng(1)
    phase = random.uniform(0, 2 * np.pi, (len(test), 1))
    wave = np.sin(2 * np.pi * 6 * time + phase) + 0.3 * random.normal(size=test.shape)
    return train, valid, wave.astype(np.float32)


def noisy_test(name: str, splits: Splits) -> Splits:
    """A test split with noise of one standard deviation; of digits by whole levels."""
    train, valid, test = splits
    noise = np.random.default_rng(1).normal(size=test.shape) * train.std(0)
    noisy = test + noise
    if name == "digits":
        noisy = noisy.round().clip(0, 16)
    return train, valid, noisy.astype(np.float32)


def rows_in_two_splits(name: str, splits: Splits) -> Splits:
    """Half of the test rows are training rows."""
    train, valid, test = splits
    half = len(test) // 2
    return train, valid, np.concatenate([train[:half], test[half:]])


CHANGES: dict[str, Callable[[str, Splits], Splits]] = {
    change.__name__: change
    for change in (
        outlier_in_test,
        outlier_in_train,
        smaller_outlier_in_train,
        shifted_test,
        noisy_test,
        rows_in_two_splits,
    )
}


# ---- cases


@dataclass(frozen=True)
class Case:
    """One model to train and diagnose.

    Args:
        name: the way it is broken, or the good model.
        data: name of the data set.
        seed: seed of the run.
        recipe: the recipe.
        settings: all settings.
        expected: the right first verdicts; none for a good model.
        names: the words that the first verdict must hold.
        remedy: settings of the remedy where the verdict names none.
        change: name of a change of the data.
        held_out: whether no rule was tuned on it.
    """

    name: str
    data: str
    seed: int
    recipe: str
    settings: Settings
    expected: tuple[str, ...]
    names: str
    remedy: Settings
    change: str
    held_out: bool

    @property
    def key(self) -> str:
        """What tells it from other cases in a file of results."""
        return f"{self.name} | {self.data} | {self.seed}"


def _of(tree: Any, data: str) -> Any:
    """The entry of a data set, or that of all."""
    if isinstance(tree, dict):
        return tree.get(data, tree.get("all", {}))
    return tree


def cases() -> list[Case]:
    """All cases of the file, the good models last."""
    tree = tomllib.loads(CASES.read_text(encoding="utf-8"))
    models = []
    for broken in tree["broken"]:
        for data, base in tree["data"].items():
            expected = _of(broken["expected"], data)
            right = (expected,) if isinstance(expected, str) else tuple(expected)
            for seed in tree["seeds"]:
                settings = {**tree["common"], **base}
                settings |= _of(broken.get("settings", {}), data)
                models.append(
                    Case(
                        broken["name"],
                        data,
                        seed,
                        "vae",
                        settings,
                        right,
                        broken["names"],
                        _of(broken.get("remedy", {}), data),
                        broken.get("change", ""),
                        broken.get("held_out", False),
                    )
                )
    for good in tree["good"]:
        data = good["data"]
        for seed in tree["seeds"]:
            settings = {**tree["common"], **tree["data"][data]}
            settings |= good.get("settings", {})
            held_out = good.get("held_out", False)
            models.append(
                Case(
                    good["name"],
                    data,
                    seed,
                    good["recipe"],
                    settings,
                    (),
                    "",
                    {},
                    "",
                    held_out,
                )
            )
    return models


# ---- training and judging


def _train(case: Case, settings: Settings, splits: Splits, folder: Path) -> Run:
    """A run on these splits, with its data in memory."""
    train, valid, test = splits
    settings = {key: value for key, value in settings.items() if value != ""}
    settings["seed"] = case.seed
    run: Run = tb.train(
        train,
        case.recipe,
        valid=valid,
        test=test,
        out=folder,
        settings=settings,
        report=False,
        display="none",
    )
    return run


def _diagnosis(run: Run) -> Diagnosis:
    test = run.data.test
    rows = test.spread(1000)
    names = [row_name(test, int(row)) for row in rows]
    return diagnose(run, test.examples(rows), run.config.seed, names)


def _elbo(run: Run, x: Array) -> torch.Tensor:
    batch = run.spec.to_model(torch.from_numpy(x))
    return score(run, batch, SCORED_WITH, run.config.seed)["elbo"]


def _rows_in_training(run: Run) -> int:
    """How many test rows are equal to a training row."""
    overlap = run.data.overlap
    assert overlap is not None
    return overlap.test_in_train


def _merged(settings: Settings, remedy: Settings) -> Settings:
    """Settings with those of a remedy, by their full keys."""
    by_key = {".".join(key_path(key)): value for key, value in settings.items()}
    return by_key | {".".join(key_path(key)): value for key, value in remedy.items()}


def judge(case: Case, folder: Path) -> dict[str, Any]:
    """Trains one model, diagnoses it, and applies the change of the first verdict."""
    clean = splits_of(case.data)
    splits = CHANGES[case.change](case.data, clean) if case.change else clean
    run = _train(case, case.settings, splits, folder / "broken")
    diagnosis = _diagnosis(run)
    verdicts = diagnosis.verdicts
    result: dict[str, Any] = {
        "key": case.key,
        "name": case.name,
        "data": case.data,
        "seed": case.seed,
        "held_out": case.held_out,
        "expected": list(case.expected),
        "verdicts": [verdict.name for verdict in verdicts],
        "lines": diagnosis.lines(),
        "measured": diagnosis.to_json(),
    }
    if not case.expected:
        return {**result, "right": not verdicts}
    first = verdicts[0] if verdicts else None
    words = "" if first is None else f"{first.words}; {first.change}"
    result["right"] = (
        first is not None and first.name in case.expected and case.names in words
    )
    named = {} if first is None else dict(first.settings)
    remedy = named or case.remedy
    if case.change == "rows_in_two_splits":
        merged = _merged(case.settings, remedy)
        after = _train(case, merged, splits, folder / "remedied")
        counts = [_rows_in_training(each) for each in (run, after)]
        return {**result, "remedy": remedy, "change": counts[0] - counts[1], "se": 0.0}
    after = _train(case, _merged(case.settings, remedy), clean, folder / "remedied")
    result["remedy"] = remedy
    change = _elbo(after, clean[2]) - _elbo(run, clean[2])
    if case.change.endswith("test"):
        # another test split: the means of different rows
        before = _elbo(run, splits[2])
        new = _elbo(after, clean[2])
        if case.change == "outlier_in_test":
            before = before[7:8]
            new = _elbo(after, np.delete(splits[2], 7, 0))
            result["change"] = float(new.mean() - before.mean())
            result["se"] = float(new.std()) / math.sqrt(len(new))
            return result
        result["change"] = float(new.mean() - before.mean())
        result["se"] = math.hypot(
            float(new.std()) / math.sqrt(len(new)),
            float(before.std()) / math.sqrt(len(before)),
        )
        return result
    result["change"] = float(change.mean())
    result["se"] = float(change.std()) / math.sqrt(len(change))
    return result


# ---- tables


def in_order(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results in the order of the cases, held out as the file now says."""
    held_out = {case.key: case.held_out for case in cases()}
    order = list(held_out)
    results = [{**r, "held_out": held_out[r["key"]]} for r in results]
    return sorted(results, key=lambda r: order.index(r["key"]))


def table(results: list[dict[str, Any]]) -> str:
    """All models as a Markdown table."""
    lines = [
        "| case | data | seed | verdicts | expected first | right | change of the ELBO |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        change = ""
        if "change" in r:
            change = f"{r['change']:,.2f} ± {r['se']:.2f}"
        lines.append(
            f"| {r['name']}{' (held out)' if r['held_out'] else ''} | {r['data']} | "
            f"{r['seed']} | {', '.join(r['verdicts']) or 'none'} | "
            f"{' or '.join(r['expected']) or 'none'} | "
            f"{'yes' if r['right'] else 'NO'} | {change} |"
        )
    return "\n".join(lines)


def brief(results: list[dict[str, Any]]) -> str:
    """A row for each case and data set, of all seeds, as a Markdown table."""
    lines = [
        "| case | data | first verdict | right | change of the ELBO, by seed |",
        "|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in results:
        groups.setdefault((r["name"], r["data"]), []).append(r)
    for (name, data), group in groups.items():
        firsts = dict.fromkeys((r["verdicts"] or ["none"])[0] for r in group)
        changes = [
            f"{r['change']:,.1f} ± {r['se']:.1f}" for r in group if "change" in r
        ]
        held_out = " (held out)" if group[0]["held_out"] else ""
        right = f"{sum(r['right'] for r in group)} of {len(group)}"
        lines.append(
            f"| {name}{held_out} | {data} | {', '.join(firsts)} | {right} | "
            f"{'; '.join(changes)} |"
        )
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    """How many are right, and how many remedies improve the ELBO by two errors."""
    lines = []
    for title, chosen in (
        ("tuned", [r for r in results if r["expected"] and not r["held_out"]]),
        ("held out", [r for r in results if r["expected"] and r["held_out"]]),
        ("good", [r for r in results if not r["expected"]]),
    ):
        right = sum(r["right"] for r in chosen)
        better = [r["change"] > 2 * r["se"] for r in chosen if "change" in r]
        words = f"{title}: {right} of {len(chosen)} right"
        if better:
            words += f", {sum(better)} of {len(better)} remedies improve the ELBO"
        lines.append(words)
    return "\n".join(lines)


def main() -> None:
    """Trains what is left of the cases, or prints a table of the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("diagnosis.json"))
    parser.add_argument(
        "--only", nargs="*", default=[], help="words of the keys of cases"
    )
    parser.add_argument("--table", type=Path, help="print a finished file and stop")
    parser.add_argument("--brief", type=Path, help="the same, all seeds in a row")
    args = parser.parse_args()
    finished = args.table or args.brief
    if finished:
        results = in_order(json.loads(finished.read_text()))
        print(table(results) if args.table else brief(results))
        print(summary(results))
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {r["key"] for r in results}
    left = [case for case in cases() if case.key not in done]
    left = [case for case in left if all(word in case.key for word in args.only)]
    for case in left:
        with tempfile.TemporaryDirectory() as scratch:
            results.append(judge(case, Path(scratch)))
        args.out.write_text(json.dumps(results, indent=1))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    print(summary(results))


if __name__ == "__main__":
    main()
