"""Work on a trained model that processes share: parquet parts of `encode` and `score`, pieces of
`evaluate`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.processes import Launched, launch
from support.shards import pictures, png, shard
from support.shared_work import quick, share
from support.small import small_run

import tightbound as tb
from tightbound.cli import main
from tightbound.data import DataSettings, load, read_parts
from tightbound.evaluation import score

parquet = pytest.importorskip(
    "pyarrow.parquet", reason="needs pyarrow, of the extra data"
)

N, PART = 250, 40  # the last part is smaller
PARTS = -(-N // PART)
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures, and a model of them."""
    folder = tmp_path_factory.mktemp("parts")
    x = np.random.RandomState(0).randint(0, 256, (N, 6, 6)).astype(np.uint8)
    np.savez(folder / "x.npz", x=x, y=np.arange(N) % 3)
    small_run(folder / "run", "vae", str(folder / "x.npz"), steps=5)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return command


def words(
    made: Path, command: str, out: object, *more: object, rows: int = PART
) -> list[str]:
    asked = [
        command,
        made / "run",
        made / "x.npz",
        "--out",
        out,
        "--part-rows",
        rows,
        "--quiet",
        *more,
    ]
    return [str(word) for word in asked]


def names(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if not path.name.startswith(".")
    )


def same(a: Path, b: Path) -> None:
    assert names(a) == names(b)
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in names(a))


def environment() -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_parts_hold_what_one_table_holds(
    made: Path, run: Command, tmp_path: Path
) -> None:
    status, out, _ = run(*words(made, "encode", tmp_path / "parts"))
    assert (
        status == 0
        and f"{N} examples, 4 features each" in out
        and f"({PARTS} files)" in out
    )
    assert names(tmp_path / "parts") == [
        f"part-{i:05d}-of-{PARTS:05d}.parquet" for i in range(PARTS)
    ]
    table = parquet.read_table(tmp_path / "parts").to_pydict()
    assert table["row"] == list(range(N)) and table["label"] == [
        i % 3 for i in range(N)
    ]
    trained = tb.load(made / "run")
    found = np.stack([table[f"z_{i}"] for i in range(1, 5)], 1)
    assert np.allclose(found, trained.encode(str(made / "x.npz")).numpy(), atol=1e-5)
    assert run(*words(made, "score", tmp_path / "s-*.parquet", "-k", 3))[0] == 0
    assert (
        run(
            "score",
            made / "run",
            made / "x.npz",
            "--out",
            tmp_path / "s.parquet",
            "-k",
            3,
        )[0]
        == 0
    )
    terms = parquet.read_table(tmp_path / "s.parquet").to_pydict()
    parts = [
        parquet.read_table(tmp_path / f"s-{i:05d}-of-{PARTS:05d}.parquet")
        for i in range(PARTS)
    ]
    assert (
        [row for part in parts for row in part["row"].to_pylist()]
        == terms["row"]
        == list(range(N))
    )
    for name in ("elbo", "log_px", "rate"):
        assert np.allclose(
            [v for part in parts for v in part[name].to_pylist()],
            terms[name],
            rtol=1e-5,
        )
    x = trained.spec.to_model(trained.read(str(made / "x.npz"))[100:107])
    assert np.allclose(
        score(trained, x, 3, trained.config.seed)["log_px"],
        terms["log_px"][100:107],
        rtol=1e-5,
    )


@pytest.fixture(scope="module")
def two(made: Path) -> Launched:
    """Two processes encode and score, are refused, and go on with an evaluation that one process
    began.
    """
    shutil.copytree(made / "run", made / "run2")

    def stop(done: int, n: int, what: str) -> None:
        if what == "importance" and done > 16:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        quick(patch.setattr)
        with pytest.raises(KeyboardInterrupt):
            tb.evaluate(made / "run2", tick=stop)
    tasks = [
        words(made, "encode", made / "e2"),
        words(made, "score", made / "s2", "-k", 3),
    ]
    evaluation = ["evaluate", str(made / "run2"), "--json", "--quiet"]
    failing = words(made, "encode", made / "one.npz")

    def work() -> None:
        quick(setattr)
        share(tasks, failing, evaluation)

    return launch(work, made)


def test_two_processes_write_the_bytes_of_one(
    made: Path, two: Launched, run: Command, tmp_path: Path
) -> None:
    assert two.stdout.count("examples,") == 2, "only the first one speaks"
    assert two.stderr.count("one.npz is one file, which one process writes") == 1
    assert (
        run(*words(made, "encode", tmp_path / "e1"))[0]
        == run(*words(made, "score", tmp_path / "s1", "-k", 3))[0]
        == 0
    )
    same(tmp_path / "e1", made / "e2")
    same(tmp_path / "s1", made / "s2")


