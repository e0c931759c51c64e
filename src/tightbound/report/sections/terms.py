"""The terms of log p(x): the headline of each run and the section."""

from __future__ import annotations

from tightbound.evaluation.saved import closest_terms, one_sided
from tightbound.report.content.gather import Group, RunResult
from tightbound.report.figures import plots
from tightbound.report.figures.plots import Span
from tightbound.report.page.blocks import (
    Block,
    Equation,
    Panel,
    Paragraph,
    Plot,
    Section,
    Term,
    TermTable,
)
from tightbound.report.page.text import Text, number, with_error
from tightbound.report.sections import bounds
from tightbound.report.sections.common import (
    Results,
    Tree,
    by_code,
    heads,
    measured,
    panels,
)

SMALL = 0.15  # of a term beside another: too small to be read on one axis with it
FEW = 3.0  # effective sample size below which importance sampling is unreliable
TERMS = ("distortion", "rate", "elbo", "log_px", "gap")
COLOURS = {
    "distortion": "distortion",
    "rate": "rate",
    "elbo": "ink",
    "gap": "gap",
    "log_px": "ink",
}


def _term(
    values: Tree,
    name: str,
    sign: str,
    title: str,
    factor: float = 1.0,
    explanation: str = "",
    bound: str = "",
) -> Term | None:
    """A term as it is printed; bound: "≥ " before a value that is a lower bound."""
    value = measured(values, name)
    if value is None:
        return None
    mean, se = with_error(factor * value[0], value[1])
    return Term(sign, title, bound + mean, se, COLOURS[name], explanation)


def why_no_bound(result: RunResult, text: Text) -> str:
    """The reason why a run has no ELBO."""
    key = "reason_none" if result.codes.stochastic else "reason_point"
    return text(f"headline.{key}")


def headline(result: RunResult, text: Text) -> list[Block]:
    """log p(x) and its terms in one line, or the distortion alone with the reason."""
    values = closest_terms(result.evaluation)
    recipe = result.run.config.recipe
    model = Paragraph(
        text(
            "headline.model",
            parameters=f"{sum(result.parameters.values()):,}",
            recipe=recipe.name,
            features=text.count("features", len(result.order)),
            likelihood=recipe.likelihood.name,
        )
    )
    if not result.bound:
        cost = _term(values, "distortion", "", text("headline.term_cost"))
        return [
            model,
            Paragraph(text("headline.point")),
            Equation([cost] if cost else []),
            Paragraph(why_no_bound(result, text)),
        ]
    distortion = text("headline.term_distortion")
    bound = "≥ " if one_sided(result.evaluation) else ""
    terms = [
        _term(values, "log_px", "", text("headline.term_log_px"), bound=bound),
        _term(values, "distortion", "=", distortion, factor=-1.0),
        _term(values, "rate", "−", text("headline.term_rate")),
        _term(values, "gap", "+", text("headline.term_gap"), bound=bound),
    ]
    equation = Equation([term for term in terms if term is not None])
    known = [Paragraph(sentence) for sentence in _how_known(result, text)]
    return [model, Paragraph(text("headline.bound")), equation, *known]


def _how_known(result: RunResult, text: Text) -> list[str]:
    """A sentence on the method where log p(x) is not by importance sampling."""
    best = result.evaluation.get("headline")
    if not best:
        return [text("headline.one_sided")] if one_sided(result.evaluation) else []
    values = {
        "method": best["method"],
        "n": f"{best['n']:,}",
        "of": f"{result.evaluation['n']:,}",
        "above": f"{best['above']['mean']:.2f}",
    }
    key = _method_key(result.evaluation)
    if "annealed" in key and best.get("bdmc_gap") is not None:
        key = key.replace("annealed", "bracketed")
        values["limit"] = f"{max(best['bdmc_gap'], 0.0):.2f}"
    return [text(f"headline.{key}", **values)]


def _method_key(evaluation: Tree) -> str:
    """How the closest log p(x) is known: exact or annealed, and on all examples or not."""
    best = evaluation["headline"]
    key = "exact" if best["exact"] or best.get("kind") == "exact" else "annealed"
    return f"from_{key}" if best["n"] < evaluation["n"] else key


def terms(results: Results, text: Text) -> Section:
    """All terms: as a chart, and in a table with an explanation of each."""
    span = _axis(results)
    evaluations = [result.evaluation for _, result in results]
    curve_span = bounds.curve_span(evaluations)
    widest = bounds.widest_gap(evaluations)

    def panel(group: Group, result: RunResult) -> Panel:
        blocks: list[Block] = [
            *_chart(result, text, span),
            Paragraph(_caption(group, result, text, span)),
            TermTable(_table(result, text)),
            *bounds.curve(result, text, curve_span),
            *bounds.gap_parts(result, text, widest),
        ]
        return Panel(result.name, blocks)

    return Section("terms", *heads(text, "terms"), panels(results, text, panel))


