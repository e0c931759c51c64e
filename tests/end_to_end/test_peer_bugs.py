"""What others shipped, and the test here that fails if it is put in.

A number is that of the list of peers' bugs; a line names a test as FILE::TEST.

4.1   test_objectives_importance::test_the_value_is_a_bound_and_never_the_surrogate
4.2   test_linear_gaussian::test_samples_are_laid_out_sample_major_and_axes_are_not_swapped
4.2   test_objectives_importance::test_miwae_averages_m_bounds_of_k_over_m_samples
4.3   test_linear_gaussian::test_k_is_honoured_exactly
4.3   test_evaluation::test_k_is_honoured_exactly_and_the_bound_is_the_log_of_the_mean_weight
4.4   test_hamiltonian::
      test_peers_4_4_position_moves_by_the_new_momentum_and_the_energy_error_is_of_second_order
4.4   test_hamiltonian::test_leapfrog_keeps_volume_up_to_the_tempering_that_is_known
4.4   test_hamiltonian::test_weights_are_exact_with_the_momentum_and_the_tempering
4.5   test_objectives_batch::test_stratified_weights_are_unbiased
4.6   test_objectives_perceptual::
      test_peers_4_6_each_scale_counts_by_its_own_power_and_the_coarsest_once
4.7   test_objectives::test_autoencoder_and_vae_distortions_are_on_one_scale
4.8   test_peer_bugs::
      test_peers_4_8_the_default_scale_follows_the_error_and_does_not_shrink_to_nothing
4.9   test_peer_bugs::test_peers_4_9_nothing_is_random_that_was_not_asked_to_be
4.10  test_trainer::test_the_seed_decides_the_weights
4.10  test_trainer::test_ctrl_c_then_resume_gives_the_same_bytes
4.10  test_peer_bugs::test_peers_4_10_a_validation_is_a_mean_over_examples_not_over_batches
4.11  test_objectives_importance::test_the_best_sample_has_most_weight
4.12  test_mixtures::test_peers_4_12_vamp_densities_are_normal_densities
4.13  test_trainer::test_a_run_goes_through_its_whole_clock_and_is_judged_by_its_end
4.13  test_objectives_batch::test_validation_weighs_the_rate_as_the_end_of_training_does
4.14  test_trainer::test_a_run_goes_through_its_whole_clock_and_is_judged_by_its_end
4.14  test_trainer::test_weight_of_the_rate_warms_up_over_a_share_of_the_run
4.15  test_evaluation::test_k_is_honoured_exactly_and_the_bound_is_the_log_of_the_mean_weight
4.16  test_objectives_batch::test_capacity_holds_the_rate_at_a_level_that_rises
4.17  test_build::test_a_likelihood_that_does_not_fit_the_domain_is_refused
4.18  test_peer_bugs::test_peers_4_18_what_is_trained_on_is_the_training_split
4.18  test_peer_bugs::test_peers_4_18_no_example_is_trained_on_and_tested_on
4.19  test_peer_bugs::test_peers_4_19_and_4_20_a_name_says_the_sign_and_the_unit
4.20  test_peer_bugs::test_peers_4_19_and_4_20_a_name_says_the_sign_and_the_unit
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from support.core_cases import context, rows, spec_of
from support.report_pages import untrained
from support.small import small_run
from torch import Tensor

from tightbound import data as data_room
from tightbound.components.likelihoods import AUTO, LIKELIHOODS
from tightbound.components.objectives import OBJECTIVES
from tightbound.components.objectives.elbo import Elbo
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.core.trace import Trace
from tightbound.evaluation.estimators.methods import score
from tightbound.models.build import resolve_domain
from tightbound.models.recipes import Recipe
from tightbound.runs.run import load
from tightbound.training.validation import Validator

TESTS = Path(__file__).parents[1]
TABLE = re.findall(r"^(4\.\d+) +(\w+)::\s*(\w+)$", __doc__, re.M)


def test_every_number_has_a_test_and_every_test_is_there() -> None:
    assert {number for number, _, _ in TABLE} == {f"4.{i}" for i in range(1, 21)}
    for _, file, name in TABLE:
        assert f"\ndef {name}(" in next(TESTS.rglob(f"{file}.py")).read_text(), (
            f"{file}::{name}"
        )


def test_peers_4_8_the_default_scale_follows_the_error_and_does_not_shrink_to_nothing() -> (
    None
):
    """A scale of 1 on data in [0, 1] blurs; a noise scale that only weighs an error is
    driven to 0.
    """
    assert AUTO["real"] == "gaussian"
    for domain in ("real", "unit"):
        torch.manual_seed(0)
        likelihood = LIKELIHOODS["gaussian"](spec_of(domain, (6,)))
        x = rows(domain, (6,), 400)
        y = torch.zeros(400, likelihood.params, 6)
        centre = likelihood(y, context(400), None).mean.detach()
        optimiser = torch.optim.Adam(likelihood.parameters(), 0.05)
        for _ in range(300):
            optimiser.zero_grad()
            (-likelihood(y, context(400), None).log_prob(x).mean()).backward()
            optimiser.step()
        px = likelihood(y, context(400), None)
        rms = (x - px.mean).square().mean(0).sqrt()
        assert torch.allclose(px.stddev[0], rms, rtol=0.05) and centre.shape == x.shape


def test_peers_4_9_nothing_is_random_that_was_not_asked_to_be() -> None:
    run = untrained("digits", "vae")
    x = run.data.test.raw(torch.arange(4))
    uses = {
        "encode": lambda: run.encode(x),
        "reconstruct": lambda: run.reconstruct(x),
        "interpolate": lambda: run.interpolate(x[0], x[1], 4),
        "score": lambda: score(run, run.spec.to_model(x), 5, 0)["elbo"],
    }
    for name, use in uses.items():
        torch.manual_seed(1)
        first = use()
        torch.manual_seed(2)
        assert torch.equal(first, use()), name
    assert torch.equal(run.encode(x), run.posterior(x)["z"].mean)


def test_peers_4_10_a_validation_is_a_mean_over_examples_not_over_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches of 30, 30 and 10: every example has the same weight.

    An autoencoder, so that nothing is random.
    """
    run = untrained("digits", "ae")
    split = run.data.valid.select(torch.arange(70))
    monkeypatch.setattr("tightbound.training.validation.BATCH", 30)
    found = Validator(split, OBJECTIVES["distortion"](), run.config)(run.model).figures
    with torch.no_grad():
        each = run.model(
            Batch(split.batch(torch.arange(70))), Draw(source="point")
        ).distortion.double()
    by_batch = torch.stack([part.mean() for part in each.split(30)]).mean()
    assert abs(float(by_batch - each.mean())) > 1e-3
    assert math.isclose(found["distortion"], float(each.mean()), rel_tol=1e-6)
    assert math.isclose(found["objective"], float(each.mean()), rel_tol=1e-6)