def test_two_processes_find_the_figures_of_one(
    made: Path, two: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch.setattr)
    alone = tb.evaluate(made / "run").to_json()
    *shown, counts = two.stdout.strip().split("\n", 2)[2].rsplit("\n", 1)
    together = json.loads(shown[0])
    assert (
        alone["methods"]["ais-q"]["n"] == 20
        and alone["bdmc_gap"]["n"] == 20
        and alone["overfitting"]["encoder"]
    )
    assert untimed(together) == untimed(alone) | {"name": "run2"}
    calls = json.loads(counts)
    assert all(calls), "both worked"
    every = [method for own in calls for method in own]
    assert every.count("importance") == 1 + 2 + 4, (
        "a piece was there: test, training, and a pilot of two for each"
    )
    assert every.count("ais-q") == 8
    assert not (made / "run2" / "evaluation.parts").exists()
    assert untimed(
        json.loads((made / "run2" / "evaluation.json").read_text())
    ) == untimed(together)


def untimed(tree: Any) -> Any:
    """The same without the times that it took."""
    if isinstance(tree, dict):
        left_out = ("seconds", "sha256")  # the checksum is of the file alone
        return {k: untimed(value) for k, value in tree.items() if k not in left_out}
    return [untimed(value) for value in tree] if isinstance(tree, list) else tree


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds the workers in /proc"
)
def test_killed_in_the_middle_and_gone_on(
    made: Path, run: Command, tmp_path: Path
) -> None:
    asked = words(made, "score", tmp_path / "out", "-k", 1500)
    process = subprocess.Popen(
        [*TORCHRUN, "-m", "tightbound", *asked],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    began = time.monotonic()
    while not (tmp_path / "out").exists() or len(names(tmp_path / "out")) < 2:
        assert process.poll() is None and time.monotonic() < began + 120
        time.sleep(0.01)
    for pid in (
        Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ):
        os.kill(int(pid), signal.SIGKILL)
    assert process.wait(60) != 0
    kept = {
        name: (tmp_path / "out" / name).stat().st_mtime_ns
        for name in names(tmp_path / "out")
    }
    assert 2 <= len(kept) < PARTS, "it was killed in the middle"
    status, out, _ = run(*asked)
    assert status == 0 and f"{len(kept)} of them from before" in out
    assert all(
        (tmp_path / "out" / name).stat().st_mtime_ns == time
        for name, time in kept.items()
    )
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".tmp"]
    assert run(*words(made, "score", tmp_path / "quiet", "-k", 1500))[0] == 0
    same(tmp_path / "out", tmp_path / "quiet")


def test_what_changed_is_noticed(made: Path, run: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(*words(made, "score", out, "-k", 2))[0] == 0
    status, _, err = run(*words(made, "score", out, "-k", 3))
    assert status == 2 and "differs in settings:" in err and "--overwrite" in err
    assert "differs in command:" in run(*words(made, "encode", out))[2]
    assert (
        "differs in part-rows:" in run(*words(made, "score", out, "-k", 2, rows=30))[2]
    )
    with np.load(made / "x.npz") as old:
        x, y = old["x"], old["y"]
    x[7, 0, 0] ^= 1
    np.savez(tmp_path / "y.npz", x=x, y=y)
    other = [
        w.replace(str(made / "x.npz"), str(tmp_path / "y.npz"))
        for w in words(made, "score", out, "-k", 2)
    ]
    assert "differs in data:" in run(*other)[2]
    small_run(tmp_path / "run", "vae", str(made / "x.npz"), steps=6)
    other = [
        w.replace(str(made / "run"), str(tmp_path / "run"))
        for w in words(made, "score", out, "-k", 2)
    ]
    assert "differs in weights:" in run(*other)[2]
    damaged = out / f"part-00001-of-{PARTS:05d}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert (
        "part-00001" in (err := run(*words(made, "score", out, "-k", 2))[2])
        and "damaged" in err
    )
    status, said, _ = run(*words(made, "score", out, "-k", 2, "--overwrite"))
    assert status == 0 and f"{PARTS - 1} of them from before" in said, (
        "only the damaged one is made again"
    )
    status, said, _ = run(*words(made, "score", out, "-k", 3, "--overwrite"))
    assert status == 0 and "from before" not in said and len(names(out)) == PARTS


