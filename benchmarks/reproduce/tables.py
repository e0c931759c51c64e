"""The table of docs/results.md from the results, and the figure of nats against minutes."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reproduce.rows import Row
from tightbound.runtime.atomic_files import write_atomic

Found = dict[str, Any]
MARK = "reproduce"
FIGURE = "nats-against-minutes.svg"


def result(path: Path) -> Found | None:
    """The results of a row; None where it was not run."""
    return json.loads(path.read_text()) if path.is_file() else None


def figure(row: Row, run: Found) -> tuple[float, float]:
    """The figure of a run, lower is better, and its standard error."""
    evaluation = run["evaluation"]
    if row.unit == "bits/dim":
        term = evaluation["bits_per_dim"]["log_px"]
        return term["mean"], term["se"]
    term = evaluation["terms"]["log_px"]
    return -term["mean"], term["se"]


def figure_text(row: Row, run: Found) -> str:
    """`84.01 ± 0.22 nats, K = 5000, 10,000 images`."""
    value, error = figure(row, run)
    evaluation = run["evaluation"]
    unit = "bits/dim" if row.unit == "bits/dim" else "nats"
    return (
        f"{value:.2f} ± {error:.2f} {unit}, K = {evaluation['k']}, "
        f"{evaluation['images']:,} images"
    )


def together(row: Row, runs: Mapping[str, Found]) -> tuple[float, str]:
    """The mean figure over seeds, and its text: the error of one seed, the spread of several."""
    values = [figure(row, run) for run in runs.values()]
    mean = statistics.mean(value for value, _ in values)
    if len(values) == 1:
        return mean, f"{mean:.2f} ± {values[0][1]:.2f}"
    spread = statistics.stdev(value for value, _ in values)
    error = statistics.mean(error for _, error in values)
    return mean, f"{mean:.2f} ± {error:.2f}, {len(values)} seeds, spread {spread:.2f}"


def verdict(goal: float | None, value: float) -> str:
    """Whether the goal is met."""
    if goal is None:
        return ""
    return "met" if value <= goal else f"**missed by {value - goal:.2f}**"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _hardware(runs: Mapping[str, Found]) -> str:
    """Minutes, steps, machine and what else ran on it."""
    first = next(iter(runs.values()))
    steps = sum(stage["steps"] for stage in first["stages"])
    time = first["stages"][0]["time"]
    loads = [run["load"]["foreign_mean"] for run in runs.values() if run["load"]]
    foreign = max(loads, default=math.nan)
    words = [
        f"{first['minutes']:g} min = {steps:,} steps",
        f"{time['threads']} thread(s) of {time['device']}",
    ]
    if not all(
        stage["time"]["quiet"] for run in runs.values() for stage in run["stages"]
    ):
        words.append("**steps measured on a busy machine**")
    if not foreign <= 0.12:
        words.append(f"others used {foreign:.1f} cores meanwhile")
    return "; ".join(words)


def line(row: Row, cpu: Found | None, gpu: Found | None) -> str:
    """A row of the table."""
    command = f"`make reproduce ROW={row.name}`"
    paper = _number(row.paper)
    unit = "" if row.unit == "nats" else f" ({row.unit})"
    cells = [f"{row.title}{unit}", f"{paper}; {row.source}" if paper else row.source]
    cells += _cells(row, cpu, row.goal)
    cells += [_gpu_cell(row, gpu)]
    cells += [row.differs, command]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(row: Row, found: Found | None, goal: float | None) -> list[str]:
    """Goal, figure, protocol and hardware of a row on two cores."""
    if found is None:
        obliged = " (obligatory)" if row.obligatory else ""
        return [_number(goal), f"**not run**{obliged}", "", ""]
    runs = found["runs"]
    value, text = together(row, runs)
    evaluation = next(iter(runs.values()))["evaluation"]
    missing = [seed for seed in row.seeds if str(seed) not in runs]
    left = f"; seeds {missing} not run" if missing else ""
    said = ", ".join(part for part in (text, verdict(goal, value)) if part)
    protocol = f"K = {evaluation['k']}, {evaluation['images']:,} images"
    return [_number(goal), said + left, protocol, _hardware(runs)]


def _gpu_cell(row: Row, found: Found | None) -> str:
    goal = _number(row.goal_gpu)
    if found is None:
        return f"{goal}; not run" if goal else "not run"
    value, text = together(row, found["runs"])
    return f"{goal}; {text} {verdict(row.goal_gpu, value)}".strip("; ")


def table(rows: Mapping[str, Row], folder: Path) -> str:
    """The whole table."""
    head = (
        "| row | paper | goal | -log p(x) on the test images | protocol | training | one GPU: "
        "goal; figure | differs from the paper | command |"
    )
    lines = [head, "|---" * 9 + "|"]
    for name, row in rows.items():
        cpu = result(folder / f"{name}.json")
        gpu = result(folder / f"{name}-cuda.json")
        lines.append(line(row, cpu, gpu))
    return "\n".join(lines)


def progress(rows: Mapping[str, Row], folder: Path) -> str:
    """A line for each row: what it is, and how far it is."""
    width = max(len(name) for name in rows)
    lines = []
    for name, row in rows.items():
        found = result(folder / f"{name}.json")
        done = "not run" if found is None else together(row, found["runs"])[1]
        mark = "*" if row.obligatory else " "
        lines.append(
            f"{mark} {name:<{width}}  {row.minutes:4g} min x {len(row.seeds)}  {done}"
        )
    return "\n".join([*lines, "", "* obligatory"])


def write(rows: Mapping[str, Row], folder: Path, docs: Path) -> None:
    """Write the table between its marks, and the figure."""
    from matrix import between

    path = docs / "results.md"
    text = table(rows, folder)
    curves = curves_of(rows, folder)
    if curves:
        from charts import nats

        nats(curves, docs / "images" / FIGURE, "minutes of training on a quiet machine")
        text += f"\n\n![Nats against minutes, validation images](images/{FIGURE})"
    write_atomic(path, between(path.read_text(encoding="utf-8"), MARK, text))


# ---- the figure


def curves_of(
    rows: Mapping[str, Row], folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """(minutes, -log p(x)) of the validation images of each row on dynamic MNIST."""
    curves = {}
    for name, row in rows.items():
        found = result(folder / f"{name}.json")
        dynamic = row.settings.get("data.binarize") == "dynamic" and row.data == "mnist"
        if found is None or not dynamic:
            continue
        run = next(iter(found["runs"].values()))
        points = [
            (point["minutes"], -point["log_px"])
            for point in run["curve"]
            if point["log_px"] is not None
        ]
        if points:
            curves[name] = points
    return curves