def test_peers_4_18_no_example_is_trained_on_and_tested_on() -> None:
    data = data_room.load("digits", data_room.DataSettings())
    sets = [
        {
            row.tobytes()
            for row in np.asarray(s.batch(torch.arange(len(s)))).reshape(len(s), -1)
        }
        for s in (data.train, data.valid, data.test)
    ]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert min(map(len, sets)) > 100


class Watched(Elbo):
    """Keeps the rows that a step learns from."""

    rows: ClassVar[set[bytes]] = set()

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        if torch.is_grad_enabled():
            self.rows.update(row.tobytes() for row in trace.batch.x.float().numpy())
        return super().__call__(trace, clock)


def test_peers_4_18_what_is_trained_on_is_the_training_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "rows", set())
    run = load(
        small_run(tmp_path / "run", "vae", objective=f"{__name__}:Watched", steps=30),
        trust=True,
    )
    train, valid, test = (
        {row.tobytes() for row in split.batch(torch.arange(len(split))).float().numpy()}
        for split in (run.data.train, run.data.valid, run.data.test)
    )
    assert (
        len(Watched.rows) > 500
        and train >= Watched.rows
        and not Watched.rows & (valid | test)
    )


def test_peers_4_19_and_4_20_a_name_says_the_sign_and_the_unit() -> None:
    """Of masses, elbo and log_px are below 0, distortion and rate above; a sum over dimensions, not
    a mean.
    """
    run = untrained("digits", "vae")
    x = run.data.test.batch(torch.arange(20))
    found = score(run, x, 50, 0)
    assert resolve_domain(Recipe(), run.spec)[1].discrete
    assert (found["log_px"] < 0).all() and (found["elbo"] < found["log_px"] + 3).all()
    assert torch.allclose(
        found["elbo"], -found["distortion"] - found["rate"], atol=1e-6
    )
    assert (found["distortion"] > 0).all() and (found["rate"] >= 0).all()
    least = 0.2 * run.spec.dims  # no untrained model says a pixel of 17 levels in less
    assert (found["distortion"] > least).all()
