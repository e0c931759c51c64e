"""Reports that cost less, for tests that read a part of them or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tightbound import api
from tightbound.evaluation.first_look import FirstLook
from tightbound.report.content.data_samples import DataSample
from tightbound.report.figures import plots
from tightbound.report.figures.image_grid import Picture
from tightbound.report.sections import theory
from tightbound.report.sections.theory import PosteriorStudy
from tightbound.runs.run import Run
from tightbound.training.console import Display


def no_report_of_training(patch: pytest.MonkeyPatch) -> None:
    """Let a training end with its evaluation, without the report that `compare` also writes."""
    first_look = api._first_look

    def without(run: Run, show: Display) -> FirstLook:
        return replace(first_look(run, show), report="none")

    patch.setattr(api, "_first_look", without)


def short_first_look(patch: pytest.MonkeyPatch) -> None:
    """Let a training end without the diagnosis, and its report without theory."""
    first_look = api._first_look

    def short(run: Run, show: Display) -> FirstLook:
        look = first_look(run, show)
        return replace(look, diagnosis=False, report="without theory")

    patch.setattr(api, "_first_look", short)


def coarse_grids(patch: pytest.MonkeyPatch) -> None:
    """Let reports draw the posterior on a quarter of the points, and study each run once."""
    study_posterior = theory.study_posterior
    studies: dict[tuple[str, int], PosteriorStudy | None] = {}

    def study(
        run: Run, name: str, data: DataSample, example: int
    ) -> PosteriorStudy | None:
        key = (run.predictor.fingerprint, example)
        if key not in studies:
            studies[key] = study_posterior(run, name, data, example)
        earlier = studies[key]
        return earlier and replace(earlier, name=name, data=data)

    patch.setattr(theory, "POINTS", 50)
    patch.setattr(theory, "study_posterior", study)


def blank_pictures(patch: pytest.MonkeyPatch) -> None:
    """Let reports leave their plots empty, where a test reads the words alone."""

    def blank(canvas: plots.Canvas) -> Picture:
        text = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        return Picture(text, "image/svg+xml", canvas.width, round(canvas.height))

    patch.setattr(plots.Canvas, "_encode", blank)