def test_a_folder_with_other_files_is_refused(
    made: Path, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    status, _, err = run(*words(made, "encode", tmp_path))
    assert (
        status == 2
        and "folder with files already, such as notes.txt" in err
        and names(tmp_path) == ["notes.txt"]
    )
    assert run(*words(made, "encode", tmp_path / "z-*.parquet"))[0] == 0, (
        "files of a name are beside others"
    )
    assert (
        len(names(tmp_path)) == PARTS + 1
        and (tmp_path / "notes.txt").read_text() == "mine"
    )
    for bad in ("z-*.csv", "z-*-*.parquet"):
        status, _, err = run(*words(made, "encode", tmp_path / bad))
        assert status == 2 and "'F-*.parquet'" in err
    assert run(*words(made, "encode", tmp_path / "p", rows=0))[0] == 2


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 40 pictures, and a model of binary draws of them."""
    folder = tmp_path_factory.mktemp("streamed")
    source = pictures(folder, 3, 40)
    small_run(folder / "run", "vae", source, steps=5, **{"data.binarize": "dynamic"})
    return folder


def test_shards_become_parts(streamed: Path, run: Command, tmp_path: Path) -> None:
    source = f"wds:{streamed}/s-*.tar"
    status, out, err = run(
        "encode", streamed / "run", source, "--out", tmp_path / "out"
    )
    assert (
        status == 0
        and "120 examples" in out
        and "(3 files)" in out
        and "grey levels are binarised once" in err
    )
    table = parquet.read_table(tmp_path / "out").to_pydict()
    assert table["row"] == [*range(40)] * 3 and table["label"] == [
        v % 3 for v in range(120)
    ]
    assert table["name"] == [f"s-{s:02d}-{i:03d}" for s in range(3) for i in range(40)]
    assert [Path(name).name for name in table["shard"][::40]] == [
        "s-00.tar",
        "s-01.tar",
        "s-02.tar",
    ]
    assert (
        run("encode", streamed / "run", source, "--out", tmp_path / "one.parquet")[0]
        == 0
    )
    whole = parquet.read_table(tmp_path / "one.parquet").to_pydict()
    assert whole["name"] == table["name"] and np.allclose(
        whole["z_1"], table["z_1"], atol=1e-6
    )


def test_rows_of_a_stream_are_cut_alike_and_drawn_alike(streamed: Path) -> None:
    spec, settings = tb.load(streamed / "run").spec, DataSettings(binarize="dynamic")
    parts = read_parts(f"wds:{streamed}/s-*.tar", spec, settings, 1)
    assert [len(rows) for rows in parts.rows(1, 15)] == [15, 15, 10]
    cut = [
        torch.cat([rows.x for rows in parts.rows(1, size)]) for size in (7, 15, 1000)
    ]
    assert torch.equal(cut[0], cut[1]) and torch.equal(cut[0], cut[2])
    assert set(cut[0].unique().tolist()) == {0.0, 1.0}
    grey = torch.arange(40, 80) / 255
    assert abs(float(cut[0].mean(0).mean() - grey.mean())) < 0.04
    assert not torch.equal(cut[0], torch.cat([rows.x for rows in parts.rows(2, 1000)]))


def test_a_damaged_shard_is_named(streamed: Path, run: Command, tmp_path: Path) -> None:
    for s in range(3):
        content = (streamed / f"s-{s:02d}.tar").read_bytes()
        (tmp_path / f"s-{s:02d}.tar").write_bytes(
            content if s != 1 else content[:20_000]
        )
    asked = [
        "encode",
        streamed / "run",
        f"wds:{tmp_path}/s-*.tar",
        "--out",
        tmp_path / "out",
    ]
    status, _, err = run(*asked)
    assert status == 2 and "s-01.tar is damaged after" in err
    (tmp_path / "s-01.tar").write_bytes((streamed / "s-01.tar").read_bytes())
    assert run(*asked)[0] == 0
    (tmp_path / "s-01.tar").write_bytes((streamed / "s-02.tar").read_bytes())
    assert "differs in data:" in run(*asked)[2]


def test_labels_that_change_their_kind_are_refused(
    streamed: Path, run: Command, tmp_path: Path
) -> None:
    for s, labels in enumerate([["3"] * 300, ["3"] * 299 + ["dog"]]):
        shard(
            tmp_path / f"{s}.tar",
            [{"png": png(0), "cls": label.encode()} for label in labels],
        )
    status, _, err = run(
        "encode",
        streamed / "run",
        f"wds:{tmp_path}/{{0..1}}.tar",
        "--out",
        tmp_path / "out",
    )
    assert status == 2 and "example 1-299 has the label 'dog'" in err
    assert names(tmp_path / "out") == ["part-00000-of-00002.parquet"], (
        "what is whole is kept"
    )


def test_a_folder_of_parquet_files_that_changed_is_another(
    made: Path, run: Command, tmp_path: Path
) -> None:
    import pyarrow

    folder = tmp_path / "x.parquet"
    folder.mkdir()
    flat = np.random.RandomState(1).randint(0, 256, (2000, 600)).astype(np.uint8)
    table = pyarrow.table(
        {
            "x": pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(flat.reshape(-1)), 600
            )
        }
    )
    for i in range(2):
        parquet.write_table(table, folder / f"{i}.parquet", row_group_size=500)
    settings = DataSettings(memory=1)
    spec = load(str(folder), settings).spec
    before = read_parts(str(folder), spec, settings, 100).digest
    assert before == read_parts(str(folder), spec, settings, 100).digest
    parquet.write_table(table.slice(0, 1999), folder / "1.parquet", row_group_size=500)
    assert before != read_parts(str(folder), spec, settings, 100).digest
