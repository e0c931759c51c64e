"""Publishing a run on the Hugging Face Hub, with a model card."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tightbound import __version__
from tightbound.config import Config
from tightbound.core.batch import Batch
from tightbound.evaluation import saved
from tightbound.report.figures.pictures import picture
from tightbound.runs.data_source import is_builtin
from tightbound.runs.folder import CONFIG, ENVIRONMENT, RunFolder
from tightbound.runs.hub import checked_name, endpoint, hub
from tightbound.runs.run import Run, training_folder
from tightbound.runtime.atomic_files import write_atomic
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.foreign_errors import first_line
from tightbound.runtime.reading import Tree

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURED = 16
TERMS = ("elbo", "log_px", "gap", "distortion", "rate")


def push_to_hub(
    run: Run,
    repo: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    message: str = "Upload a run of tightbound",
    folder: str | Path | None = None,
) -> str:
    """Publish a run on the Hugging Face Hub; `tb.load("hub:user/name")` reads it.

    Uploaded are settings, weights, validations, evaluation and a model card, without the path
    of the data on this machine and without training states.

    Args:
        run: The run.
        repo: The repository, "user/name"; made where it does not exist.
        private: Whether a new repository is private.
        overwrite: Whether a run in the repository is replaced; its history stays.
        message: Of the commit.
        folder: A new or empty folder: the files are written there, to be looked at or
            uploaded by other means, and nothing is sent.

    Returns:
        The address of the commit; the path of the folder where one is given.

    Raises:
        TightboundError: The repository holds a run, or cannot be written; the folder has
            files.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model, data = tb.build("vae", "digits", latent=2, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.save(model, folder + "/run")
        ...     try:
        ...         tb.push_to_hub(run, "digits")  # user/digits
        ...     except tb.TightboundError as error:
        ...         print(error)
        'digits' is no repository of the hub: name it user/name
    """
    checked_name(repo)
    if folder is not None:
        return str(_written(run, Path(folder), repo))
    api = hub().HfApi(endpoint=endpoint(), library_name="tightbound")
    with tempfile.TemporaryDirectory(prefix="tightbound-") as folder:
        write_folder(run, Path(folder), repo)
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            is_taken = api.file_exists(repo, CONFIG)
        except Exception as error:
            raise _refused(repo, error) from error
        if is_taken and not overwrite:
            raise TightboundError(
                f"{repo} holds a run on the hub: give overwrite=True to replace it (its "
                "history stays), or another name"
            )
        try:
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, commit_message=message
            )
        except Exception as error:
            raise _refused(repo, error) from error
    return str(commit)


def _written(run: Run, folder: Path, repo: str) -> Path:
    """The files in a folder of this machine, which had none."""
    if folder.exists() and not folder.is_dir():
        raise TightboundError(f"{folder} is no folder: name a new or an empty one")
    if folder.is_dir() and any(folder.iterdir()):
        raise TightboundError(f"{folder} has files: name a new or an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_folder(run, folder, repo)
    except OSError as error:
        raise TightboundError(
            f"cannot write {folder} ({error.strerror}): name another folder"
        ) from error
    return folder


def _refused(repo: str, error: Exception) -> TightboundError:
    return TightboundError(
        f"cannot write {repo} on the hub ({cut(first_line(error))}): check the name and the "
        "connection, and log in with hf auth login"
    )


# ---- the files


def write_folder(run: Run, folder: Path, repo: str) -> None:
    """Write the files of a published run to a folder.

    Args:
        run: The run.
        folder: An empty folder.
        repo: The repository, for the card.
    """
    shared = Run(_without_paths(run), run.model, folder)
    shared.save(folder)
    lines = [json.dumps(line) for line in run.history()]
    place = RunFolder(folder)
    write_atomic(place.log_file, "".join(f"{line}\n" for line in lines))
    evaluation = None
    if run.folder is not None:
        with suppress(saved.OtherWeights):
            evaluation = saved.read(run.folder, run.predictor.fingerprint)
        environment = RunFolder(training_folder(run) or run.folder).path / ENVIRONMENT
        if environment.is_file():
            write_atomic(folder / ENVIRONMENT, environment.read_bytes())
    if evaluation is not None:
        saved.write(place.evaluation_file, evaluation)
    images = dict(_pictures(run))
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    card = model_card(run, repo, evaluation, list(images))
    write_atomic(folder / "README.md", card)


def _without_paths(run: Run) -> Config:
    """The settings without paths of this machine."""
    config = run.config
    updates: dict[str, object] = {}
    if not is_builtin(config.data.source):
        updates["data"] = config.data.model_copy(update={"source": ""})
    if config.train.init:
        train = {"init": "", "init_weights": ""}
        updates["train"] = config.train.model_copy(update=train)
    return config.model_copy(update=updates)


def _pictures(run: Run) -> Iterator[tuple[str, Image]]:
    """Samples, and of data that can be read test examples above their reconstructions."""
    if run.spec.kind not in ("image", "volume"):
        return
    yield "samples", picture(run, run.sample(PICTURED))
    with suppress(TightboundError):  # data that were arrays, or are no longer there
        test = run.data.test
        rows = torch.arange(min(PICTURED // 2, len(test)))
        if not len(rows):
            return
        examples = test.examples(rows)
        z = run.predictor.encode_mean(examples)
        rebuilt = run.predictor.decode_mean(Batch(z, examples.c))
        both = run.spec.to_raw(torch.cat([examples.x, rebuilt]))
        yield "reconstructions", picture(run, np.asarray(both), columns=len(rows))


# ---- the card


def model_card(run: Run, repo: str, evaluation: Tree | None, images: list[str]) -> str:
    """The README.md of a published run: terms of log p(x), diagnosis, pictures, use.

    Args:
        run: The run.
        repo: The repository.
        evaluation: The content of `evaluation.json`, None where there is none.
        images: Names of the pictures beside it.
    """
    recipe = run.config.recipe
    spec = run.spec
    shape = " x ".join(map(str, spec.shape))
    widths = ", ".join(
        f"{site} {width}" for site, width in run.model.site_widths.items()
    )
    train = run.config.train
    blocks = [
        _front_matter(recipe.name),
        f"# {_plain(repo.rpartition('/')[2])}",
        f"A `{recipe.name}` of [tightbound](https://github.com/tightbound/tightbound): "
        f"{_plain(recipe.purpose)} ({_plain(recipe.paper)}).",
        *[f"![{name}]({name}.png)" for name in images],
        "## Use",
        f'```python\nimport tightbound as tb\n\nrun = tb.load("hub:{repo}")\n'
        "x = run.sample(16)\n```",
        "## Evaluation",
        *_evaluation(evaluation),
        "## Model and data",
        _table(
            ("", ""),
            [
                ("examples", f"{shape}, {spec.domain}"),
                ("training examples", f"{spec.rows}" if spec.rows else "a stream"),
                ("latents", widths),
                ("prior, posterior", f"{recipe.prior.name}, {recipe.posterior.name}"),
                ("likelihood", recipe.likelihood.name),
                ("objective", f"{recipe.objective.name}, k = {recipe.k}"),
                ("training", f"{train.steps} steps of {train.batch}"),
                ("tightbound", __version__),
            ],
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(recipe: str) -> str:
    tags = ["variational-autoencoder", "density-estimation", recipe]
    lines = [f"- {json.dumps(tag)}" for tag in tags]
    return "\n".join(["---", "library_name: tightbound", "tags:", *lines, "---"])


def _evaluation(tree: Tree | None) -> list[str]:
    """The terms in nats with standard errors, and the verdicts."""
    if tree is None:
        return ["Not evaluated: `tightbound evaluate RUN` does it."]
    figures = saved.closest_terms(tree)
    lower = ("log_px", "gap") if saved.one_sided(tree) else ()
    rows = [
        (name, _figure(figures[name], "≥ " if name in lower else ""))
        for name in TERMS
        if name in figures
    ]
    about = f"{tree['split']} split, n = {tree['n']}, K = {tree['k']}, nats per example"
    blocks = [_table((about, "mean ± standard error"), rows)]
    diagnosis = tree.get("diagnosis")
    if diagnosis is None:
        return [*blocks, "No diagnosis was made."]
    verdicts = [
        f"- **{_plain(verdict['name'])}**: {_plain(verdict['words'])}"
        for verdict in diagnosis["verdicts"]
    ]
    if not verdicts:
        return [*blocks, "Diagnosis: nothing wrong was found."]
    return [*blocks, "Diagnosis:", "\n".join(verdicts)]


def _figure(mean: Tree, sign: str) -> str:
    if mean["se"] is None:
        return f"{sign}{mean['mean']:.2f}"
    return f"{sign}{mean['mean']:.2f} ± {mean['se']:.2f}"


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [f"| {_plain(name)} | {_plain(value)} |" for name, value in (head, *rows)]
    return "\n".join([lines[0], "|---|---|", *lines[1:]])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*\[\]<>|!])", r"\\\1", one_line)
