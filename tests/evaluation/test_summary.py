"""The summary of an evaluation: the table that is printed, and its HTML."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from tightbound.evaluation import Evaluation, Mean, saved
from tightbound.evaluation.diagnosis.diagnose import Diagnosis
from tightbound.evaluation.diagnosis.latent_usage import Latents
from tightbound.evaluation.diagnosis.measurements import Measurements
from tightbound.evaluation.diagnosis.rules import Verdict
from tightbound.evaluation.estimators.estimate import Estimate
from tightbound.evaluation.estimators.pareto import (
    WeightSums,
    standard_error,
    tail_length,
    tail_shape,
)
from tightbound.evaluation.headline import headline
from tightbound.evaluation.inference_gap import select
from tightbound.evaluation.measures import BDMCGap, InferenceGap, Method

TERMS = {
    "distortion": Mean(20.414, 0.271),
    "rate": Mean(10.0, 0.09),
    "elbo": Mean(-30.414, 0.28),
    "log_px": Mean(-29.0, 10.25),
    "gap": Mean(1.414, 0.05),
    "ess": Mean(40.2, 1.0),
}
UNRELATED = {"log_px": 0.0, "gap": 0.0}  # covariance with importance sampling
PARTS = {
    "gap": Mean(1.5, 0.1),
    "approximation": Mean(0.9, 0.2),
    "amortisation": Mean(0.6, 0.15),
}


def evaluation(exact: bool = True, **values: object) -> Evaluation:
    method = "quadrature" if exact else "importance or ais-q"
    gap = InferenceGap(method, exact, 60, PARTS, {}, 1.0)
    named: dict[str, object] = {
        "terms": TERMS,
        "bits_per_dim": {"elbo": Mean(0.68564, 0.01), "log_px": Mean(0.65, 0.01)},
        "curve": {1: Mean(-30.4, 0.3), 500: Mean(-29.0, 0.3)},
        "least_ess": 3.14,
        "methods": {
            "importance": Method(
                "lower", 300, Mean(-29.0, 0.3), 0.1, None, {}, [], 1.0
            ),
            "quadrature": Method(
                "exact",
                60,
                Mean(-28.5, 0.3),
                0.0,
                Mean(0.5, 0.1),
                {},
                [],
                1.0,
                None,
                UNRELATED,
            ),
        },
        "inference_gap": gap,
        "notes": ["300 of 900 examples, spread evenly"],
    }
    return Evaluation("vae", "test", 300, 500, 0, True, **(named | values))


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name}  "))


BY_IMPORTANCE = {
    "importance": Method("lower", 300, Mean(-29.0, 0.3), 0.1, None, {}, [], 1.0)
}


def test_an_exact_log_px_is_the_headline() -> None:
    """log p(x) of all examples is importance sampling's plus the difference on the subset."""
    shown = evaluation()
    best = shown.headline
    assert best is not None and not best.exact and best.method == "quadrature"
    assert best.log_px.mean == pytest.approx(-28.5)
    assert best.gap.mean == pytest.approx(1.914)
    assert best.gap.mean == pytest.approx(best.log_px.mean - TERMS["elbo"].mean)
    assert best.bits_per_dim is not None
    assert best.bits_per_dim.mean == pytest.approx(0.65 * 28.5 / 29.0)
    lines = str(shown).splitlines()
    assert lines[7].split()[:2] == ["log_px", "-28.50"]
    assert lines[7].endswith("estimated from 60 exact values, by quadrature")
    assert lines[8].endswith("estimated from 60 exact values")
    assert "log_px   0.6388" in re.sub("   +", "   ", str(shown))
    assert shown.to_json()["headline"]["log_px"]["mean"] == pytest.approx(-28.5)


