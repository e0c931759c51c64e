"""Rules of a diagnosis: fixed thresholds, verdicts, and the settings to change.

The thresholds are fixed; docs/results.md has the models that they were tested on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tightbound.components.posteriors import POSTERIORS
from tightbound.evaluation.diagnosis.latent_usage import Feature, Site
from tightbound.evaluation.diagnosis.measurements import Measurements
from tightbound.evaluation.diagnosis.outliers import RowOutlier, unbounded
from tightbound.evaluation.diagnosis.progress import Progress, was_solved
from tightbound.evaluation.diagnosis.unusual_settings import Unusual, remedy
from tightbound.evaluation.statistic import Mean
from tightbound.models.build import build, resolve
from tightbound.models.parts import KINDS, find_component, options_of
from tightbound.models.recipes import Part, Recipe, loaded
from tightbound.runs.fitted_prior import fittable
from tightbound.runs.folder import RunFolder
from tightbound.runs.run import Run, seeded, training_folder
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.reading import Options, Tree

# Nats of a code, below which it cannot separate even three groups of examples (log 3 = 1.1).
HELD = 1.0
HELD_BY_SETTING = 2.0  # the same where a setting is far from the recipe's
# AUC of codes against draws of the prior, above which the decoder has seen few of the draws.
APART = 0.9
APART_BY_SETTING = (
    0.7  # the same where a weight of the objective is far from the recipe's
)
CODES_USED = 0.25  # share of the entropy that the entries of a codebook could have
LOST = 0.3  # share of what was learned that new examples lose,
LOST_BY_SETTING = 0.15  # the same where data.limit kept a part of the rows
SURE = 3.0  # by more than so many standard errors
LATE = 0.045  # share of what was learned that the last fifth of training gained,
SURE_OF_GAIN = 2.0  # by more than so many paired standard errors
REPEATED = 0.01  # share of the test rows that are training rows too
SHIFTED = 0.15  # share of what was learned by which validation and test differ
INFERRED = 0.25  # share of what was learned that the inference gap hides
FEW_STEPS = 1000  # fewer are never named as a remedy
SHORT = 300  # steps after which a single validation shows no progress
# Share in the central 50 %: that of a normal whose sigma is 1.5 times too small,
NARROW = 0.35
# Distances of a table from draws of the model, above what chance makes of them:
COLUMN_APART = 0.1  # of a column, from 0 to 1
PAIR_APART = 0.2  # of the association of two columns
SHARES_APART = 2.5  # times that a category is rarer or more frequent in draws,
SURE_OF_SHARE = 4.0  # by more than so many standard errors
WIDE = 0.75  # or 1.7 times too large

COPIES = "copies of training examples"
WORSE = "worse than a constant"
WORDS = {
    "outlier in the training data": (
        "row {row} of the training split has {value:g} in column {column}, whose "
        "median is {usual:g}; it makes the spread of the column {times:.0f} times "
        "larger, so that a network reads the other values as one"
    ),
    "outlier in the test data": (
        "{named}; the mean is {mean:,.1f} nats over all rows and {without:,.1f} over the "
        "others"
    ),
    "shift between the splits": (
        "test examples cost {apart:.2f} ± {se:.2f} nats {more} than validation "
        "examples, {share:.0%} of all that was learned"
    ),
    "rows in two splits": (
        "{count:,} of {test:,} test rows are equal to a training row, so the figures of "
        "the test split are too good"
    ),
    "worse than a constant": (
        "the bound on training examples is {bound:,.1f} nats, and a constant without "
        "latents (independent dimensions) has {constant:,.1f}"
    ),
    "poor encoder": (
        "the ELBO lies {gap:.2f} ± {se:.2f} nats or more below log p(x), {share:.0%} of "
        "all that was learned: q(z|x) is far from p(z|x)"
    ),
    "unusual setting": "{settings}; nothing else is wrong that was looked for",
    "likelihood scale wrong": (
        "p(x|z) is too {width}: its central 50 % holds {central50:.0%} of the true "
        "values, its central 90 % {central90:.0%}"
    ),
    "not trained enough": "{over}",
    "collapsed": (
        "{idle} of {width} features of {site} are idle ({units}), and the whole code "
        "holds {kl:.2f} nats of an example"
    ),
    "codebook collapsed": (
        "{used:.1f} of {entries} entries of the codebook of {site} are in use, with a "
        "perplexity of {perplexity:.1f}: most codes are the same few"
    ),
    "overfitting": (
        "new examples cost {lost:.2f} ± {se:.2f} nats more than those trained on, "
        "{share:.0%} of all that was learned"
    ),
    "prior mismatch": (
        "codes and draws of the prior can be told apart (AUC {auc:.2f}, 0.5 is not at "
        "all), most plainly by {feature} with mean {mean:.2f} and sd {sd:.2f}, so "
        "samples will look worse than reconstructions"
    ),
    "category out of proportion": (
        "category {value} of column {column} is {data:.2%} of the training rows and "
        "{drawn:.2%} of draws of the model"
    ),
    "column unlike the data": (
        "draws of the model differ from the training rows in column {column} "
        "(distance {distance:.2f}, of which chance explains {floor:.2f})"
    ),
    "columns related otherwise": (
        "columns {first} and {second} have an association of {data:.2f} in the training "
        "rows and of {drawn:.2f} in draws of the model (chance explains {floor:.2f})"
    ),
    COPIES: (
        "{share:.1%} of the {what} of samples are copies of a training example, less than a "
        "third as far from it as from the next one, and {typical:.1%} of the test examples are"
    ),
}
FIXES = {
    "usual": "set the recipe's {changes}",
    "row_of_training": "correct that row or leave it out, and train again",
    "row_of_test": "correct that row or leave it out, and evaluate again",
    "rows_of_test": "correct those rows or leave them out, and evaluate again",
    "drop_duplicates": "set data.duplicates=drop, which leaves them out of training",
    "new_split": (
        "split the rows again at random, as happens where no valid= and test= are "
        "given, or evaluate on data of the training's kind"
    ),
    "all_rows": "leave data.limit out, which kept {rows} rows",
    "other_scale": "set likelihood.scale=predicted, or another likelihood",
    "heavy_tails": "set likelihood=laplace, whose tails are heavier",
    "heavy_columns": "set likelihood.real=laplace, whose tails are heavier",
    "more_steps": "train for longer, it was for {steps} steps: {command}",
    "more_features": (
        "set recipe.latent={more}, it was {latent}: the model was solved in closed form, "
        "so that no step improves it"
    ),
    "lower_beta": "lower objective.beta, which is {beta:g}",
    "scale_first": (
        "set likelihood.scale=learned: a scale that is too wide leaves nothing for "
        "a code to explain"
    ),
    "free_bits": "set objective.free_bits=0.1 or objective.warmup=0.3",
    "elbo_free_bits": (
        "set objective=elbo with objective.free_bits=0.1: objective {objective} "
        "lets a code empty"
    ),
    "linear": (
        "train on more data, or set network=linear, whose encoder and decoder have few "
        "weights"
    ),
    "more_data": "train on more data",
    "raise_beta": "raise objective.beta, which is {beta:g}, to 1",
    "one_sided": "set data.fields.{column}={better}, of which the values are",
    "less_memory": (
        "train on more data, or for fewer steps than {steps}, or set a smaller recipe.size and "
        "recipe.latent, and evaluate again with --metrics novelty"
    ),
    "dependence": (
        "set likelihood.depends=all, so that columns depend on the categories of their row"
    ),
    "fit_prior": "fit a prior to the codes: tightbound fit-prior RUN {prior}",
}
FREE_BITS = 0.1  # nats of a feature
MIXTURE = "gaussian-mixture"  # fitted by expectation maximisation, in about a second
ELBOS = ("elbo", "stl")  # objectives that fit q(z|x) to p(z|x)
WEIGHED = ("elbo", "msssim")  # objectives whose beta is the weight of the rate
# Settings of the fixes that some recipes do not take.
SETTINGS: dict[str, Tree] = {
    "other_scale": {"likelihood.scale": "predicted"},
    "heavy_tails": {"likelihood": "laplace"},
    "heavy_columns": {"likelihood.real": "laplace"},
    "scale_first": {"likelihood.scale": "learned", "likelihood.value": ""},
    "lower_beta": {"objective.beta": 1.0},
    "raise_beta": {"objective.beta": 1.0},
    "free_bits": {"objective.free_bits": FREE_BITS},
    "elbo_free_bits": {"objective": "elbo", "objective.free_bits": FREE_BITS},
    "linear": {"network": "linear"},
    "dependence": {"likelihood.depends": "all"},
    "drop_duplicates": {"data.duplicates": "drop"},
}


@dataclass(frozen=True)
class Verdict:
    """A fault of a model and the setting to change.

    Args:
        name: the fault, a key of WORDS.
        fix: the change, a key of FIXES.
        values: numbers and names for the texts of both.
        settings: the settings of the change, where it is one; "" leaves a key out.
    """

    name: str
    fix: str
    values: Options = field(default_factory=dict)
    settings: Options = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The fault in words."""
        return WORDS[self.name].format(**self.values)

    @property
    def change(self) -> str:
        """The setting to change, in words."""
        return FIXES[self.fix].format(**self.values)

    def to_json(self) -> Tree:
        """Fault and change with their values, as JSON."""
        return {
            "name": self.name,
            "words": self.words,
            "fix": self.fix,
            "change": self.change,
            "values": self.values,
            "settings": self.settings,
        }


