"""The data of a page are what the run computes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exploring.pages import small_run
from PIL import Image
from support.extras import skip_without

from tightbound import api
from tightbound.core.draw import Draw
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.diagnosis.latent_usage import latents
from tightbound.exploring import companions
from tightbound.exploring.blocks import Blocks
from tightbound.exploring.explore import Options, page_of
from tightbound.exploring.float16 import session, value_range
from tightbound.exploring.graphs import MOST_IN_PAGE, networks_of
from tightbound.exploring.page_data import build, finite, text_of
from tightbound.exploring.run_data import Limits, PageRun
from tightbound.exporting import onnx_files
from tightbound.exporting.plan import posterior_plan
from tightbound.runs.run import Run, load, with_data
from tightbound.runtime.errors import TightboundError

skip_without("onnxruntime", "onnxscript", reason="needs the extra explore")


class Page:
    """A page of one run, with its blocks as arrays.

    Graphs of more than `most` bytes are not made, which takes seconds for each.
    """

    def __init__(self, run: Run, most: int = 0) -> None:
        self.run = run
        self.networks = networks_of(run.model, most)
        runs = [PageRun("main", run, self.networks)]
        self.data = build(runs, Limits(40, 2000), mode="served", scenes=False)
        self.main: Any = json.loads(text_of(self.data.manifest))["runs"][0]

    def array(self, block: Any) -> np.ndarray:
        """The values of a block."""
        content = self.data.blocks[block["block"]]
        values = np.frombuffer(content, np.dtype(block["dtype"]).newbyteorder("<"))
        return values.reshape(block["shape"]).copy()

    @property
    def x(self) -> np.ndarray:
        return self.array(self.main["points"]["x"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run = small_run(tmp_path_factory.mktemp("page") / "run", latent=3)
    assert run.folder is not None
    api.evaluate(run, k=20, limit=30, diagnosis=False).save(run.folder)
    return Page(run, MOST_IN_PAGE)


def test_points_are_rows_of_the_test_split(page: Page) -> None:
    points = page.main["points"]
    rows = page.array(points["rows"])
    split = page.run.data.test
    assert points["n"] == len(rows) == 40 and points["split"] == "test"
    assert rows[0] == 0 and rows[-1] == len(split) - 1
    np.testing.assert_array_equal(page.x, split.raw(torch.tensor(rows)).numpy())
    assert points["x"]["dtype"] == "uint8" and split.y is not None
    np.testing.assert_array_equal(page.array(points["labels"]), split.y[rows])


def test_codes_and_deviations_are_those_of_the_run(page: Page) -> None:
    points = page.main["points"]
    x = page.x.astype(np.float32)
    codes = page.run.encode(x).numpy()
    np.testing.assert_allclose(page.array(points["z"]), codes, atol=1e-6)
    q = page.run.posterior(x)["z"]
    np.testing.assert_allclose(page.array(points["scale"]), q.stddev, rtol=1e-5)


def test_terms_are_those_of_the_trace(page: Page) -> None:
    points = page.main["points"]
    batch = page.run.data.test.examples(torch.tensor(page.array(points["rows"])))
    noise = ContentNoise(page.run.config.seed, batch.x, 0, points["terms_draws"])
    trace = page.run.model(batch, Draw(points["terms_draws"], noise=noise))
    expected = torch.stack([-trace.distortion, trace.rate], 1).numpy()
    np.testing.assert_allclose(page.array(points["terms"]), expected, rtol=1e-5)


def test_the_saved_evaluation_is_shown_with_its_signs(page: Page) -> None:
    assert page.run.folder is not None
    tree = json.loads((page.run.folder / "evaluation.json").read_text())
    terms = page.main["terms"]
    assert terms["elbo"] == pytest.approx(
        [tree["terms"]["elbo"]["mean"], tree["terms"]["elbo"]["se"]]
    )
    assert terms["reconstruction"][0] == -tree["terms"]["distortion"]["mean"]
    assert terms["reconstruction"][1] == tree["terms"]["distortion"]["se"] > 0
    assert terms["kl"][0] == tree["terms"]["rate"]["mean"]
    total = terms["reconstruction"][0] - terms["kl"][0]
    assert total == pytest.approx(terms["elbo"][0], abs=1e-4)


def test_features_are_those_of_the_diagnosis_by_their_kl(page: Page) -> None:
    features = page.main["latent"]["features"]
    batch = page.run.data.test.examples(
        torch.tensor(page.array(page.main["points"]["rows"]))
    )
    expected = {f.name: f for f in latents(page.run, batch, 0).features}
    assert [f["index"] for f in sorted(features, key=lambda f: f["name"])] == [0, 1, 2]
    kl = [f["kl"] for f in features]
    assert kl == sorted(kl, reverse=True)
    for feature in features:
        assert feature["kl"] == pytest.approx(expected[feature["name"]].kl)
        assert feature["active"] == expected[feature["name"]].active


def test_components_are_the_principal_directions_of_the_codes(page: Page) -> None:
    latent = page.main["latent"]
    z = page.array(page.main["points"]["z"]).astype(np.float64)
    np.testing.assert_allclose(page.array(latent["center"]), z.mean(0), atol=1e-6)
    directions = page.array(latent["components"]).astype(np.float64)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-5)
    values = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    np.testing.assert_allclose(latent["explained"], values / values.sum(), atol=1e-5)


def test_the_graphs_give_what_the_run_gives(page: Page) -> None:
    graphs = page.main["graphs"]
    assert set(graphs) == {"encoder", "decoder"}
    assert [port["name"] for port in graphs["encoder"]["inputs"]] == ["x"]
    assert graphs["decoder"]["inputs"][0]["shape"] == [None, 3]
    encode = session(page.data.blocks[graphs["encoder"]["block"]])
    decode = session(page.data.blocks[graphs["decoder"]["block"]])
    z = encode({"x": page.x}, "codes")
    np.testing.assert_allclose(z, page.run.encode(page.x.astype(np.float32)), atol=1e-5)
    np.testing.assert_allclose(decode({"z": z}, "mean"), page.run.decode(z), atol=1e-4)


def test_tiles_of_the_sprite_are_the_points(page: Page) -> None:
    sprite = page.main["points"]["sprite"]
    with Image.open(io.BytesIO(page.data.blocks[sprite["block"]])) as image:
        sheet = np.asarray(image)
    assert sprite["n"] == 40 and sprite["tile"] == [8, 8]
    for i in (0, 17, 39):
        row, column = divmod(i, sprite["columns"])
        tile = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_array_equal(tile, np.round(page.x[i] / 16 * 255))


def test_training_examples_are_there_for_the_nearest_one(page: Page) -> None:
    training = page.main["training"]
    assert training["n"] == training["of"] == len(page.run.data.train)
    x = page.array(training["x"])
    raw = page.run.data.train.raw(torch.tensor([0, len(page.run.data.train) - 1]))
    np.testing.assert_array_equal(x[[0, -1]], raw.numpy())


def test_a_standard_prior_has_a_name_and_another_has_draws(
    page: Page, tmp_path: Path
) -> None:
    assert page.main["prior"] == {"kind": "standard"}
    run = small_run(tmp_path / "run", "mixture-prior", **{"prior.components": 3})
    other = Page(run)
    draws = other.array(other.main["prior"]["draws"])
    assert draws.shape == (4000, 2)
    p = run.prior["z"]
    sd = p.variance[0].sqrt().numpy()
    assert np.abs(draws.mean(0) - p.mean[0].numpy()).max() < 5 * sd.max() / 4000**0.5


@pytest.mark.parametrize("recipe", ["m2", "vq-vae", "hvae", "conditional"])
def test_other_latent_spaces_say_what_they_are(recipe: str, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "m2": {},
        "vq-vae": {"latent": 8, "posterior.codes": 16, "posterior.dim": 4},
        "hvae": {"latent": [3, 2]},
        "conditional": {},
    }
    page = Page(small_run(tmp_path / "run", recipe, **settings[recipe]))
    latent, points, graphs = (page.main[key] for key in ("latent", "points", "graphs"))
    width = sum(site["width"] for site in latent["sites"])
    assert latent["width"] == width == page.array(points["z"]).shape[1]
    if recipe == "m2":
        assert latent["kind"] == "vector" and latent["classes"] == {"y": 10}
        assert {feature["site"] for feature in latent["features"]} == {"z"}
        assert "posterior" in graphs
    if recipe == "vq-vae":
        assert latent["kind"] == "codes"
        assert (latent["sites"][0]["codes"], latent["sites"][0]["entries"]) == (2, 16)
        index = page.array(points["codes"]).astype(np.int64)
        vectors = page.networks.graphs["codebook"].module
        z = vectors.outputs(torch.tensor(index))["z"]
        np.testing.assert_allclose(page.array(points["z"]), z, atol=1e-6)
    if recipe == "hvae":
        assert latent["kind"] == "hierarchy" and latent["order"] == ["z2", "z1"]
        noise = graphs["prior_sample"]["inputs"]
        assert {port["name"]: port["noise"] for port in noise} == {
            "noise.z2": "normal",
            "noise.z1": "normal",
        }
    if recipe == "conditional":
        condition = page.array(points["condition"])
        assert page.main["data"]["condition"]["names"] == [str(i) for i in range(10)]
        np.testing.assert_array_equal(condition, page.array(points["labels"]))
        z = page.run.encode(page.x.astype(np.float32), condition)
        np.testing.assert_allclose(page.array(points["z"]), z, atol=1e-5)


def test_the_posterior_of_a_hierarchy_is_given_z(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", "hvae", latent=[3, 2])
    planned = posterior_plan(run.model)
    assert planned is not None and list(planned.inputs) == ["x", "z"]
    onnx_files.write(planned, tmp_path, {})
    batch = run.data.test.examples(torch.arange(3))
    trace = run.model(batch, Draw(noise=ContentNoise(0, batch.x, 0, 1)))
    z = torch.cat([trace.latents[name].z for name in run.model.site_widths], 1)
    computed = session((tmp_path / "posterior.onnx").read_bytes())(
        {"x": run.data.test.raw(torch.arange(3)).numpy(), "z": z.numpy()}, "q.z1.mean"
    )
    q: Any = trace.latents["z1"].q
    np.testing.assert_allclose(computed, q.mean.detach(), atol=1e-5)


def test_a_table_has_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the run is read from its folder, whose spec has no statistics of the data."""
    import pandas as pd

    made = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "height": made.normal(170, 10, 120),
            "colour": made.choice(["red", "green", "blue"], 120),
            "count": made.integers(0, 9, 120),
        }
    )
    saved = small_run(tmp_path / "run", "vae", table)
    run = with_data(load(tmp_path / "run"), saved.data)
    page = Page(run)
    data = page.main["data"]
    assert data["kind"] == "table" and page.main["points"]["sprite"] is None
    columns = {column["name"]: column for column in data["columns"]}
    assert columns["colour"]["values"] == ["blue", "green", "red"]
    assert columns["height"]["mean"] == pytest.approx(170, abs=4)
    assert columns["height"]["sd"] == pytest.approx(10, rel=0.3)
    assert page.x.shape[1] == 3
    heights = list(columns).index("height")
    assert value_range(run)[heights] == pytest.approx(60, rel=0.3)
    monkeypatch.setattr(companions, "STEPS", 2)
    (made,) = companions.companions(run, ["scene-vae"]).values()
    assert companions.scene_role(made) == "scene-vae"  # p(z) = N(0, I), not learned


