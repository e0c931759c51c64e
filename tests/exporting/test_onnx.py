"""Exported ONNX graphs give what the run gives, for inputs that the export has not seen."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from support.exports import only, source_of, tiny_run
from support.extras import skip_without
from torch import Tensor

import tightbound as tb
from tightbound.components.likelihoods.product import Chain
from tightbound.components.posteriors import POSTERIORS
from tightbound.distributions import Quantized
from tightbound.exporting import comparison, onnx_files
from tightbound.models.recipes import RECIPES
from tightbound.runs.run import Run

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra [export]")
skip_without("onnxscript", reason="needs the extra [export]")

NAMED = (
    *("vae", "iwae", "ae", "hvae", "ladder", "vamp", "flow-prior", "conditional"),
    *("missing-data", "m2", "vq-vae", "vq-conv", "vdvae"),
)
ITERATIVE = {"hamiltonian", "riemannian"}
NEAR = 1e-4
Array = np.ndarray[Any, Any]


def computed(folder: Path, graph: str, **inputs: Any) -> dict[str, Array]:
    """The outputs of a graph, by onnxruntime alone."""
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx")
    feed = {name: np.asarray(value) for name, value in inputs.items()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def near(actual: Array, expected: Tensor) -> None:
    """max|a - b| <= 1e-4 max|b|."""
    b = expected.double().numpy()
    assert actual.shape == b.shape
    assert np.abs(actual - b).max() <= NEAR * np.abs(b).max()


def raw_rows(run: Run, name: str, n: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Examples in raw units as the user has them, and conditions."""
    condition = {}
    if run.spec.condition is not None:
        condition["condition"] = torch.arange(n) % 10
    source = source_of(name)
    if isinstance(source, str):
        return run.read("digits")[11 : 11 + n], condition
    return torch.as_tensor(source[5 : 5 + n]).float(), condition


def sites_of(values: Any, sites: Mapping[str, int]) -> dict[str, Any]:
    """Distributions by site, of a model with one or several."""
    return values if isinstance(values, dict) else {next(iter(sites)): values}


def check_encoder(run: Run, folder: Path, x: Tensor, condition: dict[str, Any]) -> None:
    """Codes and parameters of q are those of the run."""
    given = {"condition": condition["condition"].tolist()} if condition else {}
    outputs = computed(folder, "encoder", x=x, **condition)
    near(outputs["codes"], run.encode(x, **given))
    for site, q in sites_of(run.posterior(x, **given), run.model.site_widths).items():
        if f"q.{site}.log_variance" in outputs:
            near(outputs[f"q.{site}.mean"], q.mean)
            near(np.exp(0.5 * outputs[f"q.{site}.log_variance"]), q.stddev)
        if isinstance(q, Quantized):
            assert np.array_equal(outputs[f"q.{site}.index"], q.code.index.numpy())


def check_decoder(run: Run, folder: Path, z: Tensor, condition: dict[str, Any]) -> None:
    """E[x|z] is that of the run, in raw units."""
    given = {"condition": condition["condition"].tolist()} if condition else {}
    expected = run.decode(z, **given)
    if not isinstance(expected, Tensor):
        coded = run.predictor.decode_mean(tb.Batch(z))
        expected = run.spec.to_raw(coded)
    near(computed(folder, "decoder", z=z, **condition)["mean"], expected)


LONG = pytest.mark.skipif(
    not os.environ.get("TIGHTBOUND_LONG"), reason="long: TIGHTBOUND_LONG=1"
)
QUICK = {"vae", "hvae", "missing-data"}


def some_long(names: Sequence[str], quick: Collection[str]) -> list[ParameterSet]:
    """Cases of which those that are not quick need TIGHTBOUND_LONG=1."""
    return [pytest.param(n, marks=[] if n in quick else [LONG]) for n in names]