@pytest.mark.parametrize(("above", "clear"), [(3.0, True), (0.03, False), (0.4, False)])
def test_ais_well_above_importance_sampling_is_the_headline_with_its_bracket(
    above: float, clear: bool
) -> None:
    difference = Mean(above, 0.3 if above == 0.4 else 0.01)
    annealed = Method("lower", 60, Mean(-26.0, 0.3), 0.1, difference, {}, [], 1.0)
    bdmc = BDMCGap(20, Mean(1, 1), Mean(1, 1), Mean(0.07, 0.02), [], {"start": "q"}, 1)
    methods = {**BY_IMPORTANCE, "ais-q": annealed}
    shown = evaluation(methods=methods, bdmc_gap=bdmc)
    assert (shown.headline is not None) == clear
    text = str(shown)
    limit = "at or below the truth, by at most about 0.07 (BDMC gap)"
    assert (f"from 60 values by ais-q, which are {limit}" in text) == clear
    assert row(text, "log_px").split()[1] == (
        f"{above - 29:.2f}" if clear else "-29.00"
    )


def test_a_bound_of_unknown_error_is_printed_as_one() -> None:
    tails = {"median": 0.5, "above_0.7": 0.1}
    heavy = Method("lower", 300, Mean(-29.0, 0.3), math.nan, None, {}, [], 1.0, tails)
    shown = evaluation(methods={"importance": heavy}, inference_gap=None)
    assert shown.one_sided and "≥ -29.00 ± 10.25" in row(str(shown), "log_px")
    assert "≥ 1.41" in re.sub(" +", " ", row(str(shown), "gap"))
    assert shown.to_json()["methods"]["importance"]["noise"] is None


def drawn(n: int, seed: int) -> tuple[Estimate, Estimate, dict[str, Mean]]:
    """Importance sampling and an exact method of n examples, and the terms of all."""
    generator = torch.Generator().manual_seed(seed)
    a, b, c = torch.randn(3, n, generator=generator, dtype=torch.float64)
    base = Estimate("importance", "lower", a, 0 * a, {"elbo": a - 1 - 0.3 * b.abs()})
    exact = Estimate("quadrature", "exact", a - 0.8 * a + 0.5 + 0.3 * c, 0 * a)
    gap = base.values - base.diagnostic["elbo"]
    elbo = Mean.of(base.diagnostic["elbo"])
    return base, exact, {"log_px": Mean.of(a), "gap": Mean.of(gap), "elbo": elbo}


def test_a_headline_of_all_examples_has_the_errors_of_its_own_values() -> None:
    base, exact, terms = drawn(200, 0)
    best = headline(terms, {"quadrature": Method.of(exact, 1.0, base)}, 200)
    assert best is not None and best.exact
    gap = Mean.of(exact.values - base.diagnostic["elbo"])
    for shown, value in ((best.log_px, Mean.of(exact.values)), (best.gap, gap)):
        assert shown.mean == pytest.approx(value.mean)
        assert shown.se == pytest.approx(value.se)
    independent = math.hypot(terms["log_px"].se, best.above.se)
    assert best.log_px.se < 0.6 * independent, "they share their examples"


def test_a_headline_of_some_examples_has_the_error_seen_over_draws() -> None:
    n, some = 200, 40
    shown = []
    for seed in range(500):
        base, exact, terms = drawn(n, seed)
        rows = torch.arange(some)
        method = Method.of(select(exact, rows), 1.0, select(base, rows))
        best = headline(terms, {"quadrature": method}, n)
        assert best is not None and not best.exact
        shown.append((best.log_px.mean, best.log_px.se, best.gap.mean, best.gap.se))
    values = torch.tensor(shown)
    for i in (0, 2):
        seen = float(values[:, i].std())
        assert float(values[:, i + 1].mean()) == pytest.approx(seen, rel=0.12)


def test_one_of_several_examples_gives_no_headline() -> None:
    base, exact, terms = drawn(20, 0)
    row = torch.arange(1)
    method = Method.of(select(exact, row), 1.0, select(base, row))
    assert headline(terms, {"quadrature": method}, 20) is None
    assert json.loads(json.dumps(method.to_json()))["covariance"] == {
        "log_px": None,
        "gap": None,
    }
    alone = headline(terms, {"quadrature": method}, 1)
    assert alone is not None and math.isnan(alone.log_px.se)


