"""The commands and their arguments.

The work is done in `api` and `outputs`, which are imported when a command runs.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tightbound.cli.app import Stopped
from tightbound.cli.options import (
    ALL,
    PLAIN,
    SERVING,
    AsJson,
    Condition,
    Data,
    Language,
    Loading,
    Many,
    One,
    Out,
    Overwrite,
    Precision,
    Prior,
    Quiet,
    RunPath,
    Samples,
    Seed,
    Serving,
    SkipBad,
    Trust,
)
from tightbound.runtime.errors import TightboundError

if TYPE_CHECKING:
    from tightbound.compression import FileSize
    from tightbound.evaluation import Evaluation


def demo(
    *, out: Path = Path("demo"), lang: Language = "en", quiet: Quiet = False
) -> None:
    """Train an autoencoder and two VAEs on digits and write one report; in a minute."""
    from tightbound import api

    print(api.demo(out, lang=lang, display="none" if quiet else "auto"))


def train(
    data: Data | None = None,
    /,
    *,
    recipe: Annotated[
        str | None,
        Parameter(help="see tightbound recipes; vae unless --config says otherwise"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(help="the run folder; runs/DATA-RECIPE or the next free name"),
    ] = None,
    config: Annotated[
        Path | None,
        Parameter(help="a TOML file of settings, such as a run's config.toml"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set", consume_multiple=True, help="key=value ..., such as latent=16"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(help="fixes initialisation, order, noise and evaluation; 0"),
    ] = None,
    resume: Annotated[
        bool, Parameter(help="go on with the run at --out, bit for bit")
    ] = False,
    extend: Annotated[
        int | None,
        Parameter(
            help="steps to add to the finished run at --out; it is kept in earlier/ as it was"
        ),
    ] = None,
    init: Annotated[
        Path | None, Parameter(help="a run whose weights are the initial ones")
    ] = None,
    overwrite: Annotated[bool, Parameter(help="replace the run at --out")] = False,
    trust: Annotated[
        bool,
        Parameter(help="run code that --config or the config.toml of --resume names"),
    ] = False,
    budget: Annotated[
        str | None,
        Parameter(
            help="time from the command to the report: 90s, 15min, 2h; fits the steps to it"
        ),
    ] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu or cuda")] = None,
    track: Annotated[
        Literal["tensorboard", "wandb", "trackio", "mlflow"] | None,
        Parameter(help="send figures and pictures of the training there too"),
    ] = None,
    lang: Language = "en",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Train a model on DATA: a run folder with weights, log, evaluation and report."""
    from tightbound.runtime.time_budget import TimeBudget, parse_duration

    limit = None
    if budget is not None:
        limit = TimeBudget(
            parse_duration(budget)
        )  # from here: torch is not imported yet
    from tightbound.config import assignments

    pairs = list(set_ or [])
    if data is None and (stray := [pair for pair in pairs if "=" not in pair]):
        data = stray[0]  # as in: train --set latent=16 digits
        pairs.remove(data)
    values = assignments(pairs) | ({"data.skip_bad": True} if skip_bad else {})
    options: dict[str, Any] = {
        "config": config,
        "seed": seed,
        "budget": limit,
        "device": device,
        "resume": resume,
        "extend": extend,
        "init": init,
        "overwrite": overwrite,
        "trust": trust,
        "lang": lang,
        "track": track,
        "display": "none" if quiet else "auto",
    }
    _train(data, recipe, out, options, values)


def _train(
    data: str | None,
    recipe: str | None,
    out: Path | None,
    options: dict[str, Any],
    values: Any,
) -> None:
    """Train and print the folder; after a signal, the command that resumes."""
    from tightbound import api
    from tightbound.runs.folder import RunFolder
    from tightbound.runtime.launch_context import own_rank
    from tightbound.runtime.signals import in_words

    try:
        run = api.train(data, recipe, out=out, settings=values, **options)
    except api.Stopped as stop:
        words = ["tightbound", "train"]
        if data:
            words.append(data)
        words += ["--out", str(stop.folder), "--resume"]
        if options["device"]:
            words += ["--device", options["device"]]
        raise Stopped(
            f"{in_words(stop.number)}, the state is saved; go on with: {shlex.join(words)}",
            stop.number,
        ) from None
    if own_rank() == 0:
        print(f"run: {run.folder}")
        report = RunFolder(Path(str(run.folder))).report_file
        if report.exists():
            print(f"report: {report}")


