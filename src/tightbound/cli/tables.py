"""Output on the screen: tables, JSON and progress; plain text where it is piped."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tightbound.cli import meanings
from tightbound.models.recipes import RECIPES, Part, Recipe
from tightbound.runtime.errors import TightboundError, nearest

if TYPE_CHECKING:
    from torch.nn import Parameter

    from tightbound.config import Config
    from tightbound.runs.run import Run

Tick = Callable[..., None]
WIDE = 140
SILENT = 10.0  # seconds between two lines of progress


def show_json(value: object) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], title: str = ""
) -> None:
    """Print rows under their heads; text wraps, except in the first column."""
    grid = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for i, head in enumerate(heads):
        grid.add_column(head, no_wrap=i == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    Console(highlight=False).print(grid)


@contextmanager
def progress(what: str, quiet: bool) -> Iterator[Tick]:
    """The number of finished examples on standard error.

    A bar on a terminal, elsewhere a line every ten seconds.
    """
    if quiet:
        yield lambda done, n, stage="": None
    elif not sys.stderr.isatty():
        yield _lines(what)
    else:
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, n, stage="": bar.update(
                task, completed=done, total=n, description=f"{what} {stage}".strip()
            )


def _lines(what: str) -> Tick:
    due = [time.monotonic() + SILENT]

    def tick(done: int, n: int | None, stage: str = "") -> None:
        if time.monotonic() >= due[0]:
            of = "" if n is None else f" of {n}"
            print(
                f"{f'{what} {stage}'.strip()}: {done}{of}", file=sys.stderr, flush=True
            )
            due[0] = time.monotonic() + SILENT

    return tick


# ---- recipes, data


def recipes(as_json: bool) -> None:
    """The table of recipes."""
    if as_json:
        show_json([recipe.model_dump(mode="json") for recipe in RECIPES.values()])
        return
    rows = [
        (name, r.purpose, ", ".join(parts(r)), r.paper) for name, r in RECIPES.items()
    ]
    if Console().width < WIDE:
        table(
            ("name", "for, parts, paper"),
            [(name, "\n".join(texts)) for name, *texts in rows],
        )
    else:
        table(("name", "for", "parts", "paper"), rows)


def parts(recipe: Recipe) -> list[str]:
    """The settings that differ from a plain VAE, or all of a plain one."""
    plain = RECIPES["vae"]
    keys = (
        "posterior",
        "prior",
        "likelihood",
        "objective",
        "hierarchy",
        "network",
        "latent",
        "k",
    )
    changed = [
        k
        for k in (*keys, "conditional", "missing", "train")
        if getattr(recipe, k) != getattr(plain, k)
    ]
    return [f"{key} {_brief(getattr(recipe, key))}" for key in changed or keys[:5]]


def _flat(values: Mapping[str, object], under: str = "") -> dict[str, object]:
    """Nested settings by their dotted keys."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{under}{key}.")
        else:
            flat[f"{under}{key}"] = value
    return flat


def _brief(value: object) -> str:
    if isinstance(value, Part):
        options = ", ".join(f"{k}={v}" for k, v in value.options.items())
        if options:
            return f"{value.name} ({options})"
        return value.name
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_brief(v)}" for key, v in _flat(value).items())
    if isinstance(value, tuple | list) and value:
        return " x ".join(str(v) for v in value)
    if isinstance(value, bool):
        return str(value).lower()
    if value or value == 0:
        return str(value)
    return "not set"


def data(as_json: bool) -> None:
    """The built-in data sets."""
    from tightbound.data import list_sources

    sources = list_sources()
    if as_json:
        show_json(sources)
        return
    rows = []
    for s in sources:
        sizes = " + ".join(f"{n:,}" for n in s["examples"].values())
        what = f"{s['about']}; {_brief(s['shape'])}, {s['domain']}; {sizes}, split {s['splits']}"
        rows.append((s["name"], what, s["where"]))
    table(("name", "what; shape, values; train + valid + test", "where"), rows)
    print("Also: a folder or zip of images, and .npy, .npz, .csv and IDX files.")


