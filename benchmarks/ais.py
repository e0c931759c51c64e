"""Annealed importance sampling: many images at once against one image at a time, its chains
batched.

    python benchmarks/ais.py --threads 1 --out ais.json

16 chains x 1000 temperatures x 10 leapfrog steps from the prior, 784-512-16-512-784, Bernoulli.
`one-by-one` is a loop
written by hand that takes an image at a time with its 16 chains as one batch, which is how
published code does it. Cost
is proportional to the moves, one for each temperature and for each of the 30 of our pilot, so rates
are measured with
--rated temperatures and given for --temperatures and the pilot. Both must give the same log p(x)
  within their error, on
the same images and with all temperatures. `products` is the limit: the matrix products of the
decoder and its gradient
towards the latents alone, of as many rows as one of our passes holds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import harness
import machine
import torch
from harness import Local
from likelihood import trained
from torch import Tensor
from torch.nn import functional as F

STEP, LEAPFROG, CHAINS, PILOT = 0.1, 10, 16, 30


def by_hand(
    model: Any, x: Tensor, temperatures: int, seed: int = 0
) -> tuple[float, float]:
    """log p(x) of one image (1, 1, 28, 28) and its error; linear temperatures, a step size that is
    moved to 0.65.
    """
    decoder, base = model.hierarchy.decoder.body, model.likelihood.base.flatten()
    rows = x.flatten(1).expand(CHAINS, -1)
    noise = torch.Generator().manual_seed(seed)

    def log_px(z: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(
            base + decoder(z), rows, reduction="none"
        ).sum(-1)

    def grad_of(z: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        z = z.detach().requires_grad_()
        like = log_px(z)
        target = beta * like - 0.5 * z.square().sum(-1)
        return torch.autograd.grad(target.sum(), z)[0], target.detach(), like.detach()

    z = torch.randn(CHAINS, 16, generator=noise)
    log_w, step = torch.zeros(CHAINS, dtype=torch.float64), STEP
    like = log_px(z).detach()
    betas = torch.linspace(0, 1, temperatures + 1).tolist()
    for below, beta in itertools.pairwise(betas):
        log_w += (beta - below) * like.double()
        momentum = torch.randn(z.shape, generator=noise)
        grad, before, _ = grad_of(z, beta)
        kinetic, at, p = (
            0.5 * momentum.square().sum(-1),
            z,
            momentum + 0.5 * step * grad,
        )
        for number in range(LEAPFROG):
            at = at + step * p
            grad, target, new = grad_of(at, beta)
            p = p + (step if number < LEAPFROG - 1 else 0.5 * step) * grad
        energy = target - 0.5 * p.square().sum(-1) - before + kinetic
        accepted = torch.rand(CHAINS, generator=noise).log() < energy
        z, like = (
            torch.where(accepted[:, None], at.detach(), z),
            torch.where(accepted, new, like),
        )
        step = min(
            0.5, max(1e-3, step * (1.02 if accepted.float().mean() > 0.65 else 0.98))
        )
    weights = (log_w - log_w.max()).exp()
    error = float(weights.std() / weights.mean() / CHAINS**0.5)
    return float(log_w.logsumexp(0) - math.log(CHAINS)), error


def ours(model: Any, x: Tensor, temperatures: int, seed: int = 0) -> Any:
    """The same of all images at once, through the package."""
    from tightbound.evaluation import log_px

    settings = {
        "chains": CHAINS,
        "temperatures": temperatures,
        "leapfrog": LEAPFROG,
        "pilot_temperatures": PILOT,
    }
    return log_px(model, x, "ais-prior", seed=seed, **settings)


def agreement(model: Any, x: Tensor, temperatures: int) -> dict[str, float]:
    """Mean log p(x) of both and the error of their difference, in nats."""
    results = ours(model, x, temperatures)
    values, errors = torch.tensor(
        [by_hand(model, one[None], temperatures) for one in x], dtype=torch.float64
    ).T
    error = float((results.se.square() + errors.square()).sum().sqrt() / len(x))
    acceptance = float(results.diagnostic["acceptance"].mean())
    return {
        "ours": results.mean,
        "theirs": float(values.mean()),
        "error": error,
        "acceptance": acceptance,
    }


def products(images: int, temperatures: int) -> Local:
    """One move's matrix products of all images, forward and towards the latents, into buffers; work
    in images.
    """
    rows, layers = images * CHAINS, ((16, 512), (512, 784))
    weights = [torch.randn(a, b) for a, b in layers]
    inputs = [torch.randn(rows, a) for a, _ in layers]
    outputs = [torch.randn(rows, b) for _, b in layers]

    def step() -> float:
        for _ in range(LEAPFROG):
            for w, a, b in zip(weights, inputs, outputs, strict=True):
                torch.mm(a, w, out=b)
                torch.mm(b, w.T, out=a)
        return images / (temperatures + PILOT)

    return Local("products", step)


def parsed() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="in one call of ours")
    parser.add_argument("--temperatures", type=int, default=1000)
    parser.add_argument(
        "--rated", type=int, default=100, help="temperatures of a timed call"
    )
    parser.add_argument(
        "--agree", type=int, default=4, help="images on which both are run in full"
    )
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS)
    parser.add_argument("--tries", type=int, default=harness.TRIES)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {
        **machine.describe(args.threads),
        "temperatures": args.temperatures,
    }
    print(machine.line(results))
    with tempfile.TemporaryDirectory() as folder:
        run, test = trained(args.steps, Path(folder))
    model, x = run.model, test[: args.images]
    results["agreement"] = a = agreement(model, test[: args.agree], args.temperatures)
    print(
        f"log p(x): {a['ours']:.3f} ours, {a['theirs']:.3f} by hand, error {a['error']:.3f}"
    )
    turn = itertools.cycle(range(len(x)))

    def one() -> float:
        by_hand(model, x[next(turn)][None], args.rated)
        return args.rated / args.temperatures

    def many() -> float:
        ours(model, x, args.rated)
        return len(x) * (args.rated + PILOT) / (args.temperatures + PILOT)

    simulated = [
        Local("one-by-one", one),
        Local("tightbound", many),
        products(len(x), args.temperatures),
    ]
    rounds, _ = harness.compete(
        simulated, args.rounds, harness.WINDOW, print, tries=args.tries
    )
    results |= harness.record(rounds, "one-by-one")
    print(
        harness.table(rounds, "one-by-one", "images"),
        harness.quietness(results["load"]),
        sep="\n",
    )
    results["seconds_per_image"] = {
        name: 1 / s.median for name, s in harness.rates(rounds).items()
    }
    print(
        {
            name: f"{value:.2f} s an image"
            for name, value in results["seconds_per_image"].items()
        }
    )
    each = harness.rates(rounds)
    results["share"] = share = each["tightbound"].median / each["products"].median
    print(f"{100 * share:.0f} % of the rate of the products alone")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
