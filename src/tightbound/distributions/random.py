"""Randomness as a function of what it is for: no global state, so that nothing but the seed decides
a figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.reparam import NoiseForm, noise_form
from tightbound.runtime.launch_context import WHOLE, Share

TILE = 1024
# torch draws normals in blocks of 16: the first rows of a draw are the same however many follow
STEP = 16


def seed_for(seed: int, *parts: object) -> int:
    """A 63-bit seed made of a run's seed and what it is for: `seed_for(0, "noise", 1200)`."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *parts: object) -> torch.Generator:
    """A CPU generator seeded by `seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, *parts))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Runs a block with its own seed and leaves the global random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class StepNoise:
    """Noise of one pass: the sites draw one after another from a generator seeded by what the pass
    is for.

    forms: which site asked for what, in the order of asking.  k, share: of a pass with k samples of
    an example over a part of a batch, the noise is that part of the whole batch's.
    """

    def __init__(
        self, seed: int, *parts: object, k: int = 1, share: Share = WHOLE
    ) -> None:
        self.generator = generator(seed, *parts)
        self.forms: dict[str, NoiseForm] = {}
        self.k, self.share = k, share

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        form = self.forms[name] = noise_form(dist)
        whole = form._replace(rows=form.rows * self.share[1]).draw(
            self.generator, self.generator.device
        )
        return part_of(whole, self.k, self.share).to(form.device)


def part_of(rows: Tensor, k: int, share: Share) -> Tensor:
    """Of K-major rows (k*B, ...) of a batch, those that belong to one of its equal parts, K-major
    again.
    """
    which, of = share
    if of == 1:
        return rows
    batch = len(rows) // k
    each = batch // of
    return rows.reshape(k, batch, *rows.shape[1:])[
        :, which * each : (which + 1) * each
    ].flatten(0, 1)


class ContentNoise:
    """Noise of evaluation: a function of seed, site, the example's own bytes and the number of the
    sample.

    So neither the batch size, nor the order of rows, nor how the K samples are cut changes a
    figure. x: (B, *shape), the examples of the pass; tile: which 1024 samples; k: how many of them
    are used.
    """

    def __init__(self, seed: int, x: Tensor, tile: int = 0, k: int = TILE) -> None:
        self.keys, self.seed, self.tile, self.k = content_keys(x), seed, tile, k
        self.drawn: dict[str, Tensor] = {}

    def __call__(self, name: str, dist: Distribution) -> Tensor:
        return self._tile(name, dist)[: self.k].flatten(0, 1)

    def part(self, start: int, k: int) -> Callable[[str, Distribution], Tensor]:
        """The noise of samples `start` to `start + k` of the tile, for a pass over those."""
        return lambda name, dist: self._tile(name, dist)[start : start + k].flatten(
            0, 1
        )

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
    """What an example is, as 8 bytes each: equal examples have equal noise, wherever they stand."""
    rows = x.detach().cpu().contiguous().flatten(1).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]


def tiles(k: int) -> list[int]:
    """K samples as whole tiles of noise and a rest: 2500 as [1024, 1024, 452]."""
    return [TILE] * (k // TILE) + ([k % TILE] if k % TILE else [])