@pytest.mark.parametrize("name", some_long(NAMED, QUICK))
def test_graphs_give_what_the_run_gives(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@LONG
@pytest.mark.parametrize("name", sorted(RECIPES.keys() - set(NAMED)))
def test_every_recipe_is_exported_or_refused_in_a_sentence(
    name: str, tmp_path: Path
) -> None:
    if name not in ITERATIVE:
        check(name, tmp_path)
        return
    run = tiny_run(tmp_path / "run", name)
    with pytest.raises(tb.TightboundError, match="steps along the gradient"):
        tb.export(run)
    assert not (tmp_path / "run" / "exports" / "onnx").exists()


def check(name: str, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", name)
    exported = tb.export(run, out=tmp_path / "onnx")
    assert 0 <= exported.worst_difference <= comparison.WORST
    for n in (1, 7):
        x, condition = raw_rows(run, name, n)
        check_encoder(run, exported.folder, x, condition)
        given = {"condition": condition["condition"].tolist()} if condition else {}
        check_decoder(run, exported.folder, run.encode(x, **given), condition)


def test_only_iterative_posteriors_are_refused() -> None:
    refused = {RECIPES[name].posterior.name for name in ITERATIVE}
    assert refused == {
        name for name, posterior in POSTERIORS.items() if posterior.uses_log_joint
    }


# ---- priors


@pytest.mark.parametrize(
    "name",
    some_long(["vamp", "flow-prior", "mixture-prior", "poincare"], set()),
)
def test_log_p_of_z_and_its_draws_are_those_of_the_prior(
    name: str, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", name)
    folder = tb.export(run).folder
    z = run.encode("digits")[:7]
    prior = sites_of(run.prior, run.model.site_widths)["z"]
    with torch.no_grad():
        near(computed(folder, "prior", z=z)["log_p"], prior.log_prob(z))
    form = prior.noise_form
    noise = torch.randn(7, *form.event)
    with torch.no_grad():
        expected = prior.from_noise(noise)[0]
    near(computed(folder, "prior_sample", **{"noise.z": noise})["z"], expected)


@LONG
def test_a_hierarchy_gives_p_of_each_site_given_those_above(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "hvae")
    folder = tb.export(run).folder
    z = torch.randn(7, 6)
    decoded = computed(folder, "decoder", z=z)
    z1, z2 = z[:, :4], z[:, 4:]
    mean, log_variance = (
        torch.from_numpy(decoded[f"p.z1.{key}"]) for key in ("mean", "log_variance")
    )
    of_z1 = torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(z1)
    of_z2 = torch.distributions.Normal(0.0, 1.0).log_prob(z2)
    outputs = computed(folder, "prior", z=z)
    near(outputs["log_p.z1"], of_z1.sum(1))
    near(outputs["log_p.z2"], of_z2.sum(1))
    near(outputs["log_p"], of_z1.sum(1) + of_z2.sum(1))
    drawn = computed(folder, "prior_sample", **{"noise.z1": z1, "noise.z2": z2})["z"]
    near(drawn[:, 4:], z2)
    near(drawn[:, :4], mean + (0.5 * log_variance).exp() * z1)


@LONG
def test_a_chosen_code_is_the_vector_that_is_decoded(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "vq-vae")
    folder = tb.export(run).folder
    encoded = computed(folder, "encoder", x=run.read("digits")[:7])
    vectors = computed(folder, "codebook", index=encoded["q.z.index"])["z"]
    near(vectors, torch.from_numpy(encoded["codes"]))


@LONG
def test_a_flow_posterior_is_drawn_from_noise(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "vae-sylvester")
    folder = tb.export(run).folder
    x = run.read("digits")[:7]
    noise = torch.randn(7, 4)
    q = sites_of(run.posterior(x), run.model.site_widths)["z"]
    with torch.no_grad():
        z, log_q = q.from_noise(noise)
    outputs = computed(folder, "posterior_sample", x=x, **{"noise.z": noise})
    near(outputs["z"], z)
    near(outputs["log_q"], log_q)


@pytest.mark.slow
@LONG
@pytest.mark.parametrize(
    ("recipe", "prior"),
    [
        *(("vae", p) for p in ("learned", "normal", "gaussian-mixture", "maf", "iaf")),
        *(("vae", p) for p in ("two-stage", "riemannian", "exemplar")),
        ("svae", "sphere-mixture"),
        ("poincare", "poincare-mixture"),
        ("vq-vae", "pixelcnn"),
    ],
)
def test_priors_fitted_after_training(recipe: str, prior: str, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", recipe, latent=8 if recipe == "vq-vae" else 3)
    fitted = tb.fit_prior(run, prior, data="digits", settings={"train.steps": 5})
    exported = tb.export(fitted)
    assert exported.worst_difference <= comparison.WORST
    written = {name.removesuffix(".onnx") for name in exported.files}
    assert {"encoder", "decoder"} <= written
    assert {"prior", "prior_sample"} <= written | exported.left_out.keys()


# ---- units and kinds of data


@LONG
def test_grey_levels_read_as_reals_are_divided_inside_the_graphs(
    tmp_path: Path,
) -> None:
    run = tiny_run(tmp_path / "run", "vae", likelihood="gaussian")
    assert run.spec.divisor == 16
    folder = tb.export(run).folder
    x = run.read("digits")[:7]
    check_encoder(run, folder, x, {})
    check_decoder(run, folder, run.encode(x), {})


def test_a_table_goes_in_by_numbers_and_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "encoder", "decoder")
    run = tiny_run(tmp_path / "run", "mixed")
    exported = tb.export(run)
    x = torch.as_tensor(source_of("mixed")[:7]).float()
    values = run.spec.fields[2].values
    coded = x.clone()
    coded[:, 2] = torch.tensor([float(values.index(v)) for v in x[:, 2].tolist()])
    near(computed(exported.folder, "encoder", x=coded)["codes"], run.encode(x))
    check_decoder(run, exported.folder, run.encode(x), {})
    about = json.loads((exported.folder / "export.json").read_text())
    assert about["units"]["columns"] == [field.name for field in run.spec.fields]


def test_columns_that_depend_on_categories_have_their_parameters_given_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters given a row are those by which the run computes log p(x|z) of it."""
    only(monkeypatch, "decoder", "likelihood")
    r = np.random.default_rng(0)
    n = 600
    is_rare = np.arange(n) % 40 == 0
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "x": r.normal(size=n) + 8 * is_rare,
            "fee": np.where(r.random(n) < 0.8, 0, r.lognormal(1, 0.5, n)),
            "price": r.lognormal(3, 0.8, n),
            "status": np.where(is_rare, "fraud", r.choice(["ok", "new"], n)),
        }
    )
    run = tiny_run(tmp_path / "run", "vae", frame)
    exported = tb.export(run)
    assert run.spec.fields[3].values == ("fraud", "new", "ok")
    numbers = torch.tensor(frame[["x", "fee", "price"]].to_numpy()[:7])
    status = torch.tensor([0.0, 0, 0, 1, 2, 1, 2]).unsqueeze(1)
    x = torch.cat([numbers, status], 1).float()
    z = run.encode(frame[:7])
    check_decoder(run, exported.folder, z, {})
    outputs = computed(exported.folder, "likelihood", x=x, z=z)
    px = run.predictor.decode(tb.Batch(z))
    assert isinstance(px, Chain) and px.shift.order
    given = dict(
        zip(
            ("real", "positive", "zeros", "status"),
            px.given(run.spec.to_model(x)).parts,
            strict=True,
        )
    )
    assert not torch.equal(given["real"][1].mean, px.central.parts[0][1].mean)
    near(outputs["px.normal.mean"], given["real"][1].mean)
    near(outputs["px.lognormal.location"], given["positive"][1].base_dist.loc)
    near(outputs["px.zeroinflated.logits"], given["zeros"][1].base_dist.logits)
    about = json.loads((exported.folder / "export.json").read_text())
    assert "likelihood.onnx" in about["likelihood"]["given"]


def test_numbers_far_from_0_go_in_as_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32 has steps of 128 at 1.7e9; the graph subtracts the offset before the cast."""
    only(monkeypatch, "encoder", "decoder")
    rows = np.random.default_rng(0).normal(size=(64, 3))
    rows[:, 0] = 1.7e9 + 60 * rows[:, 0]
    run = tiny_run(tmp_path / "run", "vae", rows)
    folder = tb.export(run).folder
    about = json.loads((folder / "export.json").read_text())
    assert about["units"]["offset"][0] == run.spec.offset[0] > 1e9
    z = run.encode(rows[:7])
    assert float(z.std(0).min()) > 0
    near(computed(folder, "encoder", x=rows[:7])["codes"], z)
    decoded = computed(folder, "decoder", z=z.numpy())["mean"]
    off = decoded - run.decode(z).double().numpy()
    assert np.abs(off[:, 0]).max() < 0.1


@LONG
def test_signals_keep_the_order_of_their_axes(tmp_path: Path) -> None:
    signals = np.random.default_rng(0).normal(size=(64, 12, 2)).astype(np.float32)
    run = tiny_run(tmp_path / "run", "vae", signals, **{"data.kind": "signal"})
    folder = tb.export(run).folder
    x = torch.from_numpy(signals[:7])
    check_encoder(run, folder, x, {})
    check_decoder(run, folder, run.encode(x), {})


# ---- the metadata


def test_a_file_says_what_it_is_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    only(monkeypatch, "encoder", "decoder")
    run = tiny_run(tmp_path / "run", "conditional")
    exported = tb.export(run)
    for graph in ("encoder", "decoder"):
        path = exported.folder / f"{graph}.onnx"
        about = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert about["tightbound"] == tb.__version__
        assert json.loads(about["recipe"])["name"] == "conditional"
        assert tb.DataSpec(**json.loads(about["spec"])).shape == (1, 8, 8)
        assert json.loads(about["units"])["condition"] == [str(i) for i in range(10)]
        session = onnxruntime.InferenceSession(path)
        assert json.loads(about["inputs"]).keys() == {
            value.name for value in session.get_inputs()
        }
        blob = path.read_bytes()
        assert b"site-packages" not in blob and str(tmp_path).encode() not in blob
        assert b'File "' not in blob


@LONG
def test_every_output_has_a_meaning(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "hvae")
    exported = tb.export(run)
    about = json.loads((exported.folder / "export.json").read_text())
    meanings = {name for graph in about["graphs"] for name in graph["outputs"]}
    for families in (about["posterior"], about["prior"]):
        for family in families.values():
            meanings |= set(family.get("parameters", ()))
    meanings |= set(about["likelihood"]["parameters"])
    outputs = {name.partition(".")[2] for name in about["differences"]}
    assert outputs <= meanings


# ---- what goes wrong


def test_a_graph_that_differs_from_torch_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbound.exporting import plan

    only(monkeypatch, "encoder")
    run = tiny_run(tmp_path / "run", "vae")
    folder = tb.export(run).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    exportable = plan.exportable

    def changed(model: tb.VAE) -> tb.VAE:
        copy = exportable(model)
        next(copy.encoder.parameters()).mul_(1.01)
        return copy

    monkeypatch.setattr(plan, "exportable", changed)
    with pytest.raises(tb.TightboundError, match=r"encoder\.onnx is not kept, since"):
        tb.export(run, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["onnx"]
    with pytest.raises(tb.TightboundError, match="differs from torch"):
        tb.export(run, out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_the_extra_the_sentence_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "vae")
    monkeypatch.setattr(onnx_files, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(
        tb.TightboundError, match=r"no_such_package: pip install 'tightbound\[export\]'"
    ):
        tb.export(run)


def test_a_code_on_a_border_is_left_out_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]])
    nudged = [torch.tensor([[1.0, 0.0], [1.0, 0.0]])]
    smooth = comparison._is_smooth(reference, nudged)
    assert smooth.tolist() == [[True, True], [False, False]]
    on_border = np.array([[1.0, 0.0], [1.0, 0.0]])
    wrong = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert comparison._difference(on_border, reference, smooth) == 0
    assert comparison._difference(wrong, reference, smooth) == 1
    missing = np.array([[np.nan, 0.0], [0.0, 1.0]])
    assert comparison._difference(missing, reference, smooth) == np.inf


@pytest.mark.skipif(not os.environ.get("TIGHTBOUND_LONG"), reason="long, a minute")
def test_a_model_of_colours_is_exported(tmp_path: Path) -> None:
    """Its decoder has `light_mean`, within 1e-4 of the range of the run's mean."""
    colours = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    run = tiny_run(tmp_path / "run", "vae-colour", colours, latent=2)
    exported = tb.export(run, "onnx", tmp_path / "graphs")
    z = torch.randn(5, 2)
    mean = computed(exported.folder, "decoder", z=z)["mean"]
    assert np.abs(mean - run.decode(z).numpy()).max() <= 1e-4 * 255
    assert (exported.folder / "decoder.onnx").stat().st_size < 3_000_000
