"""Each measure of scripts/structure.py on a small source with a known answer, and the gates."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "structure.py"
spec = importlib.util.spec_from_file_location("structure", SCRIPT)
assert spec is not None and spec.loader is not None
structure = importlib.util.module_from_spec(spec)
sys.modules["structure"] = structure
spec.loader.exec_module(structure)

COUNTED = '''"""Docstring of the module,
on two lines."""

import os  # with a comment

# only a comment


class A:
    """Docstring of a class."""

    name = """not a docstring,

    but a string with a # in it"""

    async def f(self):
        """Docstring, then code."""; return 1

    def g(self): "on the line of its function"
'''


def test_code_is_what_is_no_docstring_comment_or_blank() -> None:
    assert [text for _, text in structure.code_lines(COUNTED)] == [
        "import os",
        "class A:",
        'name = """not a docstring,',
        'but a string with a # in it"""',
        "async def f(self):",
        '"""Docstring, then code."""; return 1',
        'def g(self): "on the line of its function"',
    ]


def code(*texts: str) -> list[tuple[int, str]]:
    return [(10 * i, text) for i, text in enumerate(texts)]


def test_six_lines_that_stand_twice_are_found_and_five_are_not() -> None:
    five, six = "abcde", "ABCDEF"
    place = structure.Place
    found = structure.repeats(
        {"one": code(*five, *six, "x", *five), "two": code("y", *six)}
    )
    expected = [place("one", 10 * i) for i in range(5, 11)]
    expected += [place("two", 10 * i) for i in range(1, 7)]
    assert sorted(found) == expected
    assert found[place("one", 50)] == place("two", 10)
    assert found[place("two", 10)] == place("one", 50)
    inside = structure.repeats({"one": code(*six, "x", *six)})
    assert len(inside) == 12


def package(folder: Path, **files: str) -> Any:
    """Measure a package with these files; `_in_` in a name stands for a folder's slash."""
    for name, text in files.items():
        path = folder / "pkg" / f"{name.replace('_in_', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return structure.Structure(folder / "pkg")


def value(measured: Any, key: str) -> float:
    return structure.MEASURES[key].value(measured)


# Each row: measure, source, the places that it counts in the source.
SMALL = [
    (
        "access",
        "getattr(a, 'mark', 0)\nhasattr(a, 'fit')\nvars(a)\na.__dict__",
        [1, 2, 3, 4],
    ),
    (
        "access",
        "getattr(a, name)\nhasattr(a, '__len__')\ngetattr(a, 'shape')\nvars(torch.nn)",
        [],
    ),
    ("width", f"# {'w' * 98}\n# {'w' * 99}", [2]),
    (
        "tuples",
        "a, b = 1, 2\na, b = f()\na = 1, 2\nfor a, b in c: pass\nd.e, f[0] = g, h",
        [1, 5],
    ),
    ("conditionals", "a = 1 if b else 2\nif b: pass", [1]),
    ("nested-conditionals", "a = (1 if b else\n 2 if c else\n 3 if d else 4)", [2, 3]),
    ("nested-conditionals", "a = [1 if b else 2 for b in (3 if c else 4)]", []),
    (
        "nested-comprehensions",
        "a = [[1 for b in c]\n for c in {d\n for d in e}]",
        [1, 2],
    ),
    ("nested-comprehensions", "a = [b for b in c for c in d]\ne = {f for f in g}", []),
    (
        "type-ignore",
        "a = b  # type: ignore\nc = d  # type: ignore[attr]\ne = 'type: ignore'",
        [1, 2],
    ),
    (
        "cast",
        "from typing import cast\na = cast(int, b)\ncast_away(c)\ntyping.cast(int, d)",
        [2, 4],
    ),
    ("any", "from typing import Any\nb: dict[str, Any] = {}\n# Any\nc = 'Any'", [1, 2]),
    (
        "vague-names",
        "held = 1\ndef f(own):\n  found = 1\n  a = 2\n  rest: int = 3",
        [3, 5],
    ),
    (
        "vague-names",
        "def f():\n  def g():\n    seen = 1\n  for some in a: pass\n  a, told = b",
        [3, 5],
    ),
]


@pytest.mark.parametrize(("key", "source", "rows"), SMALL)
def test_a_measure_counts_these_places(
    tmp_path: Path, key: str, source: str, rows: list[int]
) -> None:
    measured = package(tmp_path, one=source)
    assert [place.row for place in structure.MEASURES[key].places(measured)] == rows


def test_shares_are_of_the_code_and_of_the_bindings(tmp_path: Path) -> None:
    wide = f"a = '{'w' * 90}'\n"
    comment = f"# {'w' * 90}\n\n"
    measured = package(
        tmp_path, one=f"{comment}b, c = 1, 2\n{wide}d = 1\ne = 1 if d else 2\n"
    )
    assert value(measured, "code-88") == 25
    assert value(measured, "code-100") == 0
    assert value(measured, "tuples") == 250
    assert value(measured, "conditionals") == 250
    names = package(
        tmp_path / "other", one="def f():\n  found = 1\n  a = 2\n  b, c = d\n"
    )
    assert value(names, "vague-names") == 25


def test_user_objects_in_data_are_not_components(tmp_path: Path) -> None:
    source = "getattr(a, 'mark', 0)\n"
    measured = package(tmp_path, data_in_load=source, data_other=source)
    assert [place.file for place in measured.component_access] == ["data_other.py"]


def test_entries_at_the_top_level(tmp_path: Path) -> None:
    measured = package(tmp_path, __init__="", one="", room_in_two="", room_in_three="")
    (tmp_path / "pkg" / "py.typed").touch()
    (tmp_path / "pkg" / "__pycache__").mkdir()
    names = ["__init__.py", "one.py", "py.typed", "room"]
    assert [place.file for place in measured.top_level] == names


BRANCHES = """
def f(a):
    if a and b or c:
        pass
    elif d:
        pass
    else:
        pass
    for e in a:
        while e:
            pass
        else:
            pass
    try:
        pass
    except ValueError:
        pass
    except TypeError:
        pass
    else:
        pass
    finally:
        pass
    match a:
        case 1:
            pass
        case 2 if b:
            pass
        case _:
            pass
    with a:
        return [g if g else 1 for g in a if g]
    def h():
        if a:
            pass
"""


def test_complexity_is_that_of_ruff(tmp_path: Path) -> None:
    function = ast.parse(BRANCHES).body[0]
    count = 1 + structure.complexity(function.body)
    assert count == 12
    assert structure.expression_complexity(function) == 1 + 7 + 3 + 2 + 2 + 1
    ruff = shutil.which("ruff", path=Path(sys.executable).parent)
    if ruff is None:
        pytest.skip("ruff is not installed")
    (tmp_path / "one.py").write_text(BRANCHES)
    config = f"lint.mccabe.max-complexity={count - 1}"
    command = [
        ruff,
        "check",
        "--isolated",
        "--select=C901",
        f"--config={config}",
        "one.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert f"({count} > {count - 1})" in done.stdout, done.stdout


def test_length_is_that_of_the_code_in_the_body(tmp_path: Path) -> None:
    lines = "\n".join(f"    x = {i}\n    # a comment\n" for i in range(49))
    head = 'def f(\n    a,\n    b,\n):\n    """Longer\n    than\n    a line."""\n'
    at_the_bound = head + lines + "    return x\n"
    above = at_the_bound.replace("def f", "async def g") + "    # end\n    x = 2\n"
    measured = package(tmp_path, __init__=at_the_bound, a=above)
    assert [str(place) for place in measured.long_functions(50)] == ["a.py:1 g 51"]
    assert value(measured, "long") == 1


def test_cycles_at_run_time_and_for_the_type_checker(tmp_path: Path) -> None:
    measured = package(
        tmp_path,
        __init__="from pkg import a",
        a="from pkg.room import b",
        room_in___init__="",
        room_in_b="def f():\n    from ..c import g",
        c="import typing as t\nif t.TYPE_CHECKING:\n    import pkg.a\nelse:\n    import d",
        e="from pkg import e, f",
        f="import pkg.e",
    )
    graph = measured.import_graph(typing=False)
    assert graph["pkg.a"] == {"pkg.room.b"}
    assert graph["pkg.room.b"] == {"pkg.c"}
    assert graph["pkg.c"] == set()
    assert [c.text for c in measured.import_cycles(typing=False)] == ["pkg.e pkg.f"]
    typed = [c.text for c in measured.import_cycles(typing=True)]
    assert typed == ["pkg.a pkg.c pkg.room.b", "pkg.e pkg.f"]


RUN = '''
from pkg.base import Base as Parent
class Run(Parent[int]):
    """A run.

    Example:
        >>> Run().size
        3
    """
    def size(self):
        """Return the size.

        Returns:
            The size.
        """
    def _hidden(self): ...
