"""Scattering transform: a fixed network of wavelets for features of images.

Mallat 2012 (arXiv:1101.2286); Bruna and Mallat 2013 (arXiv:1203.1513).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

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
        channels, height, width = x.shape[1:]
        border = min(2**self.scales, height - 1, width - 1)
        size = (height + 2 * border, width + 2 * border)
        waves = self._waves(*size)
        down = self.averages(size[0], border)
        across = self.averages(size[1], border)
        rows = max(1, AT_ONCE // (channels * size[0] * size[1]))
        parts = []
        for part in x.float().split(rows):
            padded = pad(part, (border, border, border, border), mode="reflect")
            paths = [down @ path @ across.T for path in self._paths(padded, waves)]
            parts.append(torch.stack(paths, 2).flatten(1).double())
        return torch.cat(parts)

    def _paths(self, x: Tensor, waves: list[tuple[int, Tensor]]) -> Iterator[Tensor]:
        """x and the moduli of its wavelet coefficients, before they are averaged."""
        yield x
        spectrum = torch.fft.fft2(x)
        for scale, wave in waves:
            first = torch.fft.ifft2(spectrum * wave).abs()
            yield first
            if scale + 1 == self.scales:
                continue
            again = torch.fft.fft2(first)
            for second_scale, second in waves:
                if second_scale > scale:
                    yield torch.fft.ifft2(again * second).abs()

    def averages(self, size: int, border: int) -> Tensor:
        """Weights (cells, size) of phi followed by averages in cells, along one axis."""
        spectrum = gaussian(size, 0.8 * 2 ** (self.scales - 1), 0.0)
        kernel = torch.fft.ifft(spectrum / spectrum[0]).real
        at = torch.arange(size)
        smooth = kernel[(at[:, None] - at) % size][border : size - border]
        cells = [rows.mean(0) for rows in smooth.tensor_split(self.cells)]
        return torch.stack(cells).float()

    def _waves(self, height: int, width: int) -> list[tuple[int, Tensor]]:
        """Each psi with its scale, as a function of frequency."""
        return [
            (scale, morlet(height, width, scale, math.pi * turn / ORIENTATIONS).float())
            for scale in range(self.scales)
            for turn in range(ORIENTATIONS)
        ]


def morlet(height: int, width: int, scale: int, angle: float) -> Tensor:
    """Fourier transform (height, width) of a Morlet wavelet, 0 at frequency 0."""
    sigma = 0.8 * 2**scale
    xi = 0.75 * math.pi / 2**scale
    down = gaussian(height, sigma, xi * math.sin(angle))[:, None]
    wave = down * gaussian(width, sigma, xi * math.cos(angle))
    envelope = gaussian(height, sigma, 0.0)[:, None] * gaussian(width, sigma, 0.0)
    return wave - envelope * (wave[0, 0] / envelope[0, 0])


def gaussian(size: int, sigma: float, centre: float) -> Tensor:
    """exp(-sigma^2 (w - centre)^2 / 2) at the frequencies of a grid, with its aliases."""
    frequency = 2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64)
    shifted = [frequency + 2 * math.pi * alias - centre for alias in ALIASES]
    return torch.stack([torch.exp(-((sigma * w) ** 2) / 2) for w in shifted]).sum(0)
