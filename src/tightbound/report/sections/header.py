"""The head of the page: title, notices on comparability, and the table of models."""

from __future__ import annotations

from tightbound.models.recipes import Part, has_point
from tightbound.report.content.gather import Group, RunResult
from tightbound.report.page.text import Text
from tightbound.report.sections.common import Results, set_nouns


def _part(part: Part) -> str:
    options = ", ".join(f"{k} = {v}" for k, v in part.options.items() if v is not None)
    return f"{part.name} ({options})" if options else part.name


def _prior(result: RunResult, text: Text) -> str:
    recipe = result.run.config.recipe
    if result.run.fitted:
        return text("model.fitted", prior=_part(recipe.prior))
    return text("model.no_prior") if has_point(recipe) else _part(recipe.prior)


def _training(result: RunResult, text: Text) -> str:
    """Length and duration of the training of a run."""
    epochs = [line for line in result.history if line.get("event") == "epoch"]
    if not epochs:
        return text("model.unknown")
    last = epochs[-1]
    steps = f"{last['step']:,}"
    if last.get("epoch"):
        length = text("model.epochs", epochs=last["epoch"], steps=steps)
    else:
        length = text("model.steps", steps=steps)
    seconds = float(last["time"])
    if seconds < 100:
        return f"{length}, {text('model.seconds', time=seconds)}"
    return f"{length}, {text('model.minutes', time=seconds / 60)}"


def _model(result: RunResult, text: Text) -> dict[str, str]:
    """The entries of one run in the table of models."""
    recipe = result.run.config.recipe
    return {
        "recipe": f"{recipe.name}, {_part(recipe.network)}-{recipe.size}",
        "posterior": _part(recipe.posterior),
        "prior": _prior(result, text),
        "likelihood": _part(recipe.likelihood),
        "latent": " + ".join(
            str(width) for width in result.run.model.site_widths.values()
        ),
        "parameters": f"{result.parameters['generative']:,}",
        "parameters_phi": f"{result.parameters['inference']:,}",
        "trained": _training(result, text),
        "paper": recipe.paper,
    }


def model_table(results: Results, text: Text) -> list[tuple[str, list[str]]]:
    """The table of models: (name of the row, one value per run)."""
    models = [_model(result, text) for _, result in results]
    rows = []
    for key in models[0]:
        values = [model[key] for model in models]
        if any(values):
            rows.append((text(f"model.{key}"), values))
    return rows


def notices(results: Results, text: Text) -> list[str]:
    """A sentence on each condition under which the page would mislead."""
    groups: dict[int, Group] = {id(group): group for group, _ in results}
    domains = sorted({result.run.spec.domain for _, result in results})
    sentences = []
    if len(groups) > 1:
        sentences.append(text("page.mixed"))
    elif len(domains) > 1:
        sentences.append(text("page.units", domains=", ".join(domains)))
    if settings := _evaluation_settings(results, text):
        sentences.append(text("page.evaluations", settings="; ".join(settings)))
    for group in groups.values():
        sentences += _data_notices(group, text)
    return sentences


def _data_notices(group: Group, text: Text) -> list[str]:
    set_nouns(text, group)
    data = group.data
    sentences = []
    if not data.held_out:
        sentences.append(text("page.trained_on"))
    if data.scale.image and data.spec.shape[0] not in (1, 3, 4):
        sentences.append(text("page.channels", channels=data.spec.shape[0]))
    if data.table is not None and len(data.table.shown) < len(data.table.columns):
        values = {"n": len(data.table.shown), "of": len(data.table.columns)}
        sentences.append(text("table.first", **values))
    if data.scale.standardised and data.table is None:
        sentences.append(text("page.standard"))
    return sentences


def _evaluation_settings(results: Results, text: Text) -> list[str]:
    """K and number of examples of each bound, if they differ between runs."""
    pairs = [(group, result) for group, result in results if result.bound]
    settings = {(r.evaluation.get("k"), r.evaluation.get("n")) for _, r in pairs}
    if len(settings) < 2:
        return []
    sentences = []
    for group, result in pairs:
        set_nouns(text, group)
        k = f"{result.evaluation.get('k') or 0:,}"
        n = f"{result.evaluation.get('n') or 0:,}"
        sentences.append(text("page.evaluation", run=result.name, k=k, n=n))
    return sentences


def opening(results: Results, text: Text, title: str | None) -> tuple[str, str]:
    """The page's title and the sentence below it."""
    group = results[0][0]
    set_nouns(text, group)
    names = [result.name for _, result in results]
    joined = names[0]
    if len(names) > 1:
        joined = ", ".join(names[:-1]) + text("page.and") + names[-1]
    titles = [str(group.data.dataset.name) for group, _ in results]
    default = text("page.title", runs=joined, data=", ".join(dict.fromkeys(titles)))
    return title or default, _subtitle(group, text)


def _subtitle(group: Group, text: Text) -> str:
    """The numbers of examples, and how many test examples are training examples."""
    counts = group.data.counts
    overlap = group.data.dataset.overlap
    key = "page.subtitle"
    if counts["train"] is None:
        key = "page.subtitle_stream"
    elif overlap is not None and not overlap.is_complete:
        key = "page.subtitle_sample"
    elif overlap is not None and overlap.test_in_train:
        key = "page.subtitle_equal"
    return text(
        key,
        test=f"{counts['test']:,}",
        train=f"{counts['train'] or 0:,}",
        equal=f"{0 if overlap is None else overlap.test_in_train:,}",
        checked=f"{0 if overlap is None else overlap.checked:,}",
    )
