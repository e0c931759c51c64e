"""Scores of disentanglement: oracles, perfectly disentangled codes, and rotated ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg
from sklearn.metrics import mutual_info_score

from tightbound.evaluation.metrics.factor_scores import (
    SCORES,
    Labelled,
    _bins,
    as_classes,
    beta_vae_score,
    entropies,
    information,
    mig,
    modularity,
    mutual_information,
    scores,
)


def _data(rotated: bool) -> Labelled:
    """Three factors of 4 values, each with a code of its own; one idle code."""
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(1500, 3))
    codes = np.concatenate([factors.astype(float), np.zeros((1500, 1))], 1)
    if rotated:
        codes = codes @ linalg.hadamard(4) / 2  # each code is of all factors
    codes = codes + rng.normal(0, 0.01, size=codes.shape)
    return Labelled(codes, factors)


def test_information_is_that_of_scikit_learn() -> None:
    data = _data(True)
    table = mutual_information(data.codes, data.factors)
    for i in range(4):
        for j in range(3):
            expected = mutual_info_score(_bins(data.codes[:, i]), data.factors[:, j])
            assert table[i, j] == pytest.approx(expected, abs=1e-12)
    coin = np.array([0, 1] * 50)
    assert information(coin, coin) == pytest.approx(np.log(2))


def test_perfect_codes_have_the_highest_scores() -> None:
    perfect = scores(_data(False), 0)
    assert set(perfect) == set(SCORES)
    # the best code predicts a factor exactly, the next one as often as chance (1 / 4)
    assert perfect.pop("SAP") == pytest.approx(0.75, abs=0.05)
    assert min(perfect.values()) > 0.97, perfect


def test_rotated_codes_keep_the_information_and_lose_the_rest() -> None:
    rotated = scores(_data(True), 0)
    assert rotated["DCI informativeness"] > 0.9  # all is still there
    for name in ("MIG", "SAP", "DCI disentanglement", "DCI completeness"):
        assert rotated[name] < 0.45, name


def test_permuted_factors_give_chance() -> None:
    chance = scores(_data(False).shuffled(1), 0)
    assert max(chance["MIG"], chance["SAP"]) < 0.1
    assert chance["FactorVAE score"] == pytest.approx(1 / 3, abs=0.12)
    assert chance["beta-VAE score"] == pytest.approx(1 / 3, abs=0.15)
    assert chance["DCI informativeness"] == pytest.approx(1 / 4, abs=0.05)


def test_scores_from_a_table_by_hand() -> None:
    """Two factors of entropy 1: gaps (0.8 - 0.3) and (0.6 - 0.2), mean 0.45."""
    table = np.array([[0.8, 0.2], [0.3, 0.6], [0.0, 0.0]])
    assert mig(table, np.ones(2)) == pytest.approx(0.45)
    # 1 - 0.04 / 0.64 and 1 - 0.09 / 0.36; the idle code is left out
    assert modularity(table) == pytest.approx((0.9375 + 0.75) / 2)
    uniform = np.arange(400).reshape(-1, 1) % 4
    assert entropies(uniform) == pytest.approx([np.log(4)])


def test_factors_of_one_value_are_left_out() -> None:
    classes, names = as_classes(
        np.array([[5.0, 2.0], [5.0, 9.0], [5.0, 2.0]]), ["a", "b"]
    )
    assert names == ["b"] and classes.tolist() == [[0], [1], [0]]
    alone = Labelled(
        np.random.default_rng(0).normal(size=(90, 2)), classes[[0, 1] * 45]
    )
    assert beta_vae_score(alone, 0) == 1.0
