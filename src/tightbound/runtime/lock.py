"""An advisory lock on a folder: one process at a time writes to it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tightbound.runtime import atomic_files as files
from tightbound.runtime.errors import TightboundError


class RunLock:
    """`with RunLock(folder):` lets one process at a time write to a folder; the lock dies with its
    process.

    what: is done in it.  head: of the names of the files that it is for, where the folder has
    others. Raises `TightboundError` if another one holds it. Entering also removes what killed
    writes left behind.
    """

    def __init__(self, folder: Path | str, what: str = "training", head: str = ""):
        self.folder, self.what, self.head = Path(folder), what, head
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