# ---- settings of a change


def changed_recipe(recipe: Recipe, settings: Options) -> Recipe:
    """A recipe with other components or options; "" leaves an option out."""
    for key, value in settings.items():
        kind, _, option = key.partition(".")
        if kind == "recipe":
            recipe = recipe.model_copy(update={option: value})
            continue
        part: Part = getattr(recipe, kind)
        options = {name: v for name, v in part.options.items() if name != option}
        if not option:
            new = part if part.name == value else Part(name=value)
        elif value == "":
            new = Part(name=part.name, **options)
        else:
            new = Part(name=part.name, **{**options, option: value})
        recipe = recipe.model_copy(update={kind: new})
    return recipe


def _effective(recipe: Recipe) -> dict[str, Tree]:
    """The components of a recipe with all their options, defaults included."""
    parts = {}
    for kind in KINDS:
        part: Part = getattr(recipe, kind)
        if part.name == "auto":
            parts[kind] = {"name": part.name, **part.options}
            continue
        cls = find_component(kind, part, trust=True)
        defaults = {option.name: option.default for option in options_of(kind, cls)}
        parts[kind] = {"name": part.name, **defaults, **part.options}
    return parts


def applicable(run: Run, settings: Options) -> bool:
    """Whether a run's recipe can be trained with these settings, and has others now."""
    now = resolve(run.config.recipe, run.spec)
    try:
        with seeded(0):
            recipe = resolve(changed_recipe(run.config.recipe, settings), run.spec)
            build(recipe, run.spec)
    except TightboundError:
        return False
    sizes = (recipe.size, recipe.latent) != (now.size, now.latent)
    return sizes or _effective(recipe) != _effective(now)


