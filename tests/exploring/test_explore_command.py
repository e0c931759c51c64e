"""The command `tightbound explore`: its sentences, its signals, its choice of small runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from exploring.pages import page_without_networks, small_run, stand_in_assets

import tightbound as tb
from tightbound import cli
from tightbound.exploring import assets, explore, server
from tightbound.runs.run import Run

SOON = 60  # seconds after which a page that does not answer or end has failed

# A program that shows a page without networks. It starts with Ctrl-C as of a terminal: a shell
# starts what runs in the background with that signal ignored, and all its children inherit it.
# One that hangs ends itself with the stack of each thread.
CHILD = """
import faulthandler, signal, sys
from pathlib import Path

faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
signal.signal(signal.SIGINT, signal.default_int_handler)

from exploring.pages import page_without_networks
from tightbound import cli
from tightbound.exploring import assets, explore

explore.page_of = page_without_networks
assets.STATIC = Path(sys.argv[2])
sys.exit(cli.main(["explore", sys.argv[1], "--port", "0", "--no-browser"]))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose page has no networks, since these take seconds to be made."""
    monkeypatch.setattr(explore, "page_of", page_without_networks)
    monkeypatch.setattr(assets, "STATIC", stand_in_assets(tmp_path).folder)
    return small_run(tmp_path / "run")


def test_ctrl_c_ends_the_page_with_one_sentence(run: Run) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra explore")
    pytest.importorskip("fastapi", reason="needs the extra explore")
    words = [str(run.folder), str(assets.STATIC), str(SOON)]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline()  # empty where the program has ended
        assert address, process.communicate()[1]
        with urllib.request.urlopen(address.strip(), timeout=SOON) as page:
            assert page.status == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=2 * SOON)
    finally:
        process.kill()
        process.communicate()
    assert address.startswith("http://127.0.0.1:")
    assert (process.returncode, out) == (0, ""), error
    assert error.splitlines() == ["Ctrl-C closes the page", "the page is closed"]


def test_export_writes_a_file_and_says_so(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.html"
    words = ["explore", str(run.folder), "--export", str(path)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 0.0 MB, 3 points")
    assert cli.main(words) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert cli.main([*words, "--overwrite"]) == 0
    written = tb.explore(run, export=path, overwrite=True)
    assert written is not None and written.size == path.stat().st_size


def test_a_clone_without_the_page_says_what_to_run(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(assets, "STATIC", tmp_path / "nothing")
    for sources, advice in ((tmp_path, "run make web"), (tmp_path / "no", "a wheel")):
        monkeypatch.setattr(assets, "SOURCES", sources)
        assert cli.main(["explore", str(run.folder), "--export", "page.html"]) == 2
        error = capsys.readouterr().err
        assert advice in error and error.count("\n") == 1


def test_missing_packages_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "NEEDED", ("fastapi_of_nobody",))
    assert cli.main(["explore", str(run.folder)]) == 2
    error = capsys.readouterr().err
    assert "fastapi_of_nobody: pip install 'tightbound[explore]'" in error


def test_a_browser_is_opened_only_where_it_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not server.has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert server.has_display()


def test_too_many_points_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tb.TightboundError, match="points"):
        explore._limits(explore.Options(points=2_001), one_file=True)
    limits = explore._limits(explore.Options(points=100_000), one_file=False)
    assert limits.points == 100_000
    with pytest.raises(tb.TightboundError, match="points"):
        explore._limits(explore.Options(points=0), one_file=False)
