"""The counter of lines counts what it says, and the package stays within its bounds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "size.py"
spec = importlib.util.spec_from_file_location("size", SCRIPT)
assert spec is not None and spec.loader is not None
size = importlib.util.module_from_spec(spec)
sys.modules["size"] = size
spec.loader.exec_module(size)

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
    assert [text for _, text in size.code_lines(COUNTED)] == [
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
    found = size.repeats({"one": code(*five, *six, "x", *five), "two": code("y", *six)})
    assert sorted(found) == [("one", 10 * i) for i in range(5, 11)] + [
        ("two", 10 * i) for i in range(1, 7)
    ]
    assert found["one", 50] == ("two", 10) and found["two", 10] == ("one", 50)
    inside = size.repeats({"one": code(*six, "x", *six)})
    assert len(inside) == 12


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_each_bound_can_be_broken(tmp_path: Path) -> None:
    write(tmp_path, "core/data_spec.py", "".join(f"a{i} = 1\n" for i in range(100)))
    write(
        tmp_path,
        "components/priors/normal.py",
        '"""Doc."""\n' + "".join(f"b{i} = 1  # why\n" for i in range(20)),
    )
    write(tmp_path, "report/render.py", "".join(f"c{i} = 1\n" for i in range(50)))
    good = size.measure(tmp_path)
    assert (good.model, good.total, good.repeated_percent, good.faults()) == (
        120,
        170,
        0.0,
        [],
    )
    write(
        tmp_path,
        "report/copy.py",
        "# a heading\n" + "".join(f"c{i} = 1\n" for i in range(50)),
    )
    write(tmp_path, "report/wide.py", "x = '" + "w" * 120 + "'\n")
    write(tmp_path, "models/build.py", "".join(f"d{i} = 1\n" for i in range(4400)))
    bad = size.measure(tmp_path)
    assert bad.repeated_percent == 100 * 100 / (170 + 50 + 1 + 4400)
    assert bad.faults() == [
        "models/build.py has 4400 lines, more than 330",
        "report/wide.py:1 is wider than 120 characters",
        "the model rooms have 4520 lines of code, not under 4500",
    ]
    write(tmp_path, "models/build.py", "")
    assert (
        size.measure(tmp_path).faults()[-1]
        == "45.2 % of the code is repeated, not under 8 %"
    )
    assert "report/copy.py:2 stands in report/render.py:1 too" in size.table(bad)


def test_the_package_is_within_its_bounds() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "model rooms:" in done.stdout
