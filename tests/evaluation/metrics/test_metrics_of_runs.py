"""Metrics of runs: novelty, other data, probes, files, the report and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from support.report_pages import Page, untrained
from support.short_reports import blank_pictures
from support.small import trained
from torch import Tensor, nn

import tightbound as tb
from tightbound.cli import main
from tightbound.evaluation import outlier_scores
from tightbound.evaluation.metrics.example_sets import Examples
from tightbound.evaluation.metrics.measure import METRICS
from tightbound.evaluation.metrics.novelty import (
    Nearest,
    Search,
    judge,
    probability_below,
)
from tightbound.evaluation.metrics.outside import Separation
from tightbound.evaluation.metrics.probes import accuracy, clusters
from tightbound.evaluation.metrics.request import NAMES, MetricRequest
from tightbound.evaluation.metrics.spaces import Axes, spaces
from tightbound.evaluation.runner import Selection
from tightbound.runs.run import with_data
from tightbound.runtime.errors import TightboundError

SHORT = replace(outlier_scores.SEARCH, steps=2, rounds=1, judge=4, k=4)


# ---- nearest training examples


def test_nearest_rows_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(90, 4)), rng.normal(size=(25, 4))
    search = Search(queries)
    for part in np.array_split(rows, 5):
        search.add(part)
    nearest = search.nearest(lambda places: rows[places])
    every = np.sort(np.linalg.norm(queries[:, None] - rows, axis=2), axis=1)
    assert nearest.first == pytest.approx(every[:, 0])
    assert nearest.second == pytest.approx(every[:, 1])


def test_equal_training_rows_count_once() -> None:
    """A copy of a row that is there three times is still a copy."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 4))
    rows[10] = rows[20] = rows[30]
    search = Search(rows[[30]] + 1e-3)
    search.add(rows)
    nearest = search.nearest(lambda places: rows[places])
    assert nearest.first == pytest.approx([2e-3]) and nearest.copies.tolist() == [True]


def test_probability_below_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=50).round(1), rng.normal(0.5, 1, size=70).round(1)
    area, error = probability_below(a, b)
    labels = np.repeat([0, 1], [50, 70])
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([a, b])))
    u = stats.mannwhitneyu(b, a).statistic
    assert area == pytest.approx(u / (50 * 70))
    areas = [
        probability_below(rng.normal(size=50), rng.normal(0.5, 1, size=70))[0]
        for _ in range(300)
    ]
    assert error == pytest.approx(np.std(areas), rel=0.25)
    assert probability_below(a, a)[0] == 0.5


def test_copies_are_judged_against_test_examples() -> None:
    far = Nearest(np.full(200, 3.0), np.full(200, 4.0))
    near = Nearest(np.full(200, 0.1), np.full(200, 4.0))
    copied = judge("pixels", 100, far, {"draws": near, "means": far})
    assert copied.memorised == "draws" and copied.sets["draws"].copies == 1.0
    assert copied.sets["draws"].closer == 1.0 and copied.sets["means"].closer == 0.5
    # where test examples are as near, the data repeat, and nothing was memorised
    assert judge("pixels", 100, near, {"draws": near}).memorised == ""


@pytest.mark.parametrize(("noise", "said"), [(0.01, True), (3.0, False)])
def test_test_examples_that_nearly_are_training_examples_are_said(
    noise: float, said: bool, tmp_path: Path
) -> None:
    """Equal but for noise, so that no hash is equal: 15 of 20 by the nearest distances."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 16)).astype(np.float32)
    test = rng.normal(size=(20, 16)).astype(np.float32)
    test[:15] = x[:15] + noise * rng.normal(size=(15, 16))
    _, data = tb.build("vae", x[:100], valid=x[100:], test=test, latent=2, seed=0)
    model, _ = tb.build("vae", x[:100], latent=2, seed=0)
    run = with_data(tb.save(model, tmp_path / "run"), data.splits)
    evaluation = tb.evaluate(run, k=2, diagnosis=False, metrics="novelty")
    novelty = evaluation.metrics.novelty
    assert novelty is not None
    assert novelty.pixels.typical_copies == (0.75 if said else 0.0)
    notes = [note for note in evaluation.notes if "near copies" in note]
    assert [note[:26] for note in notes] == ["75% of the examples are nea"[:26]] * said


class _Lookup(nn.Module):
    """Logits of the training row that the largest of the latents points at."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, z: Tensor) -> Tensor:
        return (2 * self.get_buffer("rows")[z.argmax(-1)] - 1) * 20


