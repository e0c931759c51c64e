"""`tightbound fit-prior`: another p(z) for a trained model."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tightbound.cli.options import PLAIN, Loading, Quiet, RunPath


def fit_prior(
    run: RunPath,
    prior: Annotated[
        str,
        Parameter(
            help="such as gaussian-mixture; tightbound show RUN lists those that fit"
        ),
    ],
    /,
    *,
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            consume_multiple=True,
            help="key=value ..., such as components=10",
        ),
    ] = None,
    name: Annotated[
        str | None,
        Parameter(help="what --prior will call it; the kind of prior unless given"),
    ] = None,
    overwrite: Annotated[
        bool, Parameter(help="replace the fitted prior of that name")
    ] = False,
    loading: Loading = PLAIN,
    quiet: Quiet = False,
) -> None:
    """Fit a prior to the encoded training data of a trained model.

    Other commands then take --prior NAME.
    """
    from tightbound import api
    from tightbound.cli import outputs
    from tightbound.config import assignments

    fitted = api.fit_prior(
        outputs.load(run, loading),
        prior,
        name=name,
        overwrite=overwrite,
        settings=assignments(set_ or []),
        display="none" if quiet else "auto",
    )
    assert fitted.fitted is not None
    print(f"{fitted.fitted}: {fitted.folder}")
    kind = "png" if fitted.spec.is_image else "csv"
    print(
        f"use it: tightbound sample {run} --prior {fitted.fitted.name} --out samples.{kind}"
    )
