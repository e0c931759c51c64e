"""Summary of an evaluation: tables and sentences, as text and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from tightbound.evaluation.headline import Headline
from tightbound.evaluation.measures import BDMCGap, InferenceGap, Method
from tightbound.evaluation.statistic import Mean

NATS = "nats per example"
KINDS = {
    "exact": "exact",
    "lower": "at or below the truth",
    "upper": "at or above the truth",
    "estimate": "estimate",
}
OVERFITTING = {
    "decoder": "log p(x) of training examples above that of test examples",
    "encoder": "amortisation gap of test examples above that of training examples",
}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Args:
        header: names of the columns, with units.
        rows: cells, as many in each row as columns.
        numbers: indices of the columns that are aligned to the right.
        caption: a line above the table, or "".
    """

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[int, ...] = (1,)
    caption: str = ""

    def text(self) -> str:
        """Aligned columns under a ruled header."""
        columns = zip(self.header, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        lines = [self._line(cells, widths) for cells in (self.header, *self.rows)]
        rule = "-" * max(map(len, lines))
        caption = [self.caption] if self.caption else []
        return "\n".join([*caption, lines[0], rule, *lines[1:]])

    def _line(self, cells: tuple[str, ...], widths: Sequence[int]) -> str:
        padded = [
            cell.rjust(width) if i in self.numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    def html(self) -> str:
        """A table element; all text is escaped."""
        head = "".join(self._cell("th", i, name) for i, name in enumerate(self.header))
        body = ""
        for cells in self.rows:
            row = "".join(self._cell("td", i, text) for i, text in enumerate(cells))
            body += f"<tr>{row}</tr>"
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return (
            f"<table>{caption}<thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    def _cell(self, tag: str, column: int, text: str) -> str:
        side = "right" if column in self.numbers else "left"
        return f'<{tag} style="text-align:{side}">{escape(text)}</{tag}>'


@dataclass(frozen=True)
class Summary:
    """A title, tables and sentences in the order in which they are read."""

    title: str
    blocks: Sequence[Table | Sequence[str]]

    def text(self) -> str:
        """Blocks with an empty line between them."""
        parts = [self.title]
        for block in self.blocks:
            if isinstance(block, Table):
                parts.append(block.text())
            elif block:
                parts.append("\n".join(block))
        return "\n\n".join(parts)

    def html(self) -> str:
        """The same as HTML: tables, and a list for each group of sentences."""
        parts = [f"<p><strong>{escape(self.title)}</strong></p>"]
        for block in self.blocks:
            if isinstance(block, Table):
                parts.append(block.html())
            elif block:
                items = "".join(f"<li>{escape(sentence)}</li>" for sentence in block)
                parts.append(f"<ul>{items}</ul>")
        return f"<div>{''.join(parts)}</div>"


def terms_table(
    terms: Mapping[str, Mean],
    k: int,
    best: Headline | None = None,
    one_sided: bool = False,
) -> Table:
    """The terms of log p(x); distortion alone for a model without a bound.

    Args:
        terms: the terms, log p(x) and the gap by importance sampling.
        k: samples of importance sampling.
        best: the closest figure of log p(x), in the place of importance sampling.
        one_sided: whether importance sampling is a bound whose error is not known.
    """
    header = ("term", NATS, "definition")
    if "elbo" not in terms:
        return Table(header, [("distortion", str(terms["distortion"]), "-log p(x|z)")])
    definitions = {
        "distortion": "-E_q[log p(x|z)]",
        "rate": "KL(q(z|x), p(z))",
        "elbo": "-distortion - rate",
        "log_px": f"importance-sampled, K = {k}: at or below the truth",
        "gap": "log_px - elbo: at this K a lower bound on KL(q(z|x), p(z|x))",
    }
    shown = dict(terms)
    if best is not None:
        shown |= {"log_px": best.log_px, "gap": best.gap}
        definitions |= _definitions(best)
    values = dict(
        zip(
            definitions,
            format_means([shown[name] for name in definitions]),
            strict=True,
        )
    )
    if one_sided:
        for name in ("log_px", "gap"):
            values[name] = f"≥ {values[name]}"
    return Table(header, _rows(definitions, values.values(), definitions.values()))


def _definitions(best: Headline) -> dict[str, str]:
    """How log p(x) and the gap are known, of the closest method."""
    gap = "log_px - elbo = KL(q(z|x), p(z|x))"
    if best.exact:
        return {"log_px": f"exact, by {best.method}", "gap": f"{gap}: exact"}
    if best.n < best.of and best.kind == "exact":
        how = f"estimated from {best.n} exact values"
        return {"log_px": f"{how}, by {best.method}", "gap": f"{gap}: {how}"}
    limit = ""
    more = ": a lower bound"
    if best.bdmc_gap is not None:
        limit = f", by at most about {max(best.bdmc_gap, 0.0):.2f} (BDMC gap)"
        more = f": at most about {max(best.bdmc_gap, 0.0):.2f} more"
    if best.n == best.of:
        about = f"by {best.method}: at or below the truth{limit}"
        return {"log_px": about, "gap": f"{gap}{more}"}
    how = f"estimated from {best.n} values"
    about = f"{how} by {best.method}, which are at or below the truth{limit}"
    return {"log_px": about, "gap": f"{gap}: {how}"}


def bits_table(
    bits: Mapping[str, Mean], best: Headline | None = None, one_sided: bool = False
) -> Table:
    """ELBO and log p(x) in bits per dimension; log p(x) by the closest method.

    Args:
        bits: both by importance sampling.
        best: the closest figure of log p(x), in the place of importance sampling.
        one_sided: whether log p(x) is a lower bound whose error is not known, so that its
            bits are an upper bound.
    """
    names = ("elbo", "log_px")
    shown = dict(bits)
    if best is not None and best.bits_per_dim is not None:
        shown["log_px"] = best.bits_per_dim
    values = format_means([shown[name] for name in names], digits=4)
    if one_sided:
        values[names.index("log_px")] = f"≤ {values[names.index('log_px')]}"
    definitions = [f"-{name} / (dimensions * log 2)" for name in names]
    header = ("term", "bits per dimension", "definition")
    return Table(header, _rows(names, values, definitions))


def methods_table(methods: Mapping[str, Method]) -> Table | None:
    """Estimates of log p(x) by other methods than importance sampling."""
    others = {name: m for name, m in methods.items() if m.above is not None}
    if not others:
        return None
    values = format_means([m.log_px for m in others.values()])
    above = format_means([m.above for m in others.values() if m.above is not None])
    rows = [
        (name, str(m.n), value, difference, KINDS[m.kind])
        for (name, m), value, difference in zip(
            others.items(), values, above, strict=True
        )
    ]
    header = (
        "method",
        "examples",
        f"log p(x), {NATS}",
        "above importance sampling",
        "log p(x) is",
    )
    return Table(header, rows, numbers=(1, 2, 3))


def gap_table(gap: InferenceGap, split: str) -> Table:
    """The inference gap and, where they were measured, its two parts."""
    definitions = {"inference gap": "KL(q(z|x), p(z|x)) = log p(x) - ELBO"}
    means = [gap.terms["gap"]]
    if "amortisation" in gap.terms:
        definitions["approximation gap"] = "left by the best q of this family"
        definitions["amortisation gap"] = "closed by a better encoder"
        means += [gap.terms["approximation"], gap.terms["amortisation"]]
    values = format_means(means)
    if not gap.exact:  # the amortisation gap does not depend on log p(x)
        values[:2] = [f"≥ {value}" for value in values[:2]]
    how = "exact" if gap.exact else "a lower bound"
    return Table(
        ("part", NATS, "definition"),
        _rows(definitions, values, definitions.values()),
        caption=f"inference gap, {gap.n} {split} examples, by {gap.method} ({how})",
    )


def bdmc_sentence(gap: BDMCGap) -> str:
    """The BDMC gap of annealed importance sampling."""
    return (
        f"BDMC gap of ais-{gap.settings['start']}: {gap.gap.mean:.3f} ± {gap.gap.se:.3f} "
        f"nats between its lower and upper bounds, {gap.n} simulated examples"
    )


def overfitting_sentences(overfitting: Mapping[str, Mean]) -> list[str]:
    """Overfitting of decoder and encoder, where it was measured."""
    return [
        f"overfitting of the {name}: {overfitting[name]} nats, {meaning}"
        for name, meaning in OVERFITTING.items()
        if name in overfitting
    ]


def _rows(*columns: Iterable[str]) -> list[tuple[str, ...]]:
    return list(zip(*columns, strict=True))


def format_means(means: Sequence[Mean], digits: int = 2) -> list[str]:
    """Means with standard errors as text, the ± signs under one another."""
    values = [f"{mean.mean:.{digits}f}" for mean in means]
    errors = [f"{mean.se:.{digits}f}" for mean in means]
    width = max(map(len, errors), default=0)
    return [
        f"{value} ± {error.rjust(width)}"
        for value, error in zip(values, errors, strict=True)
    ]