class _Memory(tb.Network):
    """A network whose decoder is a list of training rows."""

    rows = torch.zeros(0)

    def __init__(self, size: str = "s") -> None:
        super().__init__()

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8))

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return _Lookup(type(self).rows)


def test_a_model_that_memorises_gets_the_verdict(tmp_path: Path) -> None:
    """The decoder holds 16 training rows and gives one of them, whatever z is."""
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(300, 24)) < 0.5).astype(np.uint8)
    _, data = tb.build("vae", x, latent=16, seed=0)
    _Memory.rows = data.splits.train.batch(torch.arange(16))
    model, data = tb.build("vae", x, latent=16, network=_Memory, seed=0)
    run = with_data(tb.save(model, tmp_path / "memory"), data.splits)
    evaluation = tb.evaluate(run, k=5, limit=30, metrics="novelty")
    novelty = evaluation.metrics.novelty
    assert novelty is not None and evaluation.diagnosis is not None
    assert novelty.pixels.sets["draws"].copies == 1.0
    assert novelty.pixels.typical_copies < 0.1
    verdicts = {v.name: v for v in evaluation.diagnosis.verdicts}
    verdict = verdicts["copies of training examples"]
    assert "100.0% of the" in verdict.words and "more data" in verdict.change
    # one of more samples gets it added, and one without novelty keeps it, with its verdict
    plain = tb.evaluate(run, k=6, limit=30)
    plain.save(tmp_path / "memory")
    for other in (evaluation, plain):
        other.save(tmp_path / "memory")
        tree = json.loads((tmp_path / "memory" / "evaluation.json").read_text())
        assert set(tree["metrics"]) == {"novelty"} and tree["k"] == 6
        names = [v["name"] for v in tree["diagnosis"]["verdicts"]]
        assert names.count("copies of training examples") == 1


# ---- other parts by known cases


def test_separation_of_scores() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=80), rng.normal(3, 1, size=60)
    higher = Separation.of(inside, outside)
    labels = np.repeat([1, 0], [80, 60])
    both = np.concatenate([inside, outside])
    assert higher.auroc == pytest.approx(roc_auc_score(labels, both))
    assert higher.fails and not Separation.of(outside, inside).fails
    assert not Separation.of(inside, inside).fails


def test_axes_are_those_of_principal_components() -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    for n, d in ((80, 12), (40, 90)):
        x = rng.normal(size=(n, d)) * np.linspace(1, 3, d)
        axes = Axes.of(x)
        count = axes.directions.shape[1]
        assert count == min(d, n // 10)
        expected = PCA(count).fit(x)
        coordinates = axes(x) * axes.scale
        assert axes(x).var(0).mean() == pytest.approx(1)
        inside = expected.transform(x)
        assert abs(coordinates[:, :count]) == pytest.approx(abs(inside), abs=1e-6)
        if count < d:  # and the distance from the plane of the components
            left = np.linalg.norm(x - expected.inverse_transform(inside), axis=1)
            assert coordinates[:, -1] == pytest.approx(left, abs=1e-6)


def test_accuracy_and_clusters() -> None:
    assert accuracy(np.array([True] * 96)) == (1.0, pytest.approx(0.0140, abs=1e-4))
    y = np.repeat([0, 1, 2], 20)
    apart = np.random.default_rng(0).normal(size=(60, 2)) + 100 * y[:, None]
    assert clusters(apart, y, 0) == pytest.approx((1.0, 1.0))
    assert max(clusters(np.random.default_rng(1).normal(size=(60, 2)), y, 0)) < 0.2


# ---- runs


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tb.Run:
    """A VAE of sprites, trained for a few steps, with its evaluation in its folder."""
    folder = tmp_path_factory.mktemp("shapes")
    factors = {"shape": 3, "scale": 2, "orientation": 4, "x": 5, "y": 5}
    settings = {f"data.factors.{name}": n for name, n in factors.items()}
    run = trained(folder / "run", "vae", "shapes", steps=20, **settings)
    noise = (np.random.default_rng(0).uniform(size=(40, 64, 64)) < 0.5).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlier_scores, "SEARCH", SHORT)
        evaluation = tb.evaluate(run, k=5, limit=40, metrics=list(NAMES), against=noise)
    evaluation.save(folder / "run")
    return run


