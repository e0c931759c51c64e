"""Priors fitted after training: what they find, how they are kept, and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from support.core_cases import prior_of
from support.linear_gaussian import Problem, problem
from support.small import small_run
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

import tightbound as tb
from tightbound.cli import main
from tightbound.components.posteriors import clusters
from tightbound.config import Config
from tightbound.core.component import EncodedData, Prior
from tightbound.core.draw import Context, Draw
from tightbound.data import DataSettings
from tightbound.data import load as load_data
from tightbound.distributions import from_noise, noise_like
from tightbound.evaluation import score
from tightbound.models.recipes import Recipe, part
from tightbound.runs import fitted_prior as room
from tightbound.runs.run import Run, training_folder
from tightbound.runtime.errors import TightboundError


def seen(z: Tensor, scale: float = 0.3) -> EncodedData:
    return EncodedData(z, lambda: (z, torch.full_like(z, scale)), 0)


def fitted(name: str, z: Tensor, **options: object) -> torch.nn.Module:
    """A prior in closed form, fitted to draws z."""
    prior = prior_of(name, z.shape[1], **options).eval().requires_grad_(False)
    prior.fit(seen(z))  # type: ignore[operator]
    return prior


# ---- what they find


def test_normal_has_the_mean_and_covariance_of_the_draws() -> None:
    z = torch.randn(500, 3) @ torch.randn(3, 3) + torch.tensor([5.0, -2.0, 0.0])
    p = fitted("normal", z)(Context(7), Draw(source="p"), None)
    known = multivariate_normal(
        z.double().mean(0), np.cov(z.double().T, ddof=0)
    ).logpdf(z.double())
    assert torch.allclose(p.log_prob(z).double(), torch.from_numpy(known), atol=2e-3)


def test_gaussian_mixture_recovers_a_known_mixture() -> None:
    n, share = 6000, 0.3
    mean = torch.tensor([[-3.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    root = torch.tensor(
        [[[1.0, 0.0], [0.8, 0.5]], [[0.4, 0.0], [-0.3, 1.0]]], dtype=torch.float64
    )
    first = torch.rand(n) < share
    m = (~first).long()
    z = mean[m] + (
        root[m] @ torch.randn(n, 2, dtype=torch.float64).unsqueeze(-1)
    ).squeeze(-1)
    prior = fitted("gaussian-mixture", z.float(), components=2)
    order = prior.mean[:, 0].argsort()
    cov = root @ root.mT
    width = (
        cov.diagonal(dim1=1, dim2=2) / torch.tensor([[share * n], [(1 - share) * n]])
    ).sqrt()
    assert ((prior.mean[order] - mean).abs() < 5 * width).all()
    assert (
        abs(prior.log_weight.exp()[order[0]] - share)
        < 5 * (share * (1 - share) / n) ** 0.5
    )
    p = prior(Context(n), Draw(source="p"), None)
    each = torch.stack(
        [
            torch.from_numpy(multivariate_normal(mean[i], cov[i]).logpdf(z))
            for i in (0, 1)
        ]
    )
    known = (each + torch.tensor([[share], [1 - share]]).log()).logsumexp(0)
    assert (
        abs((p.log_prob(z.float()).double() - known).mean()) < 0.01
    )  # 11 numbers from 6000: 11 / 12000 on average
    new = from_noise(p, noise_like(p))[0]
    assert ((new.mean(0) - z.mean(0)).abs() < 5 * z.std(0) * (2 / n) ** 0.5).all()


def linear_run(n: int = 20_000) -> tuple[Run, Problem, Tensor, np.ndarray]:
    """A linear-Gaussian model with the exact posterior but a prior that it does not match; its
    data; exact log p(x).
    """
    exact = problem("flat")
    exact.model.float()
    x, log_p = exact.data(n)
    recipe = Recipe(
        latent=3,
        network=part("linear"),
        size="s",
        prior="learned",
        likelihood=part("gaussian", scale="learned", floor=0.01),
    )
    with (
        torch.no_grad()
    ):  # N(0, I), where the posterior was made for another mean and other widths
        exact.model.hierarchy.prior.mean.zero_()
        exact.model.hierarchy.prior.log_scale.zero_()
    data = load_data(x.float().numpy(), DataSettings(), seed=0)
    return (
        Run(Config(recipe=recipe, spec=exact.model.spec), exact.model, None, data),
        exact,
        x.float(),
        log_p,
    )


def test_a_fitted_prior_gives_a_linear_gaussian_model_back_its_exact_likelihood() -> (
    None
):
    """q is the exact posterior under N(c, diag s^2), so E_x[q(z|x)] is that prior: fitting must
    find it.
    """
    run, exact, x, log_p = linear_run()
    better = tb.fit_prior(run, "normal", display="none")
    c, s = exact.chain.c[:3], exact.chain.scale[:3]
    prior = better.model.hierarchy.prior
    n = len(run.data.train)
    assert (np.abs(prior.mean[0].numpy() - c) < 5 * s / n**0.5).all()
    assert (np.abs(prior.log_scale[0].exp().numpy() / s - 1) < 5 / (2 * n) ** 0.5).all()
    rows = x[:300]
    before, after = (score(r, rows, 64, 0)["log_px"].numpy() for r in (run, better))
    assert np.abs(after - log_p[:300]).mean() < 0.02
    assert log_p[:300].mean() - before.mean() > 0.3
    assert (
        better.config.recipe.has_bound
        and better.fitted is not None
        and "normal, fitted after training" in str(better.fitted)
    )


def test_log_p_of_a_trained_model_rises_or_stays(tmp_path: Path) -> None:
    run = tb.load(small_run(tmp_path / "vae", "vae", steps=150, latent=8))
    x = run.data.test.batch(torch.arange(180))
    before = score(run, x, 100, 0)
    for name, least in (("normal", -0.1), ("gaussian-mixture", 0.3)):
        after = score(tb.fit_prior(run, name, display="none"), x, 100, 0)
        rise = after["log_px"] - before["log_px"]
        assert rise.mean() > least + 2 * rise.std() / len(x) ** 0.5
        assert torch.equal(after["distortion"], before["distortion"])


# ---- how they are kept


def test_a_fitted_prior_is_saved_and_loaded_to_the_bit(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "vae", "vae")
    made = tb.fit_prior(folder, "gmm", components=3, display="none")
    for again in (
        tb.load(folder, prior="gaussian-mixture"),
        tb.load(folder / "priors" / "gaussian-mixture"),
    ):
        assert again.config.recipe.prior == part("gaussian-mixture", components=3)
        assert (
            again.predictor.fingerprint == made.predictor.fingerprint
            and torch.equal(again.sample(5, seed=3), made.sample(5, seed=3))
        )
    assert (made.folder, training_folder(made), made.name) == (
        folder / "priors" / "gaussian-mixture",
        folder,
        "vae+gaussian-mixture",
    )
    assert len(made.history()) > 0
    run = tb.load(folder)
    own, rest = room.split(run.model.state_dict())
    first = room.Fitted("own", run.config.recipe.prior, own, 0, room.fingerprint(rest))
    assert torch.equal(run.sample(5), made.with_prior(first).sample(5))


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "vae", "vae")
    tb.fit_prior(folder, "normal", display="none")
    path = folder / "priors" / "normal" / "prior.safetensors"
    old = path.read_bytes()
    with pytest.raises(
        TightboundError, match="has a fitted prior 'normal': add --overwrite"
    ):
        tb.fit_prior(folder, "normal", display="none")
    tb.fit_prior(folder, "gmm", components=2, name="normal-2", display="none")
    (path.parent / "evaluation.json").write_text("{}")
    assert path.read_bytes() == old and (folder / "priors" / "normal-2").is_dir()
    tb.fit_prior(
        folder, "gmm", components=2, name="normal", overwrite=True, display="none"
    )
    assert path.read_bytes() != old and not (path.parent / "evaluation.json").exists()
    with pytest.raises(TightboundError, match="cannot name a fitted prior"):
        tb.fit_prior(folder, "normal", name="../normal", display="none")


def test_a_prior_of_other_weights_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    one, two = (
        small_run(tmp_path / str(seed), "vae", steps=3, seed=seed) for seed in (0, 1)
    )
    tb.fit_prior(one, "normal", display="none")
    shutil.copytree(one / "priors", two / "priors")
    with pytest.raises(TightboundError, match="'normal' was fitted to other weights"):
        tb.load(two, prior="normal")
    with pytest.raises(
        TightboundError, match="no fitted prior 'norml': did you mean 'normal'"
    ):
        tb.load(one, prior="norml")
    with pytest.raises(
        TightboundError, match="no fitted prior 'x': fit one with tightbound fit-prior"
    ):
        tb.load(small_run(tmp_path / "2", "vae", steps=3), prior="x")
    path = one / "priors" / "normal" / "prior.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(TightboundError, match="damaged"):
        tb.load(one, prior="normal")


# ---- what they refuse


@pytest.mark.parametrize(
    ("recipe", "prior", "words"),
    [
        ("vae", "codes", ["'codes'", "posterior 'normal'", "gaussian-mixture"]),
        ("svae", "normal", ["'normal'", "posterior 'von-mises-fisher'"]),
        ("vae", "standard", ["'standard' cannot be fitted", "normal"]),
        (
            "vae",
            "gaussian-mixtur",
            ["unknown prior", "did you mean 'gaussian-mixture'"],
        ),
        ("ae", "vamp", ["'vamp'", "posterior 'delta'", "gaussian-mixture"]),
    ],
)
def test_a_prior_that_does_not_fit_is_refused_with_those_that_do(
    tmp_path: Path, recipe: str, prior: str, words: list[str]
) -> None:
    folder = small_run(tmp_path / "run", recipe, steps=2)
    with pytest.raises(TightboundError) as caught:
        tb.fit_prior(folder, prior, display="none")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (folder / "priors").exists()


class Fixed(Prior):
    """A prior that nothing can be done about."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self, ctx: Context, draw: Draw, state: Tensor | None) -> Distribution:
        zero = self.get_buffer("zero").expand(ctx.n, -1)
        return Independent(Normal(zero, torch.ones_like(zero)), 1)


