"""Rendering of a report: runs and evaluations to one HTML file."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tightbound import __version__, evaluation
from tightbound.evaluation import Evaluation, saved
from tightbound.models.recipes import RECIPES
from tightbound.report.content.gather import Group, gather
from tightbound.report.figures import palette
from tightbound.report.page.blocks import Section
from tightbound.report.page.text import Text, rich
from tightbound.report.sections import (
    columns,
    diagnosis,
    header,
    images,
    metrics,
    probe,
    training,
    walkthrough,
)
from tightbound.report.sections import latent_space as latent
from tightbound.report.sections import terms as log_px
from tightbound.report.sections import theory as bayes_rule
from tightbound.report.sections.common import Results, Tree
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import check_free, make_folder, write_atomic
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.progress import notice, phase
from tightbound.runtime.time_budget import current_limit

QUICK_K = 256


def write(
    runs: Sequence[Run],
    path: Path | str,
    *,
    lang: str = "en",
    evaluations: Sequence[Evaluation | Tree] | None = None,
    title: str | None = None,
    extra_runs: Sequence[Run] = (),
    theory: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write the report of one or more runs as one HTML file.

    Several runs are shown side by side on equal scales.

    Args:
        runs: the runs to report on.
        path: the file to write; its folder is made if needed.
        lang: "en" or "ko".
        evaluations: one `Evaluation` or its JSON for each run. By default the
            evaluation.json of its folder, or else a quick one with K = 256.
        title: the heading of the page, by default the names of runs and data.
        extra_runs: runs on the same data that are shown only in the two sections on
            p(x) and on Bayes' rule.
        theory: whether the report has these two sections.
        overwrite: replace the file if there is one.

    Returns:
        The path of the file.

    Raises:
        TightboundError: without runs, for a wrong number of evaluations, an unknown
            language, data that are gone, or a file that is not to be replaced.
    """
    if not runs:
        raise TightboundError("a report needs a run: name one or more run folders")
    if evaluations is not None and len(evaluations) != len(runs):
        raise TightboundError(
            f"{len(evaluations)} evaluations were given for {len(runs)} runs: "
            "give one per run, or none"
        )
    text = Text(lang)
    path = Path(path)
    if evaluations is None:
        trees = [_evaluate(run) for run in runs]
    else:
        trees = [_as_tree(each) for each in evaluations]
    results = _in_order(gather(runs, trees, _names(runs)))
    extra = list(zip(_names(extra_runs), extra_runs, strict=True))
    page = render(results, text, title, extra, theory=theory)
    make_folder(path.parent)
    check_free(path, overwrite=overwrite)
    write_atomic(path, page)
    return path


def _in_order(groups: Sequence[Group]) -> Results:
    """The results of all groups in the order in which the runs were given."""
    pairs = [(group, result) for group in groups for result in group.results]
    return sorted(pairs, key=lambda pair: pair[1].position)


def _names(runs: Sequence[Run]) -> list[str]:
    """The names of the runs, numbered where two are equal."""
    names = [run.name.upper() if run.name in RECIPES else run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _as_tree(result: Evaluation | Tree) -> Tree:
    return result if isinstance(result, Mapping) else result.to_json()


def _evaluate(run: Run) -> Tree:
    """The saved evaluation of a run, or a quick one.

    A file that is damaged, was changed, or is of another format or of other weights is
    not used, with a notice.
    """
    if run.folder is not None:
        try:
            tree = saved.read(run.folder, run.predictor.fingerprint)
        except TightboundError as error:
            notice(
                f"{error}, so it is not used: {run.name} is evaluated now, K = {QUICK_K}"
            )
            tree = None
        if tree is not None:
            return tree
    return evaluation.evaluate(run, k=QUICK_K, subset=0).to_json()


def sections(
    results: Results,
    text: Text,
    extra_runs: Sequence[tuple[str, Run]] = (),
    *,
    theory: bool = True,
) -> list[Section]:
    """The sections of a report in reading order."""
    makers: list[Callable[[], Sequence[Section | None]]] = [
        lambda: [images.reconstructions(results, text)],
        lambda: [latent.latent_space(results, text)],
        lambda: [images.samples(results, text)],
        lambda: [columns.marginals(results, text)],
        lambda: [images.neighbours(results, text)],
        lambda: [images.variations(results, text)],
        lambda: [images.interpolation(results, text)],
        lambda: [images.traversals(results, text)],
        lambda: [walkthrough.walkthrough(results, text)],
        lambda: [log_px.terms(results, text)],
        lambda: [diagnosis.diagnosis(results, text)],
        lambda: [training.training(results, text)],
        lambda: [probe.probe(results, text)],
        lambda: metrics.metrics(results, text),
    ]
    if theory:
        before = len(makers) - 4  # the diagnosis
        makers.insert(before, lambda: bayes_rule.theory(results, extra_runs, text))
    return [section for section in _made(makers) if section is not None]


def _made(
    makers: Sequence[Callable[[], Sequence[Section | None]]],
) -> list[Section | None]:
    """The sections, as many as the time of the command allows, at least the first.

    A section is begun where as much time is left as the slowest one before it took.
    """
    sections: list[Section | None] = []
    limit = current_limit()
    slowest = 0.0
    with phase("report: sections", len(makers), " sections") as count:
        for i, make in enumerate(makers):
            left = math.inf if limit is None else limit.left()
            if i and left <= slowest:
                notice(
                    f"the budget leaves no time for {len(makers) - i} of {len(makers)} "
                    "sections of the report: tightbound compare RUN writes all"
                )
                break
            sections += make()
            count.add(1)
            if limit is not None:
                slowest = max(slowest, left - limit.left())
    return sections


def render(
    results: Results,
    text: Text,
    title: str | None = None,
    extra_runs: Sequence[tuple[str, Run]] = (),
    *,
    theory: bool = True,
) -> str:
    """The page as HTML; all text from runs and data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("tightbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["rich"] = rich
    heading, subtitle = header.opening(results, text, title)
    today = datetime.date.today().isoformat()
    values = {
        "t": text,
        "lang": text.lang,
        "title": heading,
        "subtitle": subtitle,
        "notices": header.notices(results, text),
        "sections": sections(results, text, extra_runs, theory=theory),
        "heads": [(r.name, log_px.headline(r, text)) for _, r in results],
        "models": header.model_table(results, text),
        "names": [result.name for _, result in results],
        "palette": palette.CSS,
        "footer": text("page.made", version=__version__, date=today),
    }
    return env.get_template("report.html.j2").render(**values)
