"""Shows that a change of the code changes no figure, against an old commit.

    python scripts/same_figures.py COMMIT                   every case
    python scripts/same_figures.py COMMIT --only vae hvae   these
    python scripts/same_figures.py COMMIT --again           trains the old commit anew, too
    python scripts/same_figures.py --list                   names the cases

Each case trains for a few steps with default settings, by the code of the old commit and by
the tree as it is, evaluates the run on some test examples, and in some cases fits a prior
after training. All weights must be equal bit for bit, and all numbers of the evaluation and
of the training log must be equal; texts, times, fingerprints and settings are left out.
What the old commit gave is kept under build/same_figures/COMMIT, what the tree gives is
under build/same_figures/new. The exit status is 1 where a case differs or fails.

A name that changes is entered in one of the maps below, from the old name to the new one. A
change on purpose is entered in CHANGES, with its kind: a place that may be new may not differ.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("same_figures_worker.py")
WORK = ROOT / "build" / "same_figures"

Rules = Sequence[tuple[str, str]]

# ---- what is renamed, old name -> new name

# Keys of settings, with their section: {"data.masked": "data.allow_missing"}.
RENAMED_SETTINGS: dict[str, str] = {
    "data.masked": "data.allow_missing",
    "data.labelled": "data.use_labels",
    "data.mix": "data.shuffle_buffer",
    "train.skip": "train.skip_gradient_above",
}
# Functions train, evaluate, fit_prior, `save` of an evaluation, and keyword arguments.
RENAMED_API: dict[str, str] = {}
# Recipes, fitted priors, and values of settings that are texts.
RENAMED_VALUES: dict[str, str] = {}
# Files of a run folder.
RENAMED_FILES: dict[str, str] = {}
# Names of tensors, (regular expression, replacement), one after another, for example
# [(r"^path\.", "hierarchy.")]. No two names may become one.
RENAMED_WEIGHTS: list[tuple[str, str]] = [
    (r"^path\.", "hierarchy."),
    (r"^told\.", "condition_encoder."),
]
# Places of numbers in an evaluation or a log, third_term.gap.mean or 0.valid.elbo, likewise.
RENAMED_FIGURES: list[tuple[str, str]] = [
    (r"^((distortion|rate|elbo|log_px|gap|ess)\.(mean|se))$", r"terms.\1"),
    (r"^third_term\.", "inference_gap."),
    (r"^certificate\.", "bdmc_gap."),
    (r"^diagnosis\.latents\.told_apart$", "diagnosis.latents.c2st_auc"),
]
# Numbers that are not compared, by their old or new name.
LEFT_OUT = r"(^|\.)(format|seconds|time|images_per_s|left)(\.|$)"

# ---- what is changed on purpose


@dataclass(frozen=True)
class Change:
    """A change on purpose: where it may be and of which kind.

    Attributes:
        name: in the verdicts of the cases.
        names: regular expression for a tensor or the place of a number, by its new name.
        kinds: of NEW, GONE and DIFFERS; a change of another kind is a difference.
        reason: what was changed.
        page: the page under docs/ that gives the evidence.
        cases: regular expression for the cases.
    """

    name: str
    names: str
    kinds: tuple[str, ...]
    reason: str
    page: str
    cases: str = ".*"


NEW, GONE, DIFFERS = "is new", "is gone", "differs"
DIAGNOSIS = "log/2026-11-30-diagnosis.md"
NUMBERS = "log/2026-11-30-numbers.md"
CHANGES = (
    Change(
        "ppca",
        ".*",
        (NEW, GONE, DIFFERS),
        "ppca is solved in closed form instead of by steps",
        NUMBERS,
        cases="ppca",
    ),
    Change(
        "codebooks",
        r"diagnosis\.codes\..*",
        (NEW,),
        "the diagnosis measures how many codes of a codebook are used",
        "log/2026-11-30-further-training-and-doors.md",
    ),
    Change(
        "tables",
        ".*",
        (NEW, GONE, DIFFERS),
        "numbers depend on the categories of their row, and the prior is learned",
        "log/2026-11-30-synthetic-tables.md",
        cases="mixed|table|table-labels|table-conditions",
    ),
    Change(
        "distances of columns",
        r"diagnosis\.table\..*",
        (NEW,),
        "the diagnosis measures the distances of drawn columns and pairs",
        "log/2026-11-30-synthetic-tables.md",
    ),
    Change(
        "error of importance sampling",
        r"methods\.importance\.noise",
        (GONE, DIFFERS),
        "it covers heavy tails, or is not given",
        NUMBERS,
    ),
    Change(
        "headline",
        r"(headline|methods\.[^.]+\.covariance)\..*",
        (NEW,),
        "the closest figure of log p(x) has a place of its own",
        NUMBERS,
    ),
    Change(
        "quadrature",
        r"(methods\.quadrature\.(mean|se|noise|above_importance\..*)|overfitting\.decoder\..*"
        r"|(inference_gap|train)\.(log_px|gap|approximation)\.(mean|se))",
        (DIFFERS,),
        "it finds the modes first and compares two grids",
        NUMBERS,
        cases="exact",
    ),
    Change(
        "bounds by example",
        r"\d+\.valid_by_example\.(of|bound\.\d+)",
        (NEW,),
        "the log holds the bounds of the same validation examples",
        DIAGNOSIS,
    ),
    Change(
        "paired error",
        r"diagnosis\.progress\.(paired|error)",
        (NEW, DIFFERS),
        "the error of the gain in the last fifth is that of paired differences",
        DIAGNOSIS,
    ),
    Change(
        "not trained enough",
        r"diagnosis\.verdicts\.not trained enough\..*",
        (NEW, GONE),
        "this verdict is judged by the paired error and by the share that is gained",
        DIAGNOSIS,
    ),
    Change(
        "not trained enough",
        r"diagnosis\.verdicts\.not trained enough\.0\.values\.error",
        (DIFFERS,),
        "this verdict is judged by the paired error and by the share that is gained",
        DIAGNOSIS,
    ),
    Change(
        "constant",
        r"diagnosis\.(constant|verdicts\.worse than a constant)\..*",
        (NEW,),
        "the bound of training rows is compared with independent dimensions",
        DIAGNOSIS,
    ),
    Change(
        "encoder gap",
        r"diagnosis\.(encoder_gap|verdicts\.poor encoder)\..*",
        (NEW,),
        "the inference gap is measured for the diagnosis",
        DIAGNOSIS,
    ),
    Change(
        "overlap",
        r"diagnosis\.overlap\..*",
        (NEW,),
        "rows that stand in two splits are counted",
        DIAGNOSIS,
    ),
    Change(
        "validation split",
        r"diagnosis\.transfer\.valid\..*",
        (NEW,),
        "validation is compared with test, to find a test split of another kind",
        DIAGNOSIS,
    ),
    Change(
        "settings of a remedy",
        r"diagnosis\.verdicts\.[^.]+\.\d+\.(settings\..*|values\.(steps|lr))",
        (NEW,),
        "a verdict gives the settings of its remedy, which tests apply",
        DIAGNOSIS,
    ),
)

# ---- the cases

STEPS, SEED, K, EXAMPLES = 30, 0, 100, 64
WEIGHTS = ("model.safetensors", "ema.safetensors")
FIGURES = ("evaluation.json", "log.jsonl")
PRIOR_FILE = "prior.safetensors"
FEW: dict[str, Any] = {"train.steps": 6}  # of recipes whose steps are slow
SHORT: dict[str, Any] = {"limit": 8, "diagnosis": False}  # of those whose evaluation is


@dataclass(frozen=True)
class Case:
    """One training: a recipe (by default that of the case's name) on data."""

    name: str
    recipe: str = ""
    data: str = "digits"
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    prior: str = ""
    prior_settings: Mapping[str, Any] = field(default_factory=dict)


PLAIN = (
    *("iwae", "vamp", "vq-vae", "m2", "missing-data", "ppca", "factor-vae", "exemplar"),
    *("aae", "ladder", "conditional", "flow-prior", "ae", "vae-stl"),
    *("disentangled-beta-vae", "beta-tc-vae"),
    *("dip-vae-1", "dip-vae-2", "wae-mmd", "info-vae", "swae", "rae-l2", "rae-gp"),
    *("vae-gan", "msssim-vae", "sigma-vae", "vimco", "vae-full", "vae-planar"),
    *("vae-radial", "vae-sylvester", "vae-householder", "vae-iaf", "hamiltonian"),
    *("spline-prior", "mixture-prior", "hvae-vamp", "svae", "power-spherical", "biva"),
    *("poincare", "categorical-vae", "rq-vae", "fsq"),
)
CASES = (
    Case("vae", prior="gaussian-mixture"),
    *(Case(name) for name in PLAIN),
    Case("hvae", prior="gaussian-mixture"),
    Case("iwae-2", settings=FEW, evaluation=SHORT),
    Case("riemannian", settings=FEW, evaluation=SHORT),
    Case("vdvae", evaluation=SHORT),
    Case("gm-vae", settings=FEW, evaluation=SHORT),
    *(Case(name, settings=FEW) for name in ("miwae", "piwae", "ciwae", "iwae-dreg")),
    Case("nvae", settings=FEW, evaluation=SHORT),
    Case("vq-conv", evaluation=SHORT),
    Case("nb-vae", settings={"data.domain": "count"}),
    Case("vae-colour", data="colour.npz", settings=FEW, evaluation=SHORT),
    Case("mixed", data="table.csv"),
    Case("table", "vae", data="table.csv"),
    Case("table-missing", "missing-data", data="gaps.csv"),
    Case("table-labels", "m2", data="labels.csv"),
    Case(
        "table-conditions",
        "conditional",
        data="table.csv",
        settings={"data.condition": "height"},
    ),
    Case("binarized", "vae", settings={"data.binarize": "dynamic"}),
    Case("accumulated", "vae", settings={"train.accumulate": 2}),
    Case("conv", "vae", settings={"recipe.network": "conv", **FEW}, evaluation=SHORT),
    Case(
        "exact",
        "vae",
        settings={"recipe.latent": 2},
        evaluation={"ais": True, "gap": True, "subset": 2},
    ),
    Case("flow-fitted", "ae", prior="flow", prior_settings={"train.steps": STEPS}),
)


def table(*, gaps: bool = False, labels: bool = False) -> str:
    """A CSV file of fixed contents: columns of every kind; empty cells, or some labels."""
    lines = ["age,height,group,visits,smokes" + (",label" if labels else "")]
    for i in range(240):
        group = i * i % 3
        noise = (i * 7919 % 1009) / 1009
        row = [f"{30 + 15 * group + 10 * noise:.3f}", f"{1.5 + i * 31 % 97 / 400:.4f}"]
        row += [("Bern", "Rom", "Ulm")[group], str(i * 7 % 5 + 4 * group)]
        row.append("yes" if noise > 0.6 else "no")
        if gaps:
            row = ["" if (5 * i + 7 * j) % 11 == 0 else row[j] for j in range(len(row))]
        if labels:
            row.append(("cat", "dog", "")[min(2, i % 6)])
        lines.append(",".join(row))
    return "\n".join(lines) + "\n"


def write_data(folder: Path) -> None:
    """The tables and the colour images that some cases read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("table.csv", table()),
        ("gaps.csv", table(gaps=True)),
        ("labels.csv", table(labels=True)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    n, row, column, channel = np.ogrid[:300, :8, :8, :3]
    ramp = 13 * n * (1 + channel) + 9 * row * (n % 5) + 5 * column * column
    np.savez(folder / "colour.npz", x=(ramp % 256).astype(np.uint8))


# ---- training in one tree


@dataclass(frozen=True)
class Tree:
    """A checkout of the repository and the folder of its results.

    new: whether names go through the maps.
    """

    root: Path
    results: Path
    new: bool

    def named(self, name: str, table: Mapping[str, str]) -> str:
        """The name that this tree has for what the old one calls `name`."""
        return table.get(name, name) if self.new else name

    def value(self, value: Any) -> Any:
        """A value of a setting."""
        return self.named(value, RENAMED_VALUES) if isinstance(value, str) else value

    def settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings under this tree's keys."""
        return {
            self.named(key, RENAMED_SETTINGS): self.value(v)
            for key, v in settings.items()
        }

    def arguments(self, **arguments: Any) -> dict[str, Any]:
        """Keyword arguments of a function of the package."""
        return {
            self.named(name, RENAMED_API): value for name, value in arguments.items()
        }

    def folder(self, case: Case) -> Path:
        """The run folder of a case."""
        return self.results / case.name


def task(tree: Tree, case: Case) -> dict[str, Any]:
    """What the worker is told of a case."""
    common = {"display": "none"}
    settings = {"train.steps": STEPS, "device": "cpu", **case.settings}
    evaluation = {"k": K, "limit": EXAMPLES, "seed": SEED, **case.evaluation}
    return {
        "recipe": tree.value(case.recipe or case.name),
        "data": str(WORK / "data" / case.data) if "." in case.data else case.data,
        "out": str(tree.folder(case)),
        "train": tree.arguments(
            out=str(tree.folder(case)),
            report=False,
            settings=tree.settings(settings),
            **common,
        ),
        "evaluate": tree.arguments(**evaluation),
        "prior": tree.value(case.prior),
        "prior_folder": str(prior_folder(tree, case)),
        "fit_prior": tree.arguments(
            settings=tree.settings(case.prior_settings), **common
        ),
    }


def prior_folder(tree: Tree, case: Case) -> Path:
    """Where a prior fitted after training is, from the run folder."""
    name: str = tree.value(case.prior)
    return Path(tree.named("priors", RENAMED_FILES)) / name


def train(tree: Tree, cases: Sequence[Case]) -> None:
    """Trains cases in one process; after a case that ends it, the next ones in a new one."""
    left = list(cases)
    while left:
        status, said = start_worker(tree, left)
        left = [case for case in left if not ended(tree, case)]
        lost = left[:1] if status < 0 else left  # by a signal, or before the first case
        for case in lost:
            tree.folder(case).mkdir(parents=True, exist_ok=True)
            text = f"{said}\nthe process ended with status {status}\n"
            (tree.folder(case) / "error.txt").write_text(text, encoding="utf-8")
        left = left[len(lost) :]


def start_worker(tree: Tree, cases: Sequence[Case]) -> tuple[int, str]:
    """Runs the worker on cases: its exit status, and what it wrote."""
    source = str(tree.root / "src")
    functions = ("train", "evaluate", "fit_prior", "save")
    names = {name: tree.named(name, RENAMED_API) for name in functions}
    job = {
        "source": source,
        "names": names,
        "cases": [task(tree, case) for case in cases],
    }
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, str(WORKER), str(path)]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True
        )
    return done.returncode, done.stderr


