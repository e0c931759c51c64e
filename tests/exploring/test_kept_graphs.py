"""ONNX graphs of a page are made once, kept in the run folder, and checked when read."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from exploring.pages import small_run
from support.extras import skip_without

from tightbound.exploring import graph_process, graphs
from tightbound.exploring.graph_process import GraphProcess, can_wait
from tightbound.exploring.graphs import networks_of, networks_of_run
from tightbound.exploring.page_data import build
from tightbound.exploring.run_data import Limits, PageRun
from tightbound.exporting import onnx_files
from tightbound.runs.run import Run, training_folder

skip_without("onnxruntime", "onnxscript", reason="needs the extra explore")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a tiny network whose graphs are kept."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = small_run(
        folder, **{"network": "mlp", "network.width": 4, "network.depth": 1}
    )
    networks_of_run(run)
    return run


def kept(run: Run) -> list[Path]:
    home = training_folder(run)
    assert home is not None
    return sorted((home / "explore").glob("graphs-*/*.onnx"))


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A copy of the run with its files."""
    home = training_folder(made)
    assert home is not None
    shutil.copytree(home, tmp_path / "run")
    return Run(made.config, made.model, tmp_path / "run", made.data)


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the graphs that are made anew."""
    names: list[str] = []
    write = onnx_files.write

    def counted(graph: Any, *arguments: Any) -> Any:
        names.append(graph.name)
        return write(graph, *arguments)

    monkeypatch.setattr(graphs.onnx_files, "write", counted)
    return names


def test_kept_graphs_are_read_and_not_made_again(
    run: Run, translated: list[str]
) -> None:
    networks = networks_of_run(run)
    assert translated == []
    contents = {f"{name}.onnx": g.content for name, g in networks.graphs.items()}
    assert contents == {path.name: path.read_bytes() for path in kept(run)}
    assert {"encoder.onnx", "decoder.onnx"} == set(contents)


def test_a_damaged_or_wrong_graph_is_made_again(
    run: Run, translated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    decoder, encoder = kept(run)
    expected = decoder.read_bytes()
    decoder.write_bytes(b"damaged")
    networks = networks_of_run(run)
    assert translated == ["decoder"]
    assert networks.graphs["decoder"].content == kept(run)[0].read_bytes()
    shutil.copy(encoder, kept(run)[0])
    networks = networks_of_run(run)
    assert translated == ["decoder", "decoder"]
    assert len(networks.graphs["decoder"].content or b"") == len(expected)


def test_graphs_of_other_weights_are_not_used(run: Run) -> None:
    changed = run.model.state_dict()
    name = next(key for key in changed if key.endswith("decoder.head.bias"))
    before = changed[name].clone()
    changed[name] += 1.0
    try:
        home = training_folder(run)
        assert home is not None
        folder = home / "explore" / f"graphs-{run.predictor.fingerprint}"
        assert folder not in {path.parent for path in kept(run)}
        wrong = kept(run)[0].parent
        with pytest.raises(Exception, match="differs from torch"):
            planned = graphs.plan_of(run.model).graphs[1]
            onnx_files.check_outputs(wrong / "decoder.onnx", planned)
    finally:
        changed[name].copy_(before)


def test_without_a_folder_nothing_is_kept(run: Run) -> None:
    assert networks_of(run.model, most=0).graphs["decoder"].content is None


# ---- graphs that another process makes while the page is in use

# In place of the process: it puts one graph into the run folder, and says why not the other.
STAND_IN = """
import json, shutil, sys
source, folder = sys.argv[1:]
shutil.copytree(source, folder)
print(json.dumps([{"decoder": "", "encoder": "it has no graph"}]))
"""


def waiting(run: Run) -> PageRun:
    """A run of a page whose graphs are not kept, and so wait."""
    networks = networks_of_run(run, only_kept=True)
    assert all(graph.waits for graph in networks.graphs.values())
    return PageRun("main", run, networks)


def test_a_page_comes_before_its_graphs(
    run: Run, tmp_path: Path, translated: list[str]
) -> None:
    folder = kept(run)[0].parent
    shutil.move(folder, tmp_path / "kept")
    page_run = waiting(run)
    assert translated == []
    page = build([page_run], Limits(20, 20), mode="served", scenes=False)
    (entry,) = page.manifest["runs"]
    for graph in entry["graphs"].values():
        assert (graph["where"], graph["block"]) == ("server", None)
        assert graph["waits"]
        assert graph["reason"] == "its ONNX graph is being made"


def test_graphs_that_are_made_meanwhile_come_to_the_page(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="needs the extra explore")
    from tightbound.exploring.routes import PageStore

    folder = kept(run)[0].parent
    decoder, encoder = kept(run)
    content = decoder.read_bytes()
    encoder.unlink()
    shutil.move(folder, tmp_path / "kept")
    page_run = waiting(run)
    page = build([page_run], Limits(20, 20), mode="served", scenes=False)
    words = [sys.executable, "-c", STAND_IN, str(tmp_path / "kept"), str(folder)]
    monkeypatch.setattr(GraphProcess, "command", lambda _: words)
    maker = GraphProcess([page_run])
    store = PageStore(page, b"wasm", maker)
    assert store.networks() == {"made": 0, "of": 2, "graphs": None}
    maker.start()
    try:
        assert maker._process is not None and maker._process.wait(60) == 0
        answer = store.networks()
    finally:
        maker.close()
    assert (answer["made"], answer["of"]) == (1, 2)
    graph = answer["graphs"]["main"]["decoder"]
    assert (graph["where"], graph["waits"]) == ("page", False)
    assert store.blocks[graph["block"]] == content
    refused = answer["graphs"]["main"]["encoder"]
    assert (refused["where"], refused["reason"]) == ("server", "it has no graph")
    assert store.manifest["runs"][0]["graphs"] == answer["graphs"]["main"]


def test_the_process_says_which_graphs_have_no_file(
    run: Run, translated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    graph_process.main([str(run.folder)])
    assert translated == []
    assert json.loads(capsys.readouterr().out) == [{"encoder": "", "decoder": ""}]


def test_graphs_wait_only_where_another_process_can_make_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_wait(run)
    assert not can_wait(Run(run.config, run.model, None, run.data))
    monkeypatch.setattr(graph_process, "is_writable", lambda folder: False)
    assert not can_wait(run)
