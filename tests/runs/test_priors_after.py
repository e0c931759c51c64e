"""What single priors that are fitted after training promise: a second stage, chains of codes, a
manifold, flows.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from support.core_cases import B, model_of, plain, prior_of, rows, spec_of
from support.estimates import error_of
from support.small import small_run
from torch import Tensor

import tightbound as tb
from tightbound.cli import main
from tightbound.core.batch import Batch
from tightbound.core.component import EncodedData
from tightbound.core.draw import Context, Draw
from tightbound.distributions import CodeChain, from_noise, noise_like
from tightbound.evaluation import log_px
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError
from tightbound.training.console import Quiet

SHAPE = (6,)


def seen(z: Tensor, scale: float = 0.3) -> EncodedData:
    return EncodedData(z, lambda: (z, torch.full_like(z, scale)), 0)


# ---- all of them


@pytest.mark.parametrize("name", ["normal", "gaussian-mixture", "maf", "iaf"])
def test_in_two_dimensions_each_density_is_normalised_in_the_units_of_the_codes(
    name: str,
) -> None:
    z = torch.randn(400, 2) @ torch.tensor([[3.0, 1.0], [0.0, 0.2]]) + torch.tensor(
        [40.0, -7.0]
    )
    prior = prior_of(name, 2).eval().requires_grad_(False)
    prior.fit(seen(z))  # type: ignore[operator]
    x, y = torch.linspace(10, 70, 601), torch.linspace(-20, 6, 521)
    grid = torch.cartesian_prod(x, y)
    p = prior(Context(len(grid)), Draw(source="p"), None)
    assert abs(p.log_prob(grid).double().exp().sum().item() * 0.1 * 0.05 - 1) < 2e-3
    new = from_noise(
        prior(Context(4000), Draw(source="p"), None),
        torch.randn(4000, 2 + (name not in ("maf", "iaf"))),
    )
    assert (new[0].mean(0) - z.mean(0)).abs().max() < 1 and (
        (new[0].std(0) / z.std(0)).log().abs() < 0.4
    ).all()


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [
        (
            "vae",
            [
                "learned",
                "mixture",
                "vamp",
                "exemplar",
                "flow",
                "maf",
                "iaf",
                "two-stage",
                "riemannian",
            ],
        ),
        ("svae", ["sphere"]),
        ("poincare", ["poincare"]),
        ("vq-vae", ["pixelcnn"]),
        ("rq-vae", ["pixelcnn"]),
        ("fsq", ["pixelcnn"]),
        ("categorical-vae", ["pixelcnn"]),
        ("hvae", ["gmm", "maf"]),
        ("iwae-2", ["gmm"]),
        ("rae-l2", ["two-stage", "iaf"]),
    ],
)
def test_every_prior_is_fitted_sampled_saved_and_loaded_to_the_bit(
    tmp_path: Path, recipe: str, kinds: list[str]
) -> None:
    own = {
        "vq-vae": 16,
        "rq-vae": 32,
        "fsq": 8,
        "categorical-vae": 20,
        "hvae": (4, 3),
        "iwae-2": (4, 3),
    }
    folder = small_run(tmp_path / "run", recipe, steps=2, latent=own.get(recipe, 3))
    for kind in kinds:
        few = (
            {"components": 7}
            if kind == "vamp"
            else {"count": 9}
            if kind == "exemplar"
            else {}
        )
        made = tb.fit_prior(
            folder, kind, display="none", settings={"train.steps": 3, **few}
        )
        assert made.fitted is not None and made.fitted.n > 1000
        again = tb.load(folder, prior=made.fitted.name)
        assert (
            again.predictor.fingerprint == made.predictor.fingerprint
            and torch.equal(again.sample(3, seed=1), made.sample(3, seed=1))
        )
        x = made.data.test.batch(torch.arange(4))
        trace = made.predictor.trace(x, Draw(3))
        assert (
            trace.bound
            == made.config.recipe.has_bound
            == (recipe != "rae-l2" and kind != "riemannian")
        )
        if made.config.recipe.has_bound:
            assert (
                trace.log_w.shape == (3, 4)
                and trace.log_w.isfinite().all()
                and trace.rate.isfinite().all()
            )
        assert made.encode(x).shape == tb.load(folder).encode(x).shape and set(
            made.model.site_widths
        ) == set(tb.load(folder).model.site_widths)


@pytest.mark.parametrize(
    ("recipe", "kind", "steps"),
    [
        ("vae", "two-stage", 200),
        ("vae", "maf", 100),
        ("svae", "sphere", 100),
        ("fsq", "pixelcnn", 250),
    ],
)
def test_fitting_lowers_the_rate_and_leaves_the_rest(
    tmp_path: Path, recipe: str, kind: str, steps: int
) -> None:
    folder = small_run(tmp_path / "run", recipe, steps=80, latent=8)
    run, made = (
        tb.load(folder),
        tb.fit_prior(folder, kind, display="none", settings={"train.steps": steps}),
    )
    x = run.data.test.batch(torch.arange(180))
    before, after = [r.predictor.trace(x, Draw(4)) for r in (run, made)]
    assert after.rate.mean() < before.rate.mean() - 0.3
    held = [name for name in run.model.state_dict() if "prior" not in name]
    assert held and all(
        torch.equal(run.model.state_dict()[n], made.model.state_dict()[n]) for n in held
    )


def test_under_a_q_that_moves_along_the_joint_it_is_the_bound_that_rises(
    tmp_path: Path,
) -> None:
    """Another prior is another q there; with the decoder taken away it was the q of no model."""
    folder = small_run(tmp_path / "run", "hamiltonian", steps=30, latent=3)
    settings = {"train.steps": 60, "train.lr": 0.02}
    run, made = (
        tb.load(folder),
        tb.fit_prior(
            folder, "mixture", display="none", components=3, settings=settings
        ),
    )
    x = run.data.train.batch(torch.arange(400))
    before, after = (
        r.predictor.trace(x, Draw(20)).elbo.mean().item() for r in (run, made)
    )
    assert after > before + 0.05


class Noted(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, line: str) -> None:
        self.said.append(line)


def test_a_fit_that_explodes_after_it_was_good_keeps_what_was_good(
    tmp_path: Path,
) -> None:
    """As a PixelCNN does that has learned a small table by heart."""
    folder, show = small_run(tmp_path / "run", "vae", steps=20), Noted()
    settings = {
        "train.steps": 300,
        "train.skip_gradient_above": 1e-9,
        "train.validate_every": 20,
    }
    made = tb.fit_prior(
        folder, "mixture", display=show, components=3, settings=settings
    )
    assert (
        any("training stopped at step" in line for line in show.said)
        and made.sample(2).isfinite().all()
    )


# ---- a second stage


def test_a_second_stage_is_a_bound_that_tightens_to_the_integral_over_both_latents() -> (
    None
):
    """One feature z and one u: importance sampling against quadrature over the plane."""
    model, _ = model_of(
        plain(prior=part("two-stage"), latent=1), spec_of("real", SHAPE)
    )
    model.eval().requires_grad_(False)
    with torch.no_grad():  # posteriors wide enough to sample with
        model.hierarchy.posterior.log_scale.bias += 0.3
        model.hierarchy.prior.code.bias[1:] += 0.3
    x = rows("real", SHAPE, B)
    assert model.sites == ("z", "u") and dict(model.site_widths) == {"z": 1}
    exact, sampled = (
        log_px(model, x, "quadrature"),
        log_px(model, x, "importance", k=20_000),
    )
    assert ((sampled.values - exact.values).abs() < 5 * sampled.se + 1e-3).all()
    assert (sampled.se < 0.1).all()


def test_the_terms_of_a_second_stage() -> None:
    model, _ = model_of(plain(prior=part("two-stage")), spec_of("real", SHAPE))
    trace = model(Batch(rows("real", SHAPE, B)), Draw(4))
    z, u = trace.latents["z"], trace.latents["u"]
    assert torch.allclose(
        trace.log_w, trace.log_px + z.log_p + u.log_p - z.log_q - u.log_q
    )
    assert z.late and u.kl.shape == (4, B)
    assert torch.allclose(trace.rate, (z.log_q - z.log_p + u.kl).mean(0))
    given = {name: site.z[:B] for name, site in trace.latents.items()}
    joint = model.joint(trace.batch, given)
    assert torch.allclose(joint, (trace.log_px + z.log_p + u.log_p)[0], atol=1e-4)
    ids = {id(p) for p in model.groups()["inference"]}
    assert {id(p) for p in model.hierarchy.prior.code.parameters()} <= ids
    assert id(model.hierarchy.prior.log_gamma) not in ids
    with pytest.raises(TightboundError, match="set hierarchy flat"):
        model_of(
            plain(prior=part("two-stage"), hierarchy="top-down", latent=(3, 2)),
            spec_of("real", SHAPE),
        )


# ---- chains of codes


def chain(recipe: str = "fsq", width: int = 16) -> tuple[CodeChain, Tensor]:
    """A PixelCNN over 4 codes of 3, not at its start, and all 81 numbers."""
    posterior = (
        part("finite-scalar", levels=[3])
        if recipe == "fsq"
        else part("vector-quantized", codes=3, dim=1)
    )
    model, _ = model_of(
        plain(
            "elbo" if recipe == "fsq" else "commitment",
            posterior=posterior,
            latent=4,
            prior=part("pixelcnn", width=width, depth=2),
        ),
        spec_of("real", SHAPE),
    )
    with torch.no_grad():
        for p in model.hierarchy.prior.parameters():
            p += 0.2 * torch.randn_like(p)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    p = (
        model.eval()
        .requires_grad_(False)
        .hierarchy.prior(Context(81), Draw(source="p"), None)
    )
    return p, every


@pytest.mark.parametrize("recipe", ["fsq", "vq"])
def test_a_chain_of_codes_sums_to_one_and_is_sampled_as_it_says(recipe: str) -> None:
    p, every = chain(recipe)
    share = p.log_mass(every).double().exp()
    assert abs(share.sum().item() - 1) < 1e-5 and share.max() > 3 * share.min()
    assert torch.allclose(
        p.log_prob(p.codebook.vectors(every)), p.log_mass(every), atol=1e-5
    )
    n = 20_000
    many = CodeChain(n, p.codebook, p.logits, p.like)
    drawn = p.codebook.index(from_noise(many, noise_like(many))[0])
    count = torch.zeros(81).index_add_(
        0, (drawn * torch.tensor([27, 9, 3, 1])).sum(1), torch.ones(n)
    )
    assert ((count - n * share).abs() < 5 * (n * share * (1 - share)).sqrt() + 1).all()
    cold = from_noise(many, noise_like(many), 1e-3)[0]
    assert len(cold.unique(dim=0)) == 1


def test_each_code_of_a_chain_depends_on_those_before_it_alone() -> None:
    p, _ = chain()
    index = torch.randint(0, 3, (1, 4))
    for i in range(4):
        other = index.clone()
        other[0, i] = (index[0, i] + 1) % 3
        moved = (p.logits(other) - p.logits(index)).abs().amax(-1)[0]
        assert (moved[: i + 1] < 1e-6).all() and (moved[i + 1 :] > 1e-4).all()


def test_a_chain_over_a_grid_of_places_sees_rows_above_and_codes_to_the_left() -> None:
    from tightbound.components.priors.codes import PixelCNN

    net = PixelCNN((3, 4), 5, 8, 2).eval().requires_grad_(False)
    index = torch.randint(0, 5, (1, 12))
    seen_by: Tensor = torch.zeros(12, 12)
    for j in range(12):
        other = index.clone()
        other[0, j] = (index[0, j] + 1) % 5
        seen_by[:, j] = (net(other) - net(index)).abs().amax(-1)[0]
    later = torch.ones(12, 12).triu().bool()
    assert (seen_by[later] < 1e-6).all() and (
        seen_by[torch.arange(1, 12), torch.arange(11)] > 1e-6
    ).all()


def test_residual_codes_are_weighed_by_their_own_numbers() -> None:
    """The greedy parting of a sum of vectors is not always that of what was encoded."""
    recipe = plain(
        "commitment",
        posterior=part("vector-quantized", codes=5, dim=2, levels=3),
        latent=8,
        prior=part("pixelcnn"),
    )
    model, _ = model_of(recipe, spec_of("real", SHAPE))
    trace = model.eval()(Batch(rows("real", SHAPE, 200)), Draw(2))
    site = trace.latents["z"]
    own, parted = site.q.code.index, site.q.codebook.index(site.z)
    assert (own != parted).any()
    assert torch.allclose(site.log_p.flatten(), site.p.log_mass(own))
    assert torch.allclose(site.log_p, -site.kl)


# ---- a manifold


def test_manifold_samples_follow_the_volume_of_the_metric() -> None:
    """Shares of the cells of a plane, against the density by quadrature."""
    z = torch.cat([torch.randn(200, 2) * 0.5, torch.randn(200, 2) * 0.3 + 2.0])
    prior = prior_of("riemannian", 2, centres=40).requires_grad_(False)
    prior.fit(seen(z))  # type: ignore[operator]
    prior.least, prior.decay = 1e-3, 1.0
    n = 3000
    p = prior(Context(n), Draw(source="p"), None)
    found = from_noise(p, noise_like(p))[0]
    axis = torch.linspace(-6, 8, 561)
    grid = torch.cartesian_prod(axis, axis)
    share = (
        torch.cat([prior.volume(part)[0] for part in grid.split(20_000)])
        .double()
        .softmax(0)
    )
    edges = torch.tensor([-0.5, 0.5, 1.5, 2.5])
    cells = [
        (torch.bucketize(points, edges) * torch.tensor([5, 1])).sum(1)
        for points in (grid, found)
    ]
    known = torch.zeros(25, dtype=torch.float64).index_add_(0, cells[0], share)
    drawn = (
        torch.zeros(25, dtype=torch.float64).index_add_(
            0, cells[1], torch.ones(n, dtype=torch.float64)
        )
        / n
    )
    assert (
        (drawn - known).abs() < 5 * (known * (1 - known) / n).sqrt() + 0.006
    ).all(), (drawn, known)
    with pytest.raises(NotImplementedError):
        p.log_prob(found)


def test_a_manifold_can_be_sampled_and_nothing_is_called_a_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(small_run(tmp_path / "vae", "vae"))
    assert (
        main(["fit-prior", folder, "riemannian", "--set", "centres=10", "--quiet"]) == 0
    )
    assert (
        main(["evaluate", folder, "--prior", "riemannian", "-k", "3", "--limit", "20"])
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "its prior can be sampled but has no density" in said
        and "elbo" not in said
        and "rate " not in said
    )
    run = tb.load(folder, prior="riemannian")
    with pytest.raises(
        TightboundError, match=r"log p\(x\) of this model is not defined: its prior"
    ):
        log_px(run.model, run.data.test.batch(torch.arange(3)))
    assert (
        main(
            [
                "score",
                folder,
                "digits",
                "--prior",
                "riemannian",
                "--out",
                str(tmp_path / "s.csv"),
                "--quiet",
            ]
        )
        == 0
    )
    assert "no density" in capsys.readouterr().err
    assert (tmp_path / "s.csv").read_text().startswith("row,name,label,distortion\n")
    assert (
        main(
            [
                "compare",
                folder,
                f"{folder}/priors/riemannian",
                "--out",
                str(tmp_path / "r.html"),
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "train",
                "digits",
                "--set",
                "prior=riemannian",
                "--out",
                str(tmp_path / "no"),
                "--quiet",
            ]
        )
        == 2
    )
    assert "gives this posterior no gradient to train by" in capsys.readouterr().err


# ---- evaluation under them


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        ("normal", "gaussian-mixture"),
        ("normal", "maf"),
        ("normal", "two-stage"),
        ("von-mises-fisher", "sphere-mixture"),
        ("wrapped-normal", "poincare-mixture"),
    ],
)
def test_every_way_to_log_p_of_x_agrees_under_such_a_prior(
    posterior: str, prior: str
) -> None:
    """Importance sampling from q, and annealed importance sampling from the prior alone."""
    model, _ = model_of(
        plain(prior=part(prior), posterior=part(posterior)), spec_of("real", SHAPE)
    )
    model.eval().requires_grad_(False)
    x = rows("real", SHAPE, 3)
    many, annealed = (
        log_px(model, x, "importance", k=5000),
        log_px(model, x, "ais-prior", temperatures=60, chains=40),
    )
    assert (
        (many.values - annealed.values).abs()
        < 5 * (error_of(many).square() + error_of(annealed).square()).sqrt() + 0.05
    ).all()


@pytest.mark.timeout(60)
def test_a_manifold_of_one_point_is_fitted_too() -> None:
    """Where all codes are alike no centre is far from its nearest; the search for a step ends
    nevertheless.
    """
    prior = prior_of("riemannian", 2, centres=5)
    with torch.no_grad():
        prior.fit(
            EncodedData(
                torch.zeros(20, 2), lambda: (torch.zeros(20, 2), torch.ones(20, 2)), 0
            )
        )  # type: ignore[operator]
    z, _ = from_noise(p := prior(Context(7), Draw(source="p"), None), noise_like(p))
    assert z.isfinite().all()