def _first(run: Run, *fixes: str) -> str:
    """The first of the fixes that is applicable; the last one is taken as it is."""
    for fix in fixes[:-1]:
        if applicable(run, SETTINGS[fix]):
            return fix
    return fixes[-1]


def _relevant(measured: Measurements, *prefixes: str) -> list[Unusual]:
    """The unusual settings that can cause a fault, by the start of their keys."""
    return [s for s in measured.unusual if s.key.startswith(prefixes)]


def _back(name: str, values: Options, settings: Sequence[Unusual]) -> Verdict:
    """A verdict whose change is to set unusual settings back to the recipe's."""
    words = ", ".join(setting.words for setting in settings)
    changes = ", ".join(setting.change for setting in settings)
    return Verdict(
        name,
        "usual",
        {**values, "settings": words, "changes": changes, "unusual": True},
        remedy(settings),
    )


def _beta(run: Run) -> float:
    """The weight of the rate in training; 1 where beta has another meaning."""
    if run.config.recipe.objective.name not in WEIGHED:
        return 1.0
    return float(_option(run, "objective", "beta", 1.0))


def _option(run: Run, part: str, key: str, default: Any = None) -> Any:
    return getattr(run.config.recipe, part).options.get(key, default)


# ---- faults of the data


def training_outlier(run: Run, measured: Measurements) -> list[Verdict]:
    """One training value makes the spread of its column many times larger."""
    outlier = measured.training_outlier
    if outlier is None:
        return []
    values = dataclasses.asdict(outlier)
    return [Verdict("outlier in the training data", "row_of_training", values)]


