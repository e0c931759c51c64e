"""Your own training loop
======================

An nn.Module, your optimiser, then the evaluation of tightbound.

::

    python examples/own_loop.py                # a few seconds on the embedded digits

`tb.build` reads the data and makes the model, `model(batch, k=...)` runs one pass, and
`model.backward` gives each group of parameters the gradient of its own loss. `tb.save` makes a run
of the model, which every command of tightbound reads.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

import tightbound as tb

EPOCHS = int(os.environ.get("TIGHTBOUND_EXAMPLE_EPOCHS", "15"))


def train(recipe: str) -> tuple[tb.VAE, object]:
    """A plain loop; it is right for every recipe, also for those with a critic."""
    model, data = tb.build(recipe, "digits", latent=8, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    steps = EPOCHS * len(data.train)
    step = 0
    for _ in range(EPOCHS):
        for batch in data.train:
            trace = model(batch, k=2)
            model.backward(trace, progress=step / steps)
            optimizer.step()
            optimizer.zero_grad()
            model.after_step()  # codebooks, optimal scales; nothing for most recipes
            step += 1
    return model, data


def main() -> None:
    """Trains a VAE and an adversarial autoencoder by the same loop, and evaluates the VAE."""
    with tempfile.TemporaryDirectory() as temporary:
        model, data = train("vae")
        batch = data.train.examples(200)
        trace = model(batch)
        print(f"loss of the objective on 200 examples: {model.loss(trace):.2f} nats")
        print(f"the same from the record: {-trace.elbo.mean():.2f}, its ELBO")

        run = tb.save(model, Path(temporary) / "mine")
        print(tb.evaluate(run, data=data, k=100))

        q = model.encode(batch)
        px = model.decode(q.mean)
        print("codes", tuple(q.mean.shape), "and images", tuple(px.mean.shape))

        adversarial, data = train("aae")
        losses = adversarial.losses(adversarial(data.train.examples(200)))
        print(
            "losses by group:", {name: round(v.item(), 2) for name, v in losses.items()}
        )


if __name__ == "__main__":
    main()