@pytest.mark.parametrize("higher", ["ais-q", "ais-prior"])
def test_the_method_of_the_headline_does_not_depend_on_the_larger_figure(
    higher: str,
) -> None:
    methods = {}
    for name in ("ais-prior", "ais-q"):
        above = Mean(3.0 if name == higher else 2.0, 0.1)
        methods[name] = Method("lower", 9, Mean(-26.0, 0.3), 0.1, above, {}, [], 1.0)
    best = headline(TERMS, methods, 9)
    assert best is not None and (best.method, best.exact) == ("ais-q", False)
    exact = Method("exact", 4, Mean(-28.0, 0.3), 0.0, Mean(0.5, 0.1), {}, [], 1.0)
    best = headline(TERMS, {**methods, "quadrature": exact}, 9)
    assert best is not None and best.method == "quadrature"


@pytest.mark.parametrize(
    ("k", "spread"), [(100, 1.0), (20, 0.1)], ids=["limit of k", "few"]
)
def test_a_bound_is_one_sided_where_an_example_has_no_error(
    k: int, spread: float
) -> None:
    """The error is missing by the upper limit of Pareto k, or for a K below 25.

    The fitted k itself is rarely above 0.7 for weights of this spread.
    """
    generator = torch.Generator().manual_seed(0)
    log_w = spread * torch.randn(k, 50, generator=generator, dtype=torch.float64)
    top = log_w.topk(min(k, tail_length(k) + 1), 0).values
    sums = WeightSums(k, log_w.logsumexp(0), (2 * log_w).logsumexp(0), top)
    values = sums.log_sum - math.log(k)
    error = standard_error(sums)
    below = torch.ones(50, dtype=torch.bool)
    if k >= 25:
        below = tail_shape(top) <= 0.7
    assert error[below].isnan().any(), "no error although the fitted k is below 0.7"
    diagnostic = {"pareto_k": torch.where(below, 0.5, torch.nan)}
    importance = Estimate("importance", "lower", values, error, diagnostic, {})
    shown = evaluation(
        methods={"importance": Method.of(importance, 1.0)}, inference_gap=None
    )
    tree = json.loads(json.dumps(shown.to_json()))
    assert shown.one_sided and saved.one_sided(tree)
    assert "≥ -29.00" in row(str(shown), "log_px")
    bits = str(shown).split("bits per dimension")[1]
    assert "≤ 0.6500" in row(bits, "log_px") and "≤" not in row(bits, "elbo")


def test_a_bound_of_known_error_has_no_sign() -> None:
    shown = evaluation(methods=BY_IMPORTANCE, inference_gap=None)
    assert not shown.one_sided and not saved.one_sided(shown.to_json())
    assert "≥" not in str(shown) and "≤" not in str(shown)


def test_the_terms_are_a_table_with_aligned_columns_and_units() -> None:
    text = str(evaluation(methods=BY_IMPORTANCE))
    lines = text.splitlines()
    assert lines[0] == "vae: 300 test examples, mean ± standard error"
    assert re.fullmatch(r"term +nats per example  definition", lines[2])
    assert set(lines[3]) == {"-"}
    assert [line.split()[0] for line in lines[4:9]] == list(TERMS)[:5]
    assert lines[4].endswith("20.41 ±  0.27  -E_q[log p(x|z)]")
    assert lines[7].endswith(
        "-29.00 ± 10.25  importance-sampled, K = 500: at or below the truth"
    )
    assert len({line.index("±") for line in lines[4:9]}) == 1


