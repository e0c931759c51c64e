"""Use of codebooks: counts and perplexity against counting, and the verdict."""

from __future__ import annotations

import math

import pytest
import torch

import tightbound as tb
from tightbound.components.posteriors.codes import LevelGrid, OneHot, VectorTables
from tightbound.evaluation.diagnosis import rules
from tightbound.evaluation.diagnosis.code_usage import CodeUsage, code_usage
from tightbound.evaluation.diagnosis.diagnose import diagnose
from tightbound.runs.run import Run


def run_of(recipe: str, **settings: object) -> tuple[Run, tb.Batch]:
    """An untrained run of digits, and 100 test examples."""
    values = {key.replace("__", "."): value for key, value in settings.items()}
    model, data = tb.build(
        recipe, "digits", seed=0, settings={"recipe.size": "s", **values}
    )
    run = Run(model.run_settings, model, None, data.splits)
    return run, data.test.examples(torch.arange(100))


def test_codes_are_counted_by_their_table() -> None:
    index = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    two_levels = VectorTables(parts=2, size=8, dim=1, levels=2, decay=0.9)
    assert two_levels.by_table(index).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert OneHot(4, 8).by_table(index).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert LevelGrid(4, (2, 4)).by_table(index).tolist() == [[*range(8)]]


@pytest.mark.parametrize(
    ("recipe", "tables", "entries"),
    [
        ("vq-vae", 1, 512),
        ("rq-vae", 4, 256),
        ("fsq", 1, 1000),
        ("categorical-vae", 20, 10),
    ],
)
def test_each_codebook_is_measured(recipe: str, tables: int, entries: int) -> None:
    run, x = run_of(recipe)
    (usage,) = code_usage(run, x)
    assert (usage.site, usage.n) == ("z", 100)
    assert (usage.tables, usage.entries) == (tables, entries)
    assert 1 <= usage.perplexity <= usage.used <= min(entries, 100 * usage.codes)
    assert 0 <= usage.share <= 1


def test_the_perplexity_is_that_of_the_counts() -> None:
    """Eight codes of 100 examples, counted by hand."""
    run, x = run_of("vq-vae")
    (usage,) = code_usage(run, x)
    z = run.predictor.encode_mean(x).reshape(-1, 8)
    _, counts = torch.unique(z, dim=0, return_counts=True)
    share = counts.double() / counts.sum()
    assert usage.codes == 8 and usage.used == len(counts)
    entropy = -float((share * share.log()).sum())
    assert usage.perplexity == pytest.approx(math.exp(entropy))
    assert usage.share == pytest.approx(entropy / math.log(512))
    run, x = run_of("vae", latent=2)
    assert code_usage(run, x) == []


def test_a_collapsed_codebook_is_a_verdict() -> None:
    run, x = run_of("vq-vae")
    used = diagnose(run, x, seed=0)
    assert "codebook collapsed" not in [v.name for v in used.verdicts]
    head = run.model.get_submodule("hierarchy.posterior.head")
    head.load_state_dict({k: torch.zeros_like(v) for k, v in head.state_dict().items()})
    broken = diagnose(run, x, seed=0)
    (verdict,) = [v for v in broken.verdicts if v.name == "codebook collapsed"]
    assert verdict.values["perplexity"] == 1.0 and verdict.values["used"] == 1.0
    assert verdict.fix == "more_steps" and "tightbound train" in verdict.change
    assert "codes of z: 1.0 of 512 entries in use, perplexity 1.0" in broken.lines()
    assert broken.to_json()["codes"][0]["share"] == 0.0


@pytest.mark.parametrize(("perplexity", "is_fault"), [(4.0, True), (6.0, False)])
def test_the_threshold_is_a_quarter_of_the_entropy(
    perplexity: float, is_fault: bool
) -> None:
    usage = CodeUsage("z", 1000, 512, 1, 8, 9.0, perplexity)
    assert (usage.share < rules.CODES_USED) == is_fault
