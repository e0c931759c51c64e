"""write: runs in, one HTML file out, with everything it needs inside."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tightbound import __version__, evaluation
from tightbound.evaluation.result import FORMAT
from tightbound.models.recipes import RECIPES
from tightbound.report.content.gather import gather
from tightbound.report.figures import palette
from tightbound.report.page.blocks import Section
from tightbound.report.page.text import Text, rich
from tightbound.report.sections import columns as marginals
from tightbound.report.sections import diagnosis as health
from tightbound.report.sections import header as facts
from tightbound.report.sections import images as pictures
from tightbound.report.sections import terms as numbers
from tightbound.report.sections import theory
from tightbound.report.sections import walkthrough as follow
from tightbound.report.sections.images import Cast
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import make_folder, write_atomic
from tightbound.runtime.errors import TightboundError

QUICK_K = 256


def write(
    runs: Sequence[Run],
    path: Path | str,
    *,
    lang: str = "en",
    evaluations: Sequence[Any] | None = None,
    title: str | None = None,
    aside: Sequence[Run] = (),
) -> Path:
    """Writes the report of one run, or of several side by side on equal scales, as one HTML file;
    returns its path.

    lang: "en" or "ko".  evaluations: one `Evaluation` or its dict per run; where None, a run's
    evaluation.json, else a quick one with K = 256.  aside: runs on the same data that are shown
    only where Bayes' rule is drawn. Raises TightboundError for no runs, an unknown language or data
    that are gone.
    """
    if not runs:
        raise TightboundError("a report needs a run: name one or more run folders")
    if evaluations is not None and len(evaluations) != len(runs):
        raise TightboundError(
            f"{len(evaluations)} evaluations were given for {len(runs)} runs: "
            "give one per run, or none"
        )
    text, path = Text(lang), Path(path)
    given = list(evaluations) if evaluations is not None else [None] * len(runs)
    trees = [_evaluation(run, found) for run, found in zip(runs, given, strict=True)]
    stages = gather(runs, trees, _names(runs))
    cast = sorted(
        ((stage, story) for stage in stages for story in stage.stories),
        key=lambda pair: pair[1].position,
    )
    make_folder(path.parent)
    write_atomic(
        path, render(cast, text, title, list(zip(_names(aside), aside, strict=True)))
    )
    return path


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' names, numbered where two are alike."""
    names = [run.name.upper() if run.name in RECIPES else run.name for run in runs]
    return [
        n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})"
        for i, n in enumerate(names)
    ]


def _evaluation(run: Run, found: Any) -> Mapping[str, Any]:
    if isinstance(found, Mapping):
        return found
    if found is None:
        saved = run.folder / "evaluation.json" if run.folder else None
        if saved is not None and saved.is_file():
            with suppress(
                ValueError, AttributeError
            ):  # a damaged file is made again, as is one of other weights or of an older format
                tree: Mapping[str, Any] = json.loads(saved.read_text(encoding="utf-8"))
                if (tree.get("format"), tree.get("weights")) == (
                    FORMAT,
                    run.fingerprint,
                ):
                    return tree
        found = evaluation.evaluate(run, k=QUICK_K, subset=0)
    tree = found.to_json()
    return tree


def sections(
    cast: Cast, text: Text, aside: Sequence[tuple[str, Run]] = ()
) -> list[Section]:
    """The report in the order that it is read."""
    made = (
        pictures.reconstructions(cast, text),
        pictures.latent_space(cast, text),
        pictures.samples(cast, text),
        marginals.marginals(cast, text),
        pictures.neighbours(cast, text),
        pictures.variations(cast, text),
        pictures.interpolation(cast, text),
        pictures.traversals(cast, text),
        follow.followed(cast, text),
        numbers.terms(cast, text),
        *theory.theory(cast, aside, text),
        health.health(cast, text),
        numbers.training(cast, text),
        numbers.probes(cast, text),
    )
    return [s for s in made if s is not None]


def render(
    cast: Cast,
    text: Text,
    title: str | None = None,
    aside: Sequence[tuple[str, Run]] = (),
) -> str:
    """The page as HTML; whatever comes from runs and data is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    env = Environment(
        loader=PackageLoader("tightbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["rich"] = rich
    heading, under = facts.opening(cast, text, title)
    values = {
        "t": text,
        "lang": text.lang,
        "title": heading,
        "subtitle": under,
        "notices": facts.notices(cast, text),
        "sections": sections(cast, text, aside),
        "heads": [(story.name, numbers.headline(story, text)) for _, story in cast],
        "models": facts.model_table(cast, text),
        "names": [story.name for _, story in cast],
        "palette": palette.CSS,
        "made": text(
            "page.made", version=__version__, date=datetime.date.today().isoformat()
        ),
    }
    return env.get_template("report.html.j2").render(**values)
