"""Time to -log p(x) of 90, 86 and 84 on dynamically binarised MNIST, start-up and data included.

    make speedrun                                      every contestant, in turn
    python benchmarks/speedrun.py ours-2min pythae-defaults --threads 2
    python benchmarks/speedrun.py --table              the table and the figure of docs/speed.md

A contestant is a process of its own; its clock begins when the process is started, so that imports
and reading the data count, and stands while it is judged. It is judged at each of its validations
or epochs: -log p(x) of 1,000 validation images by importance sampling with K = 64, the same images,
draws and estimator for all. Where that reaches a mark, 2,000 test images are evaluated with
K = 1000, and the mark counts as reached where they reach it too. All images are those of the fixed
draw of seed 777. Training images are drawn anew: inside the time of this package, outside that of
the others, which have no such option.

Contestants stand in `speedrun.toml`; those of other libraries need `make bench-env`. A result is
kept in `benchmarks/results/speedrun` and not made again; the foreign load stands beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CONTESTANTS, RESULTS = HERE / "speedrun.toml", HERE / "results" / "speedrun"
PEERS = HERE / ".venv" / "bin" / "python"
MARKS = (90.0, 86.0, 84.0)
FIGURE, MARK = "speedrun.svg", "speedrun"
VALID, TEST = (1000, 64), (2000, 1000)  # images and K
Found = dict[str, Any]


class Meter:
    """The clock of a contestant, which stands while it is judged, and the points so far.

    Args:
        started: `time.time()` at which its process was started.
        images: Numbers of validation and of test images, and K of each.
        limit: Seconds after which the contestant is stopped.
        out: File of the points, written after each.
    """

    def __init__(
        self,
        started: float,
        out: Path,
        limit: float = math.inf,
        images: tuple[tuple[int, int], tuple[int, int]] = (VALID, TEST),
    ) -> None:
        self.started = started
        self.out = out
        self.limit = limit
        self.images = images
        self.held = 0.0
        self.held_cpu = 0.0
        self.points: list[Found] = []
        self.reached: dict[str, Found] = {}
        self._sets: Any = None

    def judge(self, log_px: Callable[[Any, int], Any]) -> bool:
        """Add a point; True where the contestant has nothing left to do.

        Args:
            log_px: log p(x) of images (n, 1, 28, 28) with K samples each, (n,).
        """
        now = time.time()
        cpu = time.process_time()
        seconds = now - self.started - self.held
        point = {"seconds": seconds, "cpu": cpu - self.held_cpu}
        valid, test = self._images()
        value, error = _mean(log_px(valid, self.images[0][1]))
        point |= {"value": value, "se": error}
        open_marks = [m for m in MARKS if value <= m and str(m) not in self.reached]
        if open_marks:
            final, final_error = _mean(log_px(test, self.images[1][1]))
            point |= {"test": final, "test_se": final_error}
            for mark in open_marks:
                if final <= mark:
                    self.reached[str(mark)] = dict(point)
        self.points.append(point)
        self.held += time.time() - now
        self.held_cpu += time.process_time() - cpu
        self._write()
        return seconds >= self.limit or len(self.reached) == len(MARKS)

    def _images(self) -> Any:
        if self._sets is None:
            data = mnist()
            self._sets = [
                split.batch(split.spread(n))
                for split, (n, _) in zip(
                    (data.valid, data.test), self.images, strict=True
                )
            ]
        return self._sets

    def _write(self) -> None:
        found = {"points": self.points, "reached": self.reached}
        self.out.write_text(json.dumps(found) + "\n")


def _mean(values: Any) -> tuple[float, float]:
    """The mean of -log p(x) and its standard error."""
    return float(-values.mean()), float(values.std() / len(values) ** 0.5)


def mnist() -> Any:
    """MNIST, its validation and test images binarised once by seed 777."""
    from tightbound.data import load
    from tightbound.data.settings import DataSettings

    return load("mnist", DataSettings(binarize="dynamic"))


def greys() -> Any:
    """The grey levels of the training images in [0, 1], (50000, 1, 28, 28)."""
    train = mnist().train
    x = train.x if train.index is None else train.x[train.index]
    return x.unsqueeze(1).float() / 255


def importance(q_of: Callable[[Any], Any], px_of: Callable[[Any], Any]) -> Any:
    """Importance-sampled log p(x) of a model with a standard normal prior."""
    import torch
    from torch.distributions import Independent, Normal

    @torch.no_grad()
    def log_px(x: Any, k: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        each = []
        for part in x.split(max(1, 20_000 // k)):
            q = q_of(part)
            noise = torch.randn((k, *q.mean.shape), generator=generator)
            z = q.mean + q.stddev * noise
            prior = Independent(Normal(torch.zeros_like(q.mean), 1.0), 1)
            px = px_of(z.flatten(0, 1))
            copies = part.expand(k, *part.shape).flatten(0, 1)
            log_w = (
                px.log_prob(copies).reshape(k, -1) + prior.log_prob(z) - q.log_prob(z)
            )
            each.append(log_w.double().logsumexp(0) - math.log(k))
        return torch.cat(each)

    return log_px


# ---- contestants


def tightbound(meter: Meter, spec: Found) -> None:
    """`tb.train` as a user calls it, with a budget; judged at each validation."""
    import signal

    import tightbound as tb
    from tightbound.api import Stopped
    from tightbound.evaluation import score
    from tightbound.runtime.time_budget import TimeBudget

    class Judge(tb.Callback):
        def validation(self, progress: Any, record: Any) -> None:
            run = progress.run
            if meter.judge(lambda x, k: score(run, x, k, seed=0)["log_px"]):
                os.kill(os.getpid(), signal.SIGINT)

    settings = {"data.binarize": "dynamic", **spec.get("settings", {})}
    budget = None
    if "minutes" in spec:
        # its clock stands while the contestant is judged
        budget = TimeBudget(
            60.0 * spec["minutes"],
            after_training=0.0,
            clock=lambda: time.perf_counter() - meter.held,
        )
    with tempfile.TemporaryDirectory() as folder, suppress(Stopped):
        tb.train(
            "mnist",
            spec["recipe"],
            out=Path(folder) / "run",
            display="none",
            report=False,
            budget=budget,
            callbacks=[Judge()],
            settings=settings,
        )


def pythae(meter: Meter, spec: Found) -> None:
    """pythae's VAE by its own trainer; the training images are drawn anew outside its time."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback
    from torch.distributions import Bernoulli, Independent, Normal

    x = greys()
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), reconstruction_loss="bce")
    parts: Found = {}
    if "gated" in spec:
        from peers import Decoder, Encoder

        config.latent_dim = spec["latent"]
        width = spec["gated"]
        parts["encoder"] = Encoder(_gated(784, width), width, config.latent_dim)
        head = torch.nn.Linear(width, 784)
        body = torch.nn.Sequential(_gated(config.latent_dim, width), head)
        parts["decoder"] = Decoder(body, True)
    model = VAE(config, **parts)
    data = BaseDataset(torch.bernoulli(x), torch.zeros(len(x)))

    def q_of(images: Any) -> Any:
        out = model.encoder(images)
        return Independent(Normal(out.embedding, (0.5 * out.log_covariance).exp()), 1)

    def px_of(z: Any) -> Any:
        mean = model.decoder(z).reconstruction.reshape(-1, 1, 28, 28)
        return Independent(Bernoulli(mean.clamp(1e-6, 1 - 1e-6)), 3)

    class Judge(TrainingCallback):
        def on_epoch_begin(self, training_config: Any, **kwargs: Any) -> None:
            since, cpu = time.time(), time.process_time()
            data.data.copy_(torch.bernoulli(x))
            meter.held += time.time() - since
            meter.held_cpu += time.process_time() - cpu

        def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
            model.eval()
            if meter.judge(importance(q_of, px_of)):
                raise _Done
            model.train()

    with tempfile.TemporaryDirectory() as folder:
        options: Found = {"output_dir": folder, "num_epochs": spec["epochs"]}
        if "batch" in spec:
            options["per_device_train_batch_size"] = spec["batch"]
        if "rate" in spec:
            options["learning_rate"] = spec["rate"]
        trainer = BaseTrainer(
            model,
            data,
            training_config=BaseTrainerConfig(**options),
            callbacks=[Judge()],
        )
        trainer.train()


