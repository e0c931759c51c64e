"""What starting costs: neither `import tightbound` nor `--help` imports torch, matplotlib or
scikit-learn.
"""

from __future__ import annotations

import inspect
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tightbound.cli.app import COMMANDS, app

HEAVY = (
    "torch",
    "matplotlib",
    "sklearn",
    "numpy",
    "pandas",
    "jinja2",
    "PIL",
    "scipy",
    "torch._dynamo",
    "tightbound.report.render",
    "tightbound.evaluation",
    "tightbound.data.formats.dates",
    "tightbound.exporting",
    "tightbound.exploring",
    "tightbound.compression",
)


def loaded(program: str) -> set[str]:
    """The heavy modules that a fresh interpreter has after a program."""
    code = f"{program}\nimport sys; print('|'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stderr.splitlines()[-1].split("|"))


@pytest.mark.parametrize(
    "program",
    [
        "import tightbound as tb; tb.__version__; dir(tb)",
        "from tightbound.cli import main; main(['--help'])",
        "from tightbound.cli import main; main(['--version'])",
        "from tightbound.cli import main; main(['recipes'])",
        "from tightbound.cli import main; main(['train', '--nonsense'])",
    ],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    assert loaded(program) == set()


def test_the_list_of_commands_imports_none_of_them() -> None:
    program = "from tightbound.cli import main; main(['--help'])\nimport sys\n"
    program += (
        "assert not {n for n in sys.modules if n.startswith('tightbound.cli.')} - {"
    )
    program += "'tightbound.cli.app', 'tightbound.cli.streams'}"
    assert loaded(program) == set()


def test_nothing_heavy_is_imported_for_the_help_of_any_command() -> None:
    assert (
        loaded(
            f"from tightbound.cli import main\nfor c in {list(COMMANDS)}: main([c, '--help'])"
        )
        == set()
    )


def test_the_list_has_the_first_sentence_of_each_help() -> None:
    """The list of commands is kept beside the functions, and says the same."""
    for name, command in COMMANDS.items():
        text = inspect.getdoc(app[name].default_command)
        assert text is not None and " ".join(text.split("\n\n")[0].split()) == (
            command.summary
        )


def test_importing_the_package_does_not_import_scikit_learn_even_when_used() -> None:
    assert "sklearn" not in loaded("import tightbound as tb; tb.train; tb.load; tb.Run")


def test_a_short_training_imports_neither_the_compiler_nor_what_draws_or_fits(
    tmp_path: Path,
) -> None:
    """A built-in data set is read without scikit-learn, which brings scipy and pandas."""
    program = f"""
import numpy as np, tightbound as tb
x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
run = tb.train(x, settings={{"train.steps": 4}}, report=False, out=r"{tmp_path / "run"}")
tb.load(run.folder).encode(x)
tb.train("digits", settings={{"train.steps": 1}}, report=False, out=r"{tmp_path / "digits"}")
"""
    assert loaded(program) - {"torch", "numpy", "PIL"} == set()


def test_help_costs_little_more_than_the_library_of_the_command_line() -> None:
    """Processor time of a start, in turn with that of the library alone: 1.7 times when written."""

    def cost(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    library = ("-c", "import cyclopts, rich.console, rich.table")
    pairs = [(cost("-m", "tightbound", "--help"), cost(*library)) for _ in range(8)]
    ratios = sorted(help_cost / base for help_cost, base in pairs[1:])
    assert ratios[len(ratios) // 2] < 2.5, pairs


def test_an_unknown_name_is_an_attribute_error() -> None:
    import tightbound as tb

    assert set(tb.__all__) <= set(dir(tb)) and all(
        hasattr(tb, name) for name in tb.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = tb.tarin
