"""Rules of a diagnosis: fixed thresholds, verdicts, and the settings to change.

The thresholds are fixed; docs/results.md has the models that they were tested on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tightbound.components.posteriors import POSTERIORS
from tightbound.evaluation.diagnosis.latent_usage import Feature
from tightbound.evaluation.diagnosis.measurements import Measurements
from tightbound.models.build import build, resolve
from tightbound.models.recipes import Part, loaded
from tightbound.runs.fitted_prior import fittable
from tightbound.runs.run import Run, seeded
from tightbound.runtime.errors import TightboundError

# Nats of a code, below which it cannot separate even three groups of examples (log 3 = 1.1).
HELD = 1.0
# AUC of codes against draws of the prior, above which the decoder has seen few of the draws.
APART = 0.9
LOST = 0.3  # share of what was learned that new examples lose,
SURE = 3.0  # by more than so many standard errors
# Share in the central 50 %: that of a normal whose sigma is 1.5 times too small,
NARROW = 0.35
WIDE = 0.75  # or 1.7 times too large

WORDS = {
    "likelihood scale wrong": (
        "p(x|z) is too {width}: its central 50 % holds {central50:.0%} of the true "
        "values, its central 90 % {central90:.0%}"
    ),
    "not trained enough": (
        "the validation curve still gained {gained:.2f} nats {over}, more than its "
        "error of {error:.2f}"
    ),
    "collapsed": (
        "{idle} of {width} features of {site} are idle ({units}), and the whole code "
        "holds {kl:.2f} nats of an example"
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
}
FIXES = {
    "free_scale": "set likelihood.scale=learned, it is fixed at {value:g}",
    "other_scale": "set likelihood.scale=predicted, or another likelihood",
    "other_likelihood": "set another likelihood: this one has no scale to set",
    "more_steps": "train for longer: train.steps was {steps}",
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
    "smaller": "set recipe.size=s: a decoder that can do less needs the code more",
    "more_images": (
        "train on more data, or set data.augment=shift, train.weight_decay higher "
        "or recipe.size=s"
    ),
    "more_rows": "train on more data, or set train.weight_decay higher or recipe.size=s",
    "raise_beta": "raise objective.beta, which is {beta:g}, to 1",
    "learned_prior": "set prior=learned",
    "fit_prior": "fit a prior to the codes: tightbound fit-prior RUN {prior}",
    "longer": "train for longer, so that codes and prior meet: train.steps was {steps}",
}
WEIGHED = ("elbo", "msssim")  # objectives whose beta is the weight of the rate
# Settings of the fixes that some recipes do not take.
SETTINGS: dict[str, dict[str, Any]] = {
    "free_scale": {"likelihood.scale": "learned"},
    "other_scale": {"likelihood.scale": "predicted"},
    "scale_first": {"likelihood.scale": "learned"},
    "free_bits": {"objective.free_bits": 0.1, "objective.warmup": 0.3},
    "elbo_free_bits": {"objective": "elbo", "objective.free_bits": 0.1},
    "learned_prior": {"prior": "learned"},
}


@dataclass(frozen=True)
class Verdict:
    """A fault of a model and the setting to change.

    Args:
        name: the fault, a key of WORDS.
        fix: the change, a key of FIXES.
        values: numbers and names for the texts of both.
    """

    name: str
    fix: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The fault in words."""
        return WORDS[self.name].format(**self.values)

    @property
    def change(self) -> str:
        """The setting to change, in words."""
        return FIXES[self.fix].format(**self.values)

    def to_json(self) -> dict[str, Any]:
        """Fault and change with their values, as JSON."""
        return {
            "name": self.name,
            "words": self.words,
            "fix": self.fix,
            "change": self.change,
            "values": self.values,
        }


def applicable(run: Run, fix: str) -> bool:
    """Whether a run's recipe can be trained with the settings of a fix."""
    recipe = run.config.recipe
    for key, value in SETTINGS.get(fix, {}).items():
        kind, _, option = key.partition(".")
        part: Part = getattr(recipe, kind)
        if option:
            new = Part(name=part.name, **{**part.options, option: value})
        else:
            new = Part(name=value)
        recipe = recipe.model_copy(update={kind: new})
    try:
        with seeded(0):
            build(resolve(recipe, run.spec), run.spec)
    except TightboundError:
        return False
    return recipe != run.config.recipe


def _first(run: Run, *fixes: str) -> str:
    """The first of the fixes that is applicable; the last one always is."""
    return next((fix for fix in fixes[:-1] if applicable(run, fix)), fixes[-1])


