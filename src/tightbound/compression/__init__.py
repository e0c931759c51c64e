"""Lossless compression by a trained model: bits-back coding with numeral systems."""

from tightbound.compression.compress import (
    Compressed,
    compress_run,
    compress_to,
    decompress,
    header_of,
)
from tightbound.compression.values import Decoded

__all__ = [
    "Compressed",
    "Decoded",
    "compress_run",
    "compress_to",
    "decompress",
    "header_of",
]