'''


def test_public_docstrings(tmp_path: Path) -> None:
    measured = package(
        tmp_path,
        __init__="from pkg.api import train, Run\n__all__ = ['Run', '__version__', 'train']",
        api="from pkg.run import Run\ndef train():\n    'Train a model.'\ndef other(): ...",
        run=RUN,
        base="class Base:\n    def size(self): ...\n    def read(self): ...",
        core_in_component="class Prior:\n    def fit(self):\n        '''Args:\n        '''",
    )
    names = {
        docs.name: (docs.has_section, docs.has_example) for docs in measured.public
    }
    assert names == {
        "Run": (True, True),
        "Run.size": (True, False),
        "Run.read": (False, False),
        "train": (False, False),
        "Prior": (False, False),
        "Prior.fit": (True, False),
    }
    assert value(measured, "public") == 6
    assert value(measured, "no-section") == 3
    assert value(measured, "run-members") == 2
    assert value(measured, "public-main") == 3
    assert value(measured, "no-example") == 2


def test_a_broken_gate_is_one_sentence(tmp_path: Path) -> None:
    measured = package(tmp_path, one="a = b  # type: ignore\n" * 3)
    bounds = {"type-ignore": 2, "cast": 0, "width": 5}
    assert structure.broken(measured, bounds) == ["`type: ignore`: 3, more than 2"]
    lower = "lines over 100 columns: 0, so the bound of 5 can be lowered"
    assert structure.slack(measured, bounds) == [lower]


def test_tables_name_rooms_and_places(tmp_path: Path) -> None:
    same = "".join(f"a{i} = 1\n" for i in range(6))
    measured = package(
        tmp_path, room_in_one=f"# first\n{same}", room_in_two=same, three="b = 1\n"
    )
    rows = [row.split() for row in structure.rooms_table(measured).splitlines()]
    assert rows[1:] == [
        ["room", "2", "13", "12"],
        ["three", "1", "1", "1"],
        ["package", "3", "14", "13"],
    ]
    assert (
        structure.repeats_list(measured)[0]
        == "room/one.py:2 stands in room/two.py:1 too"
    )
    assert "100 %" not in structure.measures_table({"now": measured})


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_package_passes_its_gates() -> None:
    done = run_script("--check")
    assert done.returncode == 0, done.stderr
    assert "import cycles at run time" in done.stdout


def test_an_older_commit_is_a_column() -> None:
    inside = ["git", "-C", str(SCRIPT.parent), "rev-parse", "--short=10", "HEAD"]
    commit = subprocess.run(inside, capture_output=True, text=True)
    if commit.returncode:
        pytest.skip("not in a git repository")
    done = run_script(str(SCRIPT.parent), "--compare", commit.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert commit.stdout.strip() in done.stdout


def test_places_of_a_measure_are_listed(tmp_path: Path) -> None:
    package(tmp_path, one="a = 1\n\nb = 2  # type: ignore\n")
    done = run_script(str(tmp_path / "pkg"), "--list", "type-ignore")
    assert done.stdout == "one.py:3 b = 2  # type: ignore\n"
