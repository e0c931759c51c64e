"""Scattering transform: a fixed network of wavelets for features of images.

Mallat 2012 (arXiv:1101.2286); Bruna and Mallat 2013 (arXiv:1203.1513).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

ORIENTATIONS = 4
MOST_SCALES = 3
AT_ONCE = 2_000_000  # padded values of a pass
ALIASES = (-1, 0, 1)


@dataclass(frozen=True)
class Scattering:
    """Averaged modulus of wavelet coefficients of order 0, 1 and 2.

    S0 = x * phi, S1 = |x * psi_1| * phi, S2 = ||x * psi_1| * psi_2| * phi with scale 2 above
    scale 1, averaged over a grid of cells. psi are isotropic Morlet wavelets of scales 2^j
    and four orientations, phi a Gaussian. No weight is trained or random, so that the
    network is the same for all data and on all machines.

    Args:
        scales: J, number of scales.
        cells: cells of the grid along each side.
    """

    scales: int
    cells: int

    @classmethod
    def of(cls, height: int, width: int) -> Scattering:
        """The transform for images of a size."""
        scales = int(math.log2(max(4, min(height, width)))) - 2
        scales = max(1, min(MOST_SCALES, scales))
        cells = 4 if scales < MOST_SCALES else 2
        return cls(scales, min(cells, height, width))

    @property
    def definition(self) -> str:
        """All that determines the network, as text."""
        return (
            f"scattering 1: Morlet sigma=0.8*2^j xi=0.75*pi/2^j, J={self.scales}, "
            f"L={ORIENTATIONS}, orders 0 1 2, reflected borders, cells={self.cells}"
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Coefficients (n, channels * paths * cells^2) of images (n, C, H, W), float64."""
        n, channels, height, width = x.shape
        border = min(2**self.scales, height - 1, width - 1)
        size = (height + 2 * border, width + 2 * border)
        low, waves = self._filters(*size)
        rows = max(1, AT_ONCE // (channels * size[0] * size[1]))
        parts = []
        for part in x.double().split(rows):
            padded = pad(part, (border, border, border, border), mode="reflect")
            paths = [
                self._pooled(path, low, border) for path in self._paths(padded, waves)
            ]
            parts.append(torch.stack(paths, 2).flatten(1))
        return torch.cat(parts) if parts else torch.zeros(n, 0)

    def _paths(self, x: Tensor, waves: list[tuple[int, Tensor]]) -> Iterator[Tensor]:
        """x and the moduli of its wavelet coefficients, before they are averaged."""
        yield x
        spectrum = torch.fft.fft2(x)
        for scale, wave in waves:
            first = torch.fft.ifft2(spectrum * wave).abs()
            yield first
            again = torch.fft.fft2(first)
            for second_scale, second in waves:
                if second_scale > scale:
                    yield torch.fft.ifft2(again * second).abs()

    def _pooled(self, path: Tensor, low: Tensor, border: int) -> Tensor:
        """A path smoothed by phi, without its border, averaged in cells."""
        smooth = torch.fft.ifft2(torch.fft.fft2(path) * low).real
        inside = smooth[..., border:-border, border:-border]
        return adaptive_avg_pool2d(inside, self.cells).flatten(2)

    def _filters(
        self, height: int, width: int
    ) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """phi, and each psi with its scale, as functions of frequency."""
        low = gaussian(height, width, 0.8 * 2 ** (self.scales - 1), (0.0, 0.0))
        waves = []
        for scale in range(self.scales):
            for turn in range(ORIENTATIONS):
                angle = math.pi * turn / ORIENTATIONS
                waves.append((scale, morlet(height, width, scale, angle)))
        return low / low[0, 0], waves


def morlet(height: int, width: int, scale: int, angle: float) -> Tensor:
    """Fourier transform (height, width) of a Morlet wavelet, 0 at frequency 0."""
    sigma = 0.8 * 2**scale
    xi = 0.75 * math.pi / 2**scale
    centre = (xi * math.sin(angle), xi * math.cos(angle))
    wave = gaussian(height, width, sigma, centre)
    envelope = gaussian(height, width, sigma, (0.0, 0.0))
    return wave - envelope * (wave[0, 0] / envelope[0, 0])


def gaussian(
    height: int, width: int, sigma: float, centre: tuple[float, float]
) -> Tensor:
    """exp(-sigma^2 |w - centre|^2 / 2) at the frequencies of a grid, with its aliases."""
    rows = 2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64)
    columns = 2 * math.pi * torch.fft.fftfreq(width, dtype=torch.float64)

    def along(frequency: Tensor, at: float) -> Tensor:
        shifted = [frequency + 2 * math.pi * alias - at for alias in ALIASES]
        return torch.stack([torch.exp(-((sigma * w) ** 2) / 2) for w in shifted]).sum(0)

    return along(rows, centre[0])[:, None] * along(columns, centre[1])