def test_outlier(run: Run, measured: Measurements) -> list[Verdict]:
    """Single test rows move the mean of the bound by several standard errors.

    Where columns have no upper end, only rows that are far from the training data in
    one of them: a bad model has bad rows too. Else none of a model that is worse than a
    constant.
    """
    by_bound = not (len(unbounded(run)) or _is_worse(run, measured))
    rows = [r for r in measured.row_outliers if r.column or by_bound]
    if not rows:
        return []
    term = "bound" if run.config.recipe.has_bound else "-distortion"
    values = {
        "rows": [{"row": r.row, "column": r.column, "bound": r.bound} for r in rows],
        "named": "; ".join(_words_of_row(r, term) for r in rows),
        "term": term,
        "mean": rows[0].mean,
        "without": rows[0].without,
    }
    fix = "row_of_test" if len(rows) == 1 else "rows_of_test"
    return [Verdict("outlier in the test data", fix, values)]


def _words_of_row(row: RowOutlier, term: str) -> str:
    """One test row with its bound, and the column in which it is far from the others."""
    far = f", far from the median of column {row.column}," if row.column else ""
    return f"row {row.row}{far} has a {term} of {row.bound:,.1f} nats"


def repeated_rows(run: Run, measured: Measurements) -> list[Verdict]:
    """Test rows are training rows too, other than in data that repeat by nature."""
    overlap = measured.overlap
    if overlap is None or overlap.by_nature or run.config.data.duplicates == "drop":
        return []
    count = overlap.test_in_train
    if count < REPEATED * overlap.test or not count:
        return []
    values = {"count": count, "test": overlap.test}
    return [_with_settings(run, "rows in two splits", "drop_duplicates", values)]


def shift(run: Run, measured: Measurements) -> list[Verdict]:
    """Validation and test examples differ by more than chance."""
    apart = _shift(measured)
    if apart is None:
        return []
    assert measured.transfer is not None
    values = {
        "apart": abs(apart.mean),
        "se": apart.se,
        "more": "more" if apart.mean > 0 else "less",
        "share": abs(apart.mean) / max(1.0, measured.transfer.learned),
    }
    return [Verdict("shift between the splits", "new_split", values)]


def _shift(measured: Measurements) -> Mean | None:
    """The bound of validation less that of test examples; None where they agree."""
    t = measured.transfer
    if t is None or t.valid is None:
        return None
    apart = Mean.difference(t.valid, t.test)
    if not abs(apart.mean) > SURE * apart.se:
        return None
    if abs(apart.mean) < max(1.0, SHIFTED * t.learned):
        return None
    return apart


# ---- faults of the model


def _is_worse(run: Run, measured: Measurements) -> bool:
    """Whether most training examples cost more than under a constant.

    The share of them is compared with one half by a sign test, which single rows
    cannot decide. An objective that leaves an inference gap by design is compared by
    log p(x) as well.
    """
    c = measured.constant
    if c is None:
        return False
    gap = measured.encoder_gap
    by_log_p = gap is not None and run.config.recipe.objective.name not in ELBOS
    if by_log_p and gap is not None and gap.learned > -1:
        return False
    return c.above.mean < -1 and c.worse > 0.5 + SURE * 0.5 / math.sqrt(c.n)