def _beta(run: Run) -> float:
    """The weight of the rate in training; 1 where beta has another meaning."""
    if run.config.recipe.objective.name not in WEIGHED:
        return 1.0
    return float(_option(run, "objective", "beta", 1.0))


def _option(run: Run, part: str, key: str, default: Any = None) -> Any:
    return getattr(run.config.recipe, part).options.get(key, default)


def scale(run: Run, measured: Measurements) -> list[Verdict]:
    """p(x|z) is much wider or narrower than the data around it."""
    c = measured.calibration
    if c is None or NARROW <= c.central50.mean <= WIDE:
        return []
    fixed = _option(run, "likelihood", "scale") == "fixed"
    fix = _first(run, "free_scale" if fixed else "other_scale", "other_likelihood")
    values = {
        "central50": c.central50.mean,
        "central90": c.central90.mean,
        "value": _option(run, "likelihood", "value", 1.0),
        "width": "wide" if c.central50.mean > WIDE else "narrow",
    }
    return [Verdict("likelihood scale wrong", fix, values)]


def undertrained(run: Run, measured: Measurements) -> list[Verdict]:
    """The validation curve still rises by more than its error."""
    p = measured.progress
    if p is None or not p.gained > p.error:
        return []
    over = "over the training examples on the way to it"
    if p.early:
        over = "in the last fifth of training"
    values = {
        "gained": p.gained,
        "error": p.error,
        "steps": p.steps,
        "early": p.early,
        "over": over,
    }
    return [Verdict("not trained enough", "more_steps", values)]


def collapsed(run: Run, measured: Measurements) -> list[Verdict]:
    """All features of a site are idle, or the code holds next to nothing.

    A few idle features are no fault.
    """
    sites = [site for site in measured.latents.sites if site.kl is not None]
    total = sum(site.kl.mean for site in sites if site.kl is not None)
    empty = [site for site in sites if not site.active or total <= HELD]
    if not empty:
        return []
    fix = _fix_of_empty_code(run)
    verdicts = []
    for site in empty:
        idle = [
            feature
            for feature in measured.latents.features
            if feature.name.startswith(f"{site.name}_") and not feature.active
        ]
        values = {
            "site": site.name,
            "idle": len(idle),
            "width": site.width,
            "units": _named(idle),
            "kl": total,
            "objective": run.config.recipe.objective.name,
            "beta": _beta(run),
        }
        verdicts.append(Verdict("collapsed", fix, values))
    return verdicts


def _fix_of_empty_code(run: Run) -> str:
    """A lower beta, a learned scale, free bits, or a smaller decoder."""
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
    if moves and recipe.objective.name != "capacity" and not relieved:
        fixes += ["free_bits", "elbo_free_bits"]
    return _first(run, *fixes, "smaller")


def _named(features: Sequence[Feature]) -> str:
    """The names of the first eight, and the last."""
    names = [feature.name for feature in features]
    text = ", ".join(names[:8]) or "-"
    return f"{text}, ... {names[-1]}" if len(names) > 8 else text


def overfitting(run: Run, measured: Measurements) -> list[Verdict]:
    """New examples lose much of what was learned."""
    t = measured.transfer
    if t is None or t.share < LOST or not t.lost.mean > SURE * t.lost.se:
        return []
    fix = "more_images" if run.spec.is_image else "more_rows"
    values = {"lost": t.lost.mean, "se": t.lost.se, "share": t.share}
    return [Verdict("overfitting", fix, values)]


def prior_mismatch(run: Run, measured: Measurements) -> list[Verdict]:
    """The codes of examples are not where the prior is."""
    auc = measured.latents.c2st_auc
    if not run.has_bound or not auc > APART:
        return []
    recipe = run.config.recipe
    worst = max(measured.latents.features, key=lambda feature: feature.distance)
    beta = _beta(run)
    prior = next(iter(fittable(recipe, run.spec)), "")
    values = {
        "auc": auc,
        "feature": worst.name,
        "mean": worst.mean,
        "sd": worst.sd,
        "beta": beta,
        "prior": prior,
        "steps": run.config.train.steps,
    }
    last = "fit_prior" if prior else "longer"
    if beta < 1:
        fix = "raise_beta"
    elif recipe.prior.name == "standard":
        fix = _first(run, "learned_prior", last)
    else:
        fix = last
    return [Verdict("prior mismatch", fix, values)]


RULES: list[Callable[[Run, Measurements], list[Verdict]]] = [
    scale,
    undertrained,
    collapsed,
    overfitting,
    prior_mismatch,
]
