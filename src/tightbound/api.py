"""The public verbs: train, evaluate, compare, load, fit_prior, explore, compress, demo."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from tightbound import report as report_room
from tightbound.config import Config, configure, keyed
from tightbound.models.recipes import Recipe
from tightbound.report.page.text import LANGUAGES
from tightbound.runs.data_source import stored_source
from tightbound.runs.folder import Mode, RunFolder
from tightbound.runs.inputs import read_split
from tightbound.runs.run import Run, load, training_folder, with_data
from tightbound.runtime.atomic_files import check_free
from tightbound.runtime.device import pick_device
from tightbound.runtime.errors import TightboundError, lookup, whole_number
from tightbound.runtime.launch_context import current_launch, join_launch
from tightbound.runtime.progress import listening
from tightbound.runtime.reading import Options, Tree
from tightbound.runtime.signals import in_words, raised, signal_number
from tightbound.runtime.time_budget import (
    TimeBudget,
    current_limit,
    limited,
    parse_duration,
)
from tightbound.training.callbacks import Callback, check_callbacks
from tightbound.training.console import Display, Quiet, reporter
from tightbound.training.console import display as display_of
from tightbound.training.fit_prior import fit_prior
from tightbound.training.own_loop import TrainingData
from tightbound.training.run_training import FitOptions, fit
from tightbound.training.settings import Settings
from tightbound.training.trainer import Interrupted

# Rooms that a training does not need are imported by the verbs that do.
if TYPE_CHECKING:
    from tightbound.compression import Compressed, Decompressed
    from tightbound.evaluation import Evaluation
    from tightbound.evaluation.first_look import FirstLook
    from tightbound.exploring.one_file import WrittenPage
    from tightbound.exporting import Exported, Format

__all__ = [
    "compare",
    "compress",
    "decompress",
    "demo",
    "evaluate",
    "explore",
    "export",
    "fit_prior",
    "load",
    "train",
]

DEMO = {"recipe.size": "s", "train.steps": 800}


class Stopped(Interrupted):
    """Ctrl-C, SIGTERM or SIGHUP in a training, whose state is saved.

    `train(resume=True, out=folder)` continues the run.
    """

    def __init__(self, folder: Path, number: int = signal.SIGINT) -> None:
        super().__init__(
            number,
            f"training in {folder} was {in_words(number)} and its state is saved: "
            "resume=True, out=... goes on",
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
    extend: int | None = None,
    init: Run | str | Path | None = None,
    trust: bool = False,
    overwrite: bool = False,
    budget: str | float | TimeBudget | None = None,
    device: str | None = None,
    valid: Any = None,
    test: Any = None,
    display: str | Display = "auto",
    report: bool = True,
    lang: str = "en",
    callbacks: Sequence[Callback] = (),
    track: str | None = None,
    settings: Options | None = None,
    **more: Unpack[Settings],
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
        extend: Steps to add to the finished run at `out`. Its learning rate rises and falls
            again over these steps, the weights of its objective stay at their final values,
            the best weights so far are replaced only by better ones, and the run as it was
            is kept in `out/earlier/step-N`.
        init: A run, or its folder, whose weights are the initial ones. Its recipe is taken
            where `recipe` is None; parts, sizes and units of the data must be the same,
            objective and settings of training may differ.
        trust: Let `config` or `resume` run code that a file of settings names by import path.
        overwrite: Replace the run in the folder.
        budget: "15min", "90s" or seconds, from this call to the report; the number of steps
            is fitted to it. `train.budget` in `settings` is of training alone.
        device: "auto", "cpu" or "cuda".
        valid: Data of its own for validation.
        test: Data of its own for testing.
        display: "auto", "life", "lines" or "none", or a Display.
        report: Write a first, quick evaluation and a report beside the weights.
        lang: Language of the report, "en" or "ko".
        callbacks: Called at the start, at each validation and at the end; they may add metrics.
        track: "tensorboard", "wandb", "trackio" or "mlflow": figures and pictures go there too.
        settings: Keys of the config: {"data.binarize": "dynamic"}.
        more: The same as keyword arguments, without the section: latent=16. They are posterior,
            prior, likelihood, objective, hierarchy, conditional, classes, missing, network,
            latent, k, channels, bits, white_level, kind, layout, domain, levels, binarize,
            augment, shift, limit, split_seed, duplicates, skip_bad, header, encoding, decimal,
            dates, label, label_required, condition, use_labels, allow_missing, factors, fields,
            key, memory, shuffle_buffer, streaming, shapes_n, steps, epochs, batch, optimizer,
            optimizer_options, lr, lr_final, warmup, cycles, weight_decay, clip,
            skip_gradient_above, ema, validate_every, validate_k, validate_n, patience, precision,
            compile, groups, parallel, accumulate, save_seconds.

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
    called = _callbacks(callbacks, track)
    mode = _mode(resume=resume or extend is not None, overwrite=overwrite)
    added = _added_steps(extend)
    limit = _total_budget(budget, report)
    given = {"seed": seed, "device": device, "train.init": _init_folder(init)}
    values = keyed(settings, more) | _without_none(given)
    if config is None and mode != "resume":
        recipe = _recipe_or_that_of(recipe, init, trust)
    if data is None:
        _check_resumable(out, mode == "resume")
    source = stored_source(data, valid, test)
    call = _Call(data, recipe, config, values, limit)
    requested = configure(source, recipe, file=config, values=values, trust=trust)
    with (
        limited(limit),
        raised(),
        listening(reporter(show)),
        join_launch(pick_device(requested.device).type) as launch,
    ):
        show = show if launch.is_rank_zero else Quiet()
        path = None if out is None else Path(out)
        folder = launch.on_rank_zero(
            lambda: RunFolder.choose(path, data, requested.recipe.name, mode)
        )
        job = _job(call, folder, requested, mode, trust)
        options = FitOptions(
            splits={"valid": valid, "test": test},
            trust=job.trust,
            extend=0 if job.is_again else added,
            callbacks=called,
        )
        with _stopping_in(folder), listening(reporter(show)):
            run = fit(job.config, job.data, folder.path, show, options, mode=job.mode)
            if report:
                _finish([run], folder.report_file, show, lang)
    return run


@contextmanager
def _stopping_in(folder: RunFolder) -> Iterator[None]:
    """Raise what ends a training in a folder as Stopped, once there is a run in it."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not folder.is_run:
            raise
        raise Stopped(folder.path, signal_number(stop)) from stop


