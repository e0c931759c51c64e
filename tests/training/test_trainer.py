"""The training loop: resuming, skipping bad steps, keeping the best, stopping, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from support.trainings import SMALL, Listener, train, weights
from torch import Tensor

from tightbound.components.objectives.elbo import Elbo
from tightbound.config import configure
from tightbound.core.component import Objective
from tightbound.core.draw import Clock
from tightbound.core.trace import Trace
from tightbound.runs.run import Run, load
from tightbound.runtime.atomic_files import load_weights
from tightbound.runtime.errors import TightboundError
from tightbound.training import trainer as trainer_module
from tightbound.training.console import Quiet
from tightbound.training.run_training import fit
from tightbound.training.trainer import Interrupted

SGD = {
    "train.optimizer": "torch.optim.SGD",
    "train.optimizer_options": {"momentum": 0.9},
    "train.lr": 1e-4,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "ae": ("ae", {}),
    "iwae": ("iwae", {"k": 4}),
    "hvae": ("hvae", {"latent": (3, 2)}),
    "sgd without averages": ("vae", SGD | {"train.ema": 0}),
    "adamax": ("vae", {"train.optimizer": "torch.optim.Adamax"}),
    "optimal scale": ("vae", {"likelihood": "gaussian", "likelihood.scale": "optimal"}),
    "critic": ("vae-gan", {"data.domain": "real"}),
    "conditional": ("conditional", {}),
    "augmented": ("vae", {"data.augment": "flip,shift", "data.binarize": "dynamic"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_ctrl_c_then_resume_gives_the_same_bytes(tmp_path: Path, variant: str) -> None:
    recipe, values = VARIANTS[variant]
    train(tmp_path / "whole", recipe=recipe, **values)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", Listener(press_at=20), recipe=recipe, **values)
    said = Listener()
    train(tmp_path / "cut", said, recipe=recipe, resume=True, **values)
    assert any("resumed" in line and "step 20 of 60" in line for line in said.said)
    assert len(weights(tmp_path / "cut")) == 1 + ("train.ema" not in values)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_loader_resumes_by_epoch(tmp_path: Path) -> None:
    """The loader's own batches set the length of an epoch; an interrupted epoch begins again."""
    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(torch.randn(80, 5))

    def go(show: Quiet, resume: bool) -> Run:
        loader = torch.utils.data.DataLoader(rows, batch_size=20, shuffle=True)
        values = SMALL | {
            "train.steps": "auto",
            "train.epochs": 6,
            "train.validate_every": 8,
            "train.batch": 128,
        }
        values.pop("data.limit")
        return fit(
            configure("", "vae", values=values),
            loader,
            tmp_path / "run",
            show,
            mode="resume" if resume else "new",
        )

    with pytest.raises(Interrupted):
        go(Listener(press_at=8), False)
    said = Listener()
    run = go(said, True)
    assert run.config.train.steps == 24, "six epochs of four batches of twenty"
    assert any("step 8 of 24" in line for line in said.said)
    assert any("resumes at the start of its epoch" in line for line in said.said)
    assert not run.data.held_out


