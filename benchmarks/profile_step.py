"""Where a training step's time goes: microseconds of processor time per section of one step, on one
thread.

    TIGHTBOUND_DATA=... python benchmarks/profile_step.py [--source mnist] [--steps 300] [--set
    key=value ...]

    python benchmarks/profile_step.py --operators
        operators of an eager step of `burda`, batch 100, beside those of the step by hand

Each section's time is its own: what it calls that is a section too is counted there. Medians of ten
rounds. A compiled step has one section for the graph, which holds the pass and its gradients.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tightbound import data as data_room
from tightbound.config import assignments, configure
from tightbound.core.draw import Clock
from tightbound.core.trace import Trace
from tightbound.runtime.memory import kept_memory
from tightbound.training import budget
from tightbound.training import run_training as fit
from tightbound.training.console import Quiet
from tightbound.training.trainer import Trainer

ORDER = (
    *(
        "batch",
        "noise",
        "encoder",
        "latents",
        "decoder",
        "likelihood",
        "objective",
        "backward",
        "graph",
    ),
    *("check", "optimiser", "average", "sums and the rest"),
)


#: Microseconds and calls in a step, by the name of the operator.
Operators = dict[str, tuple[float, float]]


class Sections:
    """Exclusive times of nested sections."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.open: list[str] = []
        self.mark = 0.0

    def _charge(self) -> None:
        now = time.process_time()
        if self.open:
            self.total[self.open[-1]] = (
                self.total.get(self.open[-1], 0.0) + now - self.mark
            )
        self.mark = now

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its time charged to a section."""

        def wrapper(*args: Any, **options: Any) -> Any:
            self._charge()
            self.open.append(name)
            try:
                return call(*args, **options)
            finally:
                self._charge()
                self.open.pop()

        return wrapper

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Replaces an attribute that is called by its timed self."""
        setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))


def make_trainer(source: str, values: dict[str, Any]) -> Trainer:
    """A trainer of a run that has not begun, in a folder of its own."""
    config = configure(source, values={"train.steps": 1_000_000} | values)
    data = data_room.load(source, config.data, seed=config.seed)
    config, _ = fit.settle(config, data)
    if config.data.domain != data.settings.domain:
        data = data_room.load(source, config.data, seed=config.seed)
    config = config.model_copy(update={"spec": data.spec, "digest": data.digest})
    config = config.model_copy(
        update={"train": budget.resolve(config.train, len(data.train))}
    )
    step = fit.assemble_step(config, torch.device("cpu"))
    step.model.train()
    return Trainer(step, config, data, Path(tempfile.mkdtemp()), Quiet())


def instrument(trainer: Trainer) -> Sections:
    """Times the parts of a trainer's step."""
    sections, model = Sections(), trainer.model
    sections.wrap(trainer, "batches", "batch")
    sections.wrap(trainer, "noise", "noise")
    if hasattr(trainer.execution, "graph"):
        sections.wrap(trainer, "execution", "graph")
    else:
        sections.wrap(trainer.execution, "step", "objective")
        sections.wrap(model, "features", "encoder")
        sections.wrap(model.hierarchy, "forward", "latents")
        sections.wrap(model.hierarchy.decoder, "forward", "decoder")
        sections.wrap(model.likelihood, "forward", "likelihood")
        Trace.log_px = property(sections.timed("likelihood", Trace.log_px.fget))
        sections.wrap(trainer.execution.gradients, "backward", "backward")
    sections.wrap(trainer.guard, "check", "check")
    sections.wrap(trainer, "optimizer_step", "optimiser")
    if trainer.average is not None:
        sections.wrap(trainer.average, "update", "average")
    sections.wrap(trainer, "train_step", "sums and the rest")
    return sections


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="mnist")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--operators", action="store_true", help="beside a step by hand"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.operators:
        print(operators_table(*operators(steps=8)))
        return
    trainer = make_trainer(args.source, assignments(args.set))
    trainer.train_step(Clock(0.0))
    plain = rounds(trainer, args.steps, None)
    sections = instrument(trainer)
    timings = rounds(trainer, args.steps, sections)
    names = [name for name in ORDER if name in timings[0]]
    medians = {name: statistics.median(r[name] for r in timings) for name in names}
    whole = sum(medians.values())
    print("| section | us per step | share |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.0f} | {100 * value / whole:.1f} % |")
    print(
        f"| all | {whole:.0f} | not instrumented: "
        f"{statistics.median(r['all'] for r in plain):.0f} |"
    )


def operators(steps: int) -> tuple[Operators, Operators]:
    """Microseconds and calls of each operator in a step of ours, and of the step by hand."""
    import numpy as np
    from networks import NETWORKS, Plain

    network = NETWORKS["burda"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        chance = np.random.default_rng(0).random((3000, 28, 28))
        np.save(path, (chance < 0.2).astype(np.uint8))
        values = {"network": network, "latent": network.latent, "train.batch": 100}
        values |= {"train.precision": "float32", "train.compile": "off"}
        trainer = make_trainer(str(path), values)
        trainer.step = 1000  # from step 400 on weights are averaged every eighth step
        data = torch.from_numpy(np.load(path))
    plain = Plain("burda")
    optimiser = torch.optim.AdamW(plain.parameters(), fused=True)
    rows = torch.randperm(len(data))[:100]
    noise = torch.empty(100, sum(plain.latents))

    def by_hand() -> None:
        x = data.index_select(0, rows).unsqueeze(1).float()
        loss = plain.loss(x, noise.normal_())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def ours() -> None:
        trainer.train_step(Clock(0.0))

    with kept_memory():  # as in a training
        return _operators(ours, steps, 30), _operators(by_hand, steps, 30)


def _operators(step: Callable[[], None], steps: int, warm: int) -> Operators:
    from torch.profiler import ProfilerActivity, profile

    for _ in range(warm):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    # the median, since a call that another program interrupted takes milliseconds
    times: dict[str, list[float]] = {}
    for event in profiled.events() or ():
        times.setdefault(event.name, []).append(event.self_cpu_time_total)
    return {
        name: (statistics.median(each) * len(each) / steps, len(each) / steps)
        for name, each in times.items()
    }


def operators_table(ours: Operators, by_hand: Operators, least: float = 15.0) -> str:
    """The operators that take longer in our step, by how much, and their calls."""
    none = (0.0, 0.0)

    def more(name: str) -> float:
        return ours[name][0] - by_hand.get(name, none)[0]

    lines = [
        "| operator | us, ours | us, by hand | calls, ours | calls, by hand |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(ours, key=more, reverse=True):
        if more(name) >= least:
            (mine, calls), (theirs, fewer) = ours[name], by_hand.get(name, none)
            lines.append(
                f"| `{name}` | {mine:.0f} | {theirs:.0f} | {calls:.1f} | {fewer:.1f} |"
            )
    return "\n".join(lines)


def rounds(
    trainer: Trainer, steps: int, sections: Sections | None
) -> list[dict[str, float]]:
    """Microseconds per step and section of ten rounds."""
    timings = []
    for _ in range(10):
        start = time.process_time()
        if sections is not None:
            sections.total.clear()
        for _ in range(max(1, steps // 10)):
            trainer.train_step(Clock(trainer.step / 1_000_000))
        total = (
            sections.total
            if sections is not None
            else {"all": time.process_time() - start}
        )
        timings.append(
            {name: value * 1e6 / max(1, steps // 10) for name, value in total.items()}
        )
    return timings


if __name__ == "__main__":
    main()
