"""The list of slow tests is made from pytest's durations and names tests that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "scripts" / "slow_tests.py"
spec = importlib.util.spec_from_file_location("slow_tests", SCRIPT)
assert spec is not None and spec.loader is not None
slow_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slow_tests)

LOG = """
0.70s call     tests/a/test_a.py::test_slow[case-1]
0.10s call     tests/a/test_a.py::test_slow[case-2]
0.51s setup    tests/test_b.py::TestGroup::test_fixture
0.49s call     tests/test_b.py::test_fast
"""


def test_a_function_with_a_slow_case_or_fixture_is_listed() -> None:
    found = slow_tests.slow_tests(LOG.splitlines())
    assert {name: slow.seconds for name, slow in found.items()} == pytest.approx(
        {"test_fixture": 0.51, "test_slow": 0.8}
    )
    assert [str(slow) for slow in found.values()] == ["0.5 setup", "0.8"]


FIXTURES = """
import pytest

@pytest.fixture(scope="module")
def trained():
    return 1

@pytest.fixture(scope="module")
def cheap():
    return 1

def test_first(trained): ...
def test_second(trained, cheap): ...
def test_third(cheap): ...
def test_fourth(): ...
"""


def test_tests_that_share_a_slow_fixture_are_left_out(
    pytester: pytest.Pytester,
) -> None:
    """The next test that uses the fixture would pay for it."""
    pytester.makeconftest((TESTS / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(FIXTURES)
    (pytester.path / "slow.txt").write_text("# names\ntest_first 2.5 setup\n")
    result = pytester.runpytest_inprocess("--quick", "-v", "-p", "no:xdist")
    result.assert_outcomes(passed=2, deselected=2)
    result.stdout.fnmatch_lines(["*test_third PASSED*", "*test_fourth PASSED*"])
    (pytester.path / "slow.txt").write_text("# names\ntest_first 2.5\n")
    result = pytester.runpytest_inprocess("--quick", "-p", "no:xdist")
    result.assert_outcomes(passed=3, deselected=1)


def test_listed_tests_exist() -> None:
    listed = [
        line.split()[0]
        for line in slow_tests.LISTED.read_text().splitlines()
        if line[0] != "#"
    ]
    text = "".join(
        path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")
    )
    defined = set(re.findall(r"def (test_\w+)", text))
    assert [name for name in listed if name not in defined | FROM_OTHERS] == []


FROM_OTHERS = {"test_conformance"}  # of scikit-learn
