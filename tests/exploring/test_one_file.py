"""A page in one file: its size, its policy, its weights in float16, its names."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from exploring.pages import small_page, small_run, stand_in_assets
from support.extras import skip_without

from tightbound.exploring import companions, one_file
from tightbound.exploring.assets import Assets, filled
from tightbound.exploring.explore import Options, page_of
from tightbound.exploring.float16 import MOST_ERROR, difference, session, value_range
from tightbound.exploring.one_file import WrittenPage
from tightbound.exploring.policy import policy
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import listening

skip_without("onnxruntime", "onnxscript", reason="needs the extra explore")


class Elements(HTMLParser):
    """The scripts and styles of a page with their attributes, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self.policies: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not any(name.startswith("on") or name == "style" for name in given)
        if tag in ("script", "style"):
            self.elements.append((tag, given, ""))
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(given["content"] or "")

    def handle_data(self, data: str) -> None:
        if self.elements and self.cdata_elem is not None:
            tag, given, text = self.elements[-1]
            self.elements[-1] = (tag, given, text + data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("one") / "run")


@pytest.fixture(scope="module")
def written(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[WrittenPage, str, Assets]:
    folder = tmp_path_factory.mktemp("file")
    assets = stand_in_assets(folder)
    page, _ = page_of([run], Options(scenes=False), one_file=True)
    page.manifest["title"] = "</script><script>alert(1)</script>"
    result = one_file.write(page, folder / "page.html", assets, overwrite=False)
    return result, result.path.read_text(encoding="utf-8"), assets


def test_the_blocks_in_the_file_are_those_of_the_page(
    run: Run, written: tuple[WrittenPage, str, Assets]
) -> None:
    _, text, assets = written
    elements = Elements(text).elements
    by_id = {given.get("id"): text for _, given, text in elements}
    manifest = json.loads(by_id["manifest"])
    assert manifest["mode"] == "file" and manifest["title"].startswith("</script>")
    packed = base64.b64decode(by_id["block-main.points.z"])
    z = np.frombuffer(gzip.decompress(packed), "<f4").reshape(-1, 2)
    raw = run.data.test.raw(run.data.test.spread(len(z)))
    assert manifest["runs"][0]["points"]["n"] == len(z) == len(run.data.test)
    np.testing.assert_allclose(z, run.encode(raw).numpy(), atol=1e-6)
    assert gzip.decompress(base64.b64decode(by_id["block-ort.wasm"])) == assets.wasm


def test_the_policy_has_the_hashes_of_what_runs(
    written: tuple[WrittenPage, str, Assets],
) -> None:
    _, text, _ = written
    page = Elements(text)
    running = [
        (tag, content)
        for tag, given, content in page.elements
        if given.get("type") in (None, "module")
    ]
    assert [tag for tag, _ in running] == ["style", "script"]
    (stated,) = page.policies
    directives = dict(part.strip().split(" ", 1) for part in stated.split(";"))
    for tag, content in running:
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in directives[f"{tag}-src"]
    assert directives["script-src"].count("sha256-") == 1
    assert directives["default-src"] == "'none'" and "connect-src" not in directives
    assert "unsafe-inline" not in stated and "'unsafe-eval'" not in stated
    assert re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text) is None


def test_weights_are_in_float16_where_values_stay(
    run: Run, written: tuple[WrittenPage, str, Assets]
) -> None:
    result, text, _ = written
    by_id = {given.get("id"): text for _, given, text in Elements(text).elements}
    graphs = json.loads(by_id["manifest"])["runs"][0]["graphs"]
    assert set(result.float16) == {"main.encoder", "main.decoder"}
    content = gzip.decompress(base64.b64decode(by_id["block-main.graph.decoder"]))
    z = run.encode(run.data.test.raw(run.data.test.spread(500))).numpy()
    half = session(content)({"z": z}, "mean")
    error = difference(half, run.decode(z).numpy(), value_range(run))
    assert graphs["decoder"]["float16"] is True
    assert 0 < error <= 2 * graphs["decoder"]["error"] + 1e-6
    assert graphs["decoder"]["error"] <= MOST_ERROR
    weights = sum(p.numel() for p in run.model.hierarchy.parameters())
    assert len(content) < 2.5 * weights
    assert any("float16" in line for line in result.lines())


