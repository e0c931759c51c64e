"""The application of the command line, and the groups of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from tightbound import __version__
from tightbound.runtime.errors import TightboundError, cut

LEARN = Group("Train and judge", sort_key=0)
USE = Group("Use a trained model", sort_key=1)
LOOK = Group("Look up", sort_key=2)
HELP = Group("Help", sort_key=3)

app = App(
    name="tightbound",
    help=(
        "Train variational autoencoders on your images or arrays, and learn in "
        "nats how good they are."
    ),
    version=f"tightbound {__version__}",
    version_flags=["--version"],
    default_parameter=Parameter(negative=""),
    group_commands=HELP,
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
)


@app.command(name="--install-completion", group=HELP)
def install_completion(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        Parameter(help="the shell; the one that runs this unless given"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="the file of the script; where the shell looks unless given"),
    ] = None,
) -> None:
    """Install completion of commands and options for bash, zsh or fish."""
    try:
        path = app.install_completion(shell=shell, output=out, add_to_startup=not out)
    except (RuntimeError, ValueError) as error:
        raise TightboundError(
            f"completion cannot be installed ({cut(error)}): name a --shell"
        ) from error
    print(f"{path}: begin a new shell to use it")


class Stopped(Exception):
    """Ctrl-C, SIGTERM or SIGHUP in a command that can be continued; its text is how."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number