def evaluate(
    run: RunPath,
    /,
    *,
    data: Annotated[
        str | None, Parameter(help="other data than the run's own test split")
    ] = None,
    split: Annotated[
        str, Parameter(help="train, valid or test, of the run's own data")
    ] = "test",
    k: Samples = 5000,
    ais: Annotated[
        bool,
        Parameter(
            help="log p(x) by annealed importance sampling too, with its BDMC gap"
        ),
    ] = False,
    gap: Annotated[
        bool,
        Parameter(
            help="the inference gap in its two parts, on test and training examples"
        ),
    ] = False,
    subset: Annotated[
        int | None,
        Parameter(help="examples of what is slow: exact log p(x), --ais, --gap; 64"),
    ] = None,
    budget: Annotated[
        str | None,
        Parameter(help="choose K, examples and methods to fit a time: 90s, 5min"),
    ] = None,
    bytes: Annotated[
        bool,
        Parameter(help="compress the examples, and compare their size with the ELBO"),
    ] = False,
    metrics: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help="also quality, novelty, ood, disentanglement, features; all for what fits",
        ),
    ] = (),
    against: Annotated[
        str | None, Parameter(help="other data for ood: how well they are told apart")
    ] = None,
    beside: Annotated[
        Path | None,
        Parameter(help="a run of equal size for features, such as an autoencoder"),
    ] = None,
    factors: Annotated[
        Path | None,
        Parameter(
            help="a table of known factors, a row for each example, for disentanglement"
        ),
    ] = None,
    precision: Precision = None,
    no_diagnosis: Annotated[
        bool, Parameter(help="do not look for what is wrong with the model")
    ] = False,
    seed: Annotated[
        int | None, Parameter(help="of the noise; the run's own unless given")
    ] = None,
    limit: Annotated[
        int | None, Parameter(help="LIMIT examples only, spread evenly")
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="a new .json file of the result; evaluation.json of RUN unless given"
        ),
    ] = None,
    json: AsJson = False,
    loading: Loading = PLAIN,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the terms of log p(x) with errors, and find faults of the model.

    The result is printed and kept in evaluation.json, or beside you where the run folder
    cannot be written.
    """
    from tightbound import api
    from tightbound.cli import compressed_files, evaluation_file, outputs

    evaluation_file.check(out)
    options: dict[str, Any] = {
        "split": split,
        "k": k,
        "ais": ais,
        "gap": gap,
        "subset": subset,
        "budget": budget,
        "diagnosis": not no_diagnosis,
        "seed": seed,
        "limit": limit,
        "metrics": metrics,
        "against": against,
        "factors": factors,
    }
    with _going_on(), outputs.shared(loading) as launch:
        trained = outputs.load(run, loading, skip_bad=skip_bad)
        if bytes:
            compressed_files.check(trained, precision)
        options["beside"] = beside and outputs.load(beside, loading)
        evaluation = api.evaluate(trained, data, **options)
    if not launch.is_rank_zero:
        return
    usual = data is None and split == "test" and limit is None
    note = None
    if usual or out is not None:
        note = evaluation_file.keep(evaluation, trained.folder or run, out)
    if note:
        print(f"note: {note}", file=sys.stderr)
    if not bytes:
        _show_evaluation(evaluation, json)
        return
    size, problem = compressed_files.size_or_problem(
        trained, data, evaluation, precision
    )
    _show_evaluation(evaluation, json, size, with_size=True)
    if problem is not None:
        print(f"note: {problem}", file=sys.stderr)


@contextmanager
def _going_on() -> Iterator[None]:
    """Say of an evaluation that was ended that the same command goes on."""
    from tightbound.runtime.signals import in_words, signal_number

    try:
        yield
    except KeyboardInterrupt as stop:
        number = signal_number(stop)
        raise Stopped(
            f"{in_words(number)}, what was finished is kept: the same command goes on from there",
            number,
        ) from None


def _show_evaluation(
    evaluation: Evaluation,
    json: bool,
    size: FileSize | None = None,
    *,
    with_size: bool = False,
) -> None:
    """Print an evaluation, and the size of its examples as a file where it was measured.

    Args:
        with_size: Whether JSON has an entry for the size, null where there is none.
    """
    from tightbound.cli import tables

    if json:
        content = evaluation.to_json()
        if with_size:
            content["bytes"] = size.to_json() if size else None
        tables.show_json(content)
        return
    print(evaluation)
    if size is not None:
        print("\n".join(size.lines()))


def compare(
    *runs: RunPath,
    out: Path = Path("report.html"),
    lang: Language = "en",
    title: Annotated[str | None, Parameter(help="heading of the page")] = None,
    overwrite: Overwrite = False,
    loading: Loading = PLAIN,
) -> None:
    """Write one HTML report of several runs side by side, on equal scales."""
    from tightbound import api
    from tightbound.cli import outputs

    target = outputs.target(out, ("html",), overwrite)
    trained = [outputs.load(run, loading) for run in runs]
    print(
        api.compare(trained, target.path, lang=lang, title=title, overwrite=overwrite)
    )


def encode(
    run: RunPath,
    data: Data,
    /,
    *,
    out: Out,
    many: Many = ALL,
    loading: Loading = PLAIN,
) -> None:
    """Write the features of each example, mean and standard deviation.

    F.npz, F.csv, F.parquet, or a folder of parts. A folder, or 'F-*.parquet', is for millions of
    examples: torchrun shares them out, and the same command goes on.
    """
    from tightbound.cli import encode_score as rows
    from tightbound.cli import outputs

    target = outputs.target(out, ("npz", "csv", "parquet", "parts"), many.overwrite)
    rows.run(run, data, target, rows.encoding, loading, many)


def reconstruct(
    run: RunPath,
    data: Data,
    /,
    *,
    out: Out,
    n: Annotated[
        int, Parameter(name=("-n", "--n"), help="examples in an F.png or F.svg")
    ] = 40,
    overwrite: Overwrite = False,
    draws: Annotated[
        int, Parameter(help="multiple imputations of missing values, in F.npz")
    ] = 0,
    condition: Condition = None,
    loading: Loading = PLAIN,
    skip_bad: SkipBad = False,
) -> None:
    """Rebuild each example from its features.

    F.png (input above output), F.svg of curves, a folder, F.npz or F.csv.
    """
    from tightbound.cli import outputs

    target = outputs.target(out, outputs.EXAMPLES, overwrite)
    trained = outputs.load(run, loading, skip_bad=skip_bad)
    print(outputs.reconstruct(trained, data, target, n, condition, draws))


def impute(
    data: Data,
    /,
    *,
    out: Out,
    run: Annotated[
        Path | None,
        Parameter(help="a run of recipe missing-data; trained on DATA unless given"),
    ] = None,
    draws: Annotated[
        int, Parameter(help="multiple imputations, one table below the other")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set", consume_multiple=True, help="key=value ... of the training"
        ),
    ] = None,
    overwrite: Overwrite = False,
    condition: Condition = None,
    loading: Loading = PLAIN,
    quiet: Quiet = False,
) -> None:
    """Fill in missing values by their mean given the observed ones.

    Of a table F.csv, F.npz or F.parquet with its columns; observed values stay as they are. Without
    --run a model is trained on DATA first, in runs/DATA-missing-data or the next free name.
    """
    from tightbound.cli import imputation, outputs

    target = outputs.target(out, outputs.TABLES, overwrite)
    if run is not None and set_:
        raise TightboundError(
            "--set is of a training, and --run names a trained run: give one of them"
        )
    if run is not None:
        trained = outputs.load(run, loading)
    else:
        trained = imputation.train(data, set_ or [], quiet=quiet)
    print(imputation.write(trained, data, target, draws, condition))


def score(
    run: RunPath,
    data: Data,
    /,
    *,
    out: Out,
    k: Samples = 500,
    ais: Annotated[
        bool,
        Parameter(
            help="AIS where importance sampling has no error (Pareto k may be above 0.7)"
        ),
    ] = False,
    many: Many = ALL,
    loading: Loading = PLAIN,
) -> None:
    """Write ELBO, log p(x) with its error, distortion and rate of each example.

    F.csv, F.npz, F.parquet, or a folder of parts. A folder, or 'F-*.parquet', is for millions of
    examples: torchrun shares them out, and the same command goes on.
    """
    from tightbound.cli import encode_score as rows
    from tightbound.cli import outputs

    target = outputs.target(out, ("npz", "csv", "parquet", "parts"), many.overwrite)
    rows.run(run, data, target, lambda run: rows.scoring(run, k, ais), loading, many)


def detect(
    run: RunPath,
    data: Data,
    /,
    *,
    out: Out,
    method: Annotated[
        Literal["log_px", "regret", "mahalanobis"],
        Parameter(help="log p(x), likelihood regret, or the distance of codes"),
    ] = "log_px",
    k: Samples = 100,
    level: Annotated[
        float, Parameter(help="false discovery rate of column `outlier`")
    ] = 0.1,
    calibration: Annotated[
        str | None,
        Parameter(help="inliers to compare with, not trained on; the run's test split"),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    loading: Loading = PLAIN,
    skip_bad: SkipBad = False,
) -> None:
    """Find outliers: a score and a p-value of each example.

    p-values are conformal: ranks among held-out examples, uniform for inliers. F.csv, F.npz
    or F.parquet.
    """
    from tightbound.cli import outputs
    from tightbound.cli.detection import Detection, write

    target = outputs.target(out, outputs.TABLES, overwrite)
    trained = outputs.load(run, loading, skip_bad=skip_bad)
    options = Detection(method, k, level, seed, calibration)
    print(write(trained, data, target, options))


def sample(
    run: RunPath,
    /,
    *,
    n: Annotated[int, Parameter(name=("-n", "--n"), help="how many")] = 64,
    out: Out,
    seed: Seed = 0,
    temperature: Annotated[
        float, Parameter(help="spread of the prior's noise; 1 is the model")
    ] = 1.0,
    pixels: Annotated[
        Literal["auto", "mean", "draw"],
        Parameter(help="the mean of p(x|z), or a draw; auto: a draw for tables"),
    ] = "auto",
    overwrite: Overwrite = False,
    condition: Condition = None,
    loading: Loading = PLAIN,
) -> None:
    """Make new examples: z from the prior, then p(x|z).

    F.png, F.svg of curves, a folder, F.npz or F.csv.
    """
    from tightbound.cli import outputs

    target = outputs.target(out, outputs.EXAMPLES, overwrite)
    trained = outputs.load(run, loading)
    x = trained.sample(
        n, seed=seed, temperature=temperature, pixels=pixels, condition=condition
    )
    line = outputs.write(trained, x, target)
    print(f"{line}; {trained.fitted}" if trained.fitted else line)


def decode(
    run: RunPath,
    z: Annotated[
        Path,
        Parameter(
            help="features (n, latent): an .npy, or an .npz, .csv or .parquet of encode"
        ),
    ],
    /,
    *,
    out: Out,
    overwrite: Overwrite = False,
    condition: Condition = None,
    loading: Loading = PLAIN,
) -> None:
    """Turn features back into examples.

    F.png, F.svg of curves, a folder, F.npz or F.csv.
    """
    from tightbound.cli import outputs
    from tightbound.cli.encode_score import feature_names

    target = outputs.target(out, outputs.EXAMPLES, overwrite)
    trained = outputs.load(run, loading)
    features = outputs.codes(z, feature_names(trained))
    print(outputs.write(trained, trained.decode(features, condition), target))


def vary(
    run: RunPath,
    image: One,
    /,
    *,
    n: Annotated[int, Parameter(name=("-n", "--n"), help="how many")] = 16,
    out: Out,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    condition: Condition = None,
    loading: Loading = PLAIN,
) -> None:
    """Make variations of one example: z from q(z|x), then p(x|z).

    F.png, F.svg of curves, a folder, F.npz or F.csv.
    """
    from tightbound.cli import outputs

    target = outputs.target(out, outputs.EXAMPLES, overwrite)
    trained = outputs.load(run, loading)
    example = outputs.one(trained, image)
    x = trained.vary(example, n, seed=seed, condition=condition)
    print(outputs.write(trained, x, target))


def interpolate(
    run: RunPath,
    a: One,
    b: One,
    /,
    *,
    n: Annotated[
        int, Parameter(name=("-n", "--n"), help="how many, both ends included")
    ] = 10,
    out: Out,
    overwrite: Overwrite = False,
    condition: Condition = None,
    loading: Loading = PLAIN,
) -> None:
    """Go from one example to another in a straight line of features.

    F.png, F.svg of curves, a folder, F.npz or F.csv.
    """
    from tightbound.cli import outputs

    target = outputs.target(out, outputs.EXAMPLES, overwrite)
    trained = outputs.load(run, loading)
    x = trained.interpolate(
        outputs.one(trained, a), outputs.one(trained, b), n, condition=condition
    )
    print(outputs.write(trained, x, target, columns=n))


def export(
    run: RunPath,
    /,
    *,
    format: Annotated[
        Literal["onnx", "pt2", "diffusers", "safetensors"],
        Parameter(
            help="onnx, pt2: graphs in raw units; diffusers: an AutoencoderKL; safetensors: "
            "weights and settings"
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        Parameter(help="the folder to write; exports/FORMAT in the run folder"),
    ] = None,
    overwrite: Overwrite = False,
    loading: Loading = PLAIN,
) -> None:
    """Write the networks for other programs: ONNX graphs, programs of torch, or weights.

    Graphs take and give raw units and are compared with torch before they are kept.
    """
    from tightbound import api
    from tightbound.cli import outputs

    trained = outputs.load(run, loading)
    exported = api.export(trained, format, out, overwrite=overwrite)
    print("\n".join(exported.lines()))


def explore(
    run: RunPath,
    second: Annotated[
        Path | None, Parameter(help="another run on the same data, shown beside it")
    ] = None,
    /,
    *,
    export: Annotated[
        Path | None,
        Parameter(help="write the page to this HTML file, and do not serve it"),
    ] = None,
    overwrite: Annotated[bool, Parameter(help="replace the file of --export")] = False,
    page: Serving = SERVING,
    lang: Annotated[Literal["en", "ko"], Parameter(help="language of the page")] = "en",
    loading: Loading = PLAIN,
) -> None:
    """Move through what a model learned, on a page in the browser.

    The page is served to this machine alone until Ctrl-C. With --export it is one file that
    needs no network.
    """
    from tightbound import api
    from tightbound.cli import outputs

    trained = [
        outputs.load(path, loading) for path in (run, second) if path is not None
    ]
    try:
        written = api.explore(
            *trained,
            export=export,
            overwrite=overwrite,
            lang=lang,
            points=page.points,
            scenes=not page.no_scenes,
            host=page.host,
            port=page.port,
            browser=not page.no_browser,
        )
    except KeyboardInterrupt as stop:
        _end_page(stop, is_served=export is None)
        return
    if written is not None:
        print("\n".join(written.lines()))


def _end_page(stop: KeyboardInterrupt, *, is_served: bool) -> None:
    """Ctrl-C is how a served page ends; any other signal goes on."""
    from signal import SIGINT

    from tightbound.runtime.signals import signal_number

    if not is_served or signal_number(stop) != SIGINT:
        raise stop
    print("the page is closed", file=sys.stderr)


def compress(
    run: RunPath,
    data: Data,
    /,
    *,
    out: Annotated[Path, Parameter(help="the file to write, F.tb")],
    precision: Precision = None,
    no_check: Annotated[
        bool, Parameter(help="do not decode the file before it is kept: twice as fast")
    ] = False,
    overwrite: Overwrite = False,
    loading: Loading = PLAIN,
    skip_bad: SkipBad = False,
) -> None:
    """Compress examples without loss, to about as many nats as the ELBO says.

    The file holds the values that the run reads, and the conditions of a conditional model; no
    labels and no names. It is decoded and compared before it is kept.
    """
    from tightbound.cli import compressed_files, outputs

    target = outputs.target(out, ("tb",), overwrite)
    trained = outputs.load(run, loading, skip_bad=skip_bad)
    lines = compressed_files.compress(
        trained, data, target, precision, check=not no_check
    )
    print("\n".join(lines))


def decompress(
    file: Annotated[Path, Parameter(help="an F.tb that compress wrote")],
    /,
    *,
    out: Out,
    run: Annotated[
        Path | None,
        Parameter(help="the run that compressed it; the one that FILE names"),
    ] = None,
    overwrite: Overwrite = False,
    loading: Loading = PLAIN,
) -> None:
    """Get compressed examples back, equal bit for bit.

    F.npz; of a table also F.csv or F.parquet.
    """
    from tightbound.cli import compressed_files, outputs

    target = outputs.target(out, outputs.TABLES, overwrite)
    print(compressed_files.decompress(file, run, target, loading))


def recipes(*, json: AsJson = False) -> None:
    """List the models by name, what each is for, and its paper."""
    from tightbound.cli import tables

    tables.recipes(json)


def show(
    what: Annotated[
        str, Parameter(name="RECIPE|RUN", help="a recipe's name or a run folder")
    ],
    /,
    *,
    prior: Prior = None,
    trust: Trust = False,
    json: AsJson = False,
) -> None:
    """Show a recipe's settings and their meaning, or a run's parts and results."""
    from tightbound.cli import tables

    tables.show(what, prior=prior, trust=trust, as_json=json)


def data(*, json: AsJson = False) -> None:
    """List the built-in data sets, and where they are."""
    from tightbound.cli import tables

    tables.data(json)