class Shifted(Fixed):
    """A prior of one's own that can be fitted."""

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.register_buffer("zero", torch.zeros(latent))

    def fit(self, found: EncodedData) -> None:
        self.get_buffer("zero").copy_(found.z.mean(0))


def test_a_prior_of_ones_own_is_fitted_if_it_says_how(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "vae", steps=2)
    with pytest.raises(TightboundError, match="cannot be fitted: give it a method fit"):
        tb.fit_prior(folder, f"{__name__}:Fixed", name="fixed", display="none")
    made = tb.fit_prior(folder, f"{__name__}:Shifted", name="own", display="none")
    assert (made.model.hierarchy.prior.zero != 0).all()
    with pytest.raises(TightboundError, match="trust=True"):
        tb.load(folder, prior="own")
    assert torch.equal(
        tb.load(folder, prior="own", trust=True).sample(3), made.sample(3)
    )


def test_too_few_examples_and_unknown_options_are_refused(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run", "vae", steps=2)
    with pytest.raises(
        TightboundError, match="800 components cannot be fitted to 1437 examples"
    ):
        tb.fit_prior(folder, "gmm", components=800, display="none")
    with pytest.raises(TightboundError, match=r"has no option 'componets'.*components"):
        tb.fit_prior(folder, "gmm", componets=8, display="none")
    with pytest.raises(TightboundError, match=r"no key 'stps'.*steps"):
        tb.fit_prior(folder, "learned", settings={"train.stps": 8}, display="none")


# ---- the commands


def test_the_commands_take_a_fitted_prior_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = str(small_run(tmp_path / "rae", "rae-l2")), tmp_path / "out"
    assert (
        main(
            [
                "fit-prior",
                folder,
                "gmm",
                "--set",
                "components=4",
                "--name",
                "four",
                "--quiet",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "prior four, a gaussian-mixture (components = 4), fitted after "
        "training to 1437 training examples"
    ) in said
    for prior in ([], ["--prior", "four"]):
        assert (
            main(
                [
                    "sample",
                    folder,
                    "-n",
                    "6",
                    "--out",
                    str(out / f"{len(prior)}.npz"),
                    *prior,
                ]
            )
            == 0
        )
    assert capsys.readouterr().out.count("prior four") == 1
    plain, better = (np.load(out / f"{i}.npz")["x"] for i in (0, 2))
    assert not np.array_equal(plain, better)
    assert main(["evaluate", folder, "--prior", "four", "-k", "4"]) == 0
    said = capsys.readouterr().out
    assert "latent is a point" in said and "prior four" in said and "rae+four" in said
    assert (tmp_path / "rae" / "priors" / "four" / "evaluation.json").is_file()
    assert not (tmp_path / "rae" / "evaluation.json").exists()
    assert main(["show", folder, "--prior", "four"]) == 0
    assert "fitted after training" in capsys.readouterr().out
    page = out / "page.html"
    assert main(["compare", folder, f"{folder}/priors/four", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "rae+four" in text and "fitted after training" in text
    assert main(["fit-prior", folder, "gmm", "--name", "four"]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["vae", "hvae", "iwae-2", "biva", "m2", "gm-vae"])
def test_the_weights_of_a_prior_are_those_at_the_prefix_of_its_hierarchy(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "STEPS", 1)
    settings = {"recipe.size": "s"}
    if recipe != "gm-vae":
        settings["prior"] = "learned"
    model, _ = tb.build(recipe, "digits", seed=0, settings=settings)
    own, others = room.split(model.state_dict())
    assert own and set(own) | set(others) == set(model.state_dict())
    weights = model.hierarchy.top_prior.state_dict()
    assert sorted(name.rpartition(".")[2] for name in own) == sorted(
        name.rpartition(".")[2] for name in weights
    )
    assert all(any(torch.equal(v, w) for w in weights.values()) for v in own.values())
