"""How the cost of training grows with data, batch, latents, K, depth, the image's side, and
processes, one at a time.

    python benchmarks/growth.py --out growth.json --charts docs/images [--only batch k] [--threads
      1]

All points of an axis are live runs of `tb.train` that take turns, so that a drift of the machine is
not taken for a law. Steps are neither compiled nor in bfloat16. The law is a + b x or c x^e,
whichever fits the points better in relative terms; both are in the JSON. Data of many examples are
sparse files that the runs map: what is measured is what the system need not give back (RssAnon).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import charts
import harness
import machine
import numpy as np
import pictures
from harness import Remote

PLAIN = {
    "train.compile": "off",
    "train.precision": "float32",
}  # so that a law is of one kind of step
SMALL = {"network": "mlp", "recipe.size": "s", "latent": 16, **PLAIN}


@dataclass(frozen=True)
class Axis:
    """points; spec(point, folder): the run; the law is in x = measure(point), for the cost of a
    step or an example.
    """

    label: str
    points: tuple[int, ...]
    spec: Callable[[int, Path], dict[str, Any]]
    x: str
    measure: Callable[[int], float] = float
    per_step: bool = True
    threads: int | None = None

    @property
    def unit(self) -> str:
        return "ms a step" if self.per_step else "ms an example"


def plain(
    folder: Path, batch: int = 128, recipe: str = "vae", **settings: Any
) -> dict[str, Any]:
    """A run of the small network on 5,000 blobs of 28 x 28."""
    path = folder / "blobs.npy"
    if not path.exists():
        np.save(path, pictures.blobs(5000))
    return {
        "run": "tightbound",
        "batch": batch,
        "data": str(path),
        "recipe": recipe,
        "settings": SMALL | settings,
    }


def sparse(n: int, folder: Path) -> dict[str, Any]:
    """A file of n images that takes no room on the disk but for its first thousand."""
    path = folder / f"sparse-{n}.npy"
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(n, 28, 28)
    )
    array[:1000] = pictures.blobs(1000)
    array.flush()
    return plain(folder) | {"data": str(path), "by_path": True}


def sided(side: int, folder: Path) -> dict[str, Any]:
    path = folder / f"side-{side}.npy"
    np.save(path, pictures.blobs(600, side))
    settings = {"network": "conv", "recipe.size": "s", "latent": 32, **PLAIN}
    return {"run": "tightbound", "batch": 16, "data": str(path), "settings": settings}


def shared(processes: int, folder: Path) -> dict[str, Any]:
    return plain(folder, batch=512) | {"processes": processes}


AXES = {
    "data": Axis(
        "examples",
        (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
        sparse,
        "examples",
        per_step=False,
    ),
    "batch": Axis(
        "batch",
        (16, 32, 64, 128, 256, 512, 1024),
        lambda x, f: plain(f, batch=x),
        "batch",
    ),
    "latent": Axis(
        "latent features",
        (2, 8, 32, 128, 512),
        lambda x, f: plain(f, latent=x),
        "features",
    ),
    "k": Axis(
        "samples K",
        (1, 2, 4, 8, 16, 32),
        lambda x, f: plain(f, recipe="iwae", k=x),
        "K",
    ),
    "depth": Axis(
        "hidden layers each way",
        (1, 2, 4, 8, 16),
        lambda x, f: plain(f, **{"network.depth": x}),
        "layers",
    ),
    "side": Axis(
        "pixels a side",
        (28, 48, 64, 96, 128, 192, 256),
        sided,
        "pixels",
        lambda p: p * p,
        per_step=False,
    ),
    "processes": Axis(
        "processes, one thread each, 512 examples in all",
        (1, 2, 4),
        shared,
        "processes",
        threads=1,
    ),
}


def relative(y: np.ndarray, fitted: np.ndarray) -> float:
    """Root mean square of the relative errors."""
    return float(np.sqrt(np.mean((fitted / y - 1) ** 2)))


def affine(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """a + b x by least squares of relative errors, neither below 0."""
    from scipy.optimize import nnls

    (a, b), _ = nnls(np.stack([1 / y, x / y], 1), np.ones_like(y))
    return {"a": float(a), "b": float(b), "error": relative(y, a + b * x)}


def power(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """c x^e by least squares of logarithms."""
    e, log_c = np.polyfit(np.log(x), np.log(y), 1)
    return {
        "c": float(np.exp(log_c)),
        "e": float(e),
        "error": relative(y, np.exp(log_c) * x**e),
    }


def law(
    x: Sequence[float], y: Sequence[float], axis: Axis
) -> tuple[str, dict[str, Any]]:
    """The better of the two as a sentence, and both."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    found = {"affine": affine(xs, ys), "power": power(xs, ys)}
    best = min(found, key=lambda kind: found[kind]["error"])
    f = found[best]
    text = (
        f"{f['a']:.3g} + {f['b']:.3g} x"
        if best == "affine"
        else f"{f['c']:.3g} x^{f['e']:.2f}"
    )
    text += f", x: {axis.x}"
    return f"{axis.unit} = {text}  (within {100 * f['error']:.0f} %)", found


