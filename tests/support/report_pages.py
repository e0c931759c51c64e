"""Untrained runs, and a parser for the report's page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tightbound import config, data, evaluation, report
from tightbound.models.build import build
from tightbound.runs.run import Run, seeded
from tightbound.training.run_training import settle, with_required_data

VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}


def _epoch(e: int) -> dict[str, Any]:
    """A line of the training log."""
    values = {"distortion": 90.0 / e, "rate": 3.0 * e, "elbo": -90.0 / e - 3 * e}
    step = {"epoch": float(e), "step": 10 * e, "time": 1.5 * e, "best": e == 3}
    return {"event": "epoch", **step, "train": values, "valid": values}


LOG = [_epoch(e) for e in range(1, 5)]


def untrained(
    source: Any,
    recipe: str,
    folder: Path | None = None,
    name: str = "",
    **settings: Any,
) -> Run:
    """An untrained run; with a folder, also a training log."""
    values = {"recipe.size": "s", "latent": 4, **settings}
    wanted = with_required_data(
        config.configure(
            source if isinstance(source, str) else "", recipe, values=values
        )
    )
    dataset = data.load(source, wanted.data)
    settled, _ = settle(wanted, dataset)
    if settled.data.domain != dataset.settings.domain:
        dataset = data.load(source, settled.data)
    spec = dataset.spec
    with seeded(0):
        model, _ = build(settled.recipe, spec)
    if folder is not None:
        folder = folder / (name or recipe)
        folder.mkdir()
        (folder / "log.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in LOG)
        )
    return Run(
        settled.model_copy(update={"spec": spec, "digest": dataset.digest}),
        model,
        folder,
        dataset,
    )


def page(
    runs: list[Run], tmp_path: Path, *, brief: bool = False, **options: Any
) -> str:
    """The report of runs, with evaluations of few samples.

    brief: without diagnosis and theory, for tests that read other sections.
    """
    evaluations = [
        evaluation.evaluate(run, k=8, limit=64, diagnosis=not brief) for run in runs
    ]
    return report.write(
        runs,
        tmp_path / "report.html",
        evaluations=evaluations,
        theory=not brief,
        **options,
    ).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Parser of a page for its ids, links, pictures and words.

    Every element must be closed in order.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.lang: str | None = None
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if tag == "img":
            self.pictures.append(attributes)
        if tag == "a":
            self.links.append(str(attributes["href"]))
        if tag == "html":
            self.lang = attributes["lang"]
        self.loads += [
            str(attributes[k])
            for k in ("src", "srcset", "data", "action")
            if attributes.get(k)
        ]
        assert tag not in ("script", "link", "iframe", "object")
        assert not [k for k in attributes if k.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("circle", "path", "rect", "use")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
