"""Options that commands share: how a run is brought to memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

Trust = Annotated[bool, Parameter(help="run code that the run's config.toml names, such as a prior of your own")]


@Parameter(name="*")
@dataclass(frozen=True)
class Loading:
    """How a command brings a run to memory."""

    device: Annotated[str, Parameter(help="auto, cpu or cuda")] = "auto"
    trust: Trust = False


PLAIN = Loading()
