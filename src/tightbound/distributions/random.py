"""Seeds and noise: randomness as a function of its purpose.

There is no global state: figures depend on the seed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.base import NoiseForm
from tightbound.distributions.reparam import noise_form
from tightbound.runtime.errors import whole_number
from tightbound.runtime.launch_context import WHOLE, Share

TILE = 1024
# torch draws normals in blocks of 16: the first rows of a draw do not depend on how many follow
STEP = 16


def seed_for(seed: int, *parts: object) -> int:
    """A 63-bit seed from a run's seed and a purpose: `seed_for(0, "noise", 1200)`."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *parts: object) -> torch.Generator:
    """A CPU generator seeded by `seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, *parts))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with its own seed; the global random state is restored afterwards.

    Raises:
        TightboundError: The seed is no whole number from 0 to 2^63 - 1.
    """
    seed = whole_number("seed", seed, 0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class StepNoise:
    """Noise of one pass: the sites draw in turn from one seeded generator.

    `forms` holds the form of the noise of each site, in the order of the calls.

    Args:
        seed, *parts: See `seed_for`.
        k: Number of samples of an example.
        share: (i, n) for the i-th of n equal parts of a batch: its part of the noise of the whole.
    """

    def __init__(
        self, seed: int, *parts: object, k: int = 1, share: Share = WHOLE
    ) -> None:
        self.generator = generator(seed, *parts)
        self.forms: dict[str, NoiseForm] = {}
        self.k = k
        self.share = share

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        form = self.forms[name] = noise_form(dist)
        whole = form._replace(rows=form.rows * self.share[1]).draw(
            self.generator, self.generator.device
        )
        return part_of(whole, self.k, self.share).to(form.device)


def part_of(rows: Tensor, k: int, share: Share) -> Tensor:
    """K-major rows of one of the equal parts of a batch, of K-major rows (k*B, ...)."""
    which, of = share
    if of == 1:
        return rows
    batch = len(rows) // k
    each = batch // of
    by_sample = rows.reshape(k, batch, *rows.shape[1:])
    return by_sample[:, which * each : (which + 1) * each].flatten(0, 1)


class ContentNoise:
    """Noise of evaluation: a function of seed, site, example and sample number.

    Batch size, the order of rows and the split of the K samples do not change a figure.

    Args:
        seed: Seed of the evaluation.
        x: Examples of the pass (B, *shape).
        tile: Number of the block of 1024 samples.
        k: How many samples of it are used.
    """

    def __init__(self, seed: int, x: Tensor, tile: int = 0, k: int = TILE) -> None:
        self.keys = content_keys(x)
        self.seed = seed
        self.tile = tile
        self.k = k
        self.drawn: dict[str, Tensor] = {}

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        return self._tile(name, dist)[: self.k].flatten(0, 1)

    def part(self, start: int, k: int) -> Callable[[str, Distribution], Tensor]:
        """Noise of samples `start` to `start + k` of the tile, for a pass over those."""

        def noise(name: str, dist: Distribution) -> Tensor:
            return self._tile(name, dist)[start : start + k].flatten(0, 1)

        return noise

    def _tile(self, name: str, dist: Distribution) -> Tensor:
        """All k samples of a site, (k, B, *event), drawn once."""
        if name not in self.drawn:
            form = noise_form(dist)
            tile = form._replace(rows=-(-self.k // STEP) * STEP)
            each = [
                tile.draw(generator(self.seed, name, key, self.tile), "cpu")
                for key in self.keys
            ]
            self.drawn[name] = torch.stack(each, 1).to(form.device)
        return self.drawn[name]


def content_keys(x: Tensor) -> list[bytes]:
    """Hash of each example, 8 bytes: equal examples have equal noise in any order."""
    rows = x.detach().cpu().contiguous().flatten(1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]


def tiles(k: int) -> list[int]:
    """K samples as whole tiles of noise and a remainder: 2500 as [1024, 1024, 452]."""
    sizes = [TILE] * (k // TILE)
    if k % TILE:
        sizes.append(k % TILE)
    return sizes