def _added_steps(extend: int | None) -> int:
    """The steps that a finished run is trained further; 0 where None."""
    if extend is None:
        return 0
    return whole_number("extend", extend, 1)


def _recipe_or_that_of(
    recipe: str | Recipe | None, init: Run | str | Path | None, trust: bool
) -> str | Recipe | None:
    """The recipe; where None, that of the run whose weights are the initial ones."""
    if recipe is not None or init is None:
        return recipe
    return _loaded(init, trust).config.recipe


def _without_none(values: Options) -> Tree:
    return {key: value for key, value in values.items() if value is not None}


def _callbacks(callbacks: object, track: str | None) -> tuple[Callback, ...]:
    """The callbacks, and the tracker after them, so that it gets their metrics."""
    checked = check_callbacks(callbacks)
    if track is None:
        return checked
    from tightbound.report.trackers import tracker

    return (*checked, tracker(track))


def _init_folder(init: Run | str | Path | None) -> str | None:
    """The folder of the run whose weights are the initial ones, as an absolute path."""
    if init is None:
        return None
    folder = training_folder(init) if isinstance(init, Run) else Path(init)
    if folder is None:
        raise TightboundError(
            "init is a run that is not saved in a folder: save it first, with run.save(folder)"
        )
    return str(folder.resolve())


def _loaded(run: Run | str | Path, trust: bool) -> Run:
    if isinstance(run, Run):
        return run
    return load(run, trust=trust)