def worse_than_constant(run: Run, measured: Measurements) -> list[Verdict]:
    """The bound is below that of independent dimensions, which needs no latents."""
    c = measured.constant
    if c is None or not _is_worse(run, measured):
        return []
    name = WORSE
    values: Tree = {"bound": c.bound, "constant": c.constant}
    if measured.unusual:
        return [_back(name, values, measured.unusual)]
    p = measured.progress
    values["steps"] = run.config.train.steps if p is None else p.steps
    return [_with_settings(run, name, "more_steps", values)]


def poor_encoder(run: Run, measured: Measurements) -> list[Verdict]:
    """The inference gap hides much of what was learned.

    Only of an objective that closes it: another weight of the rate, or a bound of
    several samples, leaves a gap by design.
    """
    gap = measured.encoder_gap
    fits = run.config.recipe.objective.name in ELBOS and _beta(run) == 1
    if not fits or gap is None or gap.share < INFERRED or gap.gap.mean < HELD:
        return []
    if not gap.gap.mean > SURE * gap.gap.se:
        return []
    values = {
        "gap": gap.gap.mean,
        "se": gap.gap.se,
        "share": gap.share,
        "k": gap.k,
        "steps": run.config.train.steps,
    }
    causes = _relevant(measured, "train.groups.inference", "train.lr")
    if causes:
        return [_back("poor encoder", values, causes)]
    return [_with_settings(run, "poor encoder", "more_steps", values)]


def _with_settings(run: Run, name: str, fix: str, values: Options) -> Verdict:
    """A verdict with the settings of its fix."""
    settings = dict(SETTINGS.get(fix, {}))
    latent = run.config.recipe.latent
    if fix == "more_steps" and isinstance(latent, int) and was_solved(run):
        more = {"latent": latent, "more": 2 * latent}
        return Verdict(
            name, "more_features", {**values, **more}, {"recipe.latent": 2 * latent}
        )
    steps = run.config.train.steps
    if fix == "more_steps" and isinstance(steps, int):
        longer = max(FEW_STEPS, 4 * steps)
        settings = {"train.steps": longer}
        values = {**values, "command": _command_for(run, longer - steps, longer)}
    elif fix == "more_steps":  # a model of tb.build, of a training loop of its own
        values = {**values, "command": "tightbound train DATA"}
    return Verdict(name, fix, values, settings)


def _command_for(run: Run, extra: int, steps: int) -> str:
    """The option of `tightbound train` for more steps: of the run, or of a new one."""
    home = training_folder(run)
    if home is not None and RunFolder(home).state_folder.is_dir():
        return f"tightbound train --out RUN --extend {extra}"
    return f"tightbound train DATA --set train.steps={steps}"


def _still_rises(p: Progress, measured: Measurements, share: float = LATE) -> bool:
    """Whether the last fifth of training gained much, beyond its error.

    Of a run too short for two validations, whether it was shorter than 300 steps.
    share: of what was learned, that it must have gained.
    """
    if not p.early and p.steps < SHORT:
        return True
    learned = 1.0
    if measured.transfer is not None:
        learned = max(1.0, measured.transfer.learned)
    sure = SURE_OF_GAIN if p.paired else 1.0
    return p.gained > sure * p.error and p.gained > share * learned


def undertrained(run: Run, measured: Measurements) -> list[Verdict]:
    """The validation curve still rises by more than its error.

    Where a setting makes steps small or few, by however little it rises.
    """
    p = measured.progress
    settings = _relevant(measured, "train.lr", "train.batch", "train.clip")
    causes = [s for s in settings if s.value < s.usual]
    if p is None or not _still_rises(p, measured, 0.0 if causes else LATE):
        return []
    over = f"training ended after {p.steps} steps, too few for two validations"
    if p.early:
        gain = f"{p.gained:.2f} ± {p.error:.2f}"
        over = f"validation still gained {gain} nats in the last fifth of training"
    elif p.steps >= SHORT:
        gain = f"{p.gained:.2f} ± {p.error:.2f}"
        over = (
            f"there was one validation; it is {gain} nats above the mean "
            f"{'bound' if run.config.recipe.has_bound else '-distortion'} of the training steps "
            "before it"
        )
    values = {
        "gained": p.gained,
        "error": p.error,
        "steps": p.steps,
        "early": p.early,
        "over": over,
    }
    name = "not trained enough"
    if causes:
        return [_back(name, values, causes)]
    return [_with_settings(run, name, "more_steps", values)]


