"""An advisory lock on a folder: one process at a time writes to it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO

from tightbound.runtime import atomic_files as files
from tightbound.runtime.errors import TightboundError, cut, os_reason
from tightbound.runtime.reading import check_regular


class RunLock:
    """Exclusive lock on a folder, as a context manager: one process at a time writes.

    The lock ends with its process. Entering also removes temporary files of writes that
    were killed.

    Args:
        activity: what the process does in the folder, for the message to others.
        prefix: of the names of the files that the lock covers, where the folder has
            others as well.
        wait: wait for the other process, for work of less than a second.

    Raises:
        TightboundError: on entering, if another process has the lock.
    """

    def __init__(
        self,
        folder: Path | str,
        activity: str = "training",
        prefix: str = "",
        *,
        wait: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.activity = activity
        self.prefix = prefix
        self.wait = wait
        self._file: IO[bytes] | None = None

    def __enter__(self) -> RunLock:
        import fcntl

        path = files.make_folder(self.folder) / f".{self.prefix}lock"
        try:
            # Not through a link, and never waiting for a pipe's other end.
            flags = (
                os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            self._file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
            check_regular(path)
            at_once = 0 if self.wait else fcntl.LOCK_NB
            fcntl.flock(self._file, fcntl.LOCK_EX | at_once)
        except BlockingIOError:
            self._close()
            raise TightboundError(
                f"another process is {self.activity} in {self.folder}: wait until "
                "it ends, or choose another --out"
            ) from None
        except TightboundError:
            self._close()
            raise
        except OSError as error:
            self._close()
            raise TightboundError(
                f"cannot lock {cut(path)} ({os_reason(error)}): choose an --out on a "
                "disk that can be written"
            ) from error
        # A forked child, such as a worker of a DataLoader, must not keep the lock after
        # its parent was killed.
        os.register_at_fork(after_in_child=self._close)
        files.remove_temporaries(self.folder, self.prefix)
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