def test_all_metrics_of_a_run(shapes: tb.Run) -> None:
    assert shapes.folder is not None
    tree = json.loads((shapes.folder / "evaluation.json").read_text())["metrics"]
    assert set(tree) == set(NAMES)
    spaces = {s["space"].partition("@")[0]: s for s in tree["quality"]["spaces"]}
    assert set(spaces) == {"pixels", "scattering", "encoder"}
    for space in spaces.values():
        sets = space["sets"]
        assert space["n"] == 40 and set(sets) == {
            "train",
            "draws",
            "means",
            "independent",
        }
        assert sets["train"]["FD"]["value"] < sets["independent"]["FD"]["value"]
    # noise among sprites is seen by log p(x)
    assert tree["ood"]["scores"]["log_px"]["auroc"]["mean"] > 0.95
    assert set(tree["ood"]["scores"]) == {
        "log_px",
        "typicality",
        "regret",
        "mahalanobis",
    }
    factors = tree["disentanglement"]
    assert factors["factors"] == ["shape", "scale", "orientation", "x", "y"]
    assert np.array(factors["information"]).shape == (4, 5)
    assert [len(c["mean"]) for c in factors["curves"][0]] == [3, 2, 4, 5, 5]
    assert set(tree["features"]["sets"]) == {"run", "PCA"}