def _total_budget(
    budget: str | float | TimeBudget | None, report: bool
) -> TimeBudget | None:
    """The limit of a command, which may have begun before; without a report, of training."""
    if budget is None:
        return None
    if not isinstance(budget, TimeBudget):
        budget = TimeBudget(parse_duration(budget))
    if not report:
        budget = dataclasses.replace(budget, after_training=0.0)
    return budget


@dataclass(frozen=True)
class _Call:
    """The arguments of `train` that decide what is trained."""

    data: object
    recipe: str | Recipe | None
    file: str | Path | None
    values: Options
    limit: TimeBudget | None


@dataclass(frozen=True)
class _Job:
    """What is trained: settings and data, as a new run or one that goes on.

    is_again: whether an earlier start of this launch has begun to train here.
    """

    config: Config
    data: object
    mode: Mode
    trust: bool
    is_again: bool = False


def _job(
    call: _Call, folder: RunFolder, requested: Config, mode: Mode, trust: bool
) -> _Job:
    """The training of a call in its folder, which this launch may have begun already."""
    launch = current_launch()
    data = call.data
    # torchrun has started the processes of this launch again
    is_again = launch.on_rank_zero(folder.is_of_this_launch)
    if mode == "resume":
        source = launch.on_rank_zero(
            lambda: folder.check_resumable(
                call.data, call.recipe, call.file, requested, call.values
            )
        )
        data = source if data is None else data
    elif is_again:
        mode = "resume"
    if mode == "resume":
        if not trust:
            launch.on_rank_zero(lambda: folder.check_code(requested))
        return _Job(requested, data, mode, True, is_again)
    if call.limit is not None and requested.train.budget is None:
        # kept with the other settings, for a call that ends before training begins
        seconds = (1 - call.limit.after_training) * call.limit.seconds
        train_settings = requested.train.model_copy(update={"budget": seconds})
        requested = requested.model_copy(update={"train": train_settings})
    return _Job(requested, call.data, mode, trust)


