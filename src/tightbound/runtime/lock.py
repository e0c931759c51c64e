"""An advisory lock on a folder: one process at a time writes to it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tightbound.runtime import atomic_files as files
from tightbound.runtime.errors import TightboundError


class RunLock:
    """A lock on a folder as a context manager; the system releases it with the process.

    Entering also removes the unfinished files of killed writes.

    Args:
        folder: The folder to write to.
        what: The activity, for the message to other processes.
        head: Lock only the files whose names begin so.

    Raises:
        TightboundError: Another process holds the lock.
    """

    def __init__(self, folder: Path | str, what: str = "training", head: str = ""):
        self.folder = Path(folder)
        self.what = what
        self.head = head
        self._file: BinaryIO | None = None

    def __enter__(self) -> RunLock:
        import fcntl

        path = files.make_folder(self.folder) / f".{self.head}lock"
        try:
            self._file = path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise TightboundError(
                f"another process is {self.what} in {self.folder}: wait until "
                "it ends, or choose another --out"
            ) from None
        except OSError as error:
            self._close()
            raise TightboundError(
                f"cannot lock {path} ({error.strerror}): choose an --out on a "
                "disk that can be written"
            ) from error
        # A forked child, such as a worker of a DataLoader, must not keep the lock alive after its
        # parent was killed.
        os.register_at_fork(after_in_child=self._close)
        files.remove_temporaries(self.folder, self.head)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
