"""The public verbs: train, evaluate, compare, load, fit_prior, demo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tightbound import report as report_room
from tightbound.config import configure
from tightbound.evaluation import Evaluation
from tightbound.evaluation import evaluate as evaluate_run
from tightbound.evaluation.estimators.exact_terms import three_terms
from tightbound.exporting import Exported, Format, export_run
from tightbound.models.recipes import Recipe
from tightbound.report.page.text import LANGUAGES
from tightbound.runs.data_source import stored_source
from tightbound.runs.folder import Mode, RunFolder
from tightbound.runs.run import Run, load
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, lookup
from tightbound.runtime.launch_context import join_launch
from tightbound.runtime.progress import listening
from tightbound.training.budget import parse_duration
from tightbound.training.console import Display, Quiet
from tightbound.training.console import display as display_of
from tightbound.training.fit_prior import fit_prior
from tightbound.training.own_loop import TrainingData
from tightbound.training.run_training import fit
from tightbound.training.trainer import Interrupted

__all__ = ["compare", "demo", "evaluate", "export", "fit_prior", "load", "train"]

# The first evaluation: K samples, at most so many examples, and at most so many values in all.
FIRST_K = 100
FIRST_N = 1000
FIRST_VALUES = 100_000_000
DEMO = {"recipe.size": "s", "train.steps": 800}


class Stopped(Interrupted):
    """Ctrl-C in training; `train(resume=True, out=folder)` continues the run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"training in {folder} was interrupted and its state is saved: "
            "resume=True, out=... goes on"
        )
        self.folder = folder


