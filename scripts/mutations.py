"""Put faults into a copy of the package, one at a time, and check that a test fails for each.

    python scripts/mutations.py                  all faults
    python scripts/mutations.py --only TEXT      those whose description contains TEXT
    python scripts/mutations.py --check-texts    only that each old text occurs once

Exits with 1 if a fault passes its test, if a test fails without a fault, or if a text to replace
does not occur exactly once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src") / "tightbound"
COPIED = ("src", "tests", "docs", "examples", "scripts", "benchmarks")
FILES = ("pyproject.toml", "README.md", "README.ko.md", "LICENSE", "Makefile")
PASSED, FAILED = 0, 1  # exit statuses of pytest


@dataclass(frozen=True)
class Mutation:
    """A fault, and the test that must notice it.

    Args:
        fault: What is wrong with it.
        file: Path below src/tightbound.
        old: Text that occurs once in the file.
        new: Text that takes its place.
        test: Test below tests/, FILE::NAME.
    """

    fault: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = (
    Mutation(
        "the ELBO adds the rate",
        "core/trace.py",
        "return -self.distortion - self.rate",
        "return -self.distortion + self.rate",
        "models/test_linear_gaussian.py::test_elbo_with_closed_form_rate_is_log_px_on_average",
    ),
    Mutation(
        "the importance-weighted bound lacks -log K",
        "core/trace.py",
        "torch.full_like(self.log_px, -math.log(self.k))",
        "torch.zeros_like(self.log_px)",
        "models/test_linear_gaussian.py::"
        "test_importance_bound_grows_with_k_and_never_exceeds_log_px",
    ),
    Mutation(
        "samples and examples are swapped",
        "core/trace.py",
        "self._log_px = term.reshape(self.k, -1)",
        "self._log_px = term.reshape(-1, self.k).T",
        "models/test_linear_gaussian.py::"
        "test_samples_are_laid_out_sample_major_and_axes_are_not_swapped",
    ),
    Mutation(
        "a closed-form KL is used where p depends on z",
        "core/draw.py",
        "name != next(reversed(self.latents))",
        "False",
        "models/test_linear_gaussian.py::test_rate_in_closed_form_agrees_with_monte_carlo",
    ),
    Mutation(
        "a warm-up goes on above 1",
        "core/draw.py",
        "min(1.0, level)",
        "level",
        "components/test_objectives.py::test_ramp_rises_to_one_and_stays",
    ),
    Mutation(
        "beta weighs the reported rate",
        "training/step/module.py",
        "trace.rate.sum()",
        'trace.rate.sum() * getattr(self.objective, "beta", 1.0)',
        "components/test_objectives.py::test_step_sums_over_the_batch_whatever_the_objective",
    ),
    Mutation(
        "MIWAE groups the samples by the wrong axis",
        "components/objectives/importance.py",
        "terms.reshape(m, -1, terms.shape[-1])",
        "terms.reshape(-1, m, terms.shape[-1])",
        "components/test_objectives_importance.py::"
        "test_miwae_averages_m_bounds_of_k_over_m_samples",
    ),
    Mutation(
        "DReG weighs by w instead of its square",
        "components/objectives/importance.py",
        ".softmax(0) ** 2",
        ".softmax(0)",
        "components/test_objectives_importance.py::"
        "test_the_expectation_of_the_doubly_reparameterised_gradient_is_that_of_the_bound",
    ),
    Mutation(
        "free bits are a ceiling",
        "components/objectives/elbo.py",
        "clamp(min=self.free_bits)",
        "clamp(max=self.free_bits)",
        "components/test_objectives.py::"
        "test_free_bits_cost_nothing_below_the_floor_and_pull_nothing",
    ),
    Mutation(
        "the capacity is held from above only",
        "components/objectives/elbo.py",
        "off.abs()",
        "off.clamp(min=0)",
        "components/test_objective_formulas.py::test_capacity_is_held_from_both_sides",
    ),
    Mutation(
        "an exemplar is in its own prior",
        "components/priors/mixture.py",
        "if ctx.index is not None:",
        "if ctx.index is not None and not self.training:",
        "components/test_mixtures.py::test_an_exemplar_is_left_out_of_its_own_prior",
    ),
    Mutation(
        "noise of an evaluation depends on the place in the batch",
        "distributions/random.py",
        "for key in self.keys",
        "for key, _ in enumerate(self.keys)",
        "distributions/test_random.py::test_evaluation_noise_depends_on_the_example_alone",
    ),
    Mutation(
        "noise of a training step has another seed string",
        "training/noise.py",
        '"noise", step)',
        '"noises", step)',
        "training/test_step.py::test_noise_drawn_ahead_is_what_the_sites_would_have_drawn",
    ),
    Mutation(
        "the checksum of a training state is not verified",
        "training/checkpoint.py",
        'raise ValueError("its checksum does not match")',
        "pass",
        "training/test_checkpoint.py::"
        "test_a_damaged_state_falls_back_to_the_one_before_and_says_so",
    ),
    Mutation(
        "the checksum of weights is not verified",
        "runtime/atomic_files.py",
        'raise ValueError("its checksum does not match")',
        "pass",
        "training/test_checkpoint.py::test_damaged_weights_are_named",
    ),
    Mutation(
        "the worst weights are kept instead of the best",
        "training/trainer.py",
        "improved = objective < self.best.objective",
        "improved = self.best.step == 0 or objective > self.best.objective",
        "training/test_trainer.py::test_the_best_weights_are_kept_and_early_stopping_says_why",
    ),
    Mutation(
        "an exploding gradient is taken",
        "training/step/gradient_guard.py",
        "ok = checked <= self.largest_norm",
        "ok = checked <= torch.inf",
        "training/test_trainer.py::test_an_exploding_gradient_is_left_out",
    ),
    Mutation(
        "averaged weights are those of the last step",
        "training/optimization/ema.py",
        "1 - decay**stride",
        "decay**stride",
        "training/test_optimization.py::"
        "test_the_average_is_the_weighted_sum_of_all_weights_so_far",
    ),
    Mutation(
        "model units are given as raw units",
        "core/data_spec.py",
        "x = x * self.divisor",
        "x = x * 1.0",
        "core/test_data_spec.py::test_raw_and_domain_units_are_inverse",
    ),
    Mutation(
        "a prior is used with weights that it was not fitted to",
        "runs/fitted_prior.py",
        "if fingerprint(others) != self.weights:",
        "if not self.weights:",
        "runs/test_fitted_priors.py::test_a_prior_of_other_weights_or_a_damaged_one_is_refused",
    ),
    Mutation(
        "imputations do not weigh the samples",
        "runs/imputation.py",
        "weight = torch.cat(log_w).softmax(0)",
        "weight = torch.zeros_like(torch.cat(log_w)).softmax(0)",
        "runs/test_imputation.py::"
        "test_log_px_and_imputations_are_those_of_the_normal_distribution",
    ),
    Mutation(
        "a standard error is a standard deviation",
        "evaluation/statistic.py",
        "values.std() / math.sqrt(n)",
        "values.std()",
        "evaluation/test_evaluation.py::test_the_account_adds_up_and_has_errors",
    ),
)


def copy_tree(target: Path) -> None:
    """Copy what the tests read into a new folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, target / name)


