"""A stranger's path: the wheel in an empty environment, and what a first hour needs.

    python scripts/strangers_path.py [--keep FOLDER]

Builds the wheel, installs it with its extras into a new environment, and there: trains on a folder
of 300 colour photographs, exports the page and the ONNX graphs, decodes with onnxruntime alone,
writes codes as Parquet, fits the estimator in a pipeline, and writes a model card. Photographs are
those of $TIGHTBOUND_DATA where it is set, else rendered ones. Each step prints its seconds, and
those of the processor; the script ends with 1 at the first one that fails, and at the end where
all but the installation, which downloads torch, took more than six minutes of processor.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
COUNT = 300
MOST = 360  # seconds of processor, without the installation

PIPELINE = """
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
import tightbound as tb
X, y = load_digits(return_X_y=True)
model = make_pipeline(tb.VAEEstimator(latent=8, steps=100), LogisticRegression(max_iter=2000))
score = model.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:])
assert score > 0.5, score
print(f"accuracy {score:.2f}")
"""

DECODE = """
import numpy as np
import onnxruntime
import sys
decoder = onnxruntime.InferenceSession("onnx/decoder.onnx")
width = decoder.get_inputs()[0].shape[1]
(mean,) = decoder.run(["mean"], {"z": np.zeros((2, width), dtype=np.float32)})
assert mean.ndim == 4 and mean.shape[:2] == (2, 3), mean.shape
assert (mean >= 0).all() and (mean <= 255).all() and mean.std() > 0
assert "torch" not in sys.modules
print("decoded", mean.shape)
"""

CODES = """
import pandas as pd
codes = pd.read_parquet("codes.parquet")
assert len(codes) == 300, len(codes)
print(list(codes.columns)[:3])
"""

CARD = """
from pathlib import Path
import tightbound as tb
folder = Path(tb.push_to_hub(tb.load("run"), "stranger/photographs", folder="card"))
card = (folder / "README.md").read_text(encoding="utf-8")
assert "| log_px |" in card and "![samples](samples.png)" in card, card
assert (folder / "samples.png").is_file() and "photos" not in card
print(len(card), "characters")
"""


class Journey:
    """The steps in a folder of their own.

    Args:
        folder: Where everything is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "environment" / "bin"

    def run(self, *words: str, cwd: Path | None = None) -> None:
        """Run a program; raises CalledProcessError where it fails."""
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        paths = os.pathsep.join([str(self.programs), clean.get("PATH", "")])
        threads = clean.get("OMP_NUM_THREADS", "2")
        variables = clean | {"PATH": paths, "OMP_NUM_THREADS": threads}
        subprocess.run(words, cwd=cwd or self.folder, env=variables, check=True)

    def python(self, code: str) -> None:
        """Run Python code in the new environment."""
        self.run(str(self.programs / "python"), "-c", code)

    def tightbound(self, *words: str) -> None:
        """Run the command of the new environment."""
        self.run(str(self.programs / "tightbound"), *words)

    # ---- the steps

    def build(self) -> None:
        """The wheel from the sources."""
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        self.run(*pip, "--wheel-dir", str(self.folder / "dist"), str(ROOT), cwd=ROOT)

    def install(self) -> None:
        """The wheel with extras in an empty environment."""
        self.run(sys.executable, "-m", "venv", str(self.folder / "environment"))
        (wheel,) = (self.folder / "dist").glob("tightbound-*.whl")
        pip = [str(self.programs / "python"), "-m", "pip", "install", "--quiet"]
        limits = ["-c", str(ROOT / "constraints.txt")]
        self.run(*pip, *limits, f"{wheel}[explore,data,hf]")

    def photographs(self) -> None:
        """300 colour photographs in two sub-folders."""
        target = self.folder / "photos"
        for name in ("one", "two"):
            (target / name).mkdir(parents=True)
        source = Path(os.environ.get("TIGHTBOUND_DATA", "/nowhere"))
        files = sorted(source.rglob("*.jp*g"))[:COUNT]
        if len(files) < COUNT:
            render(target)
            return
        for number, file in enumerate(files):
            folder = target / ("one" if number % 2 else "two")
            shutil.copy(file, folder / f"{number:04d}{file.suffix}")

    def train(self) -> None:
        """A model of the photographs."""
        options = ["--quiet", "--budget", "60s", "--set", "recipe.size=s"]
        self.tightbound("train", "photos", "--out", "run", *options)

    def explore(self) -> None:
        """The page in one file."""
        self.tightbound("explore", "run", "--export", "page.html", "--no-scenes")
        text = (self.folder / "page.html").read_text(encoding="utf-8")
        for word in ("Content-Security-Policy", "block-ort.wasm"):
            assert word in text, f"page.html has no {word}"

    def codes(self) -> None:
        """Codes as Parquet with named columns."""
        self.tightbound("encode", "run", "photos", "--out", "codes.parquet")
        self.python(CODES)

    def pipeline(self) -> None:
        """The estimator in a pipeline of scikit-learn."""
        self.python(PIPELINE)

    def onnx(self) -> None:
        """ONNX graphs, decoded by onnxruntime alone."""
        self.tightbound("export", "run", "--format", "onnx", "--out", "onnx")
        self.python(DECODE)

    def card(self) -> None:
        """A model card."""
        self.python(CARD)


def render(target: Path) -> None:
    """Colour pictures with smooth shapes, where no photographs are at hand."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:32, 0:32] / 31
    for number in range(COUNT):
        colours = rng.uniform(0, 255, (3, 3))
        centre, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.4)
        inside = (down - centre[0]) ** 2 + (across - centre[1]) ** 2 < radius**2
        ground = colours[0] + (colours[1] - colours[0]) * across[..., None]
        pixels = np.where(inside[..., None], colours[2], ground)
        noisy = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255)
        folder = target / ("one" if number % 2 else "two")
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number:04d}.jpg")


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    """Walk the path; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="write here, and keep it")
    keep: Path | None = parser.parse_args().keep
    if keep is not None and keep.exists() and (keep.is_file() or any(keep.iterdir())):
        parser.error(f"{keep} is not empty: name a new folder")
    folder = keep or Path(tempfile.mkdtemp(prefix="stranger-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = Journey(folder.resolve())
    steps: list[Callable[[], None]] = [
        path.build,
        path.install,
        path.photographs,
        path.train,
        path.explore,
        path.codes,
        path.pipeline,
        path.onnx,
        path.card,
    ]
    total = 0.0
    try:
        for step in steps:
            begin, before = time.perf_counter(), processor_seconds()
            step()
            seconds = time.perf_counter() - begin
            work = processor_seconds() - before
            if step != path.install:
                total += work
            times = f"{seconds:6.1f} s {work:6.1f} s of processor"
            print(f"{step.__name__:12} {times}  {step.__doc__}", flush=True)
    except (subprocess.CalledProcessError, AssertionError) as error:
        print(f"{step.__name__} failed: {error}", file=sys.stderr)
        return 1
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"all but the installation: {total:.1f} s of processor, at most {MOST} s")
    return int(total > MOST)


if __name__ == "__main__":
    sys.exit(main())
