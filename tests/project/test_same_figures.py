"""The comparison of scripts/same_figures.py finds each difference that is not intended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import same_figures  # noqa: E402
from same_figures import (  # noqa: E402
    CHANGES,
    Case,
    Compared,
    Different,
    Tree,
    compare_files,
    verdict,
)

WEIGHTS = {
    "path.mean": torch.arange(4.0).reshape(2, 2),
    "told.bias": torch.zeros(3),
}
EVALUATION: dict[str, Any] = {
    "terms": {"elbo": {"mean": -90.5, "se": 0.25}, "rate": {"mean": 20.0, "se": 0.5}},
    "third_term": {"gap": {"mean": 1.5}},
    "seconds": 3.25,
    "methods": {"importance": {"mean": -88.0, "noise": 0.125}},
    "diagnosis": {
        "progress": {"gained": 0.5, "error": 0.75},
        "verdicts": [
            {"name": "not trained enough", "values": {"gained": 0.5, "error": 0.75}},
            {"name": "collapsed", "values": {"kl": 2.5}},
        ],
    },
}
LOG = [
    {"event": "start", "threads": 1},
    {"event": "epoch", "step": 10, "valid": {"elbo": -91.5}},
]


def as_it_is() -> dict[str, Any]:
    """The evaluation by the names of today, with changes that are intended."""
    tree = json.loads(json.dumps(EVALUATION))
    tree["inference_gap"] = tree.pop("third_term")
    tree["seconds"] = 9.0
    tree["methods"]["importance"].pop("noise")
    tree["headline"] = {"log_px": {"mean": -87.5}}
    tree["diagnosis"]["progress"] = {"gained": 0.5, "error": 0.25, "paired": True}
    constant = {"name": "worse than a constant", "values": {"bound": -99.5}}
    tree["diagnosis"]["verdicts"] = [constant, tree["diagnosis"]["verdicts"][1]]
    tree["diagnosis"]["verdicts"][1]["settings"] = {"objective": {"free_bits": 0.1}}
    return dict(tree)


def weights_as_they_are() -> dict[str, torch.Tensor]:
    names = {"path.mean": "hierarchy.mean", "told.bias": "condition_encoder.bias"}
    return {names[name]: value.clone() for name, value in WEIGHTS.items()}


def write(
    folder: Path, weights: dict[str, torch.Tensor], evaluation: Any, log: list[Any]
) -> None:
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in log))
    (folder / "done").write_text("1.0\n")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Tree, Tree]:
    """Results of the case vae: of the old code, and of the new with intended changes."""
    old = Tree(tmp_path, tmp_path / "old", new=False)
    new = Tree(tmp_path, tmp_path / "new", new=True)
    write(old.results / "vae", WEIGHTS, EVALUATION, LOG)
    log = [
        *LOG[:1],
        LOG[1] | {"valid_by_example": {"of": 2, "bound": [-90.5, -92.5]}},
    ]
    write(new.results / "vae", weights_as_they_are(), as_it_is(), log)
    return old, new


def evaluation_of(tree: Tree, change: Any) -> None:
    """Change the evaluation of a tree."""
    path = tree.results / "vae" / "evaluation.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_intended_changes_are_counted_and_all_else_is_equal(
    trees: tuple[Tree, Tree],
) -> None:
    is_equal, text = verdict(*trees, Case("vae"))
    assert is_equal
    assert text == (
        "equal: 2 tensors of weights bit for bit, 4 terms, 6 other numbers; intended: "
        "bounds by example (3), constant (1), error of importance sampling (1), "
        "headline (1), not trained enough (2), paired error (2), settings of a remedy (1)"
    )


def test_a_bit_of_a_weight_is_found(trees: tuple[Tree, Tree]) -> None:
    weights = weights_as_they_are()
    value = weights["hierarchy.mean"].numpy()
    value[1, 1] = np.nextafter(value[1, 1], np.float32(9.0))
    save_file(weights, trees[1].results / "vae" / "model.safetensors")
    is_equal, text = verdict(*trees, Case("vae"))
    assert not is_equal
    assert text == (
        "model.safetensors: hierarchy.mean differs by at most 2.38e-07, of 2"
    )


def set_at(tree: Any, place: str, value: Any) -> None:
    *path, last = place.split(".")
    for key in path:
        tree = tree[int(key)] if isinstance(tree, list) else tree.setdefault(key, {})
    tree[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("terms.elbo.mean", -90.25, "terms.elbo.mean is -90.25 and was -90.5, of 12"),
        ("terms.gap.mean", 1.0, "terms.gap.mean is new"),
        # places that may be new, or of which one number may differ
        ("diagnosis.progress.gained", 0.25, "diagnosis.progress.gained is 0.25 and"),
        ("diagnosis.verdicts.1.values.kl", 3.5, "collapsed.0.values.kl is 3.5 and was"),
        ("diagnosis.verdicts.1.values.width", 8, "collapsed.0.values.width is new"),
        ("methods.importance.mean", -87.0, "methods.importance.mean is -87.0 and was"),
        ("inference_gap.gap.mean", 2.5, "inference_gap.gap.mean is 2.5 and was 1.5"),
    ],
)
def test_another_number_is_a_difference(
    trees: tuple[Tree, Tree], place: str, value: float, message: str
) -> None:
    evaluation_of(trees[1], lambda tree: set_at(tree, place, value))
    is_equal, text = verdict(*trees, Case("vae"))
    assert not is_equal
    assert text.startswith("evaluation.json: ")
    assert message in text


def test_a_number_that_may_be_new_may_not_differ(trees: tuple[Tree, Tree]) -> None:
    for tree, mean in zip(trees, (-87.5, -87.25), strict=True):
        evaluation_of(tree, lambda t, m=mean: set_at(t, "headline.log_px.mean", m))
    is_equal, text = verdict(*trees, Case("vae"))
    assert not is_equal
    assert "headline.log_px.mean is -87.25 and was -87.5" in text


def test_a_number_that_is_gone_is_a_difference(trees: tuple[Tree, Tree]) -> None:
    evaluation_of(trees[1], lambda tree: tree["terms"].pop("rate"))
    assert verdict(*trees, Case("vae")) == (
        False,
        "evaluation.json: terms.rate.mean is gone, and 1 others",
    )


def test_a_file_that_is_gone_and_a_case_that_failed_are_differences(
    trees: tuple[Tree, Tree],
) -> None:
    folder = trees[1].results / "vae"
    (folder / "log.jsonl").unlink()
    assert verdict(*trees, Case("vae")) == (False, "log.jsonl: is gone")
    (folder / "error.txt").write_text("Traceback\nValueError: no\n")
    assert verdict(*trees, Case("vae")) == (
        False,
        "the new tree failed: ValueError: no",
    )


def test_changes_of_one_case_are_differences_in_others(tmp_path: Path) -> None:
    paths = [tmp_path / "old.safetensors", tmp_path / "new.safetensors"]
    for path, value in zip(paths, (0.0, 1.0), strict=True):
        save_file({"w": torch.full((2,), value)}, path)
    assert compare_files(*paths, "ppca") == Compared(
        changes=same_figures.Counter({"ppca": 1})
    )
    with pytest.raises(Different, match="w differs by at most 1, of 1"):
        compare_files(*paths, "vae")


def test_each_intended_change_names_a_page_that_stands() -> None:
    docs = SCRIPTS.parent / "docs"
    assert [c.page for c in CHANGES if not (docs / c.page).is_file()] == []
    assert [c for c in CHANGES if c.cases == ".*" and "terms" in c.names] == []