# ---- show


def show(
    what: str, *, prior: str | None = None, trust: bool = False, as_json: bool = False
) -> None:
    """A recipe with the meaning of every key, or a run."""
    from tightbound.runs.folder import RunFolder

    if what in RECIPES and prior is None and not RunFolder(Path(what)).is_run:
        if as_json:
            show_json(_recipe_tree(RECIPES[what]))
            return
        _recipe(RECIPES[what])
    elif Path(what).exists():
        from tightbound.runs.run import load

        run = load(what, prior=prior, trust=trust)
        if as_json:
            show_json(_run_tree(run))
            return
        _run(run)
    else:
        raise TightboundError(
            f"{what!r} is neither a recipe nor a run folder: {nearest(what, RECIPES)}"
        )


def _recipe(recipe: Recipe) -> None:
    """The complete settings of a run with this recipe."""
    from tightbound.config import SECTIONS, configure

    print(f"{recipe.name}: {recipe.purpose}\n{recipe.paper}\n")
    print(f"Any key: tightbound train DATA --recipe {recipe.name} --set KEY=VALUE")
    config = configure("", recipe.name)
    for section in (None, *SECTIONS):
        rows = _settings(section, config)
        table(
            ("key", "value", "meaning"),
            [(key, _brief(value), what) for key, value, what in rows],
        )
    print("auto: settled before the first step, and then kept in the run's config.toml")


def _recipe_tree(recipe: Recipe) -> dict[str, object]:
    """A recipe and every setting of a run with it, with their meaning."""
    from tightbound.config import SECTIONS, configure

    config = configure("", recipe.name)
    settings = [
        row for section in (None, *SECTIONS) for row in _settings(section, config)
    ]
    return {
        "name": recipe.name,
        "purpose": recipe.purpose,
        "paper": recipe.paper,
        "settings": [
            {"key": key, "value": _plain(value), "meaning": meaning}
            for key, value, meaning in settings
        ],
    }


def _plain(value: object) -> object:
    """A value of a setting as JSON holds it."""
    if isinstance(value, Part):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


def _count_of(parameters: Sequence[Parameter]) -> int:
    """The number of values of some parameters."""
    return sum(parameter.numel() for parameter in parameters)


def _run_tree(run: Run) -> dict[str, object]:
    """A run's settings, latents, parameters, validations and evaluation."""
    from tightbound.evaluation import saved
    from tightbound.runs.fitted_prior import fittable

    assert run.folder is not None
    try:
        evaluation = saved.read(run.folder, run.predictor.fingerprint)
        note = None
    except TightboundError as error:
        evaluation = None
        note = str(error)
    groups = run.model.groups()
    return {
        "folder": str(run.folder),
        "config": run.config.model_dump(mode="json"),
        "sites": run.model.site_widths,
        "parameters": {
            name: _count_of(parameters) for name, parameters in groups.items()
        },
        "fitted prior": None if run.fitted is None else run.fitted.name,
        "priors that can be fitted": fittable(run.config.recipe, run.spec),
        "validations": run.history(),
        "evaluation": evaluation,
        "evaluation note": note,
    }


def _settings(section: str | None, config: Config) -> list[tuple[str, object, str]]:
    """(key, value, meaning) of the settings of a section, or of those of none."""
    from tightbound.config import SECTIONS, Config

    if section is None:
        meaning = meanings.described(Config)
        return [(key, getattr(config, key), meaning[key]) for key in ("seed", "device")]
    if section == "recipe":
        return meanings.rows(config.recipe)
    part = getattr(config, section)
    return [
        (f"{section}.{key}", getattr(part, key), text)
        for key, text in meanings.described(SECTIONS[section]).items()
        if key != "source"  # the data are an argument of their own
    ]