def test_bits_samples_and_estimates_are_shown_where_they_were_measured() -> None:
    text = str(evaluation())
    assert "elbo     0.6856 ± 0.0100  -elbo / (dimensions * log 2)" in re.sub(
        "   +", "     ", text
    )
    assert "effective samples: 40.2 of 500 on average, 3.1 at the least" in text
    assert "importance-sampled bound: -30.40 (K = 1), -29.00 (K = 500)" in text
    shown = row(text, "quadrature")
    assert shown.split() == [
        "quadrature",
        "60",
        "-28.50",
        "±",
        "0.30",
        "0.50",
        "±",
        "0.10",
        "exact",
    ]
    assert not any(line.startswith("importance  ") for line in text.splitlines())
    few = evaluation(bits_per_dim=None, curve={}, methods={}, inference_gap=None)
    for words in (
        "bits",
        "bound:",
        "quadrature",
        "inference gap",
        "BDMC",
        "overfitting",
    ):
        assert words not in str(few)


@pytest.mark.parametrize("exact", [True, False])
def test_the_inference_gap_says_how_it_is_known(exact: bool) -> None:
    text = str(evaluation(exact))
    how = "by quadrature (exact)" if exact else "by importance or ais-q (a lower bound)"
    assert f"inference gap, 60 test examples, {how}" in text
    sign = "" if exact else "≥ "
    assert f"{sign}1.50 ± 0.10" in text and f"{sign}0.90 ± 0.20" in text
    assert "≥ 0.60" not in text, "the amortisation gap does not depend on log p(x)"
    assert text.count("≥") == (0 if exact else 2)


def test_the_bdmc_gap_overfitting_and_training_examples_are_shown() -> None:
    bdmc = BDMCGap(
        20, Mean(1, 1), Mean(1, 1), Mean(0.031, 0.022), [], {"start": "q"}, 1
    )
    train = InferenceGap("quadrature", True, 50, PARTS, {}, 1.0)
    text = str(
        evaluation(bdmc_gap=bdmc, train=train, overfitting={"decoder": Mean(1.0, 0.5)})
    )
    assert "BDMC gap of ais-q: 0.031 ± 0.022 nats" in text
    assert "20 simulated examples" in text
    assert "inference gap, 50 train examples" in text
    assert "overfitting of the decoder: 1.00 ± 0.50 nats" in text


def test_the_diagnosis_and_the_notes_come_last() -> None:
    verdict = Verdict(
        "not trained enough",
        "more_steps",
        {
            "gained": 2.0,
            "error": 0.5,
            "steps": 7,
            "early": 1,
            "over": "late",
            "command": "tightbound train --out RUN --extend 993",
        },
    )
    latents = Latents(2, [], [], 0.5)
    measured = Measurements(0, 2, latents, None, None, None, ["the log"])
    lines = str(evaluation(diagnosis=Diagnosis(measured, [verdict]))).splitlines()
    assert lines[-3].startswith("diagnosis: not trained enough: ")
    assert "it was for 7 steps: tightbound train --out RUN --extend 993" in lines[-3]
    assert lines[-1] == "note: 300 of 900 examples, spread evenly"


def test_a_model_without_a_bound_has_its_distortion_and_the_reason() -> None:
    shown = Evaluation(
        "ae",
        "test",
        1,
        0,
        0,
        False,
        terms={"distortion": Mean(3.0, math.nan)},
        reason="its latent is a point",
    )
    text = str(shown)
    assert "distortion        3.00 ± nan  -log p(x|z)" in text
    assert text.endswith("\n\nits latent is a point")
    assert "elbo" not in text and "log_px" not in text
    assert shown.lines() == text.splitlines()


def test_html_has_the_same_content_and_is_escaped() -> None:
    shown = evaluation(False, notes=["<script>alert(1)</script> & more"])
    html = shown._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    assert html.count("<table>") == html.count("</table>") == 4
    assert '<th style="text-align:right">nats per example</th>' in html
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html)
    assert {"20.41 ±  0.27", "log_px", "approximation gap", "-E_q[log p(x|z)]"} <= set(
        cells
    )
    assert "<caption>inference gap, 60 test examples, by importance or ais-q" in html
    words = re.sub(r"<[^>]+>", " ", html)
    for line in shown.lines():
        if not line.startswith("-") and "±" not in line and "<" not in line:
            assert all(word in words for word in line.replace("&", "&amp;").split()), (
                line
            )