def _chart(result: RunResult, text: Text, span: Span) -> list[Block]:
    closest = closest_terms(result.evaluation)
    values = {name: measured(closest, name) for name in TERMS}
    distortion = values["distortion"]
    if distortion is None:
        return []
    mean = {name: value[0] for name, value in values.items() if value}
    se = {name: value[1] for name, value in values.items() if value}
    picture = plots.terms(distortion[0], mean.get("rate"), mean.get("gap"), se, span)
    return [Plot(picture, text("terms.alt", run=result.name))]


def _caption(group: Group, result: RunResult, text: Text, span: Span) -> str:
    key = "terms.caption" if result.bound else "terms.caption_point"
    n = f"{result.evaluation.get('n') or group.data.counts['test']:,}"
    caption = text(key, reason=why_no_bound(result, text), n=n)
    if span[0] > 0:
        caption += " " + text("terms.start", start=number(span[0], ",.0f"))
    return caption


def _axis(results: Results) -> Span:
    """A common axis for the charts of all runs, with their errors.

    It begins at 0, or at the first term where that is much larger than the others.
    """
    ends: list[float] = []
    for _, result in results:
        ends += _ends(closest_terms(result.evaluation))
    low = min(ends)
    high = max(ends)
    if low < high and high - low < SMALL * low:
        return low - 0.4 * (high - low), high + 0.05 * (high - low)
    reach = max(high, 0.0) - min(low, 0.0) or 1.0
    left = low - 0.06 * reach if low < 0 else 0.0
    return left, max(high, 0.0) + 0.06 * reach


def _ends(values: Tree) -> list[float]:
    """The ends of the error bars of a chart."""
    none = (0.0, 0.0)
    d, r, g = (measured(values, n) or none for n in ("distortion", "rate", "gap"))
    elbo_se = (measured(values, "elbo") or none)[1]
    log_px_se = (measured(values, "log_px") or none)[1]
    cost = d[0] + r[0]
    bars = ((d[0], d[1]), (cost, elbo_se), (cost - g[0], log_px_se))
    return [end + sign * 1.96 * se for end, se in bars for sign in (-1, 1)]


def _table(result: RunResult, text: Text) -> list[Term]:
    """All terms with their explanations, and bits per dimension."""
    values = closest_terms(result.evaluation)
    best = result.evaluation.get("headline") or {}
    effective = measured(values, "ess")
    words = {
        "k": f"{result.evaluation.get('k') or 0:,}",
        "ess": number(effective[0], ",.1f") if effective else "",
        "method": best.get("method", ""),
        "n": f"{best.get('n') or 0:,}",
        "of": f"{result.evaluation.get('n') or 0:,}",
    }
    lower = dict.fromkeys(COLOURS, "")
    if one_sided(result.evaluation):
        lower |= {"log_px": "≥ ", "gap": "≥ "}
    rows = []
    for name, key in _explanations(result, effective).items():
        title = text(f"terms.{name}")
        explanation = text(key, **words)
        rows.append(_term(values, name, "", title, 1.0, explanation, lower[name]))
    rows.append(_bits(result, text))
    return [row for row in rows if row is not None]


def _explanations(
    result: RunResult, effective: tuple[float, float] | None
) -> dict[str, str]:
    """The key of the explanation of each term."""
    keys = {name: f"terms.{name}_says" for name in COLOURS}
    keys["distortion"] = by_code(result, keys["distortion"])
    best = result.evaluation.get("headline")
    if best:
        suffix = f"_{_method_key(result.evaluation)}"
        keys["log_px"] += suffix
        keys["gap"] += suffix
    elif effective and effective[0] < FEW:
        keys["log_px"] += "_few"
    return keys


def _bits(result: RunResult, text: Text) -> Term | None:
    """Bits per dimension, or None where they are not defined."""
    shared = result.evaluation.get("bits_per_dim") or {}
    best = result.evaluation.get("headline") or {}
    if best.get("bits_per_dim"):
        shared = {"log_px": best["bits_per_dim"]}
    bits = measured(shared, "log_px") or measured(shared, "elbo")
    if not bits:
        return None
    explanation = text("terms.bits_says", dims=f"{result.run.spec.dims:,}")
    mean = number(bits[0], ".3f")
    se = number(bits[1], ".3f")
    by_log_px = measured(shared, "log_px") is not None
    bound = "≤ " if by_log_px and one_sided(result.evaluation) else ""
    return Term("", text("terms.bits"), bound + mean, se, "ink", explanation)
