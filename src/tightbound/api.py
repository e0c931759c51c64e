"""What `import tightbound as tb` offers: train, evaluate, compare, load, demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tightbound import report as report_room
from tightbound.config import Config, configure
from tightbound.evaluation import Evaluation
from tightbound.evaluation import evaluate as evaluate_run
from tightbound.evaluation.estimators.exact_terms import three_terms
from tightbound.models.recipes import Recipe
from tightbound.report.page.text import LANGUAGES
from tightbound.runs.folder import (
    Mode,
    RunFolder,
    check_resumed_recipe,
    choose_folder,
    free_folder,
    resumed_source,
    source_setting,
)
from tightbound.runs.run import Run, load
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.runtime.launch_context import join_launch
from tightbound.runtime.progress import listening
from tightbound.training import budget as schedule
from tightbound.training.console import Display, Quiet, display
from tightbound.training.fit_prior import fit_prior
from tightbound.training.run_training import fit
from tightbound.training.trainer import Interrupted

__all__ = ["compare", "demo", "evaluate", "fit_prior", "load", "train"]

FIRST_K, FIRST_N, FIRST_VALUES = 100, 1000, 100_000_000
DEMO = {"recipe.size": "s", "train.steps": 800}


class Stopped(Interrupted):
    """Ctrl-C in training: the state is saved in `folder`, and `train(..., out=folder, resume=True)`
    goes on.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"training in {folder} was interrupted and its state is saved: "
            "resume=True, out=... goes on"
        )
        self.folder = folder


