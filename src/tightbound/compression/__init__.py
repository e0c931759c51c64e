"""Lossless compression by a trained model: bits-back coding with numeral systems."""

from tightbound.compression.compress import (
    Compressed,
    check_run,
    compress_run,
    compress_to,
    decompress,
    header_of,
    read_file,
)
from tightbound.compression.files import Decompressed, examples_of
from tightbound.compression.size import FileSize, file_size
from tightbound.compression.values import Decoded

__all__ = [
    "Compressed",
    "Decoded",
    "Decompressed",
    "FileSize",
    "check_run",
    "compress_run",
    "compress_to",
    "decompress",
    "examples_of",
    "file_size",
    "header_of",
    "read_file",
]
