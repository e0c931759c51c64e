"""How long until this package's default recipe is as good as pythae's default VAE after 30 epochs,
on binarised MNIST.

    benchmarks/.venv/bin/python benchmarks/time_to_elbo.py --peer
        pythae's curve, once; kept as JSON
    python benchmarks/time_to_elbo.py [--threads 1] --out time.json
        ours, until it is as good

What is equal: the 50,000 / 10,000 / 10,000 split, the Bernoulli likelihood, the binarisation of the
test images (the fixed draw of seed 777), and the evaluator: ELBO = E_q[log p(x|z)] - KL(q, p) in
nats over all 10,000 test images, the KL in closed form, one draw of z an image from the same noise
seed.

pythae: `VAE` with its default network, latents and trainer, but for `reconstruction_loss="bce"`;
its training images are drawn anew each epoch, outside its time, which is the best that a user can
do for it.  Ours: the whole call of `tb.train("mnist", settings={"data.binarize": "dynamic"})`,
reading the data and validating included, until the averaged weights are as good.  Seconds of the
wall and of processor time; with one thread the second hardly depends on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import machine
import torch
from reach import Stopwatch, reach
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    Normal,
    kl_divergence,
)

CURVE = harness.HERE / "results" / "pythae-mnist.json"


def data(limit: int | None) -> Any:
    """MNIST, dynamically binarised for training and once for testing."""
    from tightbound.data import load
    from tightbound.data.settings import DataSettings

    return load("mnist", DataSettings(binarize="dynamic", limit=limit))


@torch.no_grad()
def test_elbo(
    q_of: Callable[[Tensor], Distribution],
    px_of: Callable[[Tensor], Distribution],
    x: Tensor,
) -> tuple[float, float]:
    """The ELBO of x (n, 1, 28, 28) in nats and its standard error."""
    noise, each = torch.Generator().manual_seed(0), []
    for part in x.split(1000):
        q = q_of(part)
        z = q.mean + q.stddev * torch.randn(q.mean.shape, generator=noise)
        p = Independent(Normal(torch.zeros_like(z), 1.0), 1)
        each.append(px_of(z).log_prob(part) - kl_divergence(q, p))
    values = torch.cat(each).double()
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def peer(epochs: int, limit: int | None, threads: int, out: Path) -> None:
    """pythae's default VAE and trainer: test ELBO and time after each epoch, written after each."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    found = data(limit)
    greys = (
        found.train.x[found.train.index].unsqueeze(1).float() / 255
        if found.train.index is not None
        else None
    )
    greys = found.train.x.unsqueeze(1).float() / 255 if greys is None else greys
    test = found.test.batch(torch.arange(len(found.test)))
    torch.manual_seed(0)
    model = VAE(VAEConfig(input_dim=(1, 28, 28), reconstruction_loss="bce"))
    watch, curve = Stopwatch(), []

    def q_of(x: Tensor) -> Distribution:
        out = model.encoder(x)
        return Independent(Normal(out.embedding, (0.5 * out.log_covariance).exp()), 1)

    def px_of(z: Tensor) -> Distribution:
        mean = (
            model.decoder(z).reconstruction.reshape(-1, 1, 28, 28).clamp(1e-6, 1 - 1e-6)
        )
        return Independent(Bernoulli(mean), 3)

    class Timed(TrainingCallback):
        def on_epoch_begin(self, training_config: Any, **kwargs: Any) -> None:
            set_.data.copy_(torch.bernoulli(greys))
            watch.go()

        def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
            watch.hold()
            elbo, se = test_elbo(q_of, px_of, test)
            curve.append(
                {
                    "epoch": len(curve) + 1,
                    "value": elbo,
                    "se": se,
                    "seconds": watch.wall,
                    "cpu": watch.cpu,
                }
            )
            out.write_text(json.dumps({**about, "curve": curve}, indent=1) + "\n")
            print(curve[-1], flush=True)

    about = {**machine.describe(threads), "train": len(greys), "epochs": epochs}
    set_ = BaseDataset(torch.bernoulli(greys), torch.zeros(len(greys)))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(output_dir=folder, num_epochs=epochs)
        BaseTrainer(model, set_, training_config=config, callbacks=[Timed()]).train()


def _judge(run: Any, test: Tensor) -> tuple[float, float]:
    from tightbound.core.batch import Batch

    return test_elbo(
        lambda x: run.posterior(run.spec.to_raw(x)),
        lambda z: run.predictor.decode(Batch(z)),
        test,
    )


def ours(
    target: float, limit: int | None, threads: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """The default recipe until its test ELBO is at least the target."""
    found = data(limit)
    test = found.test.batch(torch.arange(len(found.test)))
    wanted = {
        "data.binarize": "dynamic",
        **({"data.limit": limit} if limit else {}),
        **settings,
    }
    curve = reach(
        "mnist", "elbo", target, lambda run: _judge(run, test), settings=wanted
    )
    return {
        **machine.describe(threads),
        "target": target,
        "reached": curve[-1]["value"] >= target,
        "curve": curve,
    }


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer",
        action="store_true",
        help="measure pythae, with the peers' environment",
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--limit", type=int, help="training images, for a trial")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--curve", type=Path, default=CURVE, help="where pythae's curve is kept"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], help="settings of ours, key=value"
    )
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    if args.peer:
        args.curve.parent.mkdir(exist_ok=True)
        peer(args.epochs, args.limit, args.threads, args.curve)
        return
    from tightbound.config import assignments

    theirs = json.loads(args.curve.read_text())
    last = theirs["curve"][-1]
    if last["epoch"] < theirs["epochs"]:
        print(
            f"pythae's curve ends after {last['epoch']} of {theirs['epochs']} "
            "epochs, so it is no goal: --peer again"
        )
        return
    found = ours(last["value"], args.limit, args.threads, assignments(args.set))
    end = found["curve"][-1]
    found["ratio"] = {kind: last[kind] / end[kind] for kind in ("seconds", "cpu")}
    print(
        f"pythae, {last['epoch']} epochs: {last['value']:.2f} ± "
        f"{last['se']:.2f} in {last['seconds']:.1f} s"
    )
    print(
        f"ours, {end['step']} steps: {end['value']:.2f} ± {end['se']:.2f} in {end['seconds']:.1f} s"
    )
    if not found["reached"]:
        print("not reached")
    print(
        f"{found['ratio']['seconds']:.1f} times less time "
        f"({found['ratio']['cpu']:.1f} of processor time)"
    )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
