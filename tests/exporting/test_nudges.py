"""The small changes of inputs that find where the outputs of a graph jump."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tightbound.exporting import comparison
from tightbound.exporting.plan import plan_of
from tightbound.training import own_loop


def test_columns_of_a_table_are_changed_each_by_its_own_size(tmp_path: Path) -> None:
    """A price in hundreds of thousands must not move the number of rooms beside it."""
    rng = np.random.default_rng(0)
    rooms = rng.integers(1, 6, 200) + 0.25
    price = np.exp(12.5 + 0.3 * rng.normal(size=200)).round()
    garden = np.where(rng.random(200) < 0.5, 0, rng.gamma(2, 120, 200).round(1))
    kind = rng.choice(["flat", "house"], 200)
    lines = ["rooms,price,garden,kind"]
    lines += [
        ",".join(map(str, row)) for row in zip(rooms, price, garden, kind, strict=True)
    ]
    (tmp_path / "homes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model, _ = own_loop.build("vae", str(tmp_path / "homes.csv"), seed=0)
    model.eval()
    encoder = plan_of(model).graphs[0]
    assert encoder.name == "encoder" and encoder.has_columns
    examples = encoder.examples(7, 107)
    x = examples[0]
    assert (x[:, 2] == 0).any()
    for sign in (-1, 1):
        near = comparison._nudged(examples, sign, encoder)
        change = (near[0] - x).abs()
        assert bool((change[:, 3] == 0).all()) and bool((change[x == 0] == 0).all())
        assert bool((change <= 5 * comparison.NUDGE * x.abs().amax(0)).all())
        assert bool((change[:, :2] > 0).any())
        with torch.no_grad():
            codes = encoder.reference.outputs(*examples)["codes"]
            others = encoder.reference.outputs(*near)["codes"]
        smooth = comparison._is_smooth(codes.double().numpy(), [others])
        assert smooth.all()
