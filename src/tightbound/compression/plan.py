"""What can be coded: the check of a model before any work, and the bins of bottom-up latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.compression.bins import Grid
from tightbound.compression.masses import why_no_masses
from tightbound.compression.schedules import CodingDraw, Job
from tightbound.compression.sites import why_not_posterior, why_not_prior
from tightbound.compression.values import Values
from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import CodeDistribution, point
from tightbound.models.hierarchy import Bidirectional, BottomUp
from tightbound.models.vae import VAE
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, listed

EXAMPLES = 256  # whose posteriors set the bins of bottom-up latents
#: Bins of bottom-up latents: steps of their location in scales, and of the scale in octaves.
LOC_STEPS = 4
SCALE_STEPS = 2


def refuse(run: Run, reason: str) -> TightboundError:
    """The error for a model that cannot be coded."""
    return TightboundError(
        f"run {run.name!r} cannot compress: {reason}; see docs/compress.md for what can"
    )


def check_model(run: Run, model: VAE, values: Values) -> None:
    """Refuse a model or data that cannot be coded.

    Raises:
        TightboundError: With the reason.
    """
    if not run.config.recipe.has_bound:
        raise refuse(run, "it has no bound on log p(x), so no code length")
    if run.spec.missing:
        raise refuse(run, "its data have missing values")
    if model.hierarchy.top_prior.extra_sites:
        raise refuse(run, "its prior has a second stage of latents")
    if isinstance(model.hierarchy, Bidirectional):
        raise refuse(run, "its latents are inferred both upwards and downwards")
    if columns := values.unstated():
        raise refuse(
            run,
            f"columns of real numbers have no stated precision ({listed(columns)}): state "
            "it, --precision NAME=STEP",
        )
    with torch.no_grad():
        trace = model(_blank(model), CodingDraw("q", _central))
    if reason := why_no_masses(trace.px, values.model_steps()):
        raise refuse(run, reason)
    for site in trace.latents.values():
        if reason := why_not_prior(site.p) or why_not_posterior(site.q):
            raise refuse(run, reason)
        if isinstance(site.p, CodeDistribution) and isinstance(
            model.hierarchy, BottomUp
        ):
            raise refuse(run, "its codes are inferred from the bottom up")


def _blank(model: VAE) -> Batch:
    """Two examples in the middle of the data."""
    centre = torch.stack([model.get_buffer("centre")] * 2)
    c = None
    if model.spec.condition is not None:
        c = torch.zeros(2, model.spec.condition.width, dtype=torch.float64)
    return Batch(centre, c)


def _central(name: str, p: Distribution | None, q: Distribution | None) -> Tensor:
    """The central value of a latent."""
    assert q is not None
    return point(q).double()


def measured_grids(job: Job, numbers: Tensor, c: Tensor | None) -> bytes:
    """The bins of bottom-up latents, two bytes for each: location and scale.

    Latents that are drawn before their prior is known need bins that depend on nothing; those
    that cover the posteriors of some of the examples fit best.
    """
    if not isinstance(job.model.hierarchy, BottomUp):
        return b""
    moments: dict[str, list[Tensor]] = {name: [] for name in job.model.site_widths}
    for start in range(0, min(EXAMPLES, len(numbers)), job.rows):
        at = slice(start, start + job.rows)
        batch = job.inputs(numbers[at], None if c is None else c[at])
        count = len(numbers[at])
        latents = job.model.visit(batch, Draw(source="point"))
        for name, rows in moments.items():
            q = latents[name].q
            assert q is not None
            rows.append(torch.stack([q.mean[:count], q.variance[:count]]))
    packed: list[Tensor] = []
    for rows in moments.values():
        mean, variance = torch.cat(rows, 1)
        spread = (variance.mean(0) + mean.var(0, correction=0)).clamp(1e-12, 1e12)
        octave = (SCALE_STEPS * spread.sqrt().log2()).round().clamp(-120, 120)
        scale = 2.0 ** (octave / SCALE_STEPS)
        loc = (LOC_STEPS * mean.mean(0) / scale).round().clamp(-120, 120)
        packed += [loc, octave]
    return (torch.cat(packed) + 128).to(torch.uint8).numpy().tobytes()


def grids_from(model: VAE, packed: bytes) -> dict[str, Grid]:
    """The bins that `measured_grids` wrote; none where it wrote nothing.

    Raises:
        ValueError: The bytes are of another model.
    """
    if not isinstance(model.hierarchy, BottomUp):
        return {}
    widths = list(model.site_widths.values())
    if len(packed) != 2 * sum(widths):
        raise ValueError("the bins of its latents are of another model")
    numbers = torch.frombuffer(bytearray(packed), dtype=torch.uint8).double() - 128
    parts = iter(numbers.split([width for width in widths for _ in range(2)]))
    grids = {}
    for name in model.site_widths:
        loc = next(parts)
        scale = 2.0 ** (next(parts) / SCALE_STEPS)
        grids[name] = Grid((loc * scale / LOC_STEPS)[None], scale[None])
    return grids