def train(
    source: Any = None,
    recipe: str | Recipe | None = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    seed: int | None = None,
    resume: bool = False,
    trust: bool = False,
    overwrite: bool = False,
    budget: str | float | None = None,
    device: str | None = None,
    valid: Any = None,
    test: Any = None,
    display: str | Display = "auto",
    report: bool = True,
    lang: str = "en",
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Run:
    """Trains a model (recipe "vae" unless told otherwise) and returns its Run, best weights first.

    source: a built-in name, a path, an array, a tensor, a Dataset or a DataLoader; may be left out
    with `resume`. out: the run folder; `runs/<data>-<recipe>` or the next free name.  budget:
    "15min", "90s" or seconds. settings, more: keys of the config, with or without section:
    latent=16, settings={"data.binarize": "dynamic"}. trust: lets `resume` run code that the run's
    config names by import path. A first, quick evaluation and a report are written beside the
    weights unless `report` is False. Raises TightboundError, one sentence, for whatever is wrong
    with settings, data or folders.
    """
    show = _display(display)
    lookup(LANGUAGES, lang, "language")  # before the training, not after it
    mode = _mode(resume=resume, overwrite=overwrite)
    if source is None:
        _check_resumable(out, resume)
    given = {
        "seed": seed,
        "device": device,
        "train.budget": None if budget is None else schedule.seconds(budget),
    }
    values = {**(settings or {}), **more}
    values |= {key: value for key, value in given.items() if value is not None}
    named = source_setting(source, valid, test)
    wanted = configure(named, recipe, file=config, values=values)
    with join_launch(pick_device(wanted.device).type) as launch:
        show = show if launch.is_rank_zero else Quiet()
        place = launch.on_rank_zero(lambda: _place(out, source, wanted, mode))
        folder = RunFolder(place)
        if mode == "resume":
            named = launch.on_rank_zero(
                lambda: _resumed(folder, source, recipe, config, wanted, values)
            )
            source = named if source is None else source
        elif launch.on_rank_zero(folder.is_of_this_launch):
            # torchrun has restarted the processes of this launch
            mode = "resume"
            trust = True
        try:
            with listening(show.note):
                run = fit(
                    wanted,
                    source,
                    place,
                    show,
                    mode=mode,
                    splits={"valid": valid, "test": test},
                    trust=trust,
                )
            if report and launch.is_rank_zero:
                _finish([run], place / "report.html", show, lang)
        except KeyboardInterrupt as stop:
            if not folder.config_file.is_file():
                raise
            raise Stopped(place) from stop
    return run


def _mode(*, resume: bool, overwrite: bool) -> Mode:
    if resume and overwrite:
        raise TightboundError(
            "--resume and --overwrite contradict each other: give one of them"
        )
    if resume:
        return "resume"
    return "overwrite" if overwrite else "new"


def _check_resumable(out: str | Path | None, resume: bool) -> None:
    """Without data, there must be a run to resume."""
    if not resume:
        raise TightboundError(
            "train needs data: a built-in name such as digits, or the path of your own"
        )
    if out is None:
        raise TightboundError(
            "resume needs the run to go on with: give --out RUN, or the data it was "
            "trained on"
        )


def _place(out: str | Path | None, source: Any, wanted: Config, mode: Mode) -> Path:
    if out is not None:
        return Path(out)
    return choose_folder(source, wanted.recipe.name, mode)


def _resumed(
    folder: RunFolder,
    source: Any,
    recipe: str | Recipe | None,
    file: str | Path | None,
    wanted: Config,
    values: Mapping[str, Any],
) -> str:
    """The data of the run to resume; refuses settings that differ from those it has."""
    recipe_name = None if recipe is None else wanted.recipe.name
    check_resumed_recipe(folder, recipe_name, has_settings_file=file is not None)
    return resumed_source(folder, source, wanted, values)


def evaluate(
    run: Run | str | Path,
    data: Any = None,
    *,
    split: str = "test",
    k: int = 5000,
    ais: bool = False,
    gap: bool = False,
    subset: int | None = None,
    seed: int | None = None,
    limit: int | None = None,
    budget: str | float | None = None,
    diagnosis: bool = True,
    tick: Any = None,
) -> Evaluation:
    """The three terms of log p(x), log p(x) with K samples and the gap, with standard errors, in
    nats per example.

    run: a Run or its folder.  data: other data than the run's own `split`.  limit: n examples only,
    spread evenly. On `subset` examples also: exact log p(x) of models with up to 3 latents; `ais`,
    bounds by annealed importance sampling; `gap`, the inference gap in its two parts.
    budget: "5min" or seconds, chooses all of these.  diagnosis: says what is wrong with the model.
    tick: called with (done, n, what).  What an interrupted call finished is kept in the run folder,
    and the same call goes on from it.  Processes of torchrun share the work, and all get the
    result. Raises TightboundError for data that do not fit the model.
    """
    seconds = None if budget is None else schedule.seconds(budget)
    with join_launch(
        run.device.type if isinstance(run, Run) else pick_device("auto").type
    ):
        return evaluate_run(
            _run(run),
            data,
            split=split,
            k=k,
            ais=ais,
            gap=gap,
            subset=subset,
            seed=seed,
            limit=limit,
            budget=seconds,
            diagnosis=diagnosis,
            tick=tick,
        )


def compare(
    runs: Sequence[Run | str | Path] | Run | str | Path,
    out: str | Path = "report.html",
    *,
    lang: str = "en",
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes one HTML report of several runs side by side and returns its path.

    A run's `evaluation.json` is used where it is there; else a quick evaluation is made.
    Raises TightboundError where a run cannot be read, or the file exists and `overwrite` is False.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise TightboundError(
            f"{out} exists: add --overwrite to replace it, or choose another --out"
        )
    every = [runs] if isinstance(runs, Run | str | Path) else runs
    return report_room.write([_run(r) for r in every], out, lang=lang, title=title)


def demo(
    out: str | Path = "demo",
    *,
    lang: str = "en",
    display: str | Display = "auto",
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Trains an autoencoder and a VAE on the embedded digits and writes one report; returns its
    path.

    A third model, a VAE with two features, shows what cannot be computed for more: the true
    posterior and all three terms of log p(x).  out: a new folder, or the next free name (`demo-2`).
    settings, more: as for `train`.
    """
    lookup(LANGUAGES, lang, "language")  # before three trainings, not after them
    show = _display(display)
    folder = free_folder(Path(out))
    runs, given = [], DEMO | dict(settings or {})
    for name, recipe, own in (
        ("ae", "ae", {}),
        ("vae", "vae", {}),
        ("two-features", "vae", {"latent": 2}),
    ):
        show.note(f"training {name} on digits in {folder / name}")
        values = given | own
        runs.append(
            train(
                "digits",
                recipe,
                out=folder / name,
                display=show,
                report=False,
                settings=values,
                **more,
            )
        )
    *compared, two = runs
    _say_three_terms(two, show)
    return _finish(compared, folder / "report.html", show, lang, aside=[two])


def _say_three_terms(run: Run, show: Display) -> None:
    """The identity that a VAE is built on, each term computed by itself for one image."""
    t = three_terms(run.model, run.examples(run.data.test.select(torch.tensor([0]))))
    show.note(
        "two features, one test image, nats, each figure by an integral of its own:"
    )
    show.note(
        f"  E_q[log p(x|z)] - KL(q, p(z)) + KL(q, p(z|x)) = {t.fit:.4f} - "
        f"{t.rate:.4f} + {t.third:.4f}"
    )
    show.note(
        f"  log p(x) = {t.log_px:.4f}, and the three terms add up to it within "
        f"{abs(t.residual):.1e}"
    )


def _first_evaluation(run: Run) -> Evaluation:
    """A quick evaluation of the test split.

    K = 100, at most 1,000 examples, fewer where an example is large.
    """
    most = max(64, FIRST_VALUES // (FIRST_K * run.spec.dims))
    return evaluate_run(run, k=FIRST_K, limit=min(FIRST_N, most), subset=0)


def _finish(
    runs: Sequence[Run], path: Path, show: Display, lang: str, aside: Sequence[Run] = ()
) -> Path:
    """First evaluations, each kept in its run folder, and the report of `runs`."""
    evaluations = []
    for run in [*runs, *aside]:
        found = _first_evaluation(run)
        assert run.folder is not None
        found.save(run.folder)
        for line in found.lines():
            show.note(line)
        if found.bound:
            show.note(
                f"  a first look: tightbound evaluate {run.folder} takes K = "
                "5000 on the whole test split"
            )
        evaluations.append(found)
    return report_room.write(
        runs, path, lang=lang, evaluations=evaluations[: len(runs)], aside=aside
    )


def _run(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else load(run, device=str(pick_device("auto")))


def _display(kind: str | Display) -> Display:
    return display(kind) if isinstance(kind, str) else kind