def ended(tree: Tree, case: Case) -> bool:
    return any((tree.folder(case) / name).exists() for name in ("done", "error.txt"))


def train_all(tree: Tree, cases: Sequence[Case], jobs: int) -> None:
    """Trains cases anew in so many processes."""
    for case in cases:
        shutil.rmtree(tree.folder(case), ignore_errors=True)
    shares = [cases[i::jobs] for i in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda share: train(tree, share), shares))


# ---- the old commit and what is kept of it


def git(*arguments: str) -> str:
    """What git prints; its message where it fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout.strip()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(path), commit)
        try:
            yield path
        finally:
            git("worktree", "remove", "--force", str(path))


def stamp(tree: Tree, case: Case) -> dict[str, Any]:
    """What the results of a case depend on beside the code, but for the processor."""
    told = task(tree, case)
    told["train"] = {key: value for key, value in told["train"].items() if key != "out"}
    data = WORK / "data" / case.data
    read = (
        hashlib.sha256(data.read_bytes()).hexdigest() if data.is_file() else case.data
    )
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    told |= {"data": read, "out": "", "python": platform.python_version(), **versions}
    return told


def is_kept(tree: Tree, case: Case) -> bool:
    """Whether the results of a case are there and are of the same settings."""
    path = tree.folder(case) / "case.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == stamp(
        tree, case
    )


def train_old(commit: str, cases: Sequence[Case], jobs: int, again: bool) -> Tree:
    """The old tree with results of all cases, trained where they are not kept from before."""
    kept = Tree(ROOT, WORK / commit, new=False)
    wanted = [case for case in cases if again or not is_kept(kept, case)]
    if not wanted:
        return kept
    print(
        f"training {len(wanted)} cases with {commit[:12]}", file=sys.stderr, flush=True
    )
    with checkout(commit) as root:
        train_all(Tree(root, kept.results, new=False), wanted, jobs)
    for case in wanted:
        if (kept.folder(case) / "done").exists():
            text = json.dumps(stamp(kept, case), indent=1)
            (kept.folder(case) / "case.json").write_text(text, encoding="utf-8")
    return kept


# ---- comparison


KINDS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
}


class Different(Exception):
    """What differs, in one line."""


@dataclass(frozen=True)
class Stored:
    """A tensor as it is in a file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def change(self, old: Stored) -> str:
        """By how much it differs from the old tensor, in words."""
        if (self.dtype, self.shape) != (old.dtype, old.shape):
            return f"is {self.dtype} {list(self.shape)} and was {old.dtype} {list(old.shape)}"
        if self.dtype not in KINDS:
            return f"differs, {self.dtype}"
        values = np.frombuffer(self.data, KINDS[self.dtype]).astype(float)
        before = np.frombuffer(old.data, KINDS[self.dtype]).astype(float)
        return f"differs by at most {np.abs(values - before).max():.3g}"


