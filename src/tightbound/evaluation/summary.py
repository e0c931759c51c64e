"""The evaluation as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tightbound.evaluation.result import Evaluation, InferenceGap

MEANING = {
    "exact": "exact",
    "lower": "at or below the truth",
    "upper": "at or above the truth",
    "estimate": "estimate",
}


def lines(e: Evaluation) -> list[str]:
    """One line a term, then what came closer, then what is wrong with the model."""
    out = [f"{e.name} on {e.n} {e.split} examples, nats per example (± standard error)"]
    a = e.terms
    if not e.bound:
        return [
            *out,
            f"  distortion  {a['distortion']}   -log p(x|z)",
            f"  {e.reason}",
            *_closing(e),
        ]
    rows = [
        ("distortion", "-E_q[log p(x|z)]"),
        ("rate", "KL(q(z|x), p(z))"),
        ("elbo", "-distortion - rate"),
        ("log_px", f"importance-sampled, K = {e.k}: at or below the truth"),
        ("gap", "log p(x) - ELBO: at this K a lower bound on KL(q(z|x), p(z|x))"),
    ]
    out += [f"  {name:<10}  {a[name]!s:>18}   {meaning}" for name, meaning in rows]
    out.append(
        f"  effective samples: {a['ess'].mean:.1f} of {e.k} on average, {e.least_ess:.1f} at least"
    )
    if e.bits_per_dim:
        b = e.bits_per_dim
        out.append(
            f"  bits per dimension: {b['log_px'].mean:.4f} ± "
            f"{b['log_px'].se:.4f} (ELBO: {b['elbo'].mean:.4f})"
        )
    if len(e.curve) > 1:
        out.append(
            "  bound by K: "
            + ", ".join(f"{k}: {figure.mean:.2f}" for k, figure in e.curve.items())
        )
    return out + _closer(e) + _closing(e)


def _closer(e: Evaluation) -> list[str]:
    """What was found on a subset: log p(x) by other methods, the inference gap, its parts, train
    against test.
    """
    out = []
    for name, m in e.methods.items():
        if m.above is not None:
            kind = MEANING[m.kind]
            out.append(
                f"  {name}, {m.n} examples: log p(x) = {m.log_px}, {kind}; "
                f"{m.above} above importance sampling"
            )
    if c := e.bdmc_gap:
        gap, name = (
            f"{c['gap']['mean']:.3f} ± {c['gap']['se'] or float('nan'):.3f}",
            f"ais-{c['settings']['start']}",
        )
        out.append(
            f"  BDMC gap of {name}: {gap} between its bounds from both "
            f"sides, {c['n']} simulated examples"
        )
    if e.inference_gap:
        out += _third(e.inference_gap, "test" if e.train else e.split)
    if e.train:
        out += _third(e.train, "train")
    for name, what in (
        ("decoder", "log p(x) of training examples above that of test examples"),
        (
            "encoder",
            "amortisation gap of test examples above that of training examples",
        ),
    ):
        if name in e.overfitting:
            out.append(f"  overfitting of the {name}: {e.overfitting[name]}, {what}")
    return out


def _third(t: InferenceGap, split: str) -> list[str]:
    f = t.terms
    bound = "" if t.exact else "at least "
    out = [f"  inference gap, {t.n} {split} examples, by {t.method}: {bound}{f['gap']}"]
    if "amortisation" in f:
        out.append(
            f"    approximation gap {bound}{f['approximation']}: what the best "
            "q of this family would leave"
        )
        out.append(
            f"    amortisation gap {f['amortisation']}: what a better encoder would close"
        )
    return out


def _closing(e: Evaluation) -> list[str]:
    """What is wrong with the model, and what to know about these figures."""
    found = (
        [f"diagnosis: {line}" for line in e.diagnosis.lines()] if e.diagnosis else []
    )
    trust = [w for m in e.methods.values() for w in m.warnings]
    return [f"  {line}" for line in [*found, *trust, *e.notes]]
