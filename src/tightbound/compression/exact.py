"""Networks that give the same numbers on both sides: float64, one thread, fixed batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tightbound.distributions.random import seeded
from tightbound.models.build import build
from tightbound.models.vae import VAE
from tightbound.runs.run import Run

ROWS = 256
MOST_NUMBERS = 4_000_000  # parameters of p(x|z) in a batch


def exact_model(run: Run) -> VAE:
    """A copy of the model on the CPU in float64, in eval mode.

    A product of float64 numbers differs between machines in its last digits, which rounding
    the probabilities to integers removes but for one value in many millions.
    """
    with seeded(0):
        # its components are loaded already
        model, _ = build(run.config.recipe, run.spec, trust=True)
    state = {name: value.cpu() for name, value in run.model.state_dict().items()}
    model.load_state_dict(state)
    return model.double().eval().requires_grad_(False)


def rows_of(model: VAE) -> int:
    """Examples of a batch, by the size of the decoder's output."""
    numbers = model.spec.dims * max(1, model.likelihood.params)
    return max(2, min(ROWS, MOST_NUMBERS // numbers))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread and without gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