def compete(
    axis: Axis, args: argparse.Namespace
) -> tuple[list[harness.Round], list[Remote]]:
    """The points of an axis, live together and in turns."""
    with tempfile.TemporaryDirectory() as folder:
        points = [p for p in axis.points if p <= args.most]
        made = [
            Remote(
                str(p),
                axis.spec(p, Path(folder)),
                threads=axis.threads or args.threads,
                clock=args.clock,
            )
            for p in points
        ]
        rounds, missing = harness.compete(
            made, args.rounds, args.window, print, tries=args.tries
        )
    assert not missing, missing
    return rounds, made


def measure(name: str, axis: Axis, args: argparse.Namespace) -> dict[str, Any]:
    """One axis: cost with its spread, memory, and the law."""
    rounds, made = compete(axis, args)
    points, rates = [int(v.name) for v in made], harness.rates(rounds)
    each = [rates[v.name] for v in made]
    ms = [
        1e3 / s.median * (v.spec["batch"] if axis.per_step else 1)
        for s, v in zip(each, made, strict=True)
    ]
    sentence, fits = law([axis.measure(p) for p in points], ms, axis)
    load = harness.load_of(rounds)
    print(f"{name}: {sentence}; {harness.quietness(load)}", flush=True)
    found = {
        "axis": name,
        "x": points,
        "ms": ms,
        "low": [m * s.median / s.high for s, m in zip(each, ms, strict=True)],
        "high": [m * s.median / s.low for s, m in zip(each, ms, strict=True)],
        "examples_per_s": [s.median for s in each],
        "memory_mib": [v.memory for v in made],
        "start_s": [v.started for v in made],
        "law": sentence,
        "fits": fits,
        "load": load,
    }
    if args.charts:
        y = {axis.unit: ms}
        if name == "data":
            y = {
                "examples/s": found["examples_per_s"],
                "memory, MiB": found["memory_mib"],
            }
        charts.growth(
            points,
            y,
            args.charts / f"speed-{name}.png",
            xlabel=axis.label,
            law=sentence,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=harness.WINDOW)
    parser.add_argument("--tries", type=int, default=harness.TRIES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--clock", choices=("seconds", "cpu"), default="seconds", help="see speed.py"
    )
    parser.add_argument(
        "--most", type=int, default=10**8, help="leave out points above this"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--charts", type=Path, help="a folder for speed-AXIS.png")
    args = parser.parse_args()
    found: dict[str, Any] = {
        **machine.describe(args.threads),
        "clock": args.clock,
        "axes": [],
    }
    print(machine.line(found))
    for name in args.only:
        found["axes"].append(measure(name, AXES[name], args))
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
