"""The command `tightbound`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from cyclopts.exceptions import (
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from tightbound.cli import streams
from tightbound.cli.app import Stopped, app, build_app
from tightbound.runtime.errors import (
    TightboundError,
    cut,
    listed,
    machine_reason,
    nearest,
    os_reason,
    printable,
)

BUG = 1
USAGE = 2
SIGNAL = 128  # and the number of the signal
PIPE = 141
LISTING: tuple[list[str], ...] = (
    [],
    ["--help"],
    ["-h"],
)  # what shows the list of commands
SHARED = ("train", "evaluate", "encode", "score")  # by torchrun


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (without the program's name) and return its exit status.

    0: done; 1: a bug; 2: a mistake of the user, one sentence on standard error; 130: Ctrl-C,
    143: SIGTERM, 129: SIGHUP (128 and the number of the signal);
    141: the reader of the output has closed it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with streams.prepared():
        try:
            status = _run(words)
            sys.stdout.flush()
        except BrokenPipeError:
            streams.discard_output()
            return PIPE
        except TightboundError as error:  # of the output, at its end
            return _mistake(error)
    return status


def _run(words: list[str]) -> int:
    """Run a command line and return its exit status; an error becomes a sentence."""
    try:
        if words in LISTING:
            build_app(is_list=True)(
                words,
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
            )
        else:
            _run_command(words)
        sys.stdout.flush()
    except (CycloptsError, TightboundError) as error:
        return _mistake(error)
    except Stopped as stopped:
        status = SIGNAL + stopped.number
        return _say(str(stopped), status, "") if _is_rank_zero() else status
    except KeyboardInterrupt as stop:
        from tightbound.runtime.signals import in_words, signal_number

        number = signal_number(stop)
        return _say(in_words(number), SIGNAL + number, "")
    except BrokenPipeError:
        raise
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich ends the process so
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        return _unexpected(error)
    return 0


def _run_command(words: list[str]) -> None:
    """Run a command with its signals and its display of progress."""
    from tightbound.runtime.progress import listening
    from tightbound.runtime.signals import raised
    from tightbound.training.console import display, reporter

    kind = "auto"
    if "--quiet" in words or not _is_rank_zero():
        kind = "none"
    _check_launch(words)
    with raised(), listening(reporter(display(kind))):
        app(
            words,
            result_action="return_value",
            exit_on_error=False,
            print_error=False,
        )


def _mistake(error: CycloptsError | TightboundError) -> int:
    """Print a mistake of the user as one sentence; of several processes, only once."""
    if isinstance(error, CycloptsError):
        return _say(_usage(error), USAGE)
    return _say(str(error), USAGE) if _speaks(error) else USAGE


def _check_launch(words: list[str]) -> None:
    """Refuse a command in a launch by torchrun if its work cannot be shared."""
    from tightbound.runtime.launch_context import launch_variables

    if not words or words[0] not in app or words[0].startswith("-"):
        return
    launch = launch_variables()
    if launch is not None and launch.world_size > 1 and words[0] not in SHARED:
        raise TightboundError(
            f"tightbound {words[0]} is not shared out over processes, only "
            f"{', '.join(SHARED[:-1])} and {SHARED[-1]} are: leave out torchrun"
        )


def _speaks(error: TightboundError) -> bool:
    """True if this process prints the error.

    In a launch rank 0 prints those of all processes, the others their own.
    """
    from tightbound.runtime.launch_context import WorkerError

    return _is_rank_zero() or isinstance(error, WorkerError)


def _is_rank_zero() -> bool:
    """True unless the environment, as torchrun sets it, gives another rank."""
    from tightbound.runtime.launch_context import own_rank

    try:
        return own_rank() == 0
    except TightboundError:
        return True


def _say(sentence: str, status: int, prefix: str = "tightbound: error: ") -> int:
    if os.environ.get("TIGHTBOUND_DEBUG"):
        import traceback

        traceback.print_exc()
    with suppress(BrokenPipeError):
        print(f"{prefix}{printable(sentence)}", file=sys.stderr, flush=True)
    return status


def _unexpected(error: Exception) -> int:
    """Print an error that is not a TightboundError; returns the exit status."""
    from tightbound.runtime.atomic_files import NO_ROOM
    from tightbound.runtime.foreign_errors import is_out_of_memory

    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" for {error.filename}" if error.filename else ""
        return _say(
            f"no room on the disk{where}: free some space and run the command again "
            "(a training: with --resume)",
            USAGE,
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return _say(
            f"cannot use {cut(error.filename)} ({os_reason(error)}): check the path and its "
            "permissions",
            USAGE,
        )
    if is_out_of_memory(error):
        return _say(
            "out of memory: try fewer examples at once, --device cpu, or a smaller model",
            USAGE,
        )
    reason = machine_reason(error)
    if reason is not None:
        return _say(f"the machine refuses ({reason}): then run it again", USAGE)
    text = " ".join(str(error).split()) or "no message"
    return _say(
        f"{type(error).__name__}: {text}; set TIGHTBOUND_DEBUG=1 for the traceback", BUG
    )


def _usage(error: CycloptsError) -> str:
    """A mistake in the command line as one sentence, with the nearest name."""
    error.verbose = False
    command = " ".join(["tightbound", *(error.command_chain or ())])
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error)
    if isinstance(error, UnknownOptionError):
        return _unknown_option(error, command)
    advice = f"{command} --help shows what it takes"
    if isinstance(error, UnusedCliTokensError):
        words = listed([repr(word) for word in error.unused_tokens or ()])
        return f"{command} does not take {words}: {advice}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        if name.startswith("--"):
            return f"{name} of {command} needs a value, as {name}=VALUE: {advice}"
        return f"{command} needs {name}: {advice}"
    sentences = [part.strip().rstrip(".") for part in str(error).split(". ")]
    clauses = [f"{part[:1].lower()}{part[1:]}" for part in sentences if part]
    return f"{'; '.join(clauses)}: {advice}"


def _unknown_command(error: UnknownCommandError) -> str:
    word = (error.unused_tokens or [""])[0]
    names = [name for name in app if not name.startswith("-")]
    return f"unknown command {cut(repr(word))}: {nearest(word, names)}"


def _unknown_option(error: UnknownOptionError, command: str) -> str:
    name = error.token.keyword or error.token.value
    names = [n for argument in error.argument_collection for n in argument.names]
    options = [name for name in names if name.startswith("--")]
    return f"unknown option {cut(repr(name))} of {command}: {nearest(name, options)}"
