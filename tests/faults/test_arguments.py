"""Arguments of wrong types or out of range, in Python and on the command line."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tightbound as tb
from tightbound import cli
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.priors import PRIORS
from tightbound.core.data_spec import DataSpec
from tightbound.models.build import build, resolve
from tightbound.models.recipes import Recipe, part
from tightbound.runtime import memory
from tightbound.runtime.errors import TightboundError

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
QUICK = {"recipe.size": "s", "train.steps": 2, "train.validate_n": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tb.Run:
    folder = tmp_path_factory.mktemp("arguments") / "run"
    return tb.train(
        "digits", latent=2, out=folder, settings=QUICK, display="none", report=False
    )


def refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(TightboundError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("k", [0, 2.5, "a", -1, math.nan, None, True, 10**9, [3]])
def test_samples_are_a_whole_number_in_range(run: tb.Run, k: Any) -> None:
    refused(lambda: tb.evaluate(run, k=k), "k = .* cannot be used: give a whole number")
    estimator = tb.VAEEstimator(latent=2, steps=2, k=k)
    refused(lambda: estimator.fit(X), "k = .* cannot be used: give a whole number")


@pytest.mark.parametrize("seed", [-1, 10**30, 2.5, "a", math.nan])
def test_seeds_are_whole_numbers_in_range(run: tb.Run, seed: Any) -> None:
    refused(lambda: run.sample(2, seed=seed), "seed = .* cannot be used")
    refused(lambda: run.vary("digits:0", 2, seed=seed), "seed = .* cannot be used")
    refused(lambda: tb.evaluate(run, seed=seed, k=2), "seed = .* cannot be used")
    refused(lambda: tb.train("digits", seed=seed), "seed = .* cannot be used")
    refused(
        lambda: tb.VAEEstimator(latent=2, steps=2, random_state=seed).fit(X),
        "random_state = .* cannot be used",
    )


@pytest.mark.parametrize("settings", ["lr=1", 3, ["lr"], {3: 4}])
def test_settings_are_a_dict(run: tb.Run, settings: Any) -> None:
    message = "settings = .* cannot be used: give a dict"
    refused(lambda: tb.train("digits", settings=settings), message)
    refused(lambda: tb.build("vae", X, settings=settings), message)
    refused(lambda: tb.demo(settings=settings), message)
    refused(lambda: tb.fit_prior(run, "normal", settings=settings), message)
    refused(lambda: tb.VAEEstimator(settings=settings).fit(X), message)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": -1},
        {"steps": 2.5},
        {"steps": "a"},
        {"epochs": math.nan},
        {"epochs": -1.0},
        {"latent": 2.5},
        {"latent": math.nan},
        {"latent": 0},
        {"recipe": 3},
        {"recipe": ["vae"]},
    ],
)
def test_parameters_of_the_estimator(values: dict[str, Any]) -> None:
    refused(lambda: tb.VAEEstimator(**values).fit(X), "cannot be used|unknown recipe")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.lr", math.nan),
        ("train.lr", math.inf),
        ("train.ema", math.nan),
        ("data.valid", math.nan),
        ("objective.beta", math.nan),
        ("objective.beta", math.inf),
        ("train.steps", -1),
        ("train.budget", math.inf),
    ],
)
def test_numbers_are_finite(tmp_path: Path, key: str, value: float) -> None:
    values = {**QUICK, "objective": "elbo", key: value}
    name = key.rpartition(".")[2]
    refused(
        lambda: tb.train(X, out=tmp_path / "run", settings=values, display="none"),
        f"{name} = .*(cannot be used|none of its values|give)",
    )


@pytest.mark.parametrize("n", [0, -1, 2.5, "a", math.nan, 10**12])
def test_counts_of_examples(run: tb.Run, n: Any) -> None:
    refused(lambda: run.sample(n), "cannot make")
    refused(lambda: run.vary("digits:0", n), "cannot make")
    refused(lambda: run.interpolate("digits:0", "digits:1", n), "cannot make")
    refused(
        lambda: tb.evaluate(run, limit=n, k=2), "limit = .* cannot"
    ) if n != 10**12 else None


@pytest.mark.parametrize("temperature", [-1, math.nan, math.inf, "a", None])
def test_temperatures_are_numbers_from_0(run: tb.Run, temperature: Any) -> None:
    refused(lambda: run.sample(2, temperature=temperature), "temperature = .* cannot")


def test_a_sample_that_does_not_fit_in_memory(
    run: tb.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_bytes", lambda: 8 * 10**9)
    refused(lambda: run.sample(10**9), "a sample of 1000000000 examples needs 512.0 GB")


# ---- every pair of a prior and a posterior


def spec() -> DataSpec:
    return DataSpec(shape=(8,), domain="real", rows=60)


def resolved(prior: str, posterior: str, objective: str = "elbo") -> Recipe:
    recipe = Recipe(
        prior=part(prior),
        posterior=part(posterior),
        objective=part(objective),
        size="s",
        latent=40,
        likelihood=part("gaussian"),
    )
    return resolve(recipe, spec())


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_pair_is_built_or_refused_with_parts_that_are_not_refused_next(
    prior: str, posterior: str
) -> None:
    objective = "distortion" if posterior == "delta" else "elbo"
    try:
        recipe = resolved(prior, posterior, objective)
    except TightboundError as error:
        advice = str(error).rpartition(": set ")[2]
        kind, _, names = advice.partition(" ")
        if ": set " not in str(error) or kind not in ("prior", "posterior"):
            return
        for name in names.split(" or "):
            chosen = {"prior": prior, "posterior": posterior, kind: name}
            if chosen["posterior"] != "delta" or objective == "distortion":
                try:
                    resolved(**chosen, objective=objective)
                except TightboundError as next_error:
                    # both parts are wrong: then the next refusal is about another one
                    assert (
                        f"{kind} {name!r}" not in str(next_error) or objective != "elbo"
                    )
        return
    build(recipe, spec())


def test_parts_with_latents_of_their_own_do_not_go_with_hamiltonian_moves() -> None:
    for posterior in ("hamiltonian", "riemannian"):
        refused(
            lambda: resolved("two-stage", posterior),  # noqa: B023
            "follows the gradient of log p.*set prior standard or",
        )


# ---- standard streams


def shell(command: str) -> subprocess.CompletedProcess[str]:
    program = f'"{sys.executable}" -m tightbound'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command.replace('TB', program)}"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )


def test_a_reader_that_has_ended_ends_the_command_without_a_word() -> None:
    """As `| head -1` does; the pipe has no reader when the command starts."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tightbound", "recipes", "--json"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            check=False,
        )
    finally:
        os.close(write)
    assert ended.returncode == 141
    assert ended.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("TB recipes --json >&-", 0, ""),
        ("TB recipes --json <&- >&- 2>&-", 0, ""),
        ("TB recipes --json >/dev/full", 2, "cannot write the output (no room"),
        ("TB nonsense 2>/dev/full", 2, ""),
        ("TB nonsense 2>&-", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(command: str, status: int, words: str) -> None:
    ended = shell(command)
    assert ended.returncode == status
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr


def test_messages_hold_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "a\x1b[2J\x07b.npy"
    bad.write_bytes(b"no array")
    assert cli.main(["train", str(bad)]) == 2
    error = capsys.readouterr().err
    assert "a\\x1b[2J\\x07b.npy holds Python objects" in error
    assert error.replace("\n", "").isprintable()
    settings = tmp_path / "mine.toml"
    for text, match in (
        ('"\\u001b[2J" = 1', "has no key '\\x1b[2J'"),
        ("k" * 100_000 + " = 1", "has no key 'kkk"),
        ("seed = 0x" + "f" * 5000, "seed = a number of more than 4,300 digits"),
    ):
        settings.write_text(text)
        assert cli.main(["train", "digits", "--config", str(settings)]) == 2
        error = capsys.readouterr().err
        assert match in error
        assert len(error) < 1000 and error.replace("\n", "").isprintable()
