"""Importance-sampled log p(x), K = 5000: this package against pythae's `get_nll`, same weights,
side by side.

    benchmarks/.venv/bin/python benchmarks/likelihood.py --threads 1 --out likelihood.json

The network is 784-512-16-512-784 with a Bernoulli likelihood, trained here for some steps and
copied into pythae, whose value must agree with ours within the error of both. pythae: one image a
call, its default 100 samples a pass. The share of the machine's matrix rate counts the decoder's
multiplications alone, against products of the same sizes measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import harness
import machine
import numpy as np
import pictures
import torch
from harness import Local
from networks import Wide
from torch import Tensor

ROWS = 5000


class Network(Wide):
    """The wide network with a Bernoulli likelihood."""

    likelihood = "bernoulli"


def trained(steps: int, folder: Path) -> tuple[Any, Tensor]:
    """A run of ours on binary digits, and its test images (n, 1, 28, 28)."""
    import tightbound as tb

    files, _ = pictures.write(folder, 6000)
    x = np.load(files["bernoulli"])
    settings = {
        "network": Network,
        "latent": 16,
        "train.steps": steps,
        "train.batch": 128,
    }
    run = tb.train(
        x[:5000],
        out=folder / "run",
        valid=x[5000:5500],
        test=x[5500:],
        report=False,
        display="none",
        settings=settings,
    )
    return run, torch.from_numpy(x[5500:]).unsqueeze(1).float()


@torch.no_grad()
def as_pythae(run: Any) -> Any:
    """The same model in pythae: its log-variance is twice our log-scale, our likelihood's bias goes
    to the decoder.
    """
    from peers import Decoder, Encoder
    from pythae.models import VAE, VAEConfig

    model, net = run.model, Network()
    encoder = Encoder(net.encoder((1, 28, 28)), net.features, net.latent)
    decoder = Decoder(net.decoder(net.latent, (1, 1, 28, 28)), True)
    centre, spread = model.centre.flatten(), model.spread.flatten()
    encoder.body.load_state_dict(model.encoder.body.state_dict())
    first = encoder.body[1]  # ours sees (x - centre) / spread
    first.bias -= first.weight @ (centre / spread)
    first.weight /= spread
    posterior = model.hierarchy.posterior
    encoder.mean.load_state_dict(posterior.mean.state_dict())
    encoder.log_var.weight.copy_(2 * posterior.log_scale.weight)
    encoder.log_var.bias.copy_(2 * posterior.log_scale.bias)
    decoder.body.load_state_dict(model.hierarchy.decoder.body.state_dict())
    decoder.body[-1].bias += model.likelihood.base.flatten()
    config = VAEConfig(
        input_dim=(1, 28, 28), latent_dim=net.latent, reconstruction_loss="bce"
    )
    return VAE(config, encoder, decoder).eval()


def agreement(run: Any, peer: Any, x: Tensor, k: int) -> dict[str, Any]:
    """log p(x) of both, image by image; z = difference over its error, from our se (the peer
    reports none).
    """
    from tightbound.evaluation import score

    ours = score(run, x, k, seed=0)
    torch.manual_seed(0)
    theirs = torch.tensor(
        [float(peer.get_nll(one[None], n_samples=k)) for one in x], dtype=torch.float64
    )
    error = (1 / ours["ess"] - 1 / k).clamp(min=0).sqrt() * 2**0.5
    z = (ours["log_px"] - theirs) / error
    return {
        "images": len(x),
        "ours": float(ours["log_px"].mean()),
        "theirs": float(theirs.mean()),
        "error": float(error.square().sum().sqrt() / len(x)),
        "greatest_z": float(z.abs().max()),
    }


def products(dtype: torch.dtype) -> Local:
    """The decoder's matrix products of 5000 rows into buffers; work in floating-point
    operations.
    """
    pairs = []
    for inputs, outputs in ((16, 512), (512, 784)):
        a, b = (
            torch.randn(ROWS, inputs).to(dtype),
            torch.randn(inputs, outputs).to(dtype),
        )
        pairs.append((a, b, torch.empty(ROWS, outputs, dtype=dtype)))

    def step() -> float:
        for a, b, out in pairs:
            torch.mm(a, b, out=out)
        return float(flops(ROWS))

    return Local(
        "products-bf16" if dtype == torch.bfloat16 else "products-float32", step
    )


def flops(rows: int) -> int:
    """Of the decoder for so many rows."""
    return 2 * rows * (16 * 512 + 512 * 784)


def steps(run: Any, peer: Any, x: Tensor, k: int) -> list[Local]:
    """What is compared; work is images, times the operations an image takes, so that all rates are
    of one kind.
    """
    from tightbound.evaluation import score

    at = {"theirs": 0}

    def theirs() -> float:
        at["theirs"] = (at["theirs"] + 1) % len(x)
        peer.get_nll(x[at["theirs"]][None], n_samples=k)
        return float(flops(k))

    def ours() -> float:
        score(run, x, k, seed=0)
        return float(len(x) * flops(k))

    return [
        Local("pythae", theirs),
        Local("tightbound", ours),
        products(torch.float32),
        products(torch.bfloat16),
    ]


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--k", type=int, default=5000)
    parser.add_argument("--images", type=int, default=32, help="in one call of ours")
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    parser.add_argument("--tries", type=int, default=harness.TRIES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {**machine.describe(args.threads), "k": args.k}
    print(machine.line(results))
    with tempfile.TemporaryDirectory() as folder:
        run, test = trained(args.steps, Path(folder))
        peer = as_pythae(run)
        results["agreement"] = agreement(run, peer, test[:8], args.k)
        a = results["agreement"]
        print(
            f"log p(x) of {a['images']} images: {a['ours']:.3f} ours, "
            f"{a['theirs']:.3f} theirs, error {a['error']:.3f}"
        )
        assert abs(a["ours"] - a["theirs"]) < 4 * a["error"], "the two do not agree"
        built = steps(run, peer, test[: args.images], args.k)
        rounds, _ = harness.compete(
            built, args.rounds, harness.WINDOW, print, tries=args.tries
        )
    results |= harness.record(rounds, "pythae")
    print(
        harness.table(rounds, "pythae", "operations"),
        harness.quietness(results["load"]),
        sep="\n",
    )
    each = harness.rates(rounds)
    results["ms_per_image"] = {
        name: 1e3 * flops(args.k) / each[name].median
        for name in ("pythae", "tightbound")
    }
    results["share"] = {
        word: harness.Spread.of(
            [r["tightbound"].rate / r[f"products-{word}"].rate for r in rounds]
        ).median
        for word in ("float32", "bf16")
    }
    print(
        {
            name: f"{value:.1f} ms an image"
            for name, value in results["ms_per_image"].items()
        }
    )
    print(
        {
            word: f"{100 * value:.0f} % of the {word} products"
            for word, value in results["share"].items()
        }
    )
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
