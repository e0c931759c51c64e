"""The latent space of a run for a page: codes, features, planes, draws of the prior."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.distributions import Codes, Quantized
from tightbound.distributions.random import ContentNoise
from tightbound.evaluation.diagnosis.latent_usage import Feature, latents
from tightbound.exploring.blocks import Blocks, Json
from tightbound.exploring.examples import Examples
from tightbound.report.content.model_outputs import moments_of
from tightbound.runs.run import Run, seeded
from tightbound.runtime.errors import TightboundError

Floats = NDArray[np.float64]

MOST_MEASURED = 500  # rows from which the use of the features is measured
MOST_COMPONENTS = 8
MOST_LISTED = 512  # features
PRIOR_DRAWS = 4000
MOST_DRAWN = 2_000_000  # values of all draws of the prior
DRAWS = 8  # of q(z|x), for the terms of each point

SPHERE = (
    "the features of this run are directions on a sphere, so that a plane of two of them is a "
    "view of the sphere and not a map that can be walked freely"
)
BALL = (
    "the features of this run are coordinates in hyperbolic space, so that straight lines of "
    "the plane are not its shortest paths"
)


class LatentSpace:
    """The latent space of a run over some of its data.

    Args:
        run: The run.
        points: Rows of its data.
    """

    def __init__(self, run: Run, points: Examples) -> None:
        self.run = run
        self.points = points
        self.z, self.sd = moments_of(run, points.batch)
        self.codes = _codes_of(run, points.batch[:1])

    @property
    def names(self) -> list[str]:
        """The sites with real features, in the order in which they stand side by side."""
        classes = self.run.model.classes
        return [name for name in self.run.model.site_widths if name not in classes]

    @property
    def kind(self) -> str:
        """vector, codes, hierarchy, sphere or ball."""
        space = self.run.model.hierarchy.top_prior.latent_space
        if space == "real":
            return "hierarchy" if len(self.names) > 1 else "vector"
        return {"codes": "codes", "sphere": "sphere", "hyperbolic": "ball"}[space]

    def described(self, blocks: Blocks, prefix: str) -> Json:
        """The latent space in the manifest."""
        components, center, shares = self._components()
        features = self._features()
        kind = self.kind
        return {
            "kind": kind,
            "width": int(self.z.shape[1]),
            "sites": self._sites(),
            "order": list(self.run.model.sites),
            "classes": dict(self.run.model.classes),
            "features": features[:MOST_LISTED],
            "components": blocks.add(f"{prefix}.components", components),
            "center": blocks.add(f"{prefix}.center", center),
            "explained": shares,
            "shown": {"sphere": SPHERE, "ball": BALL}.get(kind),
        }

    def _sites(self) -> list[Json]:
        sites: list[Json] = []
        start = 0
        for name, width in self.run.model.site_widths.items():
            site: Json = {"name": name, "start": start, "width": width}
            if name in self.codes:
                site["codes"], site["entries"] = self.codes[name]
            sites.append(site)
            start += width
        return sites

    def _features(self) -> list[Json]:
        """The features by decreasing KL; where it is not defined, by activity."""
        used = self.points.batch[: min(len(self.points), MOST_MEASURED)]
        if len(self.points) > MOST_MEASURED:
            places = np.linspace(0, len(self.points) - 1, MOST_MEASURED).round()
            used = self.points.batch[torch.as_tensor(places).long()]
        measured = latents(self.run, used, self.run.config.seed).features
        starts = {str(site["name"]): int(str(site["start"])) for site in self._sites()}
        rows = [
            _feature(feature, starts)
            for feature in measured
            if _site_of(feature) not in self.run.model.classes
        ]
        rows.sort(key=_by_use)
        return rows

    def _components(self) -> tuple[Floats, Floats, list[float]]:
        """Principal directions (k, d) of the codes, their mean, and shares of the variance."""
        center = self.z.mean(0)
        _, s, v = np.linalg.svd(self.z - center, full_matrices=False)
        count = min(MOST_COMPONENTS, len(v))
        total = max(float((s**2).sum()), 1e-30)
        return v[:count], center, [float(share) for share in s[:count] ** 2 / total]

    def point_blocks(self, blocks: Blocks, prefix: str) -> Json:
        """Codes, deviations and terms of the points in the manifest."""
        about: Json = {"z": blocks.add(f"{prefix}.z", self.z)}
        if (self.sd > 0).any():
            about["scale"] = blocks.add(f"{prefix}.scale", self.sd)
        index = self._indices()
        if index is not None:
            about["codes"] = blocks.add(f"{prefix}.codes", index, "int32")
        about["terms"] = blocks.add(f"{prefix}.terms", self._terms())
        about["terms_draws"] = DRAWS
        return about

    def _terms(self) -> Floats:
        """E_q[log p(x|z)] by DRAWS draws of q, and KL(q, p), (n, 2); NaN without a bound."""
        rows = max(1, 2_000_000 // (DRAWS * self.run.spec.dims))
        terms = []
        for part in self.points.batch.split(rows):
            noise = ContentNoise(self.run.config.seed, part.x, 0, DRAWS)
            with torch.no_grad():
                trace = self.run.predictor.trace(part, Draw(DRAWS, noise=noise))
                rate = torch.full_like(trace.distortion, torch.nan)
                if self.run.config.recipe.has_bound and trace.bound:
                    rate = trace.rate
                terms.append(torch.stack([-trace.distortion, rate], 1).cpu())
        values: Floats = torch.cat(terms).double().numpy()
        return values

    def _indices(self) -> NDArray[np.int64] | None:
        """Entry numbers (n, codes) of a run with one site of codes."""
        if self.kind != "codes" or len(self.codes) != 1:
            return None
        (name,) = self.codes
        parts = []
        for part in self.points.batch.split(256):
            with torch.no_grad():
                q = self.run.predictor.latents(part)[name].q
            assert isinstance(q, Codes | Quantized)
            parts.append(q.code.index.cpu())
        index: NDArray[np.int64] = torch.cat(parts).numpy()
        return index

    def prior(self, blocks: Blocks, prefix: str, standard: bool) -> Json:
        """p(z) in the manifest: by name where it is N(0, I), else by draws."""
        if standard:
            return {"kind": "standard"}
        width = self.z.shape[1]
        n = max(100, min(PRIOR_DRAWS, MOST_DRAWN // width))
        model = self.run.model
        c = None
        if self.run.spec.condition is not None:
            conditions = model.get_buffer("conditions")
            c = conditions[torch.arange(n) % len(conditions)]
        try:
            with torch.no_grad(), seeded(self.run.config.seed):
                draws = self.run.predictor.sample_prior(n, 1.0, c).x
        except TightboundError as error:
            return {"kind": "none", "reason": str(error)}
        return {
            "kind": "draws",
            "draws": blocks.add(f"{prefix}.draws", draws.numpy()),
        }


def _codes_of(run: Run, one: Batch) -> Mapping[str, tuple[int, int]]:
    """Number of codes and entries of each site of codes."""
    with torch.no_grad():
        visited = run.predictor.latents(one)
    codes = {}
    for name in run.model.site_widths:
        q = visited[name].q
        if isinstance(q, Codes | Quantized):
            codes[name] = (q.codebook.groups, q.codebook.size)
    return codes


def _site_of(feature: Feature) -> str:
    return feature.name.rpartition("_")[0]


def _feature(feature: Feature, starts: Mapping[str, int]) -> Json:
    site, _, number = feature.name.rpartition("_")
    return {
        "index": starts[site] + int(number) - 1,
        "site": site,
        "name": feature.name,
        "kl": feature.kl,
        "activity": feature.activity,
        "mean": feature.mean,
        "sd": feature.sd,
        "active": feature.active,
    }


def _by_use(row: Json) -> tuple[float, float]:
    kl = row["kl"]
    first = -kl if isinstance(kl, float) else 0.0
    activity = row["activity"]
    assert isinstance(activity, float)
    return first, -activity
