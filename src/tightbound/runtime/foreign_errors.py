"""Errors of other libraries that are identified by their text.

No other module of the package compares the text of an error. A summary of an error
for a message comes from `first_line` or `last_line`.
"""

from __future__ import annotations

from tightbound.runtime.errors import cut

LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset",
    "Broken pipe",
    "Socket Timeout",
)
CPU_OUT_OF_MEMORY = "can't allocate memory"
PICKLE_REFUSED = ("pickle", "Python objects", "Object arrays")
NOT_AN_IMAGE = "cannot identify"


def is_lost_connection(error: BaseException) -> bool:
    """True if a collective operation failed because another process has ended.

    gloo raises a plain RuntimeError, nccl a DistError.
    """
    import torch.distributed as dist

    if isinstance(error, dist.DistError):
        return True
    return any(phrase in str(error) for phrase in LOST_CONNECTION)


def is_unreachable(error: BaseException) -> bool:
    """True if the processes of a launch cannot meet: no host, no port, or no others."""
    import torch.distributed as dist

    return isinstance(error, dist.DistNetworkError | dist.DistStoreError)


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory is exhausted, of the GPU or of the machine.

    torch's CPU allocator raises a plain RuntimeError. The class of the GPU's error is
    compared by name, so that a command that does not need torch does not import it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return CPU_OUT_OF_MEMORY in str(error)


def is_refused_pickle(error: BaseException) -> bool:
    """True if numpy refuses a file because it holds Python objects (a pickle)."""
    return any(phrase in str(error) for phrase in PICKLE_REFUSED)


def is_unidentified_image(error: BaseException) -> bool:
    """True if Pillow finds no image format that fits a file."""
    return NOT_AN_IMAGE in str(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text for a message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return cut(lines[0] if lines else type(error).__name__)


def last_line(error: BaseException) -> str:
    """The last line of an error's text, or the name of its class if it has none."""
    lines = str(error).splitlines()
    if lines:
        return lines[-1].strip()
    return type(error).__name__
