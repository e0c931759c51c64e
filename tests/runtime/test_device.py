"""The device of a name, and what is said of one that is not used."""

from __future__ import annotations

import pytest
import torch

from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError


def test_the_cpu_is_the_cpu() -> None:
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [("mps", "no float64"), ("tpu", "write auto, cpu or cuda")],
)
def test_a_device_that_is_not_used_is_refused_with_the_reason(
    name: str, words: str
) -> None:
    with pytest.raises(TightboundError, match=words):
        pick_device(name)
