"""Each command on small runs: what it writes, what it prints, and where."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.small import SMALL, small_run

from tightbound.cli import main

Command = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "digits vae", "vae", steps=60)


@pytest.fixture(scope="module")
def ae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "ae", "ae")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on vectors, with two latent sites; beside it the data, `x.npy`."""
    folder = tmp_path_factory.mktemp("runs")
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    np.save(folder / "x.npy", x)
    return small_run(folder / "table", "hvae", str(folder / "x.npy"), latent=[3, 2])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must succeed; (stdout, stderr)."""

    def command(*words: object) -> tuple[str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out, err

    return command


def test_train_writes_a_run_and_names_its_report(run: Command, tmp_path: Path) -> None:
    sets = [f"{key}={value}" for key, value in SMALL.items()]
    out, err = run(
        "train",
        "--set",
        *sets,
        "steps=20",
        "digits",
        "--out",
        tmp_path / "r",
        "--skip-bad",
    )
    assert out.splitlines() == [
        f"run: {tmp_path / 'r'}",
        f"report: {tmp_path / 'r' / 'report.html'}",
    ]
    assert (tmp_path / "r" / "report.html").is_file() and "log p(x)" in err
    assert json.loads((tmp_path / "r" / "evaluation.json").read_text())["k"] == 100


def test_figures_are_shown_where_the_terminal_has_no_plus_minus(vae: Path) -> None:
    words = ["evaluate", str(vae), "-k", "2", "--limit", "3"]
    program = f"import sys; from tightbound.cli import main; sys.exit(main({words!r}))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "log_px" in done.stdout and "?" in done.stdout, (
        done.stderr
    )


def test_quiet_prints_only_where_things_are(run: Command, tmp_path: Path) -> None:
    sets = [f"{key}={value}" for key, value in SMALL.items()]
    out, err = run(
        "train",
        "digits",
        "--set",
        *sets,
        "--set",
        "steps=10",
        "--out",
        tmp_path / "r",
        "--quiet",
    )
    assert len(out.splitlines()) == 2 and err == ""


def test_evaluate_prints_pure_json_and_keeps_it(run: Command, vae: Path) -> None:
    out, _ = run("evaluate", vae, "--k", 70, "--json")
    found = json.loads(out)
    assert found["k"] == 70 and found["bound"] and found["terms"]["gap"]["mean"] > 0
    kept = json.loads((vae / "evaluation.json").read_text())
    assert len(kept.pop("sha256")) == 64
    assert kept == found
    out, _ = run("evaluate", vae, "-k", 8, "--limit", 5)
    assert (
        "\nelbo " in out
        and json.loads((vae / "evaluation.json").read_text())["k"] == 70
    )


def test_compare_puts_runs_in_one_report(
    run: Command, vae: Path, ae: Path, tmp_path: Path
) -> None:
    out, _ = run(
        "compare", vae, ae, "--out", tmp_path / "new" / "both.html", "--lang", "ko"
    )
    page = (tmp_path / "new" / "both.html").read_text()
    assert out.strip() == str(tmp_path / "new" / "both.html") and 'lang="ko"' in page


def test_encode_gives_mean_std_labels_and_names(
    run: Command, vae: Path, ae: Path, table: Path, tmp_path: Path
) -> None:
    run("encode", vae, "digits", "--out", tmp_path / "v.npz")
    run("encode", ae, "digits", "--out", tmp_path / "a.npz")
    run("encode", table, table.parent / "x.npy", "--out", tmp_path / "t.npz")
    with (
        np.load(tmp_path / "v.npz") as v,
        np.load(tmp_path / "a.npz") as a,
        np.load(tmp_path / "t.npz") as t,
    ):
        assert v["mean"].shape == v["std"].shape == (180, 4) and (v["std"] > 0).all()
        assert v["label"].shape == (180,) and v["feature"].tolist() == [
            "z_1",
            "z_2",
            "z_3",
            "z_4",
        ]
        assert (a["std"] == 0).all()
        assert t["feature"].tolist() == ["z1_1", "z1_2", "z1_3", "z2_1", "z2_2"] and t[
            "mean"
        ].shape == (60, 5)


def test_features_as_a_table_hold_what_the_arrays_hold(
    run: Command, vae: Path, tmp_path: Path
) -> None:
    run("encode", vae, "digits", "--out", tmp_path / "v.npz")
    run("encode", vae, "digits", "--out", tmp_path / "v.csv")
    with (tmp_path / "v.csv").open() as file, np.load(tmp_path / "v.npz") as arrays:
        head, *rows = csv.reader(file)
        assert head == [
            "row",
            "label",
            *(f"z_{i}" for i in range(1, 5)),
            *(f"z_{i}_std" for i in range(1, 5)),
        ]
        values = np.array(rows, dtype=float)
        assert np.allclose(values[:, 2:6], arrays["mean"], rtol=1e-4, atol=1e-6)
        assert (
            np.allclose(values[:, 6:], arrays["std"], rtol=1e-4)
            and (values[:, 1] == arrays["label"]).all()
        )


def test_parquet_where_pyarrow_is(run: Command, vae: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="needs pyarrow, of the extra data"
    )
    run("encode", vae, "digits", "--out", tmp_path / "v.parquet")
    names = parquet.read_table(tmp_path / "v.parquet").column_names
    assert names[:2] == ["row", "label"] and names[-1] == "z_4_std"


def test_reconstruct_as_picture_folder_and_array(
    run: Command, vae: Path, tmp_path: Path
) -> None:
    run("reconstruct", vae, "digits", "--out", tmp_path / "r.png", "-n", 12)
    with Image.open(tmp_path / "r.png") as picture:
        width, height = picture.size
    assert height == width * 4 // 10 or width > height > 4 * 64
    run("reconstruct", vae, "digits", "--out", tmp_path / "r.npz")
    run("reconstruct", vae, "digits", "--out", tmp_path / "r")
    with np.load(tmp_path / "r.npz") as file:
        x = file["x"]
    tiles = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "r").iterdir())]
    assert x.shape == (180, 8, 8) and len(tiles) == 180
    assert np.abs(np.stack(tiles) - x * 255 / 16).max() <= 0.5 + 1e-3, (
        "grey 16 of 17 levels is white"
    )


def test_folder_keeps_the_names_of_the_source(run: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [
        f"{c}/{i}.{e}" for c in "ab" for i in range(9) for e in ("png", "bmp")
    ]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(
            tmp_path / "in" / name
        )
    folder = small_run(tmp_path / "run", "vae", str(tmp_path / "in"))
    run("reconstruct", folder, tmp_path / "in", "--out", tmp_path / "out")
    found = sorted(
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")
    )
    assert len(found) == 36 and "a/0.png" in found
    with Image.open(tmp_path / "out" / "b" / "3.png") as image:
        assert image.size == (9, 6)
    run(
        "score",
        folder,
        tmp_path / "in",
        "--out",
        tmp_path / "s.csv",
        "-k",
        3,
        "--quiet",
    )
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["name"].split(".")[0] for r in rows} >= {"a/0", "b/8"} and {
        r["label"] for r in rows
    } == {"a", "b"}


def test_labels_are_the_names_of_the_classes(run: Command, tmp_path: Path) -> None:
    """Of a folder of folders the label is the folder's name, in every file that has a column of
    labels.
    """
    for i in range(24):
        folder = tmp_path / "pets" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    model = small_run(
        tmp_path / "model",
        "vae",
        str(tmp_path / "pets"),
        steps=5,
        validate_every=5,
        batch=8,
    )
    for words, name in (
        (("encode",), "z.csv"),
        (("score", "-k", 2), "s.csv"),
        (("encode",), "z.npz"),
    ):
        run(words[0], model, tmp_path / "pets", *words[1:], "--out", tmp_path / name)
    for name in ("z.csv", "s.csv"):
        with (tmp_path / name).open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 24 and all(
            row["name"].split("/")[0] == row["label"] for row in rows
        )
    with np.load(tmp_path / "z.npz") as made:
        assert set(made["label"].tolist()) == {"cat", "dog"}


def test_score_has_a_row_for_each_example(
    run: Command, vae: Path, ae: Path, tmp_path: Path
) -> None:
    run("score", vae, "digits", "--out", tmp_path / "v.csv", "-k", 5)
    _, err = run("score", ae, "digits", "--out", tmp_path / "a.csv")
    with (tmp_path / "v.csv").open() as v, (tmp_path / "a.csv").open() as a:
        rows, points = list(csv.DictReader(v)), list(csv.DictReader(a))
    assert list(rows[0]) == [
        "row",
        "name",
        "label",
        "elbo",
        "log_px",
        "log_px_se",
        "distortion",
        "rate",
        "ess",
        "pareto_k",
    ]
    assert rows[0]["log_px_se"] == "", "5 samples have no tail that could be fitted"
    assert 1 <= float(rows[0]["ess"]) <= 5
    assert len(rows) == 180 and rows[7]["row"] == "7"
    assert float(rows[0]["elbo"]) == pytest.approx(
        -float(rows[0]["distortion"]) - float(rows[0]["rate"]), abs=1e-2
    )
    assert (
        list(points[0]) == ["row", "name", "label", "distortion"]
        and "autoencoder" in err
    )


def test_sample_by_seed_and_decode(run: Command, vae: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("sample", vae, "-n", 6, "--out", tmp_path / f"{name}.npz", "--seed", seed)
    a, b, c = (np.load(tmp_path / f"{name}.npz")["x"] for name in "abc")
    assert a.shape == (6, 8, 8) and (a == b).all() and (a != c).any()
    run(
        "sample",
        vae,
        "-n",
        6,
        "--out",
        tmp_path / "d.npz",
        "--pixels",
        "draw",
        "--temperature",
        0.5,
    )
    d = np.load(tmp_path / "d.npz")["x"]
    assert (d == d.round()).all() and d.min() >= 0 and d.max() <= 16
    run("encode", vae, "digits", "--out", tmp_path / "z.npz")
    run("decode", vae, tmp_path / "z.npz", "--out", tmp_path / "x.npz")
    run("reconstruct", vae, "digits", "--out", tmp_path / "r.npz")
    x = np.load(tmp_path / "x.npz")["x"]
    assert np.allclose(x, np.load(tmp_path / "r.npz")["x"], atol=1e-4)
    for kind in ("csv", "parquet"):
        run("encode", vae, "digits", "--out", tmp_path / f"z.{kind}")
        run("decode", vae, tmp_path / f"z.{kind}", "--out", tmp_path / f"{kind}.npz")
        assert np.allclose(np.load(tmp_path / f"{kind}.npz")["x"], x, atol=1e-4)


def test_vary_and_interpolate_take_rows_and_files(
    run: Command, vae: Path, ae: Path, tmp_path: Path
) -> None:
    run("vary", vae, "digits:3", "-n", 5, "--out", tmp_path / "v.npz")
    run("vary", ae, "digits:3", "-n", 5, "--out", tmp_path / "a.npz")
    v, a = np.load(tmp_path / "v.npz")["x"], np.load(tmp_path / "a.npz")["x"]
    assert v.shape == (5, 8, 8) and np.ptp(v, 0).max() > 0 and np.ptp(a, 0).max() < 1e-4
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8), np.uint8))
    run(
        "interpolate",
        vae,
        "digits:0",
        tmp_path / "one.npy",
        "-n",
        7,
        "--out",
        tmp_path / "i.png",
    )
    with Image.open(tmp_path / "i.png") as strip:
        assert strip.width > 6 * strip.height


def test_vectors_are_written_as_tables(
    run: Command, table: Path, tmp_path: Path
) -> None:
    run("sample", table, "-n", 3, "--out", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["x_1", "x_2", "x_3", "x_4", "x_5"] and len(rows) == 4


def test_overwrite_replaces_a_file_when_asked(
    run: Command, vae: Path, tmp_path: Path
) -> None:
    (tmp_path / "s.npz").write_bytes(b"old")
    run("sample", vae, "-n", 2, "--out", tmp_path / "s.npz", "--overwrite")
    assert np.load(tmp_path / "s.npz")["x"].shape == (2, 8, 8)


def test_look_ups(run: Command, vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert {r["name"] for r in json.loads(run("recipes", "--json")[0])} >= {
        "vae",
        "ae",
        "ppca",
    }
    assert {r["name"] for r in json.loads(run("data", "--json")[0])} >= {
        "digits",
        "mnist",
        "shapes",
    }
    shown = {
        words: run(*words)[0]
        for words in (("recipes",), ("data",), ("show", "iwae"), ("show", str(vae)))
    }
    assert all(
        max(map(len, out.splitlines())) <= 80 or "digits vae" in out
        for out in shown.values()
    )
    assert all("\x1b" not in out for out in shown.values())
    assert "1509.00519" in shown["recipes",] and "digits" in shown["data",]
    recipe, trained = shown["show", "iwae"], shown["show", str(vae)]
    assert (
        "train.batch" in recipe
        and "examples per step" in recipe
        and "data.binarize" in recipe
    )
    for word in (
        "theta",
        "phi",
        "standard",
        "discretized-logistic",
        "best validation",
        "step 60",
    ):
        assert word in trained


def test_help_of_every_command(run: Command) -> None:
    out, _ = run("--help")
    names = (
        "demo train evaluate compare encode reconstruct score sample decode vary "
        "interpolate recipes show data"
    )
    for name in names.split():
        assert name in out and "Usage" in run(name, "--help")[0]
    assert run("--version")[0].startswith("tightbound ")


def test_show_prints_json_of_a_recipe_and_of_a_run(run: Command, vae: Path) -> None:
    recipe = json.loads(run("show", "vae", "--json")[0])
    values = {row["key"]: row["value"] for row in recipe["settings"]}
    assert recipe["name"] == "vae" and values["train.lr"] == 0.001
    shown = json.loads(run("show", vae, "--json")[0])
    assert shown["config"]["recipe"]["latent"] == 4 and shown["sites"] == {"z": 4}
    assert [line["step"] for line in shown["validations"]] == [30, 60]
    assert shown["parameters"]["generative"] > 1000


def test_scores_as_npz_are_those_of_the_csv(
    run: Command, vae: Path, tmp_path: Path
) -> None:
    for name in ("s.npz", "s.csv"):
        run("score", vae, "digits", "-k", 30, "--out", tmp_path / name)
    with np.load(tmp_path / "s.npz") as arrays:
        columns = {name: arrays[name] for name in arrays.files}
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(columns) <= set(rows[0]) and len(columns["elbo"]) == len(rows)
    for name in ("row", "elbo", "log_px", "ess"):
        assert [float(row[name]) for row in rows] == columns[name].tolist()


def test_impute_fills_the_gaps_of_a_table(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    monkeypatch.chdir(tmp_path)
    a = np.random.default_rng(0).normal(size=80)
    frame = pandas.DataFrame({"a": a, "b": 2 * a})
    frame.loc[::9, "b"] = np.nan
    frame.to_csv("holes.csv", index=False)
    sets = [f"{key}={value}" for key, value in SMALL.items()]
    out, _ = run("impute", "holes.csv", "--out", "f.csv", "--set", *sets, "steps=20")
    filled = pandas.read_csv("f.csv")
    assert filled.columns.tolist() == ["a", "b"] and not filled.isna().any().any()
    observed = frame["b"].notna()
    assert filled["b"][observed].tolist() == frame["b"][observed].tolist()
    folder = Path(out.splitlines()[0].removeprefix("run: "))
    assert folder == Path("runs/holes-missing-data")
    again, _ = run("impute", "holes.csv", "--run", folder, "--out", "g.npz")
    assert "run:" not in again
    with np.load("g.npz") as arrays:
        assert arrays["x"][:, 1] == pytest.approx(filled["b"].to_numpy(), rel=1e-4)
    words = ["impute", "holes.csv", "--run", str(folder), "--set", "latent=2"]
    assert main([*words, "--out", "h.csv"]) == 2


def test_impute_refuses_a_run_without_missing_values(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["impute", str(table.parent / "x.npy"), "--run", str(table)]
    assert main([*words, "--out", str(tmp_path / "f.csv")]) == 2
    assert "takes no missing values" in capsys.readouterr().err


def test_a_run_is_a_table_in_a_notebook(vae: Path) -> None:
    import tightbound as tb

    html = tb.load(vae)._repr_html_()
    assert html.startswith("<table>") and "4" in html and "step " in html
    assert "features with a mean" in html