def test_curves_have_the_range_of_the_data(tmp_path: Path) -> None:
    """Of signals and vectors, whose values are not from 0 to 1."""
    rng = np.random.default_rng(0)
    wave = rng.normal(size=(100, 2, 128)).astype(np.float32)
    wave *= np.array([[3], [40]], dtype=np.float32)
    for name, x in (("signal", wave), ("vector", wave[:, :, 0])):
        data = Page(small_run(tmp_path / name, source=x)).main["data"]
        assert data["kind"] == name and len(data["ranges"]) == 2
        for (low, high), spread in zip(data["ranges"], (3, 40), strict=True):
            assert -5 * spread < low < -2 * spread
            assert 2 * spread < high < 5 * spread
        lows, highs = zip(*data["ranges"], strict=True)
        assert data["range"] == [min(lows), max(highs)]
        assert data["standardised"]


def test_a_model_that_onnx_refuses_is_computed_by_the_server(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", "hamiltonian")
    page = Page(run)
    graphs = page.main["graphs"]
    assert {graph["where"] for graph in graphs.values()} == {"server"}
    assert "gradient" in graphs["decoder"]["reason"]
    assert graphs["decoder"]["outputs"][0]["name"] == "mean"
    with pytest.raises(TightboundError, match="leave out --export"):
        page_of([run], Options(scenes=False), one_file=True)


def test_two_runs_must_be_of_the_same_shape(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / "a"), small_run(tmp_path / "b", "vae", np.eye(60))]
    with pytest.raises(TightboundError, match="cannot be shown together"):
        page_of(runs, Options(scenes=False), one_file=False)
    with pytest.raises(TightboundError, match="one or two"):
        page_of([runs[0]] * 3, Options(scenes=False), one_file=False)


