"""Numbers that users give: those that are taken, and one sentence for the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import (
    TightboundError,
    at_least,
    finite_number,
    whole_number,
)


@pytest.mark.parametrize(
    "value",
    [
        *(10**400, 10**5000, -(10**400), -1.0, float("inf"), float("nan"), "1", True),
        *(None, np.ones(2), torch.ones(2)),
    ],
    ids=range(11),
)
def test_what_is_no_finite_number_is_one_sentence(value: object) -> None:
    with pytest.raises(TightboundError, match=r"temperature = .* give a number, 0 or"):
        finite_number("temperature", value, 0)


def test_numbers_of_each_library_are_taken() -> None:
    for value in (2, 2.0, np.float32(2), np.int64(2), torch.tensor(2.0)):
        assert finite_number("temperature", value, 0) == 2.0


def test_whole_numbers_of_any_length_are_refused_in_one_sentence() -> None:
    with pytest.raises(
        TightboundError, match=r"n = a number of more than 4,300 digits"
    ):
        whole_number("n", 10**5000, 0)
    with pytest.raises(TightboundError, match="cannot make a number of more"):
        at_least(1, 10**5000, "samples")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("v" * 10**6, "device 'vv", "auto, cpu or cuda"), ("a b " * 10**6, "dev", "cuda")],
    ids=["a word", "many words"],
)
def test_messages_are_bounded(text: str, start: str, end: str) -> None:
    message = str(TightboundError(f"device {text!r} is not known: auto, cpu or cuda"))
    assert len(message) <= 3000
    assert message.startswith(start) and message.endswith(end)
    path = "/".join(["folder"] * 50)
    assert str(TightboundError(f"{path} is empty")) == f"{path} is empty"
    with pytest.raises(
        TightboundError, match=r"^device .* auto, cpu or cuda$"
    ) as error:
        pick_device(text)
    assert len(str(error.value)) < 200
