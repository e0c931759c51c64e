"""What the models are: the table at the head of the page, and what a reader must be told before
comparing them.
"""

from __future__ import annotations

from tightbound.models.recipes import Part, has_point
from tightbound.report.content.gather import Stage, Story
from tightbound.report.page.text import Text
from tightbound.report.sections.images import Cast, say


def _part(part: Part) -> str:
    options = ", ".join(f"{k} = {v}" for k, v in part.options.items() if v is not None)
    return f"{part.name} ({options})" if options else part.name


def _prior(story: Story, text: Text) -> str:
    recipe = story.run.config.recipe
    if story.run.fitted:
        return text("model.fitted", prior=_part(recipe.prior))
    return text("model.no_prior") if has_point(recipe) else _part(recipe.prior)


def _training(story: Story, text: Text) -> str:
    lines = [line for line in story.history if line.get("event") == "epoch"]
    if not lines:
        return text("model.unknown")
    last = lines[-1]
    steps = f"{last['step']:,}"
    epoch = last.get("epoch")
    done = (
        text("model.epochs", epochs=epoch, steps=steps)
        if epoch
        else text("model.steps", steps=steps)
    )
    seconds = float(last["time"])
    spent = (
        text("model.seconds", time=seconds)
        if seconds < 100
        else text("model.minutes", time=seconds / 60)
    )
    return f"{done}, {spent}"


def model_table(cast: Cast, text: Text) -> list[tuple[str, list[str]]]:
    """(words, one value per run) for each row."""

    def values(story: Story) -> dict[str, str]:
        recipe = story.run.config.recipe
        return {
            "recipe": f"{recipe.name}, {_part(recipe.network)}-{recipe.size}",
            "posterior": _part(recipe.posterior),
            "prior": _prior(story, text),
            "likelihood": _part(recipe.likelihood),
            "latent": " + ".join(str(width) for width in story.run.sites.values()),
            "parameters": f"{story.parameters['generative']:,}",
            "parameters_phi": f"{story.parameters['inference']:,}",
            "trained": _training(story, text),
            "paper": recipe.paper,
        }

    table = [values(story) for _, story in cast]
    return [
        (text(f"model.{key}"), [t[key] for t in table])
        for key in table[0]
        if any(t[key] for t in table)
    ]


def notices(cast: Cast, text: Text) -> list[str]:
    """One sentence for each thing that a reader could be misled by."""
    stages: dict[int, Stage] = {id(stage): stage for stage, _ in cast}
    found = []
    if len(stages) > 1:
        found.append(text("page.mixed"))
    domains = sorted({story.run.spec.domain for _, story in cast})
    if len(stages) == 1 and len(domains) > 1:
        found.append(text("page.units", domains=", ".join(domains)))
    if ways := _ways(cast, text):
        found.append(text("page.evaluations", ways="; ".join(ways)))
    for stage in stages.values():
        say(text, stage)
        place = stage.scene
        if not place.held_out:
            found.append(text("page.seen"))
        if place.view.image and place.spec.shape[0] not in (1, 3, 4):
            found.append(text("page.channels", channels=place.spec.shape[0]))
        if place.sheet is not None and len(place.sheet.shown) < len(
            place.sheet.columns
        ):
            found.append(
                text(
                    "table.first", n=len(place.sheet.shown), of=len(place.sheet.columns)
                )
            )
        if place.view.standardised and place.sheet is None:
            found.append(text("page.standard"))
    return found


def _ways(cast: Cast, text: Text) -> list[str]:
    """How each bound was evaluated, where they differ: with other K, or on another number of
    examples.
    """
    bound = [(stage, story) for stage, story in cast if story.bound]
    if (
        len(
            {
                (story.evaluation.get("k"), story.evaluation.get("n"))
                for _, story in bound
            }
        )
        < 2
    ):
        return []
    ways = []
    for stage, story in bound:
        say(text, stage)
        k, n = (f"{story.evaluation.get(name) or 0:,}" for name in ("k", "n"))
        ways.append(text("page.way", run=story.name, k=k, n=n))
    return ways


def opening(cast: Cast, text: Text, title: str | None) -> tuple[str, str]:
    """The page's title and the sentence under it."""
    stage = cast[0][0]
    say(text, stage)
    names = [story.name for _, story in cast]
    joined = (
        ", ".join(names[:-1]) + text("page.and") + names[-1]
        if len(names) > 1
        else names[0]
    )
    data = ", ".join(dict.fromkeys(str(s.scene.data.name) for s, _ in cast))
    counts = stage.scene.counts
    values = {"test": f"{counts['test']:,}", "train": f"{counts['train'] or 0:,}"}
    under = text(
        "page.subtitle" if counts["train"] is not None else "page.subtitle_stream",
        **values,
    )
    return title or text("page.title", runs=joined, data=data), under
