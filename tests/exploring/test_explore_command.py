"""The command `tightbound explore`: its sentences, its signals, its choice of small runs."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from exploring.pages import small_run, stand_in_assets

import tightbound as tb
from tightbound import cli
from tightbound.exploring import assets, explore, server
from tightbound.exploring.blocks import PageData
from tightbound.exploring.graphs import Networks
from tightbound.exploring.run_data import PageRun
from tightbound.runs.run import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose page has no networks, since these take seconds to be made."""

    def empty_page(
        runs: list[Run], options: explore.Options, *, one_file: bool
    ) -> tuple[PageData, list[PageRun]]:
        about = {"graphs": {}, "points": {"n": 3}}
        manifest: dict[str, Any] = {"title": "t", "language": "en", "runs": [about]}
        return PageData(manifest, {}), [PageRun("main", runs[0], Networks())]

    monkeypatch.setattr(explore, "page_of", empty_page)
    monkeypatch.setattr(assets, "STATIC", stand_in_assets(tmp_path).folder)
    return small_run(tmp_path / "run")


def test_ctrl_c_ends_the_page_with_one_sentence(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra explore")
    pytest.importorskip("fastapi", reason="needs the extra explore")
    ports = []
    listen = server.listen

    def noted(host: str, port: int | None) -> Any:
        listening = listen(host, port)
        ports.append(listening.getsockname()[1])
        return listening

    monkeypatch.setattr(server, "listen", noted)
    seen: list[int] = []

    def visit_and_stop() -> None:
        while not ports:
            time.sleep(0.01)
        while not seen:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/") as page:
                    seen.append(page.status)
            except OSError:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=visit_and_stop)
    visitor.start()
    status = cli.main(["explore", str(run.folder), "--port", "0", "--no-browser"])
    visitor.join()
    printed = capsys.readouterr()
    assert (status, seen) == (0, [200])
    assert printed.out == f"http://127.0.0.1:{ports[0]}/\n"
    assert printed.err.splitlines() == ["Ctrl-C closes the page", "the page is closed"]


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
