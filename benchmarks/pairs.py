"""One job of the matrix: a recipe on a data set, held against a constant, or watched for losses
that are not finite.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tightbound import api
from tightbound import data as data_room
from tightbound.config import configure
from tightbound.core.batch import Batch
from tightbound.core.component import Hierarchy
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock, Draw
from tightbound.evaluation import score
from tightbound.models.build import build
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.training import budget
from tightbound.training.console import Quiet
from tightbound.training.run_training import assemble_step, settle, with_required_data
from tightbound.training.trainer import Trainer

Settings = dict[str, Any]
STEPS, K = 200, 100
SHORT: Settings = {
    "train.steps": STEPS,
    "train.batch": 64,
    "train.validate_every": STEPS,
    "train.precision": "float32",
    "train.compile": "off",
    "recipe.size": "s",
    "device": "cpu",
}
LONG = 2000
RATES = (1e-4, 1e-3, 1e-2)
NARROW: Settings = {
    "recipe.network": "mlp",
    "recipe.network.width": 64,
    "recipe.network.depth": 1,
    "recipe.size": "s",
    "train.batch": 32,
    "train.precision": "float32",
    "train.compile": "off",
    "device": "cpu",
    "latent": 8,
}
DATA: dict[str, Settings] = {
    "digits": {},
    "photos": {},
    "wine": {"data.test": 0.25},
    "counts": {"data.domain": "count"},
    "table": {
        "data.test": 0.25,
        "data.fields": {"4": "count", "13": "categorical", "14": "binary"},
    },
}
CERTAIN = (
    "vector-quantized",
    "finite-scalar",
)  # posteriors that are a point, among codes that are all alike
PICTURES, SCALE, GAP = 8, 4, 2


def source_of(name: str, folder: Path, side: int = 8) -> Any:
    """digits (also as counts); wine, 178 x 13 reals with labels; patches of scikit-learn's two
    photographs; or a table: wine with magnesium as a count, the class as a category and whether the
    wine is strong.
    """
    if name == "table":
        table = wine()
        strong = table["x"][:, :1] > 13
        return np.concatenate([table["x"], table["y"][:, None], strong], 1)
    if name in ("digits", "counts"):
        return "digits"
    path = folder / (f"photos{side}.npz" if name == "photos" else "wine.npz")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}-{time.time_ns()}.npz")
        np.savez(part, **(photographs(side) if name == "photos" else wine()))
        part.rename(path)
    return str(path)


def wine() -> dict[str, Any]:
    from sklearn.datasets import load_wine

    dataset = load_wine()
    return {"x": dataset.data.astype(np.float32), "y": dataset.target}


def photographs(side: int) -> dict[str, Any]:
    """Colour patches: for training from the left four fifths of both photographs, the others from
    the rest.
    """
    from sklearn.datasets import load_sample_images

    chance, arrays = np.random.default_rng(0), {}
    for split, n in (("train", 3000), ("valid", 300), ("test", 300)):
        rows, labels = [], []
        for label, image in enumerate(load_sample_images().images):
            height, width, _ = image.shape
            low, high = (
                (0, int(width * 0.8)) if split == "train" else (int(width * 0.8), width)
            )
            for _ in range(n // 2):
                top, left = (
                    chance.integers(0, height - side),
                    chance.integers(low, high - side),
                )
                rows.append(image[top : top + side, left : left + side])
                labels.append(label)
        arrays |= {f"x_{split}": np.stack(rows), f"y_{split}": np.array(labels)}
    return arrays


# ---- the constant


class Constant(Hierarchy):
    """A hierarchy without latents: the same likelihood parameters for every example."""

    sites = ()

    def __init__(self, params: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.site_widths = {}
        self.decoder = nn.Identity()
        self.y = nn.Parameter(torch.zeros(1, params, *shape))

    def visit(self, draw: Draw, ctx: Any) -> Tensor:
        return self.y.expand(ctx.n, *self.y.shape[1:])


def same_likelihood(
    likelihood: Any, spec: DataSpec, train: Tensor, test: Tensor
) -> Tensor:
    """log p(x) of each test example where every dimension has the parameters that fit its training
    values best.
    """
    model = VAE(
        spec, nn.Identity(), Constant(likelihood.params, spec.shape), likelihood
    )
    fitted = [p for p in model.parameters() if p.requires_grad]
    steps = 600
    optimizer = torch.optim.Adam(fitted, lr=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    for _ in range(steps):
        trace = model(Batch(train[torch.randperm(len(train))[:512]]), Draw(source="p"))
        loss = trace.distortion.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if likelihood.keeps_statistics:
            likelihood.after_step(likelihood.statistics(trace))
    with torch.no_grad():
        return -model(Batch(test), Draw(source="p")).distortion


def histogram(levels: int, train: Tensor, valid: Tensor, test: Tensor) -> Tensor:
    """log P(x) of each test example by the shares of each level in each dimension, smoothed as
    validation likes it.
    """
    flat = train.flatten(1).long()
    counts = torch.stack([(flat == level).sum(0) for level in range(levels)]).double()

    def log_p(x: Tensor, extra: float) -> Tensor:
        log = ((counts + extra) / (len(train) + extra * levels)).log()
        return log.gather(0, x.flatten(1).long()).sum(1)

    best = max(
        (0.001, 0.01, 0.1, 0.3, 1.0, 3.0),
        key=lambda extra: float(log_p(valid, extra).mean()),
    )
    return log_p(test, best)


def constants(run: Run) -> dict[str, Tensor]:
    """log p(x) of each test example by the constant models; the histogram only beside mass
    functions.
    """
    train, valid, test = (
        split.batch(torch.arange(len(split))) for split in run.data.splits.values()
    )
    model, _ = build(run.config.recipe, run.spec)
    values = {
        "same likelihood": same_likelihood(model.likelihood, run.spec, train, test)
    }
    if run.spec.discrete and run.spec.domain != "count":
        values["histogram"] = histogram(run.spec.levels or 2, train, valid, test)
    return values


# ---- the jobs


def short(recipe: str, data: str, folder: Path) -> Settings:
    """Trains 200 steps and compares with the constant on held-out data; all figures in nats, higher
    is better.

    A model with a bound by log p(x), importance-sampled; one whose code is a function of x by log
    p(x|z) of reconstructions, which is no likelihood of x and may only be read against the
    constant's.
    """
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        run = api.train(
            source_of(data, folder),
            recipe,
            out=Path(scratch) / "run",
            settings=SHORT | DATA[data],
            display="none",
            report=False,
        )
        spent, skipped = time.perf_counter() - started, run.history()[-1]["skipped"]
        test = run.data.test.examples(torch.arange(len(run.data.test)))
        terms = score(run, test, K, 0)
        measured = (
            run.config.recipe.has_bound
            and run.config.recipe.posterior.name not in CERTAIN
        )
        values = terms["log_px"] if measured else -terms["distortion"]
        baselines = {
            name: float(value.mean()) for name, value in constants(run).items()
        }
        if run.spec.is_image and (
            data == "digits" or not (folder / f"{recipe}.png").exists()
        ):
            sheet(run, folder / f"{recipe}.png")
        elif run.spec.fields:
            printed(run, folder / f"{recipe}.png")
    return {
        "status": "ok",
        "measure": "log p(x)" if measured else "log p(x|z)",
        "likelihood": run.config.recipe.likelihood.name,
        "value": float(values.mean()),
        "se": float(values.std() / len(values) ** 0.5),
        "elbo": float(terms["elbo"].mean()) if run.config.recipe.has_bound else None,
        "constants": baselines,
        "dims": run.spec.dims,
        "skipped": skipped,
        "seconds": round(spent, 1),
    }


def sheet(run: Run, path: Path) -> None:
    """Eight test images, their reconstructions and, where the model has a prior, eight samples: a
    row of each.
    """
    first = run.data.test.select(torch.arange(PICTURES))
    rows = [first.raw(torch.arange(PICTURES)), run.reconstruct(first)] + (
        [run.sample(PICTURES)] if run.config.recipe.has_bound else []
    )
    top = run.spec.bounds[1] * run.spec.divisor if run.spec.domain != "count" else 16.0
    pixels = torch.stack([run.spec.to_model(r) * run.spec.divisor for r in rows]) / top
    tiles = (pixels.clamp(0, 1) * 255).round().byte().numpy().transpose(0, 1, 3, 4, 2)
    tiles = tiles.repeat(SCALE, 2).repeat(SCALE, 3)
    tiles = np.pad(
        tiles, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255
    )
    across = np.concatenate([np.concatenate(list(row), 1) for row in tiles], 0)
    image = Image.fromarray(across.squeeze(-1) if across.shape[-1] == 1 else across)
    image = image if image.mode == "RGB" else image.quantize(17)
    image.save(path, optimize=True)


def printed(run: Run, path: Path, n: int = 3) -> None:
    """Three test rows of a table, the same rebuilt, and three new ones: a column of each kind."""
    from matplotlib.figure import Figure

    first, kinds = (
        run.data.test.select(torch.arange(n)),
        [field.kind for field in run.spec.fields],
    )
    shown = [kinds.index(kind) for kind in ("real", "count", "categorical", "binary")]
    figure = Figure(figsize=(2.9, 1.9), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    blocks = (
        ("held out", first.raw(torch.arange(n))),
        ("rebuilt", run.reconstruct(first)),
        ("new", run.sample(n)),
    )
    lines = [
        [name if i == 0 else "", *(f"{row[j]:.4g}" for j in shown)]
        for name, rows in blocks
        for i, row in enumerate(np.asarray(rows, dtype=float))
    ]
    table = axes.table(
        lines,
        colLabels=["", *(kinds[j] for j in shown)],
        cellLoc="right",
        edges="horizontal",
        bbox=(0.02, 0.02, 0.96, 0.96),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for box in table.get_celld().values():
        box.set_linewidth(0.4)
    figure.savefig(path)


def long(
    recipe: str, data: str, rate: float, folder: Path, steps: int = LONG
) -> Settings:
    """Trains 2,000 steps of a small network at a learning rate and counts the losses that are not
    finite.
    """
    values = NARROW | DATA[data] | {"train.steps": steps, "train.lr": rate}
    settings = configure("", recipe, values=_fitting(recipe, values))
    config = with_required_data(settings)
    source = data_room.load(source_of(data, folder, 32), config.data, seed=config.seed)
    config, _ = settle(config, source)
    if config.data.domain != source.settings.domain:
        source = data_room.load(
            source_of(data, folder, 32), config.data, seed=config.seed
        )
    config = config.model_copy(
        update={
            "spec": source.spec,
            "train": budget.resolve(config.train, len(source.train), steps),
        }
    )
    step_module = assemble_step(config, torch.device("cpu"))
    model = step_module.model
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(step_module, config, source, Path(scratch), Quiet())
        bad: list[int] = []
        trainer.guard.check = watched(trainer.guard.check, bad, lambda: trainer.step)
        for step in range(steps):
            trainer.model.train()
            trainer.train_step(Clock(step / steps))
        trainer.guard.read_norms()
        valid = trainer.validator(
            trainer.average.current() if trainer.average else model
        ).figures
    finite = all(bool(p.isfinite().all()) for p in model.parameters())
    return {
        "status": "ok",
        "not_finite": len(bad),
        "first": bad[0] if bad else None,
        "left_out": int(trainer.guard.skipped),
        "weights_finite": finite,
        "valid": valid["distortion"],
        "finite": not bad
        and finite
        and bool(np.isfinite([v for k, v in valid.items() if k != "elbo_se"]).all()),
        "seconds": round(time.perf_counter() - started, 1),
    }


def watched(
    check: Callable[..., Tensor], bad: list[int], now: Callable[[], int]
) -> Callable[..., Tensor]:
    """The check of a step's health, which also notes the steps whose loss is not finite."""

    def noting_check(losses: Any, *arguments: Any) -> Tensor:
        losses = list(losses)
        if not all(bool(loss.isfinite().all()) for loss in losses):
            bad.append(now())
        return check(losses, *arguments)

    return noting_check


def _fitting(recipe: str, values: Settings) -> Settings:
    """Narrow networks and eight features, where the recipe leaves them open."""
    from tightbound.models.recipes import RECIPES

    defaults = RECIPES[recipe]
    kept = {
        k: v
        for k, v in values.items()
        if not (k.startswith("recipe.network") and defaults.network.name != "auto")
    }
    if defaults.latent != "auto":
        kept.pop("latent")
    return kept


def job(what: Sequence[Any], folder: Path) -> Settings:
    """A job by its key, ("short", recipe, data) or ("long", recipe, data, rate): its figures, or
    why there are none.
    """
    torch.set_num_threads(1)
    kind, recipe, data, *options = what
    try:
        return (
            short(recipe, data, folder)
            if kind == "short"
            else long(recipe, data, *options, folder)
        )
    except TightboundError as error:
        stopped = "training stopped at step" in str(error)
        return {"status": "failed" if stopped else "refused", "sentence": str(error)}
    except Exception as error:
        return {
            "status": "failed",
            "sentence": (
                f"{type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}"
            ),
        }
