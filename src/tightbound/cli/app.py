"""The application of the command line, and the groups of its help."""

from __future__ import annotations

from cyclopts import App, Group, Parameter

from tightbound import __version__

LEARN = Group("Train and judge", sort_key=0)
USE = Group("Use a trained model", sort_key=1)
LOOK = Group("Look up", sort_key=2)

app = App(
    name="tightbound",
    help=(
        "Train variational autoencoders on your images or arrays, and learn in "
        "nats how good they are."
    ),
    version=f"tightbound {__version__}",
    version_flags=["--version"],
    default_parameter=Parameter(negative=""),
    group_commands=Group("Help", sort_key=3),
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
)


app.register_install_completion_command(
    help="Install completion of commands and options for bash, zsh or fish."
)


class Stopped(Exception):
    """Ctrl-C, SIGTERM or SIGHUP in a command that can be continued; its text is how."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number
