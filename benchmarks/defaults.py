"""Which network, size and number of latents serve which data: every candidate trains for the same
processor time on one thread, then is judged.

    TIGHTBOUND_DATA=... python benchmarks/defaults.py --seconds 60 --out defaults.json
    python benchmarks/defaults.py --table defaults.json

Four data sets: digits, MNIST and Fashion-MNIST (8-bit grey levels), and a folder of colour
photographs of mixed sizes, cut at random from scikit-learn's two (train and test from different
halves of each, so that no pixel is in both). A run that is there already is not repeated, so an
interrupted grid goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import tightbound as tb

GRID: dict[str, list[dict[str, Any]]] = {
    "digits": [
        *({"network": "mlp", "recipe.size": size, "latent": 16} for size in "sm"),
        *(
            {"network": "mlp", "recipe.size": "s", "latent": latent}
            for latent in (8, 32)
        ),
        {"network": "conv", "recipe.size": "s", "latent": 16},
    ],
    "mnist": [
        *({"network": "mlp", "recipe.size": size, "latent": 40} for size in "sm"),
        {"network": "mlp", "recipe.size": "m", "latent": 16},
        {"network": "conv", "recipe.size": "s", "latent": 40},
    ],
    "fashion-mnist": [
        *({"network": "mlp", "recipe.size": size, "latent": 40} for size in "sm"),
        {"network": "conv", "recipe.size": "s", "latent": 40},
    ],
    "photos": [
        {"network": "mlp", "recipe.size": "s", "latent": 128},
        *(
            {"network": "conv", "recipe.size": "s", "latent": latent}
            for latent in (64, 128)
        ),
    ],
}


def photographs(folder: Path) -> Path:
    """1,600 training, 200 validation and 200 test photographs of 40 to 120 pixels a side, as
    split/label/number.png.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    chance = random.Random(0)
    for label, array in zip(
        ("china", "flower"), load_sample_images().images, strict=True
    ):
        image = Image.fromarray(array)
        cut = int(image.width * 0.8)
        for split, count, low, high in (
            ("train", 800, 0, cut),
            ("valid", 100, cut, image.width),
            ("test", 100, cut, image.width),
        ):
            place = folder / split / label
            place.mkdir(parents=True)
            for i in range(count):
                w, h = chance.randint(40, 120), chance.randint(40, 120)
                x, y = (
                    chance.randint(low, high - w),
                    chance.randint(0, image.height - h),
                )
                image.crop((x, y, x + w, y + h)).save(place / f"{i:03}.png")
    return folder


def steps_for(
    source: str, settings: dict[str, Any], seconds: float, folder: Path
) -> int:
    """How many steps take so many seconds of processor time on one thread, which other programs do
    not change.
    """

    def cost(steps: int) -> float:
        values = {
            **settings,
            "train.steps": steps,
            "train.validate_every": steps,
            "train.validate_n": 1,
        }
        start = time.process_time()
        tb.train(
            source,
            out=folder / str(steps),
            settings=values,
            report=False,
            display="none",
        )
        return time.process_time() - start

    cost(2)
    return max(20, round(25 * seconds / max(1e-3, cost(30) - cost(5))))


def judge(
    source: str, settings: dict[str, Any], seconds: float, folder: Path
) -> dict[str, Any]:
    """Trains one candidate for so many processor seconds and evaluates it on 500 test examples with
    K = 50.
    """
    steps = steps_for(source, settings, seconds, folder)
    run = tb.train(
        source,
        out=folder / "run",
        settings={**settings, "train.steps": steps},
        report=False,
        display="none",
    )
    found = tb.evaluate(run, k=50, limit=500).to_json()
    return {
        **settings,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "steps": run.config.train.steps,
        **{name: found[name] for name in ("elbo", "rate", "log_px", "bits_per_dim")},
    }


def table(results: list[dict[str, Any]]) -> str:
    """The grid as a Markdown table, nats per example with standard errors."""
    lines = [
        (
            "| data | network | size | latent | weights | steps | test ELBO | test "
            "log p(x), K = 50 | bits/dim |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        figures = [
            f"{r[name]['mean']:.2f} ± {r[name]['se']:.2f}"
            for name in ("elbo", "log_px")
        ]
        bits = r["bits_per_dim"]["log_px"]["mean"]
        words = [
            r["data"],
            r["network"],
            r["recipe.size"],
            r["latent"],
            f"{r['parameters']:,}",
            f"{r['steps']:,}",
        ]
        lines.append(
            "| " + " | ".join(map(str, [*words, *figures, f"{bits:.3f}"])) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="training time of each candidate"
    )
    parser.add_argument(
        "--only", nargs="*", default=list(GRID), help="data sets to run"
    )
    parser.add_argument("--out", type=Path, default=Path("defaults.json"))
    parser.add_argument(
        "--table", type=Path, help="print a finished file as a table and stop"
    )
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {
        json.dumps([r["data"], *(r[k] for k in ("network", "recipe.size", "latent"))])
        for r in results
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only:
            source = (
                str(photographs(Path(scratch) / "photos")) if name == "photos" else name
            )
            for i, settings in enumerate(GRID[name]):
                if json.dumps([name, *settings.values()]) in done:
                    continue
                seconds = args.seconds if name != "digits" else args.seconds / 4
                results.append(
                    {
                        "data": name,
                        **judge(
                            source, settings, seconds, Path(scratch) / f"{name}-{i}"
                        ),
                    }
                )
                args.out.write_text(json.dumps(results, indent=1))
                print(table(results[-1:]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
