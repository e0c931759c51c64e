"""Atomic writes with an open file: the old content or the new, and no files left over."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tightbound.runtime.atomic_files import Advice, open_atomic
from tightbound.runtime.errors import TightboundError

ADVICE = Advice("buy a disk", "ask for the key")


def test_the_new_content_replaces_the_old_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with open_atomic(path) as file:
        file.write(b"--w")
        file.seek(0)
        file.write(b"ne")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_block_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), open_atomic(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "advice"), [(errno.ENOSPC, "buy a disk"), (errno.EROFS, "ask for the key")]
)
def test_a_disk_that_refuses_is_a_sentence_with_advice(
    tmp_path: Path, code: int, advice: str
) -> None:
    path = tmp_path / "f"
    with (
        pytest.raises(TightboundError, match=advice),
        open_atomic(path, ADVICE),
    ):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_source_in_the_block_stays_what_it_is(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConnectionResetError), open_atomic(tmp_path / "f"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    assert list(tmp_path.iterdir()) == []