def test_resume_continues_the_log_without_a_gap_or_a_repeat(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "run", Listener(press_at=40))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"event": "epoch", "step": 60, "torn": true}\n{"half')
    run = train(tmp_path / "run", resume=True)
    assert [r["step"] for r in run.history()] == [20, 40, 60]
    assert not any("torn" in r for r in run.history())


def test_notes_from_before_the_first_step_are_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run keeps its log when the trainer has something to say while it is made."""
    original = trainer_module.distributed_execution

    def says(step: Any, settings: Any, say: Any, launch: Any) -> Any:
        say("not compiled")
        return original(step, settings, say, launch)

    monkeypatch.setattr(trainer_module, "distributed_execution", says)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", Listener(press_at=40))
    run = train(tmp_path / "run", resume=True)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["event"] for r in records[:2]] == ["start", "note"]
    assert [r["note"] for r in records if "note" in r].count("not compiled") == 2
    assert [r["step"] for r in run.history()] == [20, 40, 60]


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b")
    train(tmp_path / "c", seed=1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert (
        weights(tmp_path / "a")["model.safetensors"]
        != weights(tmp_path / "c")["model.safetensors"]
    )


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tmp_path / "run", train__steps="auto", train__budget=4.0)
    assert torch.equal(torch.rand(3), expected)


def test_a_damaged_newest_state_falls_back_and_says_so(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", Listener(press_at=40))
    newest = tmp_path / "cut" / "state" / "state-40.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    said = Listener()
    train(tmp_path / "cut", said, resume=True)
    assert any("damaged" in line and "step 20" in line for line in said.said)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    train(tmp_path / "run")
    config = configure("shapes", "vae", values=SMALL)
    with pytest.raises(TightboundError, match="not those that"):
        fit(config, "shapes", tmp_path / "run", Quiet(), mode="resume")


class Faulty(Objective):
    """The ELBO, but not finite at the steps whose share of the run is listed."""

    bad: ClassVar[tuple[range, ...]] = ()

    def __call__(self, trace: Trace, clock: Clock) -> Any:
        loss = Elbo()(trace, clock)
        step = round(float(clock.progress) * 60)
        return loss * float("nan") if any(step in r for r in Faulty.bad) else loss


FAULTY = {"objective": "tests_faulty:Faulty"}


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Any:
    import sys
    import types

    module = types.ModuleType("tests_faulty")
    module.Faulty = Faulty  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_faulty", module)
    monkeypatch.setattr(Faulty, "bad", ())
    return Faulty


@pytest.mark.parametrize(
    "optimizer", ["torch.optim.AdamW", "torch.optim.Adagrad", "torch.optim.Adamax"]
)
def test_a_step_that_is_not_finite_is_left_out_and_counted(
    tmp_path: Path, faulty: Any, optimizer: str
) -> None:
    faulty.bad = (range(15, 18), range(30, 31))
    show = Listener()
    run = train(tmp_path / "run", show, train__optimizer=optimizer, **FAULTY)
    assert show.records[-1]["skipped"] == 4
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert show.records[-1]["valid"]["elbo"] > show.records[0]["valid"]["elbo"]


def test_ten_bad_steps_in_a_row_end_the_run_and_the_good_weights_stay(
    tmp_path: Path, faulty: Any
) -> None:
    faulty.bad = (range(25, 60),)
    with pytest.raises(TightboundError, match=r"10 steps in a row .* train\.lr"):
        train(tmp_path / "run", **FAULTY)
    state, _ = load_weights(tmp_path / "run" / "ema.safetensors")
    assert all(torch.isfinite(v).all() for v in state.values())
    assert torch.isfinite(load(tmp_path / "run", trust=True).sample(2)).all()


def test_an_exploding_gradient_is_left_out() -> None:
    from tightbound.config import TrainSettings
    from tightbound.training.step.gradient_guard import SETTLED, GradientGuard

    guard, loss = GradientGuard(TrainSettings(), torch.device("cpu")), torch.tensor(1.0)

    def check(norm: float, loss: torch.Tensor = loss) -> tuple[bool, float]:
        ok, divisor = guard.check(
            [loss], [torch.tensor([norm, 0.0]), torch.tensor(0.0)]
        )
        return bool(ok), 1.0 if divisor is None else float(divisor)

    for step in range(SETTLED + 30):
        assert check(1.0 + 0.1 * (step % 3)) == (True, 1.0)
    ok, divisor = check(50.0)
    assert ok and divisor == pytest.approx(50 / (5 * 1.1), rel=0.01), (
        "cut to clip x the running mean"
    )
    assert (
        not check(1e6)[0] and not check(float("nan"))[0] and not check(float("inf"))[0]
    )
    assert not check(1.0, torch.tensor(float("nan")))[0]
    assert check(1.0)[0]
    guard.read_norms()
    counts = (guard.skipped, guard.skipped_in_a_row, guard.most_skipped_in_a_row)
    assert counts == (4, 0, 4)
    assert check(1.0) == (True, 1.0), "what was left out moved no mean"
    fresh = GradientGuard(TrainSettings(), torch.device("cpu"))
    fresh.load_state_dict(guard.state_dict())
    assert (
        fresh.check([loss], [torch.tensor(9.0)])[1]
        == guard.check([loss], [torch.tensor(9.0)])[1]
    )


def test_the_best_weights_are_kept_and_early_stopping_says_why(tmp_path: Path) -> None:
    show = Listener()
    run = train(
        tmp_path / "run",
        show,
        train__steps=2000,
        data__limit=40,
        train__lr=0.01,
        train__ema=0,
        train__patience=3,
    )
    elbos = [r["valid"]["elbo"] for r in run.history()]
    best = max(range(len(elbos)), key=elbos.__getitem__)
    assert best == len(elbos) - 4, (
        "three validations without a better one, then the end"
    )
    assert any(
        "stopped early" in line and "train.patience" in line for line in show.said
    )
    assert any("stops early after 3 validations" in line for line in show.said), (
        "patience is stated at the start"
    )
    assert not (tmp_path / "run" / "ema.safetensors").exists()
    again = train(tmp_path / "run", resume=True)
    assert torch.equal(again.sample(3), run.sample(3))


def test_figures_of_the_log_do_not_depend_on_the_weights_of_the_objective(
    tmp_path: Path,
) -> None:
    show = Listener()
    train(
        tmp_path / "run",
        show,
        recipe="beta-vae",
        **{"objective.beta": 25.0, "objective.warmup": 0.5},
    )
    for record in show.records:
        for part in (record["valid"], record["train"]):
            assert part["elbo"] == pytest.approx(
                -part["distortion"] - part["rate"], abs=1e-3
            )


def test_weight_of_the_rate_warms_up_over_a_share_of_the_run() -> None:
    assert [Clock(p).ramp(0.5) for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]


class Timed(Elbo):
    """Notes the progress that each step is told of, and that of validations."""

    clocks: ClassVar[list[float]] = []

    def __call__(self, trace: Trace, clock: Clock) -> Tensor:
        self.clocks.append(
            float(clock.progress) if torch.is_grad_enabled() else -float(clock.progress)
        )
        return super().__call__(trace, clock)


def test_a_run_goes_through_its_whole_clock_and_is_judged_by_its_end(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Peer bugs 4.14, a warm-up longer than the run, and 4.13, another weight of the rate in
    validation.
    """
    monkeypatch.setattr(Timed, "clocks", [])
    run = train(
        tmp_path / "run",
        objective=f"{__name__}:Timed",
        objective__warmup=0.5,
        train__ema=0,
    )
    steps, validations = (
        [t for t in Timed.clocks if (t >= 0) == is_step] for is_step in (True, False)
    )
    assert steps == pytest.approx([step / 60 for step in range(60)])
    assert set(validations) == {-1.0}
    for record in run.history():
        valid = record["valid"]
        assert valid["objective"] == pytest.approx(
            valid["distortion"] + valid["rate"], rel=1e-5
        )


def test_config_is_complete_and_resolved(tmp_path: Path) -> None:
    run = train(tmp_path / "run", train__steps="auto", train__epochs=5)
    config = load(tmp_path / "run").config
    assert config == run.config.model_copy(update={"spec": config.spec})
    assert isinstance(config.train.steps, int)
    assert "auto" not in (
        config.recipe.network.name,
        config.recipe.size,
        config.recipe.likelihood.name,
    )
    assert (
        json.loads((tmp_path / "run" / "environment.json").read_text())["threads"]
        == torch.get_num_threads()
    )


def test_a_budget_becomes_a_number_of_steps(tmp_path: Path) -> None:
    run = train(
        tmp_path / "run",
        train__steps="auto",
        train__budget=4.0,
        train__validate_every="auto",
    )
    assert isinstance(run.config.train.steps, int)
    assert run.config.train.steps > 20
    said = Listener()
    short = train(tmp_path / "short", said, train__steps="auto", train__budget=0.01)
    assert short.config.train.steps == 1, "what can be trained is trained, and said"
    assert [line for line in said.said if "too short" in line and "allow" in line]
    assert short.history()[-1]["step"] == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train__optimizer": "torch.optim.Adom"}, "cannot be imported"),
        ({"train__optimizer_options": {"momentun": 1}}, "does not take"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"train__lr": -1}, "train.lr"),
        ({"train__stepz": 1}, "did you mean 'steps'"),
        ({"latnet": 1}, "latent"),
        ({"network": "conv3"}, "network"),
    ],
)
def test_bad_settings_get_a_sentence(
    tmp_path: Path, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TightboundError, match=sentence):
        train(tmp_path / "run", **values)