def _mode(*, resume: bool, overwrite: bool) -> Mode:
    if resume and overwrite:
        raise TightboundError(
            "--resume (or --extend) and --overwrite contradict each other: give one of them"
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
    metrics: Sequence[str] | str = (),
    against: Any = None,
    beside: Run | str | Path | None = None,
    factors: Any = None,
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
        metrics: Also "quality" of samples, "novelty", "ood", "disentanglement" or "features";
            "all" for those that the data allow.
        against: Other data, for "ood".
        beside: A run on the same data with as many features, such as an autoencoder, for
            "features".
        factors: A table, or its file, with a column for each known factor and a row for each
            evaluated example, for "disentanglement".
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
    from tightbound.evaluation import evaluate as evaluate_run
    from tightbound.evaluation.metrics.request import MetricRequest

    seconds = None if budget is None else parse_duration(budget)
    request = MetricRequest.of(
        metrics, against, None if beside is None else _run(beside), factors
    )
    with join_launch(
        run.predictor.device.type if isinstance(run, Run) else pick_device("auto").type
    ):
        evaluated = _run(run)
        if isinstance(data, TrainingData):
            evaluated = with_data(evaluated, data.splits)
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
            metrics=request,
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
    check_free(out, overwrite=overwrite)
    every = [runs] if isinstance(runs, Run | str | Path) else runs
    return report_room.write(
        [_run(r) for r in every], out, lang=lang, title=title, overwrite=overwrite
    )


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
    Each is compared with torch by onnxruntime before it is kept. "pt2" writes encoder and decoder
    as programs of torch.export, "diffusers" a folder that `AutoencoderKL.from_pretrained` loads
    (of recipe autoencoder-kl), "safetensors" weights and the settings that rebuild the module.
    `export.json` has the meaning of each tensor.

    Args:
        run: A Run or its folder.
        format: "onnx", "pt2", "diffusers" or "safetensors".
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
    from tightbound.exporting import export_run

    place = None if out is None else Path(out)
    return export_run(_run(run), format, place, overwrite=overwrite)


def explore(
    run: Run | str | Path,
    second: Run | str | Path | None = None,
    *,
    export: str | Path | None = None,
    overwrite: bool = False,
    lang: str = "en",
    points: int | None = None,
    scenes: bool = True,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
) -> WrittenPage | None:
    """Show a trained model and its latent space on a page in the browser.

    The page computes with the encoder and the decoder of the run itself. It is served to this
    machine alone until Ctrl-C; with `export` it is one HTML file that needs no network.

    Args:
        run: A Run or its folder.
        second: Another one on the same data, shown beside it.
        export: The HTML file to write, such as "page.html"; None to serve the page.
        overwrite: Replace that file if it exists.
        lang: "en" or "ko".
        points: Data points at most: 2,000 in a file, 20,000 and up to 100,000 served.
        scenes: Whether the page has the scenes on theory, for which a VAE and an autoencoder
            with two features are trained on the run's data, and kept in its folder.
        host: The address to listen on; another than this machine's own needs a token, which is
            part of the printed address.
        port: The port; 8765, or a free one where it is taken, if None.
        browser: Open the page in a browser, where there is a display.

    Returns:
        The file that was written; None for a page that was served.

    Raises:
        TightboundError: Packages are missing, the runs do not go together, the file exists, or
            the address cannot be listened on.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     try:
        ...         tb.explore(run, export=folder + "/run/config.toml")
        ...     except tb.TightboundError as error:
        ...         "add --overwrite" in str(error)
        True
    """
    from tightbound.exploring import explore as exploring

    lookup(LANGUAGES, lang, "language")
    runs = [_run(run)] if second is None else [_run(run), _run(second)]
    options = exploring.Options(lang, points, scenes)
    if export is not None:
        return exploring.export_page(runs, Path(export), options, overwrite=overwrite)
    exploring.serve_page(runs, options, host=host, port=port, browser=browser)
    return None


def compress(
    run: Run | str | Path,
    data: Any = None,
    out: str | Path | None = None,
    *,
    precision: Mapping[str, float] | None = None,
    overwrite: bool = False,
    check: bool = True,
) -> Compressed:
    """Compress examples without loss, to about -ELBO nats each (bits-back coding).

    What comes back by `decompress` are the values that the run reads, `Run.read(data)`, and the
    conditions of a conditional model; labels and file names are not kept. The file is decoded and
    compared before it is kept.

    Args:
        run: A Run or its folder.
        data: A path, a built-in name, an array or a table; the run's test split where None.
        out: The file to write, F.tb; where None, the bytes are in `.data` of the result alone.
        precision: Step of the values of a column of real numbers, by column, where the
            training data had none in common.
        overwrite: Replace the file if it exists.
        check: Decode each block before it is kept, which takes half of the time, and store one that
            does not come back as it is.

    Returns:
        The bytes with an account of them.

    Raises:
        TightboundError: The model cannot be coded, with the reason; a value is not a multiple of
            its precision; the file exists, or the package constriction is missing.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     file = tb.compress(run, "digits", folder + "/digits.tb")
        ...     examples = tb.decompress(folder + "/digits.tb").x
        >>> examples.shape, bool((examples == run.read("digits")).all())
        (torch.Size([180, 8, 8]), True)
    """
    from tightbound.compression import compress_run, compress_to

    compressing = _run(run)
    if data is None:
        split = compressing.data.test
    else:
        split = read_split(data, compressing.spec, compressing.config.data)
    if out is None:
        return compress_run(compressing, split, precision=precision, check=check)
    return compress_to(
        Path(out),
        compressing,
        split,
        precision=precision,
        overwrite=overwrite,
        check=check,
    )


def decompress(
    file: str | Path | bytes,
    run: Run | str | Path | None = None,
    *,
    trust: bool = False,
) -> Decompressed:
    """Get compressed examples back, equal bit for bit.

    Args:
        file: A file that `compress` wrote, or its bytes.
        run: The run that compressed it, or its folder; that which the file names where None.
        trust: Run code that the config of a run named by the file names by import path.

    Returns:
        The examples, and their conditions.

    Raises:
        TightboundError: The file is damaged, of another model, or from a machine that computes
            other probabilities. Nothing is returned then.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     file = tb.compress(run, "digits")
        ...     tb.decompress(file.data, run).x.shape
        torch.Size([180, 8, 8])
    """
    from tightbound.compression import examples_of

    return examples_of(file, None if run is None else _run(run), trust=trust)


def demo(
    out: str | Path = "demo",
    *,
    lang: str = "en",
    display: str | Display = "auto",
    settings: Options | None = None,
    **more: Unpack[Settings],
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
    models: tuple[tuple[str, str, Tree], ...] = (
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
            settings={**DEMO, **keyed(settings), **changes},
            **more,
        )
        runs.append(run)
    *compared, two = runs
    _show_three_terms(two, show)
    report = RunFolder(folder).report_file
    return _finish(compared, report, show, lang, extra_runs=[two])


def _show_three_terms(run: Run, show: Display) -> None:
    """Print log p(x) of one image and its three terms, each from its own integral."""
    from tightbound.evaluation.estimators.exact_terms import three_terms

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


def _first_look(run: Run, show: Display) -> FirstLook:
    """What the time allows to evaluate and to report."""
    from tightbound.evaluation import first_look

    limit = current_limit()
    if limit is None:
        return first_look.whole(run)
    look = current_launch().on_rank_zero(lambda: first_look.within(run, limit))
    if look.left_out():
        show.note(_why_left_out(run, look))
    return look


def _why_left_out(run: Run, look: FirstLook) -> str:
    """The sentence on what is not evaluated or reported, and on how to make it."""
    if not look.n and not len(run.data.test):
        return (
            "there are no test examples, so there is no evaluation and no report: to "
            f"evaluate other data, run tightbound evaluate {run.folder} --data F"
        )
    return (
        f"the budget leaves no time for {look.left_out()}: to make it, run tightbound "
        f"evaluate {run.folder} and then tightbound compare {run.folder}"
    )


def _finish(
    runs: Sequence[Run],
    path: Path,
    show: Display,
    lang: str,
    extra_runs: Sequence[Run] = (),
) -> Path:
    """Evaluate runs briefly, keep that in their folders, and write the report.

    The processes of a launch share the evaluation; rank 0 writes.
    """
    from tightbound.evaluation import evaluate as evaluate_run

    launch = current_launch()
    evaluations = []
    look = None
    for run in [*runs, *extra_runs]:
        look = _first_look(run, show)
        if not look.n:
            return path
        evaluation = evaluate_run(
            run, k=look.k, limit=look.n, subset=0, diagnosis=look.diagnosis
        )
        launch.on_rank_zero(partial(_keep, run, evaluation, show))
        evaluations.append(evaluation)
    if look is None or look.report == "none":
        return path
    theory = look.report == "whole"
    return launch.on_rank_zero(
        lambda: report_room.write(
            runs,
            path,
            lang=lang,
            evaluations=evaluations[: len(runs)],
            extra_runs=extra_runs,
            theory=theory,
        )
    )


def _keep(run: Run, evaluation: Evaluation, show: Display) -> None:
    """Write a first evaluation to the folder of its run, and show it."""
    assert run.folder is not None
    kept = evaluation.save(run.folder)
    for line in evaluation.lines():
        show.note(line)
    if kept is not None:
        show.note(kept)
    if evaluation.bound:
        show.note(
            f"  a first look: tightbound evaluate {run.folder} takes K = "
            "5000 on the whole test split"
        )


def _run(run: Run | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return load(run, device=str(pick_device("auto")))


def _display(kind: str | Display) -> Display:
    if isinstance(kind, str):
        return display_of(kind)
    return kind