def test_a_page_of_digits_with_its_two_small_runs_has_at_most_7_mb(
    written: tuple[WrittenPage, str, Assets],
) -> None:
    try:
        built = Assets()
    except TightboundError as error:
        pytest.skip(str(error))
    result, _, _ = written
    wasm = one_file._element("ort.wasm", built.wasm)
    # points, thumbnails and training examples are counted three times here, and kept once
    size = len(wasm) + len(built.script) + len(built.style) + 3 * result.size
    assert 5_000_000 < size <= 7_000_000


def test_weights_that_float16_changes_too_much_stay(run: Run) -> None:
    from tightbound.exploring.float16 import _kept
    from tightbound.exploring.graphs import MeanGraph, PageGraph

    graph = PageGraph("decoder", MeanGraph(run.model), [], [], b"exact")
    exact, scale = np.zeros((3, 4)), np.full(4, 2.0)
    assert _kept(graph, b"half", exact + 4 / 255, exact, scale) is graph
    assert _kept(graph, b"half", exact + np.nan, exact, scale) is graph
    half = _kept(graph, b"half", exact + 2 / 256, exact, scale)
    assert (half.content, half.measured) == (b"half", 3)
    assert half.error == pytest.approx(1 / 256)


def test_a_file_is_replaced_only_when_asked(
    tmp_path: Path,
) -> None:
    assets = stand_in_assets(tmp_path)
    page, _ = small_page(tmp_path)
    folder = tmp_path / "pages"
    folder.mkdir()
    path = folder / "page.html"
    path.write_text("mine")
    with pytest.raises(TightboundError, match="--overwrite"):
        one_file.write(page, path, assets, overwrite=False)
    assert path.read_text() == "mine"
    one_file.write(page, path, assets, overwrite=True)
    assert path.read_text().startswith("<!doctype html>")
    assert [each.name for each in folder.iterdir()] == ["page.html"]
    with pytest.raises(TightboundError, match="is a folder"):
        one_file.write(page, tmp_path, assets, overwrite=True)


def test_a_template_has_each_place_once() -> None:
    assert filled("a{{x}}b{{y}}", {"y": "{{x}}", "x": "1"}) == "a1b{{x}}"
    for template in ("a{{x}}", "{{x}}{{y}}{{y}}"):
        with pytest.raises(TightboundError, match="not exactly one"):
            filled(template, {"x": "1", "y": "2"})


def test_a_policy_without_styles_allows_none() -> None:
    assert "style-src 'none'" in policy(["x"], [])


# ---- the small runs of the scenes


def test_a_run_with_two_features_plays_its_scene_itself(run: Run) -> None:
    assert companions.scene_role(run) == "scene-vae"


def test_small_runs_are_trained_once_and_belong_to_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "STEPS", 3)
    run = small_run(tmp_path / "run", latent=5)
    assert run.folder is not None and companions.scene_role(run) is None
    before = {
        path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()
    }
    made = companions.companions(run, ["scene-vae", "scene-ae"])
    assert [companions.scene_role(each) for each in made.values()] == list(made)
    assert made["scene-vae"].config.recipe.likelihood == run.config.recipe.likelihood
    assert all(path.read_bytes() == content for path, content in before.items())
    monkeypatch.setattr(companions, "_trained", None)  # a second training would fail
    again = companions.companions(run, ["scene-vae", "scene-ae"])
    for role, each in again.items():
        assert each.predictor.fingerprint == made[role].predictor.fingerprint
    kept = [path.name for path in (run.folder / "explore").iterdir()]
    assert sorted(kept) == sorted(
        f"{role}-{run.predictor.fingerprint}" for role in made
    )


def test_a_folder_that_cannot_be_written_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companions, "STEPS", 2)
    run = small_run(tmp_path / "run", latent=5)
    assert run.folder is not None
    (run.folder / "explore").write_text("in the way, as for root nothing is read-only")
    lines: list[str] = []
    with listening(lines.append):
        made = companions.companions(run, ["scene-ae"])
    x = run.data.test.raw(run.data.test.spread(2))
    assert made["scene-ae"].encode(x).isfinite().all()
    assert any("scene-ae is not kept" in line for line in lines)
    assert (run.folder / "explore").read_text().startswith("in the way")


def test_a_short_training_lowers_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run", latent=5)
    losses = []
    for steps in (1, 60):
        monkeypatch.setattr(companions, "STEPS", steps)
        model = companions._trained(run, "scene-ae").model
        losses.append(
            float(model.loss(model(run.data.test.examples(run.data.test.spread(50)))))
        )
    assert losses[1] < losses[0] - 10