@pytest.mark.parametrize(
    "bad",
    [{"prior": "standrad"}, {"train.optimizer": "torch.optim.Adom"}, {"beta": "x"}],
)
def test_overwriting_begins_only_when_all_settings_work(
    tmp_path: Path, bad: dict[str, Any]
) -> None:
    train(tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(TightboundError):
        config = configure("digits", values=SMALL | bad)
        fit(config, "digits", tmp_path / "run", Quiet(), mode="overwrite")
    assert weights(tmp_path / "run") == before
    with pytest.raises(TightboundError):
        fit(
            configure("digits", values=SMALL | bad), "digits", tmp_path / "new", Quiet()
        )
    assert not (tmp_path / "new" / "config.toml").exists(), (
        "the corrected command finds the folder free"
    )


def test_a_resumed_run_does_not_run_code_that_its_config_names(
    tmp_path: Path, faulty: Any
) -> None:
    train(tmp_path / "run", **FAULTY)
    with pytest.raises(TightboundError, match="trust=True"):
        train(tmp_path / "run", resume=True)


def test_a_recipe_among_the_settings_is_the_recipe() -> None:
    assert configure("digits", values={"recipe": "ae"}).recipe.posterior.name == "delta"
    with pytest.raises(TightboundError, match="did you mean 'vae'"):
        configure("digits", values={"recipe": "veea"})
    with pytest.raises(TightboundError, match="not for setting"):
        configure("digits", values={"format_version": 9})


def test_a_run_is_never_overwritten_unasked_and_other_folders_never(
    tmp_path: Path,
) -> None:
    train(tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(TightboundError, match=r"--resume .* --overwrite"):
        train(tmp_path / "run")
    assert weights(tmp_path / "run") == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(b"mine")
    with pytest.raises(TightboundError, match="not a run"):
        fit(
            configure("digits", values=SMALL),
            "digits",
            tmp_path / "photos",
            Quiet(),
            mode="overwrite",
        )
    assert (tmp_path / "photos" / "one.png").read_bytes() == b"mine"
    fit(
        configure("digits", values=SMALL | {"seed": 3}),
        "digits",
        tmp_path / "run",
        Quiet(),
        mode="overwrite",
    )
    assert weights(tmp_path / "run") != before