def collapsed(run: Run, measured: Measurements) -> list[Verdict]:
    """All features of a site are idle, or the code holds next to nothing.

    A few idle features are no fault.
    """
    sites = [site for site in measured.latents.sites if site.kl is not None]
    total = sum(site.kl.mean for site in sites if site.kl is not None)
    causes = _relevant(measured, "train", "objective.beta", "recipe.latent")
    least = HELD_BY_SETTING if causes else HELD
    empty = [site for site in sites if not site.active or total <= least]
    if not empty:
        return []
    fix = _fix_of_empty_code(run, empty)
    verdicts = []
    for site in empty:
        idle = _idle(measured, site.name)
        values = {
            "site": site.name,
            "idle": len(idle),
            "width": site.width,
            "units": _named(idle),
            "kl": total,
            "objective": run.config.recipe.objective.name,
            "beta": _beta(run),
            "steps": run.config.train.steps,
        }
        if causes:
            verdicts.append(_back("collapsed", values, causes))
        else:
            verdicts.append(_with_settings(run, "collapsed", fix, values))
    return verdicts


def _idle(measured: Measurements, site: str) -> list[Feature]:
    """The features of a site that are not used."""
    return [
        feature
        for feature in measured.latents.features
        if feature.name.startswith(f"{site}_") and not feature.active
    ]


def _is_below_free_bits(site: Site) -> bool:
    """Whether a site holds less than the free bits that would be named."""
    return site.kl is not None and site.kl.mean < FREE_BITS * site.width


def _fix_of_empty_code(run: Run, empty: Sequence[Site]) -> str:
    """A lower beta, a learned scale, free bits, or more steps.

    Free bits only where a site holds less than they would give.
    """
    is_below = any(_is_below_free_bits(site) for site in empty)
    if _beta(run) > 1:
        return "lower_beta"
    recipe = run.config.recipe
    posterior = loaded(POSTERIORS, recipe.posterior.name)
    fixes = []
    if _option(run, "likelihood", "scale") == "fixed":
        fixes.append("scale_first")
    options = recipe.objective.options
    relieved = any(options.get(key) for key in ("free_bits", "warmup"))
    # The rate of discrete codes is constant, so free bits cannot change it.
    moves = posterior is not None and posterior.latent_space != "codes"
    if is_below and moves and recipe.objective.name != "capacity" and not relieved:
        fixes += ["free_bits", "elbo_free_bits"]
    return _first(run, *fixes, "more_steps")


def _named(features: Sequence[Feature]) -> str:
    """The names of the first eight, and the last."""
    names = [feature.name for feature in features]
    text = ", ".join(names[:8]) or "-"
    return f"{text}, ... {names[-1]}" if len(names) > 8 else text


def overfitting(run: Run, measured: Measurements) -> list[Verdict]:
    """New examples lose much of what was learned.

    Where test examples are of another kind, validation examples are compared.
    """
    t = measured.transfer
    if t is None or t.learned <= 1:
        return []
    new = t.test
    if t.valid is not None and _shift(measured) is not None:
        new = t.valid
    lost = Mean.difference(t.train, new)
    limit = run.config.data.limit
    least = LOST if limit is None else LOST_BY_SETTING
    sure = SURE if limit is None else SURE_OF_GAIN
    if lost.mean < least * t.learned or not lost.mean > sure * lost.se:
        return []
    share = lost.mean / t.learned
    values = {"lost": lost.mean, "se": lost.se, "share": share}
    if limit is not None:
        settings = {"data.limit": ""}
        values = {**values, "rows": limit, "unusual": True}
        return [Verdict("overfitting", "all_rows", values, settings)]
    causes = _relevant(measured, "objective.beta", "recipe.latent")
    if causes:
        return [_back("overfitting", values, causes)]
    fix = _first(run, "linear", "more_data")
    return [_with_settings(run, "overfitting", fix, values)]