@dataclass(frozen=True)
class Number:
    """A number of a report; equal is what is written alike."""

    text: str

    def change(self, old: Number) -> str:
        """The two numbers."""
        return f"is {self.text} and was {old.text}"


def tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a file in the safetensors format, by name."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    stored = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        data = raw[start + begin : start + end]
        stored[name] = Stored(about["dtype"], tuple(about["shape"]), data)
    return stored


def numbers(path: Path) -> dict[str, Number]:
    """All numbers of a JSON file, or of the validations in a log, by their place."""
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else validations(text)
    return {
        name: Number(repr(value))
        for name, value in leaves(by_verdict(content))
        if isinstance(value, int | float) and not re.search(LEFT_OUT, name)
    }


def validations(text: str) -> list[Any]:
    records = [json.loads(line) for line in text.splitlines()]
    return [record for record in records if record["event"] == "epoch"]


def by_verdict(content: Any) -> Any:
    """An evaluation with its verdicts by their name, so that a further one moves no other."""
    diagnosis = content.get("diagnosis") if isinstance(content, dict) else None
    if not diagnosis or not isinstance(diagnosis.get("verdicts"), list):
        return content
    named: dict[str, list[Any]] = {}
    for verdict_ in diagnosis["verdicts"]:
        named.setdefault(verdict_["name"], []).append(verdict_)
    return content | {"diagnosis": diagnosis | {"verdicts": named}}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All that is neither list nor table, by its place: third_term.gap.mean, curve.0.k."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def new_names(names: Sequence[str], rules: Rules) -> dict[str, str]:
    """Old name -> new name; no two may become one."""
    table = {}
    for name in names:
        table[name] = name
        for pattern, replacement in rules:
            table[name] = re.sub(pattern, replacement, table[name])
    origin: dict[str, str] = {}
    for old, new in table.items():
        if new in origin:
            raise Different(f"the map sends both {origin[new]} and {old} to {new}")
        origin[new] = old
    return table


