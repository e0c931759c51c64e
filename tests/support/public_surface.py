"""Uses each public name with types; `mypy --strict` must pass on this file.

It is type-checked, not run.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

import tightbound as tb
from tightbound.training.callbacks import Progress
from tightbound.training.console import Record


class Wide(tb.Prior):
    """N(0, 4 I)."""

    def __init__(self, latent: int, scale: float = 2.0) -> None:
        super().__init__()
        self.latent = latent
        self.scale = scale

    def forward(
        self, ctx: tb.Context, draw: tb.Draw, state: Tensor | None
    ) -> Distribution:
        zero = torch.zeros(ctx.n, self.latent)
        return Independent(Normal(zero, self.scale), 1)

    def fit(self, data: tb.EncodedData) -> None:
        self.scale = float(data.z.std())


class Unit(tb.Posterior):
    """N(h, I)."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(features, latent)

    def forward(
        self, h: Tensor, ctx: tb.Context, p: Distribution | None
    ) -> Distribution:
        return Independent(Normal(self.mean(h), 1.0), 1)


class Plain(tb.Likelihood):
    """N(y, I)."""

    domains = ("real",)

    def __init__(self, spec: tb.DataSpec) -> None:
        super().__init__()

    def forward(
        self, y: Tensor, ctx: tb.Context, p: Distribution | None = None
    ) -> Distribution:
        return Independent(Normal(y.squeeze(1), 1.0), y.dim() - 2)


class HalfRate(tb.Objective):
    """distortion + rate / 2."""

    def __call__(self, trace: tb.Trace, clock: tb.Clock) -> Tensor:
        return trace.distortion.mean() + 0.5 * trace.rate.mean()


class Small(tb.Network):
    """One linear map each way."""

    def __init__(self, size: str) -> None: ...

    def encoder(self, shape: tuple[int, ...]) -> torch.nn.Module:
        return torch.nn.Flatten()

    def decoder(self, inputs: int, out: tuple[int, ...]) -> torch.nn.Module:
        return torch.nn.Linear(inputs, 64)


class Reads(tb.ModelAware):
    """Reads the model around it."""


def verbs(folder: Path) -> None:
    """Train, evaluate, compare, load, save, fit a prior, demo, build."""
    run: tb.Run = tb.train("digits", "vae", out=folder / "run", latent=2)
    evaluation: tb.Evaluation = tb.evaluate(run, k=10)
    elbo: tb.Mean = evaluation.terms["elbo"]
    print(elbo.mean, str(evaluation))
    report: Path = tb.compare([run, folder / "run"], folder / "report.html")
    file = tb.compress(run, "digits", folder / "digits.tb", precision={"height": 0.1})
    share: float = file.bits_per_dim
    condition: list[str] | Tensor | None = tb.decompress(folder / "digits.tb").condition
    loaded: tb.Run = tb.load(folder / "run")
    fitted: tb.Run = tb.fit_prior(loaded, "gaussian-mixture", components=3)
    demo: Path = tb.demo(folder / "demo")
    print(report, fitted.name, demo, share, condition)


def own_loop(folder: Path) -> None:
    """A training loop on a module."""
    recipe: tb.Recipe = tb.RECIPES["vae"].model_copy(
        update={"objective": tb.part("elbo", beta=2.0)}
    )
    model, data = tb.build(recipe, "digits", latent=2, seed=0)
    vae: tb.VAE = model
    hierarchy: tb.Hierarchy = vae.hierarchy
    optimizer = torch.optim.Adam(vae.parameters())
    for batch in data.train:
        examples: tb.Batch = batch
        trace: tb.Trace = vae(examples, tb.Draw(5))
        losses: dict[str, Tensor] = vae.backward(trace, progress=0.5)
        optimizer.step()
        optimizer.zero_grad()
        vae.after_step()
        print(losses, hierarchy.sites)
    q: tb.Encoding = vae.encode(data.train.examples(8))
    px: Distribution = vae.decode(q.mean)
    run: tb.Run = tb.save(vae, folder)
    print(px.mean, run.model.site_widths)


def evaluation(run: tb.Run, x: Tensor) -> None:
    """Estimators."""
    estimate: tb.Estimate = tb.log_px(run.model, x, "importance", seed=0, k=100)
    terms: dict[str, Tensor] = tb.score(run, x, k=100, seed=0)
    bracket = tb.bdmc(run.model, 4, seed=0)
    diagnosis = tb.diagnose(run, tb.Batch(x), seed=0)
    print(estimate.values, terms, bracket, diagnosis)


def estimator() -> tb.VAEEstimator:
    """The scikit-learn transformer; TightboundError is the error of every mistake."""
    try:
        return tb.VAEEstimator(latent=2)
    except tb.TightboundError as error:
        raise SystemExit(str(error)) from error


class Brightness(tb.Callback):
    """A metric of the model at each validation."""

    def validation(self, progress: Progress, record: Record) -> dict[str, float]:
        picture = tb.grid(progress.run.sample(4), run=progress.run)
        return {"brightness": float(picture.width)}


def doors(run: tb.Run) -> None:
    """Outliers, callbacks, further training, the hub."""
    detector = tb.VAEOutlierDetector(latent=2, method="regret")
    print(detector.p_values([[0.0, 1.0]]), detector.rejected([[0.0, 1.0]], level=0.1))
    longer: tb.Run = tb.train(out=run.folder, extend=100, callbacks=[Brightness()])
    tuned: tb.Run = tb.train("digits", init=longer, track="tensorboard")
    tuned = tb.train("digits", latent=[4, 2], lr=1e-3, network="mlp", augment=["flip"])
    tb.train("digits", latnt=2)  # type: ignore[call-arg]  # names are checked
    tb.train("digits", lr="fast")  # type: ignore[arg-type]  # and values
    print(tb.push_to_hub(tuned, "user/name"))
