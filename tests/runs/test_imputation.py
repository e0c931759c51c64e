"""Missing values: the likelihood of what was observed, imputations with a known answer, and who
refuses them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.core_cases import B, batch_of, model_of, rows, spec_of
from support.small import small_run
from torch import Tensor

import tightbound as tb
from tightbound.cli import main
from tightbound.core.batch import Batch
from tightbound.core.data_spec import DataSpec
from tightbound.core.draw import Clock, Draw
from tightbound.evaluation import log_px
from tightbound.models.recipes import Recipe
from tightbound.models.vae import VAE
from tightbound.runs.imputation import impute
from tightbound.runs.run import load
from tightbound.runtime.errors import TightboundError

pd = pytest.importorskip("pandas")
K, D = 3, 5


def gappy(x: Tensor) -> Tensor:
    """Every third value is missing, another third of each row."""
    return x.masked_fill(torch.arange(x.numel()).reshape(x.shape) % 3 == 1, torch.nan)


def linear(missing: str = "zero") -> tuple[VAE, np.ndarray, np.ndarray]:
    """x ~ N(mean, W W' + diag sigma^2): a linear-Gaussian model, and the mean and
    covariance of x.
    """
    torch.manual_seed(3)
    spec = DataSpec(
        shape=(D,),
        domain="real",
        mean=torch.randn(D),
        std=torch.rand(D) + 0.5,
        missing=True,
    )
    model, _ = model_of(Recipe(latent=2, network="linear", missing=missing), spec)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn_like(p)
        for p in model.hierarchy.posterior.parameters():
            p *= 0.1  # a q that is wide enough for every x
        z = torch.cat([torch.zeros(1, 2), torch.eye(2)])
        px = model.generate(3, Draw(source="p", given={"z": z})).px
        mean, sigma = px.mean.double().numpy(), px.stddev[0].double().numpy()
    w = (mean[1:] - mean[0]).T
    return model, mean[0], w @ w.T + np.diag(sigma**2)


@pytest.mark.parametrize("missing", ["zero", "mask"])
def test_log_px_and_imputations_are_those_of_the_normal_distribution(
    missing: str,
) -> None:
    model, mean, cov = linear(missing)
    x = gappy(
        torch.from_numpy(
            np.random.default_rng(0).multivariate_normal(mean, cov, 7)
        ).float()
    )
    x[0], x[1] = torch.nan, torch.from_numpy(mean).float()  # nothing and all observed
    exact, filled, spread = [], x.double().numpy().copy(), np.zeros((7, D))
    for i, row in enumerate(x.double().numpy()):
        o, m = ~np.isnan(row), np.isnan(row)
        rest = row[o] - mean[o]
        gain = cov[np.ix_(m, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
        filled[i, m] = mean[m] + gain @ rest
        spread[i, m] = np.sqrt(np.diag(cov[np.ix_(m, m)] - gain @ cov[np.ix_(o, m)]))
        _, logdet = np.linalg.slogdet(2 * np.pi * cov[np.ix_(o, o)])
        exact.append(-0.5 * (logdet + rest @ np.linalg.solve(cov[np.ix_(o, o)], rest)))
    assert torch.allclose(
        log_px(model, x, "quadrature").values, torch.tensor(exact), atol=1e-4
    )
    found = impute(model, Batch(x), 20_000, 0, draws=400)
    assert ((log_px(model, x, k=4000).values - torch.tensor(exact)).abs() < 0.2).all()
    assert (
        np.abs(found.x.numpy() - filled).max() < 0.06
        and np.abs(found.sd.numpy() - spread).max() < 0.06
    )
    assert np.abs(found.draws.mean(0).numpy() - filled).max() < 0.35
    assert np.abs(found.draws.std(0).numpy() - spread).max() < 0.35
    known = ~x.isnan()
    assert torch.equal(found.x[known], x[known]) and (found.sd[known] == 0).all()
    assert torch.equal(found.draws[:, known], x[known].expand(400, -1))
    assert torch.equal(found.x, impute(model, Batch(x), 20_000, 0).x), (
        "a function of the seed"
    )
    one = impute(model, Batch(x[2:3]), 20_000, 0)
    assert torch.allclose(one.x[0], found.x[2], atol=1e-5), "and of the example alone"


def test_all_observed_is_the_ordinary_model_bit_for_bit() -> None:
    spec = spec_of("real", (6,))
    made = []
    for missing in ("refused", "zero"):
        torch.manual_seed(0)
        model, objective = model_of(
            Recipe(latent=3, objective="iwae", missing=missing), spec
        )
        torch.manual_seed(1)
        x = rows("real", (6,), B)
        trace = model(Batch(x), Draw(K))
        loss = objective(trace, Clock())
        loss.backward()
        made.append(
            [trace.log_w, trace.rate, loss, *(p.grad for p in model.parameters())]
        )
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.parametrize(
    "domain", ["binary", "levels", "categorical", "unit", "real", "count"]
)
def test_what_is_missing_has_no_part_in_the_figures(domain: str) -> None:
    spec = spec_of(domain, (6,))
    model, objective = model_of(Recipe(latent=3, missing="zero"), spec)
    batch = batch_of(model.spec, B)
    model.eval()
    torch.manual_seed(0)
    trace = model(batch, Draw(K))
    assert trace.log_w.shape == (K, B) and trace.log_w.isfinite().all()
    objective(trace, Clock()).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters()
    )
    mask = ~batch.x.isnan()
    other = Batch(torch.where(mask, batch.x, torch.full_like(batch.x, 1e6)), mask=mask)
    torch.manual_seed(0)
    filled = torch.where(mask, batch.x, torch.ones_like(batch.x))
    assert torch.allclose(
        model(Batch(filled, mask=mask), Draw(K)).log_px, trace.log_px, rtol=1e-5
    )
    assert torch.equal(model.inputs(other), model.inputs(batch))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file with empty cells, and a run trained on it."""
    folder, made = tmp_path_factory.mktemp("gaps"), np.random.default_rng(0)
    z = made.normal(size=(160, 1))
    x = z @ np.array([[1.0, -2.0, 0.5, 3.0]]) + 0.2 * made.normal(size=(160, 4)) + 5
    cells = np.char.mod("%.4f", x)
    gone = made.random(x.shape) < 0.25
    cells[gone] = np.where(made.random(gone.sum()) < 0.5, "", "NA")
    lines = ["a,b,c,d", *(",".join(row) for row in cells)]
    (folder / "x.csv").write_text("\n".join(lines) + "\n")
    np.savez(folder / "truth.npz", x=x, gone=gone)
    small_run(
        folder / "run",
        "missing-data",
        str(folder / "x.csv"),
        steps=300,
        batch=32,
        k=5,
        latent=4,
    )
    return folder


def test_imputations_beat_the_mean_of_each_column(table: Path, tmp_path: Path) -> None:
    run, truth = load(table / "run"), np.load(table / "truth.npz")
    x, gone = truth["x"], truth["gone"]
    found = run.impute(str(table / "x.csv"), k=200, draws=3)
    filled = found.x.to_numpy()
    assert list(found.x.columns) == ["a", "b", "c", "d"]
    assert np.isfinite(filled).all() and (found.ess >= 1).all()
    assert [draw.shape for draw in found.draws] == [(160, 4)] * 3
    error = np.sqrt(np.mean((filled - x)[gone] ** 2))
    means = np.nanmean(np.where(gone, np.nan, x), 0)
    assert error < 0.5 * np.sqrt(np.mean((means - x)[gone] ** 2))
    inside = np.abs(filled - x)[gone] < 2 * found.sd.to_numpy()[gone]
    assert inside.mean() > 0.8
    assert run.reconstruct(np.where(gone, np.nan, x)).shape == (160, 4)


def test_commands_write_imputations(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def go(*words: object) -> int:
        return main([str(w) for w in words])

    run, data = table / "run", table / "x.csv"
    assert go("reconstruct", run, data, "--draws", 2, "--out", tmp_path / "a.npz") == 0
    with np.load(tmp_path / "a.npz") as made:
        assert set(made.files) == {"x", "sd", "ess", "draws", "column"}
        assert made["draws"].shape == (2, 160, 4)
        assert made["column"].tolist() == ["a", "b", "c", "d"]
        assert np.isfinite(made["x"]).all()
    assert go("reconstruct", run, data, "--out", tmp_path / "a.csv") == 0
    assert go("encode", run, data, "--out", tmp_path / "z.csv") == 0
    assert go("score", run, data, "--out", tmp_path / "s.csv", "-k", 20) == 0
    assert go("evaluate", run, "-k", 20, "--subset", 4, "--quiet") == 0
    assert go("compare", run, "--out", tmp_path / "r.html") == 0
    assert go("reconstruct", run, data, "--draws", 2, "--out", tmp_path / "b.csv") == 0
    drawn = pd.read_csv(tmp_path / "b.csv")
    assert list(drawn) == ["draw", "row", "a", "b", "c", "d"] and len(drawn) == 320


def test_other_recipes_refuse_missing_values(table: Path, tmp_path: Path) -> None:
    x = gappy(torch.randn(40, 6)).numpy()
    for source in (x, str(table / "x.csv")):
        with pytest.raises(TightboundError, match=r"missing-data|not a finite number"):
            tb.train(source, "vae", out=tmp_path / "run", display="none")
    with pytest.raises(
        TightboundError, match=r"takes no missing values .* missing-data"
    ):
        tb.train(
            x,
            "vae",
            out=tmp_path / "run",
            display="none",
            settings={"data.allow_missing": True},
        )
    with pytest.raises(TightboundError, match="of which nothing may be missing"):
        tb.train(
            x,
            "vamp",
            out=tmp_path / "run",
            display="none",
            settings={"missing": "zero"},
        )
    for recipe in ("vae-gan", "msssim-vae"):
        with pytest.raises(TightboundError, match="compares every value of x"):
            tb.train(
                x,
                recipe,
                out=tmp_path / "run",
                display="none",
                settings={"missing": "zero"},
            )
    x[0] = np.inf
    with pytest.raises(TightboundError, match=r"row 0 .* holds inf"):
        tb.train(x, "missing-data", out=tmp_path / "run", display="none")
    bad = (table / "x.csv").read_text().replace("NA", "much", 1)
    (tmp_path / "bad.csv").write_text(bad)
    with pytest.raises(TightboundError, match="'much', not a finite number"):
        tb.train(
            str(tmp_path / "bad.csv"),
            "missing-data",
            out=tmp_path / "run",
            display="none",
        )
    with pytest.raises(TightboundError, match="takes no missing values"):
        load(
            small_run(
                tmp_path / "plain", "vae", np.random.rand(40, 3), steps=2, batch=16
            )
        ).impute(np.zeros((2, 3)))


def test_scikit_learn_may_have_gaps_too() -> None:
    x = gappy(torch.randn(60, 5)).numpy()
    found = tb.VAEEstimator(
        "missing-data", latent=2, steps=5, random_state=0, k=5, settings={"batch": 16}
    ).fit(x)
    assert (
        np.isfinite(found.transform(x)).all()
        and np.isfinite(found.score_samples(x)).all()
    )
    with pytest.raises(ValueError, match="NaN"):
        tb.VAEEstimator("vae", latent=2, steps=5).fit(x)


def test_an_objective_that_asks_for_the_mask(tmp_path: Path) -> None:
    x = gappy(torch.rand(60, 1, 6, 6)).numpy()
    settings = {
        "missing": "mask",
        "network": "conv",
        "steps": 3,
        "batch": 16,
        "latent": 2,
    }
    run = tb.train(
        x, "vae", out=tmp_path / "run", display="none", report=False, settings=settings
    )
    assert run.reconstruct(x[:4]).shape == (4, 1, 6, 6)


def mixed(n: int, gaps: bool) -> tuple[Any, np.ndarray]:
    """Columns of every kind that tell of one another, and which cells are missing; None, NaN and NA
    all say so.
    """
    made = np.random.default_rng(3)
    group = made.integers(0, 3, n)
    table = pd.DataFrame(
        {
            "age": 30 + 15 * group + made.normal(size=n),
            "city": np.array(["Bern", "Rom", "Ulm"])[group],
            "kids": made.poisson(0.3 + 4 * group),
            "smokes": group == 2,
        }
    )
    gone = made.random(table.shape) < 0.2
    gone[:, 0] &= ~gone[:, 1:].all(1)
    gappy_ = table.astype({"kids": "Int64", "city": object, "smokes": object}).mask(
        gone
    )
    return (gappy_ if gaps else table), gone


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incomplete")
    mixed(240, True)[0].to_csv(folder / "t.csv", index=False, na_rep="NA")
    small_run(
        folder / "run",
        "missing-data",
        str(folder / "t.csv"),
        steps=350,
        batch=64,
        k=5,
        latent=4,
    )
    return folder


def test_a_table_of_mixed_columns_may_have_gaps(incomplete: Path) -> None:
    """Gaps of every kind of column are filled in better than by the most usual value; what is known
    stays.
    """
    run, (table, gone), truth = (
        load(incomplete / "run"),
        mixed(240, True),
        mixed(240, False)[0],
    )
    assert {f.name: f.kind for f in run.spec.fields} == {
        "age": "real",
        "city": "categorical",
        "kids": "count",
        "smokes": "binary",
    }
    found = run.impute(table, k=200, draws=2)
    assert (
        list(found.x) == list(table)
        and not found.x.isna().any().any()
        and len(found.draws) == 2
    )
    for i, name in enumerate(table):
        known = ~gone[:, i]
        for filled in (found.x, *found.draws):
            assert (filled[name][known] == truth[name][known]).all() or name == "age"
        assert (
            np.allclose(found.sd[name][known], 0, atol=1e-6)
            and (found.sd[name][~known] > 0).all()
        )
    for i, name in ((1, "city"), (3, "smokes")):
        right = (found.x[name] == truth[name])[gone[:, i]].mean()
        assert right > truth[name].value_counts(normalize=True).max() + 0.15
    error = (found.x["age"].astype(float) - truth["age"])[gone[:, 0]]
    assert error.pow(2).mean() ** 0.5 < 0.7 * truth["age"].std()
    from_file = run.reconstruct(str(incomplete / "t.csv"))
    assert (from_file["city"] == run.reconstruct(table)["city"]).all()


def test_commands_fill_in_a_table_of_mixed_columns(
    incomplete: Path, tmp_path: Path
) -> None:
    run, table = str(incomplete / "run"), str(incomplete / "t.csv")
    assert main(["reconstruct", run, table, "--out", str(tmp_path / "a.csv")]) == 0
    assert not pd.read_csv(tmp_path / "a.csv").isna().any().any()
    assert (
        main(
            [
                "reconstruct",
                run,
                table,
                "--draws",
                "2",
                "--out",
                str(tmp_path / "b.csv"),
            ]
        )
        == 0
    )
    drawn = pd.read_csv(tmp_path / "b.csv")
    assert (
        list(drawn)[:2] == ["draw", "row"]
        and len(drawn) == 480
        and drawn["city"].isin(["Bern", "Rom", "Ulm"]).all()
    )
    few = ["--subset", "4", "--quiet"]
    assert main(["evaluate", run, "-k", "20", *few]) == 0
    assert main(["compare", run, "--out", str(tmp_path / "r.html")]) == 0


def test_priors_are_fitted_to_runs_with_gaps(
    incomplete: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(incomplete / "run", run)
    for prior, setting in (
        ("maf", "train.steps=3"),
        ("gaussian-mixture", "components=2"),
    ):
        assert main(["fit-prior", str(run), prior, "--set", setting]) == 0
        assert "--out samples.csv" in capsys.readouterr().out
        assert (
            main(
                [
                    "sample",
                    str(run),
                    "--prior",
                    prior,
                    "--out",
                    str(tmp_path / f"{prior}.csv"),
                ]
            )
            == 0
        )
        assert len(pd.read_csv(tmp_path / f"{prior}.csv")) == 64
        capsys.readouterr()


def test_other_recipes_name_the_gap_and_the_recipe_that_takes_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        TightboundError, match=r"column '\w+' is missing: .* recipe missing-data"
    ):
        tb.train(mixed(60, True)[0], out=tmp_path / "run", display="none")
    empty = mixed(60, False)[0].assign(nothing=None)
    with pytest.raises(
        TightboundError, match="column 'nothing' has no value that is known"
    ):
        tb.train(empty, "missing-data", out=tmp_path / "run", display="none")


def test_gaps_in_parquet_in_new_data_and_in_one_row(
    incomplete: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    run, table = load(incomplete / "run"), mixed(240, True)[0]
    table.to_parquet(tmp_path / "t.parquet")
    from_file = run.reconstruct(str(tmp_path / "t.parquet"))
    assert (from_file["city"] == run.reconstruct(table)["city"]).all()
    numbers = table[["age", "kids"]].astype(float)
    numbers.to_parquet(tmp_path / "n.parquet")
    made = tb.train(
        str(tmp_path / "n.parquet"),
        "missing-data",
        out=tmp_path / "run",
        display="none",
        report=False,
        settings={"steps": 2, "k": 2, "latent": 2, "validate_k": 2},
    )
    assert made.spec.missing
    with pytest.raises(
        TightboundError, match=r"column 'age' is empty: .* recipe missing-data"
    ):
        tb.train(str(tmp_path / "n.parquet"), out=tmp_path / "no", display="none")
    unknown = run.reconstruct(table.assign(age=None, kids=pd.NA).head(3))
    assert not unknown.isna().any().any()
    assert len(run.vary(mixed(3, False)[0].iloc[0], n=2)) == 2