def intended(case: str, name: str, kind: str) -> Change | None:
    """The intended change of this kind at a number or a tensor, by its new name."""
    for change in CHANGES:
        is_there = re.fullmatch(change.cases, case) and re.fullmatch(change.names, name)
        if is_there and kind in change.kinds:
            return change
    return None


@dataclass(frozen=True)
class Compared:
    """What the comparison of a case or of a file gave.

    Attributes:
        tensors: weights that are equal bit for bit.
        terms: numbers of `terms` of an evaluation that are equal.
        numbers: other numbers that are equal.
        changes: the intended changes, by name, with the number of places.
    """

    tensors: int = 0
    terms: int = 0
    numbers: int = 0
    changes: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Compared) -> Compared:
        """Both together."""
        return Compared(
            self.tensors + other.tensors,
            self.terms + other.terms,
            self.numbers + other.numbers,
            self.changes + other.changes,
        )

    def __str__(self) -> str:
        counts = (
            (self.tensors, "tensors of weights bit for bit"),
            (self.terms, "terms"),
            (self.numbers, "other numbers"),
        )
        equal = [f"{count} {what}" for count, what in counts if count]
        texts = [f"equal: {', '.join(equal) or 'nothing'}"]
        if self.changes:
            places = [f"{name} ({n})" for name, n in sorted(self.changes.items())]
            texts.append(f"intended: {', '.join(places)}")
        return "; ".join(texts)