def train(
    data: Any = None,
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
    """Train a model and return its Run, with the weights of the best validation.

    Args:
        data: A built-in name, a path, an array, a tensor, a table, a Dataset or a DataLoader;
            may be left out with `resume`.
        recipe: The name of a recipe, or a Recipe; "vae" where None.
        out: The run folder; `runs/<data>-<recipe>` or the next free name where None.
        config: A TOML file of settings, such as a run's config.toml.
        seed: Of initialisation, data order, noise and evaluation.
        resume: Continue a training that was interrupted.
        trust: Let `config` or `resume` run code that a file of settings names by import path.
        overwrite: Replace the run in the folder.
        budget: "15min", "90s" or seconds; the number of steps is fitted to it.
        device: "auto", "cpu" or "cuda".
        valid: Data of its own for validation.
        test: Data of its own for testing.
        display: "auto", "life", "lines" or "none", or a Display.
        report: Write a first, quick evaluation and a report beside the weights.
        lang: Language of the report, "en" or "ko".
        settings: Keys of the config: {"data.binarize": "dynamic"}.
        more: The same as keyword arguments, without the section: latent=16.

    Raises:
        TightboundError: One sentence about settings, data or a folder that cannot be used.
        Stopped: Training was interrupted and its state is saved.

    Example:
        >>> import tempfile, tightbound as tb
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.train(
        ...         "digits", latent=2, out=folder + "/run", display="none", report=False,
        ...         settings={"train.steps": 20},
        ...     )
        >>> run.encode("digits").shape
        torch.Size([180, 2])
    """
    show = _display(display)
    lookup(LANGUAGES, lang, "language")  # before the training, not after it
    seconds = None if budget is None else parse_duration(budget)
    given = {"seed": seed, "device": device, "train.budget": seconds}
    values = {**(settings or {}), **more}
    values |= {key: value for key, value in given.items() if value is not None}
    mode = _mode(resume=resume, overwrite=overwrite)
    if data is None:
        _check_resumable(out, resume)
    source = stored_source(data, valid, test)
    requested = configure(source, recipe, file=config, values=values, trust=trust)
    with join_launch(pick_device(requested.device).type) as launch:
        show = show if launch.is_rank_zero else Quiet()
        path = None if out is None else Path(out)
        folder = launch.on_rank_zero(
            lambda: RunFolder.choose(path, data, requested.recipe.name, mode)
        )
        if mode == "resume":
            source = launch.on_rank_zero(
                lambda: folder.check_resumable(data, recipe, config, requested, values)
            )
            data = source if data is None else data
        elif launch.on_rank_zero(folder.is_of_this_launch):
            # torchrun has started the processes of this launch again
            mode = "resume"
        if mode == "resume" and not trust:
            launch.on_rank_zero(lambda: folder.check_code(requested))
            trust = True
        try:
            with listening(show.note):
                run = fit(
                    requested,
                    data,
                    folder.path,
                    show,
                    mode=mode,
                    splits={"valid": valid, "test": test},
                    trust=trust,
                )
            if report and launch.is_rank_zero:
                _finish([run], folder.report_file, show, lang)
        except KeyboardInterrupt as stop:
            if not folder.is_run:
                raise
            raise Stopped(folder.path) from stop
    return run


def _mode(*, resume: bool, overwrite: bool) -> Mode:
    if resume and overwrite:
        raise TightboundError(
            "--resume and --overwrite contradict each other: give one of them"
        )
    if resume:
        return "resume"
    if overwrite:
        return "overwrite"
    return "new"


def _check_resumable(out: str | Path | None, resume: bool) -> None:
    """Without data, there must be a run to resume."""
    if not resume:
        raise TightboundError(
            "train needs data: a built-in name such as digits, or the path of your own"
        )
    if out is None:
        raise TightboundError(
            "resume needs the run to go on with: give --out RUN, or the data it was trained on"
        )


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
    """Estimate the terms of log p(x) on a split, with standard errors.

    In nats per example,
    log p(x) = E_q[log p(x|z)] - KL(q(z|x), p(z)) + KL(q(z|x), p(z|x)): distortion, rate and
    inference gap, with log p(x) by importance sampling with K samples.

    Args:
        run: A Run or its folder.
        data: Other data than the run's own `split`; or the data of `tb.build`, whose `split`
            is then used.
        split: "train", "valid" or "test".
        k: Importance samples.
        ais: On `subset` examples, bounds by annealed importance sampling.
        gap: On `subset` examples, the two parts of the inference gap.
        subset: Number of examples for the slow estimates, exact log p(x) of models with up
            to 3 latents among them.
        seed: Of all draws; the run's own where None.
        limit: Number of examples, spread evenly; all where None.
        budget: "5min" or seconds; chooses k, subset and limit.
        diagnosis: Also check for known failures of the model.
        tick: Called with (done, n, what) as the work proceeds.

    Returns:
        The Evaluation; in a launch by torchrun, whose processes share the work, in each of
        them. What an interrupted call finished is kept in the run folder and used again.

    Raises:
        TightboundError: The data do not fit the model, or the split is unknown.

    Example:
        >>> import tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     evaluation = tb.evaluate(run, data=data, k=10, limit=20, diagnosis=False)
        >>> evaluation.terms["elbo"].mean <= evaluation.terms["log_px"].mean
        True
    """
    seconds = None if budget is None else parse_duration(budget)
    with join_launch(
        run.device.type if isinstance(run, Run) else pick_device("auto").type
    ):
        evaluated = _run(run)
        if isinstance(data, TrainingData):
            evaluated = evaluated.with_data(data.splits)
            data = None
        return evaluate_run(
            evaluated,
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
    """Write one HTML report of several runs side by side.

    A run's `evaluation.json` is used if there is one, else a quick evaluation.

    Args:
        runs: Runs or their folders.
        out: The file to write.
        lang: Language of the report, "en" or "ko".
        title: Title of the report.
        overwrite: Replace the file if it exists.

    Returns:
        The path of the report.

    Raises:
        TightboundError: A run cannot be read, or the file exists.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     tb.compare(run, folder + "/report.html").name
        'report.html'
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise TightboundError(
            f"{out} exists: add --overwrite to replace it, or choose another --out"
        )
    every = [runs] if isinstance(runs, Run | str | Path) else runs
    return report_room.write([_run(r) for r in every], out, lang=lang, title=title)


def export(
    run: Run | str | Path,
    format: Format = "onnx",
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Write a run in a format that other programs read.

    "onnx" writes `encoder.onnx` and `decoder.onnx`, which take and give raw units, and where the
    model has them `prior.onnx`, `prior_sample.onnx`, `posterior_sample.onnx` and `codebook.onnx`.
    Each is compared with torch by onnxruntime before it is kept. "safetensors" writes weights and
    the settings that rebuild the module. `export.json` has the meaning of each tensor.

    Args:
        run: A Run or its folder.
        format: "onnx" or "safetensors".
        out: The folder to write; `exports/FORMAT` in the run folder where None.
        overwrite: Replace an export in the folder.

    Returns:
        The folder with its files, and the measured differences from torch.

    Raises:
        TightboundError: The model cannot be exported, packages are missing, or the folder is taken.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     tb.export(run, "safetensors", folder + "/weights").files
        ('config.json', 'model.safetensors', 'export.json')
    """
    place = None if out is None else Path(out)
    return export_run(_run(run), format, place, overwrite=overwrite)


def demo(
    out: str | Path = "demo",
    *,
    lang: str = "en",
    display: str | Display = "auto",
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Train an autoencoder and a VAE on the built-in digits and write one report.

    A third model, a VAE with two latents, shows the true posterior and all three terms of
    log p(x), which cannot be computed for more.

    Args:
        out: A new folder; the next free name (`demo-2`) where it is taken.
        lang: Language of the report, "en" or "ko".
        display: As in `train`.
        settings: As in `train`.
        more: As in `train`.

    Returns:
        The path of the report.

    Example:
        >>> import tempfile, tightbound as tb
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tb.demo(folder + "/demo", display="none", settings={"train.steps": 5}).name
        'report.html'
    """
    lookup(LANGUAGES, lang, "language")  # before three trainings, not after them
    show = _display(display)
    folder = RunFolder(Path(out)).next_free().path
    models: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("ae", "ae", {}),
        ("vae", "vae", {}),
        ("two-features", "vae", {"latent": 2}),
    )
    runs = []
    for name, recipe, changes in models:
        show.note(f"training {name} on digits in {folder / name}")
        run = train(
            "digits",
            recipe,
            out=folder / name,
            display=show,
            report=False,
            settings={**DEMO, **(settings or {}), **changes},
            **more,
        )
        runs.append(run)
    *compared, two = runs
    _show_three_terms(two, show)
    report = RunFolder(folder).report_file
    return _finish(compared, report, show, lang, extra_runs=[two])


def _show_three_terms(run: Run, show: Display) -> None:
    """Print log p(x) of one image and its three terms, each from its own integral."""
    t = three_terms(run.model, run.data.test.examples(torch.tensor([0])))
    show.note(
        "two features, one test image, nats, each figure by an integral of its own:"
    )
    show.note(
        f"  E_q[log p(x|z)] - KL(q, p(z)) + KL(q, p(z|x)) = {t.fit:.4f} - "
        f"{t.rate:.4f} + {t.inference_gap:.4f}"
    )
    show.note(
        f"  log p(x) = {t.log_px:.4f}, and the three terms add up to it within "
        f"{abs(t.residual):.1e}"
    )


def _first_evaluation(run: Run) -> Evaluation:
    """A quick evaluation of the test split, on fewer examples if they are large."""
    most = max(64, FIRST_VALUES // (FIRST_K * run.spec.dims))
    return evaluate_run(run, k=FIRST_K, limit=min(FIRST_N, most), subset=0)


def _finish(
    runs: Sequence[Run],
    path: Path,
    show: Display,
    lang: str,
    extra_runs: Sequence[Run] = (),
) -> Path:
    """Evaluate runs briefly, keep that in their folders, and write the report."""
    evaluations = []
    for run in [*runs, *extra_runs]:
        evaluation = _first_evaluation(run)
        assert run.folder is not None
        evaluation.save(run.folder)
        for line in evaluation.lines():
            show.note(line)
        if evaluation.bound:
            show.note(
                f"  a first look: tightbound evaluate {run.folder} takes K = "
                "5000 on the whole test split"
            )
        evaluations.append(evaluation)
    return report_room.write(
        runs,
        path,
        lang=lang,
        evaluations=evaluations[: len(runs)],
        extra_runs=extra_runs,
    )


def _run(run: Run | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return load(run, device=str(pick_device("auto")))


def _display(kind: str | Display) -> Display:
    if isinstance(kind, str):
        return display_of(kind)
    return kind