def run_tests(folder: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy on the package of the copy."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
    paths = [f"tests/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", *options, *paths]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )


def wrong_texts(mutations: Sequence[Mutation]) -> list[str]:
    """A sentence for each text that does not occur exactly once, or test that is not there."""
    sentences = []
    for mutation in mutations:
        source = (ROOT / PACKAGE / mutation.file).read_text(encoding="utf-8")
        count = source.count(mutation.old)
        if count != 1:
            sentences.append(
                f"{mutation.fault}: {mutation.old!r} occurs {count} times in {mutation.file}"
            )
        file, _, name = mutation.test.partition("::")
        if f"def {name}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8"):
            sentences.append(f"{mutation.fault}: there is no test {mutation.test}")
    return sentences


def is_caught(folder: Path, mutation: Mutation) -> bool:
    """Put one fault into the copy, run its test, and take the fault out again."""
    path = folder / PACKAGE / mutation.file
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
    done = run_tests(folder, [mutation.test])
    path.write_text(source, encoding="utf-8")
    if done.returncode not in (PASSED, FAILED):
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    return done.returncode == FAILED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a fault's description")
    parser.add_argument("--check-texts", action="store_true")
    arguments = parser.parse_args()
    mutations = [m for m in MUTATIONS if arguments.only in m.fault]
    sentences = wrong_texts(mutations)
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    if sentences or arguments.check_texts:
        return int(bool(sentences))
    passed = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        folder = Path(temporary) / "copy"
        copy_tree(folder)
        without = run_tests(folder, sorted({m.test for m in mutations}))
        if without.returncode != PASSED:
            print(
                f"tests fail without a fault:\n{without.stdout[-3000:]}",
                file=sys.stderr,
            )
            return 1
        for mutation in mutations:
            start = time.perf_counter()
            caught = is_caught(folder, mutation)
            seconds = time.perf_counter() - start
            result = "caught" if caught else "PASSED ITS TEST"
            print(f"{result} ({seconds:.0f} s): {mutation.fault}", flush=True)
            if not caught:
                passed.append(mutation)
    print(f"{len(mutations) - len(passed)} of {len(mutations)} faults are caught")
    return int(bool(passed))


if __name__ == "__main__":
    sys.exit(main())