class _Done(Exception):
    """The contestant has reached all marks, or its limit."""


def _gated(inputs: int, width: int) -> Any:
    """Two gated layers on flattened inputs."""
    from torch import nn

    from tightbound.components.networks.dense import layers

    return nn.Sequential(nn.Flatten(), layers(inputs, (width, width), "gated"))


def _lightning_module(spec: Found) -> Any:
    """A VAE as a LightningModule."""
    import torch
    from lightning.pytorch import LightningModule
    from torch import nn
    from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

    latent, hidden = spec["latent"], spec["hidden"]

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Flatten(),
                nn.Linear(784, hidden),
                nn.ReLU(),
                nn.Linear(hidden, 2 * latent),
            )
            self.decoder = nn.Sequential(
                nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 784)
            )

        def q_of(self, images: Any) -> Any:
            mean, log_scale = self.encoder(images).chunk(2, -1)
            return Independent(Normal(mean, log_scale.exp()), 1)

        def px_of(self, z: Any) -> Any:
            logits = self.decoder(z).reshape(-1, 1, 28, 28)
            return Independent(Bernoulli(logits=logits), 3)

        def training_step(self, batch: Any, number: int) -> Any:
            (images,) = batch
            q = self.q_of(images)
            prior = Independent(Normal(torch.zeros_like(q.mean), 1.0), 1)
            return (
                kl_divergence(q, prior) - self.px_of(q.rsample()).log_prob(images)
            ).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=spec["rate"])

    return Module()