def compare_tables(
    old: Mapping[str, Any], new: Mapping[str, Any], rules: Rules, case: str = ""
) -> Compared:
    """Raises Different where the names do not match one to one, or a value is not the same.

    Intended changes are left out of that, and counted.
    """
    table = new_names(list(old), rules)
    by_new = {name: old[before] for before, name in table.items()}
    kinds = {name: NEW for name in new if name not in by_new}
    kinds |= {name: GONE for name in by_new if name not in new}
    kinds |= {
        name: DIFFERS
        for name, value in by_new.items()
        if name in new and new[name] != value
    }
    changes: Counter[str] = Counter()
    unexpected: dict[str, list[str]] = {GONE: [], NEW: [], DIFFERS: []}
    for name, kind in kinds.items():
        change = intended(case, name, kind)
        if change is None:
            unexpected[kind].append(name)
        else:
            changes[change.name] += 1
    for kind in (GONE, NEW):
        if unexpected[kind]:
            raise Different(f"{unexpected[kind][0]} {kind}{others(unexpected[kind])}")
    if unexpected[DIFFERS]:
        first = unexpected[DIFFERS][0]
        change_ = new[first].change(by_new[first])
        raise Different(
            f"{first} {change_}{others(unexpected[DIFFERS])}, of {len(old)}"
        )
    equal = [name for name in by_new if name not in kinds]
    if any(isinstance(new[name], Stored) for name in equal):
        return Compared(tensors=len(equal), changes=changes)
    terms = sum(name.startswith("terms.") for name in equal)
    return Compared(terms=terms, numbers=len(equal) - terms, changes=changes)