def test_examples_keep_their_digits_in_blocks() -> None:
    blocks = Blocks()
    seconds = np.array([[1.7e9 + 0.25], [1.7e9 + 0.5]])
    assert blocks.add_examples("times", seconds)["dtype"] == "float64"
    assert blocks.add_examples("bytes", np.array([[0.0, 255.0]]))["dtype"] == "uint8"
    assert blocks.add_examples("gaps", np.array([[0.0, np.nan]]))["dtype"] == "float32"
    assert blocks.add_examples("wide", np.array([[0.0, 256.0]]))["dtype"] == "float32"
    assert blocks.add_examples("real", np.array([[0.5, 1.0]]))["dtype"] == "float32"


def test_equal_blocks_are_kept_once() -> None:
    blocks = Blocks()
    first = blocks.add("a", np.arange(3.0))
    second = blocks.add("b", np.arange(3.0))
    third = blocks.add("c", np.arange(4.0))
    assert (first["block"], second["block"], third["block"]) == ("a", "a", "c")
    assert list(blocks.content) == ["a", "c"]
    with pytest.raises(ValueError, match="two blocks 'c'"):
        blocks.add("c", np.arange(5.0))


def test_numbers_that_are_not_finite_are_null() -> None:
    assert text_of(finite({"a": [float("nan"), 1.0], "b": {"c": float("inf")}})) == (
        '{"a":[null,1.0],"b":{"c":null}}'
    )


def keys_of(value: Any) -> set[str]:
    """The keys of a manifest at all depths that it describes itself."""
    if isinstance(value, list):
        return set().union(*(keys_of(each) for each in value))
    if not isinstance(value, dict):
        return set()
    inner = {k: v for k, v in value.items() if k not in ("export", "graphs", "classes")}
    return set(value).union(*(keys_of(each) for each in inner.values()))


def test_the_docs_name_each_key_of_the_manifest(page: Page) -> None:
    text = (Path(__file__).parents[2] / "docs" / "page-data.md").read_text()
    about = json.loads(text_of(page.data.manifest))
    keys = keys_of(about) | set(next(iter(page.main["graphs"].values())))
    assert {key for key in keys if f"`{key}`" not in text} == set()
