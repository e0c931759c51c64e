"""The matrix of recipes: jobs that go on after a kill, constants with a known answer, and what
counts as a fault.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import matrix
import pairs

from tightbound.components.likelihoods import BernoulliLikelihood
from tightbound.core.data_spec import DataSpec
from tightbound.models.recipes import RECIPES
from tightbound.runtime.errors import TightboundError


def test_constants_are_the_entropies_of_independent_pixels() -> None:
    """Both constants of binary pixels with known shares of ones have the known cross-entropy."""
    share = torch.tensor([0.5, 0.25, 0.9])
    x = torch.stack(
        [(torch.arange(400) < round(400 * float(p))).float() for p in share], 1
    )
    spec = DataSpec(
        shape=(3,), domain="binary", levels=2, mean=x.mean(0) * 0 + 0.5, std=x.std(0)
    )
    truth = -sum(-p * math.log(p) - (1 - p) * math.log(1 - p) for p in share.tolist())
    fitted = pairs.same_likelihood(BernoulliLikelihood(spec), spec, x, x).mean()
    counted = pairs.histogram(2, x, x, x).mean()
    assert float(fitted) == pytest.approx(truth, abs=0.01) and float(
        counted
    ) == pytest.approx(truth, abs=0.01)


def test_jobs_are_done_once_and_again_only_when_their_recipe_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[matrix.Job] = []

    def job(what: matrix.Job, folder: Path) -> dict[str, Any]:
        asked.append(what)
        fits = what[1] == "vae"
        return (
            {
                "status": "ok",
                "value": -1.0,
                "constants": {"a": -2.0},
                "dims": 4,
                "seconds": 0.0,
            }
            if fits
            else {
                "status": "refused",
                "sentence": "no",
            }
        )

    class Here:
        """A pool that works in this process."""

        def __init__(self, *args: Any, **more: Any) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *args: Any) -> None: ...
        def submit(self, f: Any, *args: Any) -> Any:
            done: Any = matrix.Future()
            done.set_result(job(*args))
            return done

    monkeypatch.setattr(matrix, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(matrix, "REFERENCES", tmp_path / "none.json")
    call = ["--work", str(tmp_path), "--jobs", "1", "--only", "vae", "nb-vae"]
    assert matrix.main([*call, "--minutes", "0"]) == 0 and not asked
    assert matrix.main(call) == 0
    names = [matrix.named(j) for j in asked]
    assert names == [
        *(f"{r} on {d}" for r in ("vae", "nb-vae") for d in matrix.SETS),
        *(f"nb-vae on {d}" for d in matrix.OTHERS),
    ]
    asked.clear()
    assert matrix.main(call) == 0 and not asked
    monkeypatch.setitem(RECIPES, "vae", RECIPES["vae"].model_copy(update={"k": 2}))
    matrix.main(call)
    assert [matrix.named(j) for j in asked] == [
        f"vae on {data}" for data in matrix.SETS
    ]


OK = {
    "status": "ok",
    "value": -100.0,
    "constants": {"a": -120.0, "b": -110.0},
    "dims": 64,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"value": -104.0}, ""),
        ({"value": -106.0}, "not within 5 %"),
        ({"value": -94.0}, "not within 5 %"),
        ({"constants": {"a": -120.0, "b": -99.0}}, "does not beat the constant"),
        ({"status": "refused", "sentence": "no"}, "not refused before"),
        ({"status": "failed", "sentence": "it broke"}, "it broke"),
        (
            {"finite": False, "not_finite": 3, "first": 7},
            "3 losses not finite, the first at 7",
        ),
    ],
)
def test_faults(change: dict[str, Any], said: str) -> None:
    found = matrix.faults(OK | change, OK)
    assert (not found) if not said else (len(found) == 1 and said in found[0])


def test_a_pair_that_does_not_fit_is_refused_with_its_sentence(tmp_path: Path) -> None:
    found = pairs.job(("short", "nb-vae", "digits"), tmp_path)
    assert found["status"] == "refused" and "count data" in found["sentence"]
    table = matrix.matrix_table({"nb-vae on digits": found})
    assert (
        "| nb-vae |  | refused |" in table
        and "nb-vae on digits: refused: likelihood 'negative-binomial'" in table
    )


def test_short_and_long_jobs_on_wine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pairs.SHORT, "train.steps", 60)
    found = pairs.job(("short", "vae", "wine"), tmp_path)
    assert (
        found["status"] == "ok"
        and found["measure"] == "log p(x)"
        and found["elbo"] <= found["value"]
    )
    steady = pairs.long("ae", "wine", 1e-3, tmp_path, steps=20)
    assert steady["finite"] and steady["not_finite"] == 0 and steady["weights_finite"]


def test_losses_that_are_not_finite_are_counted() -> None:
    bad: list[int] = []
    check = pairs.watched(lambda losses, parameters: torch.tensor(True), bad, lambda: 5)
    check([torch.tensor(1.0)], [])
    check((loss for loss in [torch.tensor(1.0), torch.tensor(math.inf)]), [])
    assert bad == [5]


def test_mistakes_become_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in (
        (TightboundError("parts do not fit"), "refused"),
        (TightboundError("training stopped at step 9: ten"), "failed"),
        (KeyError("x"), "failed"),
    ):

        def broken(*args: Any, e: Exception = error) -> dict[str, Any]:
            raise e

        monkeypatch.setattr(pairs, "short", broken)
        assert pairs.job(("short", "vae", "digits"), tmp_path)["status"] == status


def test_the_sheet_of_pictures_shows_data_reconstructions_and_samples(
    tmp_path: Path,
) -> None:
    from PIL import Image
    from support.small import small_run

    from tightbound.runs.run import load

    for name, rows in (("vae", 3), ("ae", 2)):
        run = load(small_run(tmp_path / name, name, steps=2))
        pairs.sheet(run, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            side = 8 * pairs.SCALE + pairs.GAP
            assert image.size == (pairs.PICTURES * side, rows * side)


def test_references_are_those_of_recipes_that_there_are() -> None:
    kept = matrix.references()
    assert {name.split(" on ")[0] for name in kept} <= set(RECIPES)
    assert json.dumps(kept)