def others(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} others" if len(names) > 1 else ""


def files(tree: Tree, case: Case) -> list[Path]:
    """The files of a case that are compared."""
    names = [Path(tree.named(name, RENAMED_FILES)) for name in (*WEIGHTS, *FIGURES)]
    if case.prior:
        folder = prior_folder(tree, case)
        fitted = (PRIOR_FILE, FIGURES[0])
        names += [folder / tree.named(name, RENAMED_FILES) for name in fitted]
    return [tree.folder(case) / name for name in names]


def compare_files(old: Path, new: Path, case: str) -> Compared:
    """Raises Different where two files do not hold the same, but for intended changes."""
    if not old.exists() and not new.exists():
        return Compared()
    for path in (old, new):
        if not path.exists():
            raise Different("is gone" if path == new else "is new")
    if new.suffix == ".safetensors":
        return compare_tables(tensors(old), tensors(new), RENAMED_WEIGHTS, case)
    return compare_tables(numbers(old), numbers(new), RENAMED_FIGURES, case)


def verdict(old: Tree, new: Tree, case: Case) -> tuple[bool, str]:
    """Whether a case is equal, and what is, or what differs first in each file."""
    for tree in (old, new):
        path = tree.folder(case) / "error.txt"
        if path.exists():
            which = "new" if tree.new else "old"
            lines = path.read_text(encoding="utf-8").strip().splitlines()
            return False, f"the {which} tree failed: {lines[-1]}"
    differences = []
    compared = Compared()
    for before, after in zip(files(old, case), files(new, case), strict=True):
        try:
            compared += compare_files(before, after, case.name)
        except Different as difference:
            differences.append(f"{after.relative_to(new.folder(case))}: {difference}")
    if differences:
        return False, "; ".join(differences)
    return True, str(compared)


def reasons() -> str:
    """What the names of the intended changes stand for, a line each."""
    lines = {f"{c.name}: {c.reason} (docs/{c.page})": "" for c in CHANGES}
    return "\n".join(["intended changes:", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("commit", nargs="?", help="the old commit")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these cases"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--again", action="store_true", help="train the old commit anew"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the names of the cases"
    )
    args = parser.parse_args(argv)
    known = [case.name for case in CASES]
    if args.list:
        print(*known)
        return 0
    unknown = [name for name in args.only if name not in known]
    if args.commit is None or unknown:
        parser.error(
            f"no case {', '.join(unknown)}" if unknown else "name the old commit"
        )
    cases = [case for case in CASES if not args.only or case.name in args.only]
    return compare(args.commit, cases, args.jobs, args.again)


def compare(commit: str, cases: Sequence[Case], jobs: int, again: bool) -> int:
    """Trains, compares, and prints a line a case; 1 where a case differs."""
    write_data(WORK / "data")
    commit = git("rev-parse", "--verify", f"{commit}^{{commit}}")
    old = train_old(commit, cases, jobs, again)
    new = Tree(ROOT, WORK / "new", new=True)
    print(
        f"training {len(cases)} cases with the tree as it is",
        file=sys.stderr,
        flush=True,
    )
    train_all(new, cases, jobs)
    equal = 0
    for case in cases:
        is_equal, text = verdict(old, new, case)
        equal += int(is_equal)
        print(f"{case.name}: {text}")
    print(reasons())
    print(f"{equal} of {len(cases)} equal but for intended changes")
    return int(equal < len(cases))


if __name__ == "__main__":
    sys.exit(main())
