"""A new objective
===============

The Renyi bound of Li and Turner 2016 (arXiv:1602.02311), between the ELBO and beyond.

::

    python examples/new_objective.py           # trains on the embedded digits, a few seconds
    cd examples
    tightbound train digits --set objective=new_objective:Renyi objective.alpha=0.5 k=8

An objective is a subclass of tb.Objective: a function of the trace of a pass, which has every
log-term, (K, B), and of the clock of training. Reported figures (ELBO, rate, log p(x)) are
computed from the trace, so they compare whatever was minimised.
"""

# sphinx_gallery_thumbnail_path = "images/recipes/iwae.png"

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "200"))


@dataclass(frozen=True)
class Renyi(tb.Objective):
    """-1/(1 - alpha) log (1/K) sum_k w_k^(1 - alpha); 0 is IWAE's bound, towards 1 the ELBO."""

    alpha: Annotated[float, Field(lt=1, description="order of the divergence")] = 0.5

    def __call__(self, trace: tb.Trace, clock: tb.Clock) -> Tensor:
        power = 1 - self.alpha
        bound = ((power * trace.log_w).logsumexp(0) - math.log(trace.k)) / power
        return -bound.mean()


def main() -> None:
    """Trains with K = 8 by the ELBO, by the Renyi bound and by IWAE's."""
    settings = {"latent": 8, "train.steps": STEPS, "recipe.size": "s", "k": 8}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("elbo", "new_objective:Renyi", "iwae"):
            folder = Path(temporary) / name.split(":")[-1]
            run = tb.train(
                "digits",
                objective=name,
                out=folder,
                report=False,
                display="none",
                settings={**settings},
            )
            last = run.history()[-1]["valid"]
            print(
                f"{name}: ELBO {last['elbo']:.1f}, log p(x) "
                f"{last['log_px']:.1f} nats on held-out digits"
            )


if __name__ == "__main__":
    main()