def _run(run: Run) -> None:
    """The parts of a run, its data and its results."""
    config = run.config
    recipe = config.recipe
    train = config.train
    groups = run.model.groups()
    theta = sum(p.numel() for p in groups["generative"])
    phi = sum(p.numel() for p in groups["inference"])
    spec = run.spec
    values = f"{spec.domain} ({spec.levels})" if spec.levels else spec.domain
    fitted = ", fitted after training" if run.fitted else ""
    sites = ", ".join(
        f"{site}: {width}" for site, width in run.model.site_widths.items()
    )
    rows = [
        ("recipe", f"{recipe.name}: {recipe.paper}"),
        ("prior p(z)", f"{_brief(recipe.prior)}{fitted}"),
        *_priors(run),
        ("posterior q(z|x)", _brief(recipe.posterior)),
        ("likelihood p(x|z)", _brief(recipe.likelihood)),
        ("objective", f"{_brief(recipe.objective)}, k = {recipe.k}"),
        ("latents", f"{sites} ({recipe.hierarchy})"),
        ("network", f"{_brief(recipe.network)}, size {recipe.size}"),
        ("theta", f"{theta:,} parameters of the decoder, prior and likelihood"),
        ("phi", f"{phi:,} parameters of the encoder and posterior"),
        (
            "data",
            f"{config.data.source or 'arrays in Python'}, {_brief(spec.shape)}, {values}",
        ),
        ("training", f"{train.steps} steps of {train.batch}, seed {config.seed}"),
        *_history(run),
        *_evaluation(run),
    ]
    table(("", str(run.folder)), rows)


def _priors(run: Run) -> list[tuple[str, str]]:
    """The priors that can be fitted after training, and those that have been."""
    from tightbound.runs.fitted_prior import fittable
    from tightbound.runs.folder import RunFolder
    from tightbound.runs.run import training_folder

    home = training_folder(run)
    names = [] if home is None else RunFolder(home).prior_names()
    rows = [("can be fitted", ", ".join(fittable(run.config.recipe, run.spec)))]
    if names:
        return [*rows, ("fitted", ", ".join(names))]
    return rows


def _history(run: Run) -> list[tuple[str, str]]:
    """Steps done and the best validation, from the log."""
    lines = run.history()
    if not lines:
        return [("log", "none yet")]
    best = [line for line in lines if line["best"]][-1:] or lines[-1:]
    valid = best[0]["valid"]
    shown = [
        f"{name} {valid[name]:.2f}"
        for name in ("elbo", "distortion", "rate", "log_px")
        if valid.get(name) is not None
    ]
    return [
        ("steps done", f"{lines[-1]['step']} in {lines[-1]['time']:.0f} s"),
        ("best validation", f"step {best[0]['step']}: {', '.join(shown)} nats"),
    ]


def _evaluation(run: Run) -> list[tuple[str, str]]:
    """The figures of evaluation.json."""
    from tightbound.evaluation import saved

    assert run.folder is not None
    try:
        tree = saved.read(run.folder, run.predictor.fingerprint)
    except TightboundError as error:
        advice = f"tightbound evaluate {run.folder} makes it again"
        return [("evaluation", f"{error}: {advice}")]
    if tree is None:
        return [("evaluation", f"none yet: tightbound evaluate {run.folder}")]
    figures = saved.closest_terms(tree)
    lower = ("log_px", "gap") if saved.one_sided(tree) else ()
    lines = [
        _figure(name, figures[name], "≥ " if name in lower else "")
        for name in ("elbo", "log_px", "gap", "distortion", "rate")
        if name in figures
    ]
    title = f"{tree['split']} (n = {tree['n']}, K = {tree['k']})"
    return [(title, "\n".join(lines))]


def _figure(name: str, figure: Any, sign: str) -> str:
    return f"{name} {sign}{figure['mean']:.2f} ± {figure['se'] or float('nan'):.2f}"
