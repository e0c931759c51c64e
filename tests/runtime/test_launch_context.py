"""Variables of a launch in the environment: whole, wrong, and left over from an earlier one."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from tightbound.runtime import launch_context
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import (
    VARIABLES,
    LaunchContext,
    LaunchVariables,
    current_launch,
    join_launch,
    launch_variables,
    own_rank,
    started_by_torchrun,
)
from tightbound.runtime.progress import listening

WHOLE = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def with_environment(
    monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_all_variables_are_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    with_environment(monkeypatch, WHOLE)
    assert launch_variables() == LaunchVariables(1, 2, 1, "127.0.0.1:29500")
    assert started_by_torchrun() and own_rank() == 1


@pytest.mark.parametrize(
    "names",
    [("RANK",), ("WORLD_SIZE",), ("MASTER_ADDR", "MASTER_PORT"), VARIABLES[:4]],
)
def test_a_part_of_them_is_ignored_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    with_environment(monkeypatch, dict.fromkeys(names, "x"))
    said: list[str] = []
    with listening(said.append), join_launch("cpu") as launch:
        assert launch.world_size == 1 and launch.is_rank_zero
    assert own_rank() == 0 and not started_by_torchrun()
    (line,) = said
    missing = ", ".join(name for name in VARIABLES if name not in names)
    assert f"without {missing}: left over" in line and "unset" in line


def test_without_any_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with_environment(monkeypatch, {})
    said: list[str] = []
    with listening(said.append), join_launch("cpu"):
        pass
    assert said == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "abc"),
        ("WORLD_SIZE", "0"),
        ("RANK", "2"),
        ("RANK", "-1"),
        ("LOCAL_RANK", "1.5"),
        ("MASTER_PORT", "²"),
        ("WORLD_SIZE", "1" * 5000),
    ],
)
def test_wrong_values_get_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with_environment(monkeypatch, {**WHOLE, name: value})
    with pytest.raises(TightboundError, match="unset RANK WORLD_SIZE") as refusal:
        launch_variables()
    assert len(str(refusal.value)) < 300 and name in str(refusal.value)


def test_a_launch_whose_others_never_come_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables of an earlier launch: nothing listens at its address any more."""
    with_environment(monkeypatch, {**WHOLE, "MASTER_PORT": "1"})
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(
        launch_context, "JOIN_TIMEOUT", launch_context.timedelta(milliseconds=50)
    )
    said: list[str] = []
    with (
        listening(said.append),
        pytest.raises(TightboundError, match="variables of an earlier launch"),
        join_launch("cpu"),
    ):
        pass
    assert "waiting for the others at 127.0.0.1:1" in said[0]
    assert current_launch().world_size == 1


class Two(LaunchContext):
    """Rank 0 of two processes, without the other."""

    def __init__(self) -> None:
        super().__init__(0, 2, 0)

    def broadcast(self, value: object) -> object:  # type: ignore[override]
        return value


def test_what_rank_zero_does_alone_communicates_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pass over the data inside on_rank_zero once waited for the other processes."""
    launch = Two()
    monkeypatch.setattr(launch_context, "_current", launch)
    assert current_launch() is launch
    sizes = launch.on_rank_zero(lambda: current_launch().gather(1))
    assert sizes == [1] and current_launch() is launch
    with pytest.raises(TightboundError, match="bad"):
        launch.on_rank_zero(lambda: (_ for _ in ()).throw(TightboundError("bad")))
    assert current_launch() is launch and os.environ.get("RANK") is None
