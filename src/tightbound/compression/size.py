"""The size of a file beside the ELBO, part by part, and from when a model pays."""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tightbound.compression.compress import compress_run
from tightbound.data import Split
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

WEIGHTS = {"float32": 32, "float16": 16}


@dataclass(frozen=True)
class FileSize:
    """Bits of an example in a file, beside the ELBO.

    Attributes:
        n: Number of examples.
        dims: Values of an example.
        bits: Bits of the file for each example, conditions left out.
        elbo: Minus the evaluated ELBO, in bits; of real numbers the density times the width
            of a step.
        parts: What the difference is made of, bits an example: "sampling" (one draw of z for
            each example in place of the expectation), "quantisation" (bins and integer
            probabilities), "coder", "initial" and "frame".
        conditions: Bits of the condition of each example.
        weights: Number of weights of the model.
        others: Bits an example by bz2, xz and zlib, of the raw values and, where they are 0 or
            1, of packed bits.
    """

    n: int
    dims: int
    bits: float
    elbo: float
    parts: Mapping[str, float]
    conditions: float
    weights: int
    others: Mapping[str, float]

    @property
    def percent(self) -> float:
        """How much larger the file is than the ELBO says, in percent."""
        return 100 * (self.bits / self.elbo - 1)

    def pays_from(self, bits_of_a_weight: int) -> float:
        """Examples from which file and weights together are shorter than the best other file."""
        saved = min(self.others.values()) - self.bits - self.conditions
        return self.weights * bits_of_a_weight / saved if saved > 0 else math.inf

    def lines(self) -> list[str]:
        """The size in words."""
        parts = ", ".join(f"{name} {bits:+.3f}" for name, bits in self.parts.items())
        best = min(self.others, key=lambda name: self.others[name])
        lines = [
            f"bytes: {self.n} examples in {self.bits:.2f} bits each ({self.bits / self.dims:.4f} "
            f"bits a value), ELBO {self.elbo:.2f}: {self.percent:+.2f} %",
            f"bytes: the difference in bits an example: {parts}",
        ]
        if self.conditions:
            lines.append(
                f"bytes: conditions take {self.conditions:.2f} bits an example more"
            )
        best_bits = f"{best} takes {self.others[best]:.1f} bits an example"
        costs = []
        for kind, bits in WEIGHTS.items():
            n = self.pays_from(bits)
            if math.isfinite(n):
                costs.append(f"{math.ceil(n):,} examples with its weights in {kind}")
        pays = "so the model does not pay with its weights"
        if costs:
            pays = f"the model pays from {', '.join(costs)}"
        return [*lines, f"bytes: {best_bits}; {pays}"]

    def to_json(self) -> dict[str, Any]:
        """All figures by name."""
        pays = {kind: self.pays_from(bits) for kind, bits in WEIGHTS.items()}
        return {
            "n": self.n,
            "bits_per_example": self.bits,
            "bits_per_dim": self.bits / self.dims,
            "elbo_bits": self.elbo,
            "percent": self.percent,
            "parts": dict(self.parts),
            "condition_bits": self.conditions,
            "weights": self.weights,
            "others": dict(self.others),
            "pays_from": {
                kind: math.ceil(n) if math.isfinite(n) else None
                for kind, n in pays.items()
            },
        }


def file_size(
    run: Run,
    split: Split,
    elbo: float,
    *,
    precision: Mapping[str, float] | None = None,
) -> FileSize:
    """Compress examples in memory and compare their size with their ELBO.

    Args:
        run: The run.
        split: The examples that the ELBO is of.
        elbo: Their mean ELBO in nats.
        precision: As `compress_run`.

    Raises:
        TightboundError: The model cannot be coded, or examples had to be stored as they are.
    """
    compressed = compress_run(run, split, precision=precision, measure=True)
    n = compressed.n
    if compressed.elbo is None or compressed.ideal is None or compressed.widths is None:
        raise TightboundError(
            f"{compressed.stored} of {n} examples had to be stored as they are, so their size is "
            "not comparable with the ELBO: train a better model, or compress more at once"
        )
    expected = -elbo / math.log(2) + compressed.widths / n
    parts = {
        "sampling": compressed.elbo / n - expected,
        "quantisation": (compressed.ideal - compressed.elbo) / n,
        "coder": (compressed.parts["messages"] - compressed.ideal) / n,
        "initial": compressed.parts["initial"] / n,
        "frame": compressed.parts["frame"] / n,
    }
    conditions = compressed.parts["conditions"] / n
    return FileSize(
        n,
        compressed.dims,
        compressed.bits / n - conditions,
        expected,
        parts,
        conditions,
        sum(p.numel() for p in run.model.parameters()),
        _others(split),
    )


def _others(split: Split) -> dict[str, float]:
    """Bits an example by general compressors."""
    raw = split.raw(torch.arange(len(split))).cpu().numpy()
    contents = {"": raw.tobytes()}
    if raw.dtype in (np.uint8, np.bool_) and raw.max(initial=0) <= 1:
        contents[" of packed bits"] = np.packbits(raw.astype(np.uint8)).tobytes()
    out = {}
    for kind, content in contents.items():
        out[f"bz2{kind}"] = 8 * len(bz2.compress(content, 9)) / len(split)
        out[f"xz{kind}"] = 8 * len(lzma.compress(content, preset=9)) / len(split)
        out[f"zlib{kind}"] = 8 * len(zlib.compress(content, 9)) / len(split)
    return out
