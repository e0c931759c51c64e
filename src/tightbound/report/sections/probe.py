"""The accuracy of linear probes from features to labels, beside two baselines."""

from __future__ import annotations

from tightbound.report.content.linear_probe import Accuracy
from tightbound.report.page.blocks import Bar, Bars, Section
from tightbound.report.page.text import Text
from tightbound.report.sections.common import Results, heads


def probe(results: Results, text: Text) -> Section | None:
    """Accuracy of each run, of raw values and of the majority label, as bars.

    None without labels.
    """
    accuracies = {
        result.name: (result, result.accuracy)
        for group, result in results
        if result.accuracy is not None and group.baselines is not None
    }
    if not accuracies:
        return None
    group = next(g for g, result in results if result.name in accuracies)
    data = group.data
    base = group.baselines or {}
    bars = []
    for name, (result, accuracy) in accuracies.items():
        features = text.count("features", len(result.order))
        label = text("probe.features", run=name, features=features)
        bars.append(_bar(label, accuracy, is_run=True))
    raw = text("probe.raw", dims=f"{data.spec.dims:,}")
    bars.append(_bar(raw, base["raw"], is_run=False))
    bars.append(_bar(text("probe.majority"), base["majority"], is_run=False))
    best, accuracy = max(
        ((name, accuracy) for name, (_, accuracy) in accuracies.items()),
        key=lambda pair: pair[1].value,
    )
    caption = text(
        "probe.caption",
        best=best,
        value=accuracy.value,
        se=accuracy.se,
        raw=base["raw"].value,
        majority=base["majority"].value,
    )
    titles = heads(text, "probe", train=f"{len(data.train.x):,}")
    wide = [Bars(bars, text("probe.alt"))]
    return Section("probe", *titles, [], wide=wide, caption=caption)


def _bar(label: str, accuracy: Accuracy, is_run: bool) -> Bar:
    half = 1.96 * accuracy.se
    low = max(0.0, accuracy.value - half)
    high = min(1.0, accuracy.value + half)
    return Bar(label, accuracy.value, low, high, f"{accuracy.value:.1%}", is_run)
