"""Errors of other libraries: each one is raised by its library here, and recognised."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tightbound.runtime.errors import LONGEST
from tightbound.runtime.foreign_errors import (
    first_line,
    is_lost_connection,
    is_out_of_memory,
    is_refused_pickle,
    is_unidentified_image,
    last_line,
)


def test_an_allocation_that_no_machine_has_memory_for_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_numpy_refuses_python_objects_and_a_damaged_file_is_something_else(
    tmp_path: Path,
) -> None:
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}, 1], dtype=object), allow_pickle=True)
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickle.dumps([1, 2]))
    for path in (objects, bare):
        with pytest.raises(ValueError, match=r".") as error:
            np.load(path)
        assert is_refused_pickle(error.value)
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros(8))
    whole.write_bytes(whole.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r".") as error:
        np.load(whole)
    assert not is_refused_pickle(error.value)


def test_pillow_finds_no_format_and_a_cut_image_is_something_else() -> None:
    with pytest.raises(OSError, match=r".") as error:
        Image.open(io.BytesIO(b"no image at all"))
    assert is_unidentified_image(error.value)
    whole = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(whole, "png")
    with pytest.raises(OSError, match=r".") as error:
        Image.open(io.BytesIO(whole.getvalue()[:600])).load()
    assert not is_unidentified_image(error.value)


def test_a_closed_connection_is_recognised_by_class_and_by_text() -> None:
    assert is_lost_connection(torch.distributed.DistNetworkError("timed out"))
    text = "[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1"
    assert is_lost_connection(RuntimeError(text))
    assert not is_lost_connection(RuntimeError("shapes do not match"))


def test_a_summary_is_one_line_and_never_empty() -> None:
    error = ValueError("first\n  last ")
    assert (first_line(error), last_line(error)) == ("first", "last")
    shortened = first_line(ValueError("\n\n" + "a" * 1000))
    assert shortened.count("a") == 2 * (LONGEST // 2 - 2) < LONGEST
    assert first_line(KeyError()) == last_line(KeyError()) == "KeyError"
