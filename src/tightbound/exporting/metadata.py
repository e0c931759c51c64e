"""The metadata of an export: the recipe, the data and the meaning of each tensor."""

from __future__ import annotations

from collections.abc import Mapping

import tightbound
from tightbound.core.data_spec import DataSpec
from tightbound.exporting.plan import Plan, Planned
from tightbound.runs.run import Run

#: The form of the metadata; raised with each change that a reader must know.
VERSION = 1


def of_run(run: Run) -> dict[str, object]:
    """What every export says of its run, as values of JSON.

    Args:
        run: A trained run.

    Returns:
        Package version, recipe, spec, units, latents, and the fitted prior if there is one.
    """
    about: dict[str, object] = {
        "export_version": VERSION,
        "tightbound": tightbound.__version__,
        "run": run.name,
        "fingerprint": run.predictor.fingerprint,
        "recipe": run.config.recipe.model_dump(mode="json"),
        "spec": run.spec.model_dump(mode="json"),
        "units": units(run.spec),
        "latents": run.model.site_widths,
        "sites": list(run.model.sites),
        "has_bound": run.config.recipe.has_bound,
    }
    if run.fitted is not None:
        about["fitted_prior"] = str(run.fitted)
    return about


def units(spec: DataSpec) -> dict[str, object]:
    """How raw units become model units, in words and numbers."""
    about: dict[str, object] = {
        "raw": "the values and the layout of the data that the run was trained on",
        "layout": spec.layout,
        "model": "float32, channels first; raw values divided by the divisor",
        "divisor": spec.divisor,
    }
    if any(spec.offset):
        about["offset"] = list(spec.offset)
        about["raw"] = f"{about['raw']}, as float64; the graph subtracts the offset"
    if spec.fields:
        about["columns"] = [column.name for column in spec.fields]
        about["model"] = (
            "float32; a categorical column is one-hot, each other column is one number"
        )
        about["values"] = {
            column.name: list(column.values) for column in spec.fields if column.values
        }
    if spec.labels is not None:
        about["classes"] = list(spec.labels)
    if spec.condition is not None:
        about["condition"] = list(spec.condition.names)
    return about


def of_plan(plan: Plan) -> dict[str, object]:
    """The families of distributions of a plan, and the graphs that it leaves out."""
    return {
        "posterior": dict(plan.posterior),
        "prior": dict(plan.prior),
        "likelihood": dict(plan.likelihood),
        "left_out": dict(plan.left_out),
    }


def of_graph(graph: Planned) -> dict[str, object]:
    """The name of a graph and the meaning of its tensors."""
    meanings: Mapping[str, str] = graph.outputs
    return {
        "graph": graph.name,
        "inputs": dict(graph.inputs),
        "outputs": dict(meanings),
    }
