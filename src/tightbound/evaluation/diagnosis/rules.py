"""The rules of a diagnosis, each with a fixed threshold and its reason, and their verdicts in
words.

A threshold is not moved to please a model: docs/results.md has the models that they were tried on.
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

# nats: a code that holds less cannot tell even three groups of examples apart (log 3 = 1.1)
HELD = 1.0
# AUC: nine times in ten a code is told from a draw of the prior, so that the decoder knows few of
# those
APART = 0.9
LOST, SURE = (
    0.3,
    3.0,
)  # share of what was learned that new examples lose, by more than three standard errors
NARROW, WIDE = (
    0.35,
    0.75,
)  # share in the central 50 %: a normal's, if its sigma is 1.5 times too small, 1.7 too large

WORDS = {
    "likelihood scale wrong": "p(x|z) is too {width}: its central 50 % holds "
    "{central50:.0%} of the true values, its central 90 % {central90:.0%}",
    "not trained enough": "the validation curve still gained {gained:.2f} nats {over}, "
    "more than its error of {error:.2f}",
    "collapsed": "{idle} of {width} features of {site} are idle ({units}), and the whole "
    "code holds {kl:.2f} nats of "
    "an example",
    "overfitting": "new examples cost {lost:.2f} ± {se:.2f} nats more than those trained on, "
    "{share:.0%} of all that "
    "was learned",
    "prior mismatch": "codes and draws of the prior are told apart (AUC {auc:.2f}, 0.5 is not at "
    "all), most plainly by "
    "{feature} with mean {mean:.2f} and sd {sd:.2f}, so samples will look "
    "worse than reconstructions",
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
SETTINGS: dict[str, dict[str, Any]] = {  # of the fixes that not every recipe takes
    "free_scale": {"likelihood.scale": "learned"},
    "other_scale": {"likelihood.scale": "predicted"},
    "scale_first": {"likelihood.scale": "learned"},
    "free_bits": {"objective.free_bits": 0.1, "objective.warmup": 0.3},
    "elbo_free_bits": {"objective": "elbo", "objective.free_bits": 0.1},
    "learned_prior": {"prior": "learned"},
}


@dataclass(frozen=True)
class Verdict:
    """Something that is wrong (a name of WORDS), what to do (a name of FIXES), and the figures
    behind both.
    """

    name: str
    fix: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is wrong."""
        return WORDS[self.name].format(**self.values)

    @property
    def change(self) -> str:
        """The setting to change."""
        return FIXES[self.fix].format(**self.values)

    def to_json(self) -> dict[str, Any]:
        """The words and what they are made of."""
        return {
            "name": self.name,
            "words": self.words,
            "fix": self.fix,
            "change": self.change,
            "values": self.values,
        }


def taken(run: Run, fix: str) -> bool:
    """Whether a run's recipe can be trained with the settings that a fix names."""
    own = recipe = run.config.recipe
    for key, value in SETTINGS.get(fix, {}).items():
        kind, _, option = key.partition(".")
        part: Part = getattr(recipe, kind)
        new = (
            Part(name=part.name, **{**part.options, option: value})
            if option
            else Part(name=value)
        )
        recipe = recipe.model_copy(update={kind: new})
    try:
        with seeded(0):
            build(resolve(recipe, run.spec), run.spec)
    except TightboundError:
        return False
    return recipe != own


def _first(run: Run, *fixes: str) -> str:
    """The first of the fixes that the run's recipe takes; the last is for all."""
    return next((fix for fix in fixes[:-1] if taken(run, fix)), fixes[-1])


def _beta(run: Run) -> float:
    """The weight of the rate in training; of other objectives beta is something else."""
    return (
        float(_option(run, "objective", "beta", 1.0))
        if run.config.recipe.objective.name in WEIGHED
        else 1.0
    )


def _option(run: Run, part: str, key: str, default: Any = None) -> Any:
    return getattr(run.config.recipe, part).options.get(key, default)


