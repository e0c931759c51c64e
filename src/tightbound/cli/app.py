"""The application of the command line, and the groups of its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from tightbound import __version__
from tightbound.runtime.errors import TightboundError, cut

TRAIN = Group("Train", sort_key=0)
JUDGE = Group("Judge", sort_key=1)
USE = Group("Use a trained model", sort_key=2)
EXPORT = Group("Export", sort_key=3)
LOOK = Group("Look up", sort_key=4)
HELP = Group("Help", sort_key=5)


@dataclass(frozen=True)
class Command:
    """A line of the list of commands, and the function that is imported to run it.

    Attributes:
        function: module and name of the function, in this package.
        group: heading of the list that it stands under.
        summary: first paragraph of the function's docstring.
    """

    function: str
    group: Group
    summary: str


# The list is shown without the functions: importing all of them takes longer than showing it.
COMMANDS = {
    "demo": Command(
        "commands:demo",
        TRAIN,
        "Train an autoencoder and two VAEs on digits and write one report; in a minute.",
    ),
    "train": Command(
        "commands:train",
        TRAIN,
        "Train a model on DATA: a run folder with weights, log, evaluation and report.",
    ),
    "evaluate": Command(
        "commands:evaluate",
        JUDGE,
        "Estimate the terms of log p(x) with errors, and find faults of the model.",
    ),
    "compare": Command(
        "commands:compare",
        JUDGE,
        "Write one HTML report of several runs side by side, on equal scales.",
    ),
    "encode": Command(
        "commands:encode",
        USE,
        "Write the features of each example, mean and standard deviation.",
    ),
    "reconstruct": Command(
        "commands:reconstruct", USE, "Rebuild each example from its features."
    ),
    "impute": Command(
        "commands:impute",
        USE,
        "Fill in missing values by their mean given the observed ones.",
    ),
    "score": Command(
        "commands:score",
        USE,
        "Write ELBO, log p(x) with its error, distortion and rate of each example.",
    ),
    "detect": Command(
        "commands:detect", USE, "Find outliers: a score and a p-value of each example."
    ),
    "sample": Command(
        "commands:sample", USE, "Make new examples: z from the prior, then p(x|z)."
    ),
    "decode": Command("commands:decode", USE, "Turn features back into examples."),
    "vary": Command(
        "commands:vary",
        USE,
        "Make variations of one example: z from q(z|x), then p(x|z).",
    ),
    "interpolate": Command(
        "commands:interpolate",
        USE,
        "Go from one example to another in a straight line of features.",
    ),
    "export": Command(
        "commands:export",
        EXPORT,
        "Write the networks for other programs: ONNX graphs, programs of torch, or weights.",
    ),
    "explore": Command(
        "commands:explore",
        USE,
        "Move through what a model learned, on a page in the browser.",
    ),
    "compress": Command(
        "commands:compress",
        EXPORT,
        "Compress examples without loss, to about as many nats as the ELBO says.",
    ),
    "decompress": Command(
        "commands:decompress",
        EXPORT,
        "Get compressed examples back, equal bit for bit.",
    ),
    "recipes": Command(
        "commands:recipes",
        LOOK,
        "List the models by name, what each is for, and its paper.",
    ),
    "show": Command(
        "commands:show",
        LOOK,
        "Show a recipe's settings and their meaning, or a run's parts and results.",
    ),
    "data": Command(
        "commands:data", LOOK, "List the built-in data sets, and where they are."
    ),
    "fit-prior": Command(
        "fit_prior:fit_prior",
        TRAIN,
        "Fit a prior to the encoded training data of a trained model.",
    ),
    "bench": Command(
        "bench:bench",
        LOOK,
        "Compare training speed with other libraries; in a clone of the repository.",
    ),
}


def build_app(*, is_list: bool) -> App:
    """The application; its commands are imported when one of them is named.

    Args:
        is_list: Every command has only the summary as its help, for the list of commands.
    """
    application = App(
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
    for name, command in COMMANDS.items():
        application.command(
            f"{__package__}.{command.function}",
            name=name,
            group=command.group,
            help=command.summary if is_list else None,
        )
    application.command(install_completion, name="--install-completion", group=HELP)
    return application


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
    overwrite: Annotated[bool, Parameter(help="replace the file of --out")] = False,
) -> None:
    """Install completion of commands and options for bash, zsh or fish."""
    from tightbound.runtime.atomic_files import check_free

    if out is not None:
        check_free(out, overwrite=overwrite)
    try:
        path = app.install_completion(shell=shell, output=out, add_to_startup=not out)
    except (RuntimeError, ValueError) as error:
        raise TightboundError(
            f"completion cannot be installed ({cut(error)}): name a --shell"
        ) from error
    print(f"{path}: begin a new shell to use it")


app = build_app(is_list=False)


class Stopped(Exception):
    """Ctrl-C, SIGTERM or SIGHUP in a command that can be continued; its text is how."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number