def codebook_collapsed(run: Run, measured: Measurements) -> list[Verdict]:
    """A codebook has less than a quarter of the entropy that it could have.

    That is a perplexity of 4.8 of 512 entries, and of 1.8 of 10.
    """
    verdicts = []
    for usage in measured.codes:
        if usage.share >= CODES_USED:
            continue
        values = {
            "site": usage.site,
            "used": usage.used,
            "entries": usage.entries,
            "perplexity": usage.perplexity,
            "steps": run.config.train.steps,
        }
        causes = _relevant(measured, "train", "objective", "recipe.latent")
        if causes:
            verdicts.append(_back("codebook collapsed", values, causes))
            continue
        verdicts.append(_with_settings(run, "codebook collapsed", "more_steps", values))
    return verdicts


def prior_mismatch(run: Run, measured: Measurements) -> list[Verdict]:
    """The codes of examples are not where the prior is."""
    auc = measured.latents.c2st_auc
    causes = _relevant(measured, "objective", "train.groups")
    least = APART_BY_SETTING if causes else APART
    if not run.config.recipe.has_bound or not auc > least:
        return []
    worst = max(measured.latents.features, key=lambda feature: feature.distance)
    beta = _beta(run)
    prior = _prior_to_fit(run)
    values = {
        "auc": auc,
        "feature": worst.name,
        "mean": worst.mean,
        "sd": worst.sd,
        "beta": beta,
        "prior": prior,
        "steps": run.config.train.steps,
    }
    if causes:
        return [_back("prior mismatch", values, causes)]
    fix = "raise_beta"
    if beta >= 1:
        fix = "fit_prior" if prior else "more_steps"
    return [_with_settings(run, "prior mismatch", fix, values)]


def _prior_to_fit(run: Run) -> str:
    """A mixture of normals where it can be fitted, else the first prior that can.

    None where the prior is such a mixture already.
    """
    if run.config.recipe.prior.name == MIXTURE:
        return ""
    priors = fittable(run.config.recipe, run.spec)
    if MIXTURE in priors:
        return MIXTURE
    return next(iter(priors), "")


def scale(run: Run, measured: Measurements) -> list[Verdict]:
    """p(x|z) is much wider or narrower than the data around it."""
    c = measured.calibration
    if c is None or NARROW <= c.central50.mean <= WIDE:
        return []
    values = {
        "central50": c.central50.mean,
        "central90": c.central90.mean,
        "width": "wide" if c.central50.mean > WIDE else "narrow",
        "steps": run.config.train.steps,
    }
    name = "likelihood scale wrong"
    causes = _relevant(measured, "likelihood", "train", "objective")
    if causes:
        return [_back(name, values, causes)]
    fix = _first(run, "other_scale", "heavy_tails", "heavy_columns", "more_steps")
    return [_with_settings(run, name, fix, values)]


# ---- draws of a table


def category_share(run: Run, measured: Measurements) -> list[Verdict]:
    """A category is several times rarer, or more frequent, in draws than in the data."""
    if measured.table is None:
        return []
    apart = [
        share
        for share in measured.table.shares
        if share.deviation > SURE_OF_SHARE
        and not 1 / SHARES_APART < share.drawn / max(share.data, 1e-9) < SHARES_APART
    ]
    if not apart:
        return []
    worst = max(apart, key=lambda share: share.deviation)
    values = {
        "column": repr(worst.name),
        "value": worst.value,
        "data": worst.data,
        "drawn": worst.drawn,
    }
    # Where columns do not depend on the category, steps alone leave its share as it is.
    fixes = ["dependence"]
    name = "category out of proportion"
    return [_of_draws(run, measured, name, values, fixes, before_steps=fixes)]