def test_metrics_in_the_report_of_both_languages(
    shapes: tb.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blank_pictures(monkeypatch)
    pages = {}
    for lang in ("en", "ko"):
        path = tb.compare(shapes, tmp_path / f"{lang}.html", lang=lang)
        pages[lang] = Page(path.read_text(encoding="utf-8"))
        assert set(NAMES) <= set(pages[lang].ids)
    assert "None of these is an FID" in pages["en"].text
    assert "FID가 아니다" in pages["ko"].text
    assert "FD[scattering@" in pages["en"].text


def test_compare_refuses_values_of_other_samples(
    shapes: tb.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blank_pictures(monkeypatch)
    evaluations = [
        tb.evaluate(shapes, k=2, limit=n, metrics="quality", diagnosis=False)
        for n in (30, 40)
    ]
    from tightbound import report

    with pytest.raises(TightboundError, match="cannot be compared"):
        report.write(
            [shapes, shapes], tmp_path / "x.html", evaluations=evaluations, theory=False
        )


def test_metrics_change_nothing_else(shapes: tb.Run) -> None:
    plain = tb.evaluate(shapes, k=3, limit=30)
    more = tb.evaluate(shapes, k=3, limit=30, metrics="quality,features")
    assert list(more.metrics.results) == ["quality", "features"]
    assert plain.to_json()["metrics"] == {}
    trees = [replace(e, seconds=0.0).to_json() for e in (plain, more)]
    for tree in trees:
        del tree["metrics"]
        for method in tree["methods"].values():
            del method["seconds"]
    assert trees[0] == trees[1]
    again = tb.evaluate(shapes, k=3, limit=30, metrics="quality", diagnosis=False)
    assert again.metrics.to_json()["quality"] == more.metrics.to_json()["quality"]


def test_factors_from_a_table(tmp_path: Path) -> None:
    """Codes of a linear model of three factors: texts, whole numbers and reals."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=400)
    sizes = rng.integers(4, size=400)
    place = rng.normal(size=400)
    frame = pandas.DataFrame(
        {"kind": np.array(["a", "b", "c"])[kinds], "size": sizes, "place": place}
    )
    x = np.stack([kinds, sizes, place], 1) @ rng.normal(size=(3, 6))
    model, data = tb.build("ppca", x, latent=3, seed=0)
    run = with_data(tb.save(model, tmp_path / "run"), data.splits)
    frame.to_csv(tmp_path / "factors.csv", index=False)
    options = {"k": 2, "subset": 0, "diagnosis": False}
    given = tb.evaluate(run, x, factors=tmp_path / "factors.csv", **options)
    tree = given.metrics.to_json()["disentanglement"]
    assert tree["factors"] == ["kind", "size", "place"] and tree["n"] == 400
    assert [len(curve["mean"]) for curve in tree["curves"][0]] == [3, 4, 20]
    again = tb.evaluate(run, x, factors=frame, **options).metrics.to_json()
    assert again["disentanglement"] == tree
    with pytest.raises(
        TightboundError, match="has 399 rows and the evaluated data 400"
    ):
        tb.evaluate(run, x, factors=frame[1:], **options)
    frame.loc[3, "place"] = np.nan
    with pytest.raises(TightboundError, match="'place' of --factors has missing"):
        tb.evaluate(run, x, factors=frame, **options)


def test_mistakes_are_named(shapes: tb.Run) -> None:
    with pytest.raises(TightboundError, match="did you mean 'quality'"):
        MetricRequest.of("qualty")
    with pytest.raises(TightboundError, match="--against DATA"):
        tb.evaluate(shapes, metrics="ood")
    with pytest.raises(TightboundError, match="not trained on"):
        tb.evaluate(shapes, split="train", metrics="novelty")
    x = np.random.default_rng(0).normal(size=(100, 5))
    model, data = tb.build("vae", x, latent=2, seed=0)
    built = with_data(tb.save(model, _folder(shapes)), data.splits)
    with pytest.raises(TightboundError, match="whose factors are known"):
        tb.evaluate(built, metrics="disentanglement")
    with pytest.raises(TightboundError, match="these data have 0"):
        tb.evaluate(built, metrics="features")
    with pytest.raises(TightboundError, match="need 20 test"):
        tb.evaluate(built, metrics="quality", limit=5)
    with pytest.raises(TightboundError, match="of equal size"):
        tb.evaluate(shapes, beside=built, limit=5)
    some = tb.evaluate(built, k=2, diagnosis=False, subset=0, metrics="all")
    left_out = [note for note in some.notes if note.startswith("left out: ")]
    assert len(left_out) == 4  # quality and novelty for one reason


def _folder(run: tb.Run) -> Path:
    assert run.folder is not None
    return run.folder.parent / "numbers"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluate` of a VAE beside an autoencoder; of a larger evaluation terms are kept."""
    for recipe in ("vae", "ae"):
        trained(tmp_path / recipe, recipe, steps=10)
    words = ["evaluate", str(tmp_path / "vae"), "--no-diagnosis", "--quiet"]
    assert main([*words, "-k", "20"]) == 0
    before = json.loads((tmp_path / "vae" / "evaluation.json").read_text())
    added = ["--metrics", "quality,novelty", "--beside", str(tmp_path / "ae")]
    assert main([*words, "-k", "2", *added]) == 0
    out, err = capsys.readouterr()
    assert "sample quality, FD[scattering@" in out and "copies" in out
    assert "vae " in out and "ae " in out and "PCA " in out
    assert "keeps its terms of K = 20" in err
    after = json.loads((tmp_path / "vae" / "evaluation.json").read_text())
    assert set(after["metrics"]) == {"quality", "novelty", "features"}
    assert list(after["metrics"]["features"]["sets"]) == ["vae", "PCA", "ae"]
    assert after["terms"] == before["terms"]
    assert main([*words, "--metrics", "quolity"]) == 2
    assert "did you mean 'quality'?" in capsys.readouterr().err


def test_spaces_do_not_depend_on_the_domain_of_the_likelihood(tmp_path: Path) -> None:
    """Grey levels read as levels and as reals in [0, 1] have the same hashes."""
    labels = set()
    divisors = set()
    for likelihood in ("auto", "gaussian"):
        run = untrained("digits", "vae", likelihood=likelihood)
        test = run.data.splits["test"]
        examples = Examples.of(run, Selection(test, torch.arange(40)), "test", seed=0)
        divisors.add(run.spec.divisor)
        labels |= {
            f"{space.stamp} {examples.reference}" for space in spaces(examples)[:2]
        }
    assert len(divisors) == 2 and len(labels) == 2


def test_each_name_has_a_metric() -> None:
    assert tuple(METRICS) == NAMES
