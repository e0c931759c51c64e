"""Report and evaluation on test examples that are equal to training examples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.report_pages import page, untrained

from tightbound import evaluation
from tightbound.runs.run import Run

EQUAL = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of which 7 of 20 test rows are training rows."""
    folder = tmp_path_factory.mktemp("equal")
    random = np.random.RandomState(0)
    x = random.rand(60, 6)
    test = random.rand(20, 6)
    test[:EQUAL] = x[:EQUAL]
    file = folder / "x.npz"
    np.savez(file, x_train=x, x_valid=random.rand(10, 6), x_test=test)
    return untrained(str(file), "vae", folder)


def test_the_report_says_how_many_test_rows_were_trained_on(
    run: Run, tmp_path: Path
) -> None:
    english = page([run], tmp_path)
    assert "evaluated on 20 test rows, of which 7 are equal to training rows" in english
    assert "not used in training" not in english
    korean = page([run], tmp_path, lang="ko")
    assert "그 가운데 7개는 학습 데이터와 똑같다" in korean
    assert "쓰지 않은" not in korean


def test_a_sample_of_training_rows_is_said(run: Run, tmp_path: Path) -> None:
    data = run.data
    assert data.overlap is not None
    overlap = replace(data.overlap, checked=30)
    sampled = Run(run.config, run.model, run.folder, replace(data, overlap=overlap))
    said = page([sampled], tmp_path)
    assert "7 are equal to one of the 30 training rows that were compared" in said


def test_the_evaluation_says_that_its_figures_are_too_good(run: Run) -> None:
    notes = evaluation.evaluate(run, k=2).notes
    assert (
        "7 of 20 test examples are equal to a training example, so the figures are too good"
        in notes
    )
    valid = evaluation.evaluate(run, k=2, split="valid").notes
    assert not any("equal to" in note for note in valid)
