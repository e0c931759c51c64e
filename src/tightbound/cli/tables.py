"""What the commands show on a screen: tables that fit 80 columns, plain text where they are piped;
JSON; progress.
"""

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
    from tightbound.runs.run import Run

Tick = Callable[..., None]
WIDE = 140
SILENT = 10.0  # seconds between two lines of progress


def show_json(value: Any) -> None:
    """Prints JSON and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Prints rows under their heads; text wraps, the first column never does."""
    made = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for i, head in enumerate(heads):
        made.add_column(head, no_wrap=i == 0, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    Console(highlight=False).print(made)


@contextmanager
def progress(what: str, quiet: bool) -> Iterator[Tick]:
    """The examples done of all, on standard error: a bar on a terminal, elsewhere a line every ten
    seconds.
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
            [(name, "\n".join(rest)) for name, *rest in rows],
        )
    else:
        table(("name", "for", "parts", "paper"), rows)


def parts(recipe: Recipe) -> list[str]:
    """What differs from a plain VAE, or all of a plain one."""
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


def _flat(values: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= (
            _flat(value, f"{under}{key}.")
            if isinstance(value, Mapping)
            else {f"{under}{key}": value}
        )
    return found


def _brief(value: Any) -> str:
    if isinstance(value, Part):
        options = ", ".join(f"{k}={v}" for k, v in value.options.items())
        return f"{value.name} ({options})" if options else value.name
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_brief(v)}" for key, v in _flat(value).items())
    if isinstance(value, tuple | list) and value:
        return " x ".join(str(v) for v in value)
    return (
        str(value).lower()
        if isinstance(value, bool)
        else str(value)
        if value or value == 0
        else "not set"
    )


def data(as_json: bool) -> None:
    """The built-in data sets."""
    from tightbound.data import list_sources

    found = list_sources()
    if as_json:
        show_json(found)
        return
    rows = []
    for s in found:
        sizes = " + ".join(f"{n:,}" for n in s["examples"].values())
        what = f"{s['about']}; {_brief(s['shape'])}, {s['domain']}; {sizes}, split {s['splits']}"
        rows.append((s["name"], what, s["where"]))
    table(("name", "what; shape, values; train + valid + test", "where"), rows)
    print("Also: a folder or zip of images, and .npy, .npz, .csv and IDX files.")


# ---- show


def show(what: str, *, prior: str | None = None, trust: bool = False) -> None:
    """A recipe with the meaning of every key, or a run."""
    if what in RECIPES and prior is None and not (Path(what) / "config.toml").is_file():
        _recipe(RECIPES[what])
    elif Path(what).exists():
        from tightbound.runs.run import load

        _run(load(what, prior=prior, trust=trust))
    else:
        raise TightboundError(
            f"{what!r} is neither a recipe nor a run folder: {nearest(what, RECIPES)}"
        )


def _recipe(recipe: Recipe) -> None:
    """The complete settings of a run with this recipe."""
    from tightbound.config import SECTIONS, Config, configure

    print(f"{recipe.name}: {recipe.purpose}\n{recipe.paper}\n")
    print(f"Any key: tightbound train DATA --recipe {recipe.name} --set KEY=VALUE")
    config = configure("", recipe.name)
    for section in (None, *SECTIONS):
        if section == "recipe":
            rows = meanings.rows(config.recipe)
        else:
            part: Any = getattr(config, section) if section else config
            said = meanings.described(SECTIONS[section] if section else Config)
            keys = said if section else ("seed", "device")
            rows = [
                (f"{section}.{key}" if section else key, getattr(part, key), said[key])
                for key in keys
            ]
        table(
            ("key", "value", "meaning"),
            [(key, _brief(value), what) for key, value, what in rows],
        )
    print("auto: settled before the first step, and then kept in the run's config.toml")


def _run(run: Run) -> None:
    """What a run is made of, what it was trained on, and how it did."""
    config, recipe, train = run.config, run.config.recipe, run.config.train
    theta, phi = (
        sum(p.numel() for p in run.model.groups()[name])
        for name in ("generative", "inference")
    )
    spec = run.spec
    values = f"{spec.domain}{f' ({spec.levels})' if spec.levels else ''}"
    rows = [
        ("recipe", f"{recipe.name}: {recipe.paper}"),
        (
            "prior p(z)",
            _brief(recipe.prior) + (", fitted after training" if run.fitted else ""),
        ),
        *_priors(run),
        ("posterior q(z|x)", _brief(recipe.posterior)),
        ("likelihood p(x|z)", _brief(recipe.likelihood)),
        ("objective", f"{_brief(recipe.objective)}, k = {recipe.k}"),
        (
            "latents",
            ", ".join(f"{site}: {width}" for site, width in run.sites.items())
            + f" ({recipe.hierarchy})",
        ),
        ("network", f"{_brief(recipe.network)}, size {recipe.size}"),
        ("theta", f"{theta:,} parameters of the decoder, prior and likelihood"),
        ("phi", f"{phi:,} parameters of the encoder and posterior"),
        (
            "data",
            f"{config.source or 'arrays in Python'}, {_brief(spec.shape)}, {values}",
        ),
        ("training", f"{train.steps} steps of {train.batch}, seed {config.seed}"),
        *_history(run),
        *_evaluation(run),
    ]
    table(("", str(run.folder)), rows)


def _priors(run: Run) -> list[tuple[str, str]]:
    """What can be fitted in the place of the prior, and what has been."""
    from tightbound.runs.fitted_prior import fittable, saved

    made = [] if run.home is None else saved(run.home)
    rows = [("can be fitted", ", ".join(fittable(run.config.recipe, run.spec)))]
    return [*rows, ("fitted", ", ".join(made))] if made else rows


def _history(run: Run) -> list[tuple[str, str]]:
    """Steps done and the best validation, from the log."""
    lines = [line for line in run.history() if line.get("event") == "epoch"]
    if not lines:
        return [("log", "none yet")]
    best = [line for line in lines if line.get("best")][-1:] or lines[-1:]
    valid = best[0]["valid"]
    shown = [
        f"{name} {valid[name]:.2f}"
        for name in ("elbo", "distortion", "rate", "log_px")
        if name in valid
    ]
    return [
        ("steps done", f"{lines[-1]['step']} in {lines[-1]['time']:.0f} s"),
        ("best validation", f"step {best[0]['step']}: {', '.join(shown)} nats"),
    ]


def _evaluation(run: Run) -> list[tuple[str, str]]:
    """The figures of evaluation.json."""
    path = Path(str(run.folder)) / "evaluation.json"
    if not path.is_file():
        return [("evaluation", f"none yet: tightbound evaluate {run.folder}")]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        terms = [
            name
            for name in ("elbo", "log_px", "gap", "distortion", "rate")
            if name in found
        ]
        shown = [
            f"{name} {found[name]['mean']:.2f} ± {found[name]['se'] or float('nan'):.2f}"
            for name in terms
        ]
        return [
            (f"{found['split']} (n = {found['n']}, K = {found['k']})", "\n".join(shown))
        ]
    except (ValueError, KeyError, TypeError):
        return [
            (
                "evaluation",
                f"{path} is damaged: tightbound evaluate {run.folder} makes it again",
            )
        ]