def scale(run: Run, found: Measurements) -> list[Verdict]:
    """p(x|z) is much wider or narrower than the data around it."""
    c = found.calibration
    if c is None or NARROW <= c.central50.mean <= WIDE:
        return []
    wide = c.central50.mean > WIDE
    now, value = (
        _option(run, "likelihood", "scale"),
        _option(run, "likelihood", "value", 1.0),
    )
    fix = _first(
        run, "free_scale" if now == "fixed" else "other_scale", "other_likelihood"
    )
    values = {
        "central50": c.central50.mean,
        "central90": c.central90.mean,
        "value": value,
    }
    return [
        Verdict(
            "likelihood scale wrong",
            fix,
            values | {"width": "wide" if wide else "narrow"},
        )
    ]


def undertrained(run: Run, found: Measurements) -> list[Verdict]:
    """The validation curve still rises by more than its error."""
    p = found.progress
    if p is None or not p.gained > p.error:
        return []
    over = (
        "in the last fifth of training"
        if p.early
        else "over the training examples on the way to it"
    )
    values = {
        "gained": p.gained,
        "error": p.error,
        "steps": p.steps,
        "early": p.early,
        "over": over,
    }
    return [Verdict("not trained enough", "more_steps", values)]


def collapsed(run: Run, found: Measurements) -> list[Verdict]:
    """A group of features that are all idle, or a code that holds next to nothing; a few idle ones
    are no fault.
    """
    sites = [site for site in found.latents.sites if site.kl is not None]
    total = sum(site.kl.mean for site in sites if site.kl is not None)
    empty = [site for site in sites if not site.active or total <= HELD]
    fix = _fill(run) if empty else ""
    verdicts = []
    for site in empty:
        idle = [
            f
            for f in found.latents.features
            if f.name.startswith(f"{site.name}_") and not f.active
        ]
        values = {
            "site": site.name,
            "idle": len(idle),
            "width": site.width,
            "units": _named(idle),
            "kl": total,
        }
        values |= {"objective": run.config.recipe.objective.name, "beta": _beta(run)}
        verdicts.append(Verdict("collapsed", fix, values))
    return verdicts


def _fill(run: Run) -> str:
    """What keeps a code from emptying: free bits where the objective has none yet and a rate that
    could move.
    """
    if _beta(run) > 1:
        return "lower_beta"
    objective, posterior = (
        run.config.recipe.objective,
        loaded(POSTERIORS, run.config.recipe.posterior.name),
    )
    fixes = ["scale_first"] if _option(run, "likelihood", "scale") == "fixed" else []
    if objective.name != "capacity" and not any(
        objective.options.get(key) for key in ("free_bits", "warmup")
    ):
        fixes += (
            ["free_bits", "elbo_free_bits"]
            if posterior is not None and posterior.latent_space != "codes"
            else []
        )
    return _first(run, *fixes, "smaller")


def _named(features: Sequence[Feature]) -> str:
    names = [f.name for f in features]
    return (", ".join(names[:8]) or "-") + (
        f", ... {names[-1]}" if len(names) > 8 else ""
    )


def overfitting(run: Run, found: Measurements) -> list[Verdict]:
    """New examples lose much of what was learned."""
    t = found.transfer
    if t is None or t.share < LOST or not t.lost.mean > SURE * t.lost.se:
        return []
    values = {"lost": t.lost.mean, "se": t.lost.se, "share": t.share}
    return [
        Verdict(
            "overfitting", "more_images" if run.spec.is_image else "more_rows", values
        )
    ]


def prior_mismatch(run: Run, found: Measurements) -> list[Verdict]:
    """The codes of examples are elsewhere than the prior is."""
    auc = found.latents.c2st_auc
    if not run.has_bound or not auc > APART:
        return []
    worst = max(found.latents.features, key=lambda f: f.distance)
    beta, learned = (
        _beta(run),
        ["learned_prior"] if run.config.recipe.prior.name == "standard" else [],
    )
    values = {
        "auc": auc,
        "feature": worst.name,
        "mean": worst.mean,
        "sd": worst.sd,
        "beta": beta,
    }
    values |= {
        "prior": next(iter(fittable(run.config.recipe, run.spec)), ""),
        "steps": run.config.train.steps,
    }
    fix = (
        "raise_beta"
        if beta < 1
        else _first(run, *learned, "fit_prior" if values["prior"] else "longer")
    )
    return [Verdict("prior mismatch", fix, values)]


RULES: list[Callable[[Run, Measurements], list[Verdict]]] = [
    scale,
    undertrained,
    collapsed,
    overfitting,
    prior_mismatch,
]