def column_distance(run: Run, measured: Measurements) -> list[Verdict]:
    """A column of draws has another distribution than the training rows."""
    if measured.table is None or not measured.table.columns:
        return []
    worst = max(measured.table.columns, key=lambda column: column.excess)
    if not worst.excess > COLUMN_APART:
        return []
    values = {
        "column": repr(worst.name),
        "distance": worst.distance,
        "floor": worst.floor,
    }
    name = "column unlike the data"
    if worst.better:
        values |= {"column": worst.name, "better": worst.better}
        settings = {f"data.fields.{worst.name}": worst.better}
        return [Verdict(name, "one_sided", values, settings)]
    return [_of_draws(run, measured, name, values, ["dependence"])]


def pair_distance(run: Run, measured: Measurements) -> list[Verdict]:
    """Two columns of draws are more, or less, associated than in the training rows."""
    if measured.table is None or not measured.table.pairs:
        return []
    worst = max(measured.table.pairs, key=lambda pair: pair.excess)
    if not worst.excess > PAIR_APART:
        return []
    values = {
        "first": repr(worst.names[0]),
        "second": repr(worst.names[1]),
        "data": worst.data,
        "drawn": worst.drawn,
        "floor": worst.floor,
    }
    name = "columns related otherwise"
    categories = {column.name for column in run.spec.fields if column.values}
    of_numbers = not categories & set(worst.names)
    fixes = ["other_scale" if of_numbers else "dependence"]
    return [_of_draws(run, measured, name, values, fixes)]


# ---- samples


def copies(run: Run, measured: Measurements) -> list[Verdict]:
    """Samples are copies of training examples more often than test examples are.

    Only where the novelty of samples was measured.
    """
    if measured.novelty is None or not measured.novelty.pixels.memorised:
        return []
    pixels = measured.novelty.pixels
    values = {
        "what": pixels.memorised,
        "share": pixels.sets[pixels.memorised].copies,
        "typical": pixels.typical_copies,
        "steps": run.config.train.steps,
    }
    return [Verdict(COPIES, "less_memory", values)]


def _of_draws(
    run: Run,
    measured: Measurements,
    name: str,
    values: Options,
    fixes: Sequence[str],
    before_steps: Sequence[str] = (),
) -> Verdict:
    """A verdict on draws: unusual settings, more steps, or the first fix that applies.

    Args:
        run: The run.
        measured: What was measured of it.
        name: Name of the verdict.
        values: Values of its words.
        fixes: Fixes where the bound no longer rises, in order.
        before_steps: Fixes that come before more steps where it still rises.
    """
    values = {**values, "steps": run.config.train.steps}
    causes = _relevant(measured, "likelihood", "prior", "train", "objective", "recipe")
    if causes:
        return _back(name, values, causes)
    p = measured.progress
    if p is not None and _still_rises(p, measured):
        fixes = before_steps
    return _with_settings(run, name, _first(run, *fixes, "more_steps"), values)


RULES: list[Callable[[Run, Measurements], list[Verdict]]] = [
    training_outlier,
    test_outlier,
    repeated_rows,
    shift,
    worse_than_constant,
    undertrained,
    poor_encoder,
    collapsed,
    codebook_collapsed,
    prior_mismatch,
    overfitting,
    scale,
    category_share,
    column_distance,
    pair_distance,
    copies,
]
FIRST = (
    "outlier in the training data",
    "outlier in the test data",
    "rows in two splits",
    "shift between the splits",
    WORSE,
)


def verdicts(run: Run, measured: Measurements) -> list[Verdict]:
    """All verdicts: a model worse than a constant, faults of the data, and the rest.

    Where no setting is far from the recipe's, a fault of the data may be why a model is
    worse than a constant, and comes before it. Of the rest, those that such a setting
    explains come first. A setting that no verdict names is a verdict of its own.
    """
    of_rules = [verdict for rule in RULES for verdict in rule(run, measured)]
    named = {key for verdict in of_rules for key in verdict.settings}
    left = [s for s in measured.unusual if s.key not in named]
    if left:
        of_rules.append(_back("unusual setting", {}, left))

    def order(verdict: Verdict) -> int:
        by_setting = bool(verdict.values.get("unusual"))
        if verdict.name == WORSE and by_setting:
            return 0
        if verdict.name in FIRST:
            return 1
        return 2 if by_setting else 3

    return sorted(of_rules, key=order)