def lightning(meter: Meter, spec: Found) -> None:
    """A VAE by Lightning's Trainer over a DataLoader with its defaults."""
    import torch
    from lightning.pytorch import Callback, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    x = greys()
    torch.manual_seed(0)
    drawn = torch.bernoulli(x)

    class Judge(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            since, cpu = time.time(), time.process_time()
            drawn.copy_(torch.bernoulli(x))
            meter.held += time.time() - since
            meter.held_cpu += time.process_time() - cpu

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if meter.judge(importance(module.q_of, module.px_of)):
                trainer.should_stop = True

    loader = DataLoader(TensorDataset(drawn), batch_size=spec["batch"], shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            max_epochs=spec["epochs"],
            default_root_dir=folder,
            callbacks=[Judge()],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(_lightning_module(spec), loader)


KINDS = {"tightbound": tightbound, "pythae": pythae, "lightning": lightning}


def contest(spec: Found, out: Path) -> None:
    """Be one contestant, in this process."""
    import torch

    torch.set_num_threads(spec["threads"])
    images = tuple(tuple(pair) for pair in spec.get("images", (VALID, TEST)))
    meter = Meter(spec["started"], out, spec.get("seconds", math.inf), images)
    with suppress(_Done):
        KINDS[spec["kind"]](meter, spec)


# ---- all of them in turn


def start(name: str, spec: Mapping[str, Any], threads: int, folder: Path) -> Found:
    """Run a contestant in a process of its own; its points, marks and the foreign load."""
    import harness
    import machine

    python = sys.executable if spec["kind"] == "tightbound" else str(PEERS)
    if not Path(python).exists():
        return {"missing": "make bench-env makes its environment"}
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{name}.points.json"
    out.unlink(missing_ok=True)
    load = harness.Load()
    load.start()
    sent = {**spec, "threads": threads, "started": time.time()}
    command = [
        python,
        str(HERE / "speedrun.py"),
        "--contest",
        json.dumps(sent),
        str(out),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not out.is_file():
        words = done.stderr.strip().splitlines() or ["it ended without a word"]
        return {"missing": words[-1][:300]}
    foreign = load.foreign()
    found = json.loads(out.read_text())
    out.unlink()
    return {
        **machine.describe(threads),
        **found,
        "spec": dict(spec),
        "foreign": round(foreign, 3),
        "quiet": foreign <= harness.QUIET,
    }


def refused(busy: bool, load: Any = None, seconds: float = 2.0) -> str:
    """Why no contestant is started now: others use more than 0.12 core; "" where none is."""
    import harness

    load = load or harness.Load()
    load.start()
    time.sleep(seconds)
    foreign = load.foreign()
    if busy or foreign <= harness.QUIET:
        return ""
    return (
        f"other programs use {foreign:.2f} cores, more than {harness.QUIET}: wait for a quiet "
        "machine, or give --busy, which the result says"
    )


def table(results: Mapping[str, Found]) -> str:
    """A row for each contestant: seconds to each mark."""
    heads = " | ".join(f"s to {mark:g}" for mark in MARKS)
    lines = [
        f"| contestant | {heads} | last point (validation) | machine |",
        "|---" * (len(MARKS) + 3) + "|",
    ]
    for name, found in results.items():
        if "missing" in found:
            lines.append(
                f"| {name} |{' |' * len(MARKS)} | **not run**: {found['missing']} |"
            )
            continue
        cells = [
            f"{found['reached'][str(mark)]['seconds']:.0f}"
            if str(mark) in found["reached"]
            else "not reached"
            for mark in MARKS
        ]
        last = found["points"][-1]
        state = (
            "quiet" if found["quiet"] else f"others used {found['foreign']:.1f} cores"
        )
        point = f"{last['value']:.2f} ± {last['se']:.2f} at {last['seconds']:.0f} s"
        lines.append(
            f"| {name} | {' | '.join(cells)} | {point} | {found['threads']} threads; {state} |"
        )
    return "\n".join(lines)


def draw(results: Mapping[str, Found], path: Path) -> None:
    """-log p(x) of the validation images against seconds, a line for each contestant."""
    from charts import nats

    curves = {
        name: [(point["seconds"], point["value"]) for point in found["points"]]
        for name, found in results.items()
        if "missing" not in found
    }
    label = "seconds, start-up and data included"
    nats(curves, path, label, height=30.0, marks=MARKS)


def write_docs(results: Mapping[str, Found], docs: Path) -> None:
    """The table and the figure of docs/speed.md."""
    from matrix import between

    text = table(results)
    if any("missing" not in found for found in results.values()):
        draw(results, docs / "images" / FIGURE)
        text += f"\n\n![Nats against seconds](images/{FIGURE})"
    path = docs / "speed.md"
    path.write_text(between(path.read_text(encoding="utf-8"), MARK, text))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="contestants; all where none is named")
    parser.add_argument("--contestants", type=Path, default=CONTESTANTS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, help="a limit on each, for a trial")
    parser.add_argument(
        "--busy", action="store_true", help="begin although other programs run"
    )
    parser.add_argument("--again", action="store_true", help="also those with a result")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs")
    parser.add_argument("--table", action="store_true", help="write the documentation")
    parser.add_argument("--contest", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.contest:
        contest(json.loads(options.contest[0]), Path(options.contest[1]))
        return 0
    specs = tomllib.loads(options.contestants.read_text(encoding="utf-8"))
    unknown = sorted(set(options.names) - set(specs))
    if unknown:
        parser.error(f"no contestant {unknown[0]!r}: there are {', '.join(specs)}")
    for name in [] if options.table else options.names or specs:
        path = options.out / f"{name}.json"
        if path.is_file() and not options.again:
            continue
        if why := refused(options.busy):
            print(f"error: {why}", file=sys.stderr)
            return 2
        spec = specs[name]
        if options.seconds:
            spec = {**spec, "seconds": options.seconds}
        found = start(name, spec, options.threads, options.out)
        if "missing" not in found:
            path.write_text(json.dumps(found, indent=1) + "\n")
        print(table({name: found}).splitlines()[-1], flush=True)
    results = {
        name: json.loads((options.out / f"{name}.json").read_text())
        if (options.out / f"{name}.json").is_file()
        else {"missing": "make speedrun"}
        for name in specs
    }
    if options.table:
        write_docs(results, options.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
