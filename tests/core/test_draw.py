"""Draw and Trace: where a latent's value comes from, what is recorded, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.core_cases import model_of, rows, shake, spec_of
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.core.batch import Batch
from tightbound.core.draw import Draw
from tightbound.core.latent import Latent
from tightbound.distributions import diagonal
from tightbound.models.recipes import Recipe, part
from tightbound.models.vae import VAE

B, K = 5, 3
SHAPE = (6,)
SITES = {"flat": ("z",), "top-down": ("z1", "z2"), "bottom-up": ("z1", "z2")}
WIDTH = {"z": 4, "z1": 4, "z2": 2}
PATHS = list(SITES)
DEEP = ["top-down", "bottom-up"]


class Refuses(nn.Module):
    """An encoder that must not run."""

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the encoder ran")


def model(path: str, **changes: Any) -> VAE:
    recipe = Recipe(
        hierarchy=path,
        latent=4 if path == "flat" else (4, 2),
        network="mlp",
        likelihood="gaussian",
    )
    return shake(model_of(recipe.model_copy(update=changes), spec_of("real", SHAPE))[0])


def batch() -> Batch:
    return Batch(rows("real", SHAPE, B))


def values(path: str, n: int = B) -> dict[str, Tensor]:
    return {site: torch.randn(n, WIDTH[site]) for site in SITES[path]}


def const(name: str, dist: Distribution) -> Tensor:
    return torch.full_like(dist.mean, 0.5)


@pytest.mark.parametrize("path", PATHS)
def test_a_misspelt_given_name_raises(path: str) -> None:
    with pytest.raises(ValueError, match="'zz'"):
        model(path)(batch(), Draw(given={"zz": torch.zeros(B, 4)}))
    with pytest.raises(ValueError, match="'zz'"):
        model(path).generate(B, Draw(source="p", given={"zz": torch.zeros(B, 4)}))


@pytest.mark.parametrize("path", PATHS)
def test_a_misspelt_site_or_source_raises(path: str) -> None:
    with pytest.raises(ValueError, match="'zz'"):
        model(path)(batch(), Draw(source={"zz": "q"}))
    with pytest.raises(ValueError, match="'prior'"):
        Draw(source="prior")
    with pytest.raises(ValueError, match="'Q'"):
        Draw(source={"z": "Q"})


def test_one_draw_serves_one_pass() -> None:
    """A second pass would be given the first one's z, and be wrong in silence."""
    vae, draw = model("flat"), Draw()
    vae(batch(), draw)
    with pytest.raises(ValueError, match="one pass"):
        vae(batch(), draw)


@pytest.mark.parametrize("path", PATHS)
def test_every_site_is_recorded_with_log_terms_of_k_by_b(path: str) -> None:
    trace = model(path)(batch(), Draw(K))
    assert tuple(sorted(trace.latents)) == SITES[path]
    for name, site in trace.latents.items():
        assert site.z.shape == (K * B, WIDTH[name]) and site.source == "q"
        assert site.log_p.shape == site.log_q.shape == site.kl.shape == (K, B)
        assert site.p is not None and site.q is not None
    assert trace.log_px.shape == trace.log_w.shape == trace.log_v.shape == (K, B)
    total = trace.log_px + sum(s.log_p - s.log_q for s in trace.latents.values())
    assert torch.allclose(trace.log_w, total) and trace.log_w is trace.log_w


@pytest.mark.parametrize("path", PATHS)
def test_log_w_needs_z_from_q_or_given_with_its_density(path: str) -> None:
    vae, given, x = model(path), values(path, K * B), batch()
    with pytest.raises(ValueError, match="not from q"):
        _ = vae(x, Draw(K, source="p")).log_w
    with pytest.raises(ValueError, match="not from q"):
        _ = vae(x, Draw(K, given=given)).log_w
    log_q = {site: torch.randn(K * B) for site in given}
    trace = vae(x, Draw(K, given={s: (z, log_q[s]) for s, z in given.items()}))
    for site, latent in trace.latents.items():
        assert (
            torch.equal(latent.log_q, log_q[site].reshape(K, B))
            and latent.z is given[site]
        )
    assert trace.log_w.shape == (K, B) and trace.bound
    matrix = vae(
        x, Draw(K, given={s: (z, log_q[s].reshape(K, B)) for s, z in given.items()})
    )
    assert torch.allclose(matrix.log_w, trace.log_w)


@pytest.mark.parametrize("path", PATHS)
def test_point_source_gives_the_centre_and_no_bound(path: str) -> None:
    vae, x = model(path), batch()
    trace, again = vae(x, Draw(source="point")), vae(x, Draw(source="point"))
    assert not trace.bound and torch.equal(trace.log_px, again.log_px)
    for site in trace.latents.values():
        assert site.q is not None and torch.equal(site.z, site.q.mean)
    for figure in ("log_w", "rate", "elbo", "log_p_hat"):
        with pytest.raises(ValueError, match="point mass"):
            getattr(trace, figure)
    assert trace.distortion.shape == (B,)


def test_an_autoencoder_has_a_distortion_and_no_bound() -> None:
    vae = model("flat", posterior=part("delta"), objective=part("distortion"))
    trace = vae(batch(), Draw())
    assert not trace.bound and trace.distortion.isfinite().all()
    for figure in ("log_w", "rate", "elbo", "log_p_hat"):
        with pytest.raises(ValueError, match="point mass"):
            getattr(trace, figure)
    assert torch.equal(
        trace.latents["z"].z, vae(trace.batch, Draw(source="point")).latents["z"].z
    )


@pytest.mark.parametrize("path", PATHS)
def test_prior_source_never_runs_the_encoder(path: str) -> None:
    vae, x = model(path), batch()
    vae.encoder = Refuses()
    trace = vae(x, Draw(K, source="p"))
    assert all(site.q is None and site.source == "p" for site in trace.latents.values())
    assert trace.log_px.shape == (K, B)
    vae.generate(7, Draw(source="p"))
    vae.generate(B, Draw(source="p", given=values(path)))
    assert vae.joint(x, values(path)).shape == (B,)
    every_site = dict.fromkeys(SITES[path], "p")
    vae(x, Draw(source=every_site))
    with pytest.raises(AssertionError, match="the encoder ran"):
        vae(x, Draw())


@pytest.mark.parametrize("path", PATHS)
def test_joint_needs_every_site(path: str) -> None:
    """A site left out would be drawn from p, and log p(x, z) would be random."""
    vae, at = model(path), values(path)
    del at[SITES[path][0]]
    with pytest.raises(ValueError, match=f"{SITES[path][0]!r}"):
        vae.joint(batch(), at)


@pytest.mark.parametrize("path", PATHS)
def test_generation_draws_n_rows_and_from_q_is_refused(path: str) -> None:
    trace = model(path).generate(7, Draw(source="p"))
    assert trace.px.mean.shape == (7, *SHAPE)
    assert {name: site.z.shape for name, site in trace.latents.items()} == {
        s: (7, WIDTH[s]) for s in SITES[path]
    }
    with pytest.raises(ValueError, match="to come from q"):
        model(path).generate(7, Draw())


@pytest.mark.parametrize("path", DEEP)
def test_each_site_has_its_own_source(path: str) -> None:
    """The upper site from the prior, the lower from the posterior; a site that is not named comes
    from q.
    """
    vae, x = model(path), batch()
    for source in ({"z2": "p", "z1": "q"}, {"z2": "p"}):
        trace = vae(x, Draw(source=source, noise=const))
        assert [trace.latents[s].source for s in ("z2", "z1")] == ["p", "q"]
        upper, lower = trace.latents["z2"], trace.latents["z1"]
        assert upper.p is not None and lower.q is not None and lower.p is not None
        assert torch.allclose(upper.z, upper.p.mean + 0.5 * upper.p.stddev)
        assert torch.allclose(lower.z, lower.q.mean + 0.5 * lower.q.stddev)
    mixed = vae(x, Draw(source={"z2": "point", "z1": "q"}))
    assert not mixed.bound and torch.equal(
        mixed.latents["z2"].z, mixed.latents["z2"].q.mean
    )


@pytest.mark.parametrize("site", ["z1", "z2"])
@pytest.mark.parametrize("path", DEEP)
def test_one_site_given_the_other_drawn(path: str, site: str) -> None:
    vae, z = model(path), torch.randn(K * B, WIDTH[site])
    other = {"z1": "z2", "z2": "z1"}[site]
    trace = vae(batch(), Draw(K, given={site: z}))
    assert trace.latents[site].z is z and trace.latents[site].source == "given"
    assert trace.latents[other].source == "q" and trace.latents[other].z.shape == (
        K * B,
        WIDTH[other],
    )
    drawn = vae.generate(B, Draw(source="p", given={site: z[:B]}))
    assert (
        drawn.latents[site].z.shape == (B, WIDTH[site])
        and drawn.latents[other].source == "p"
    )


@pytest.mark.parametrize("path", DEEP)
def test_a_site_does_not_depend_on_what_is_drawn_after_it(path: str) -> None:
    """Top-down: q(z2|x), then q(z1|x, z2).

    Bottom-up: q(z1|x), then q(z2|z1), whose p come on the way back.
    """
    vae, x = model(path), batch()
    first, second = ("z2", "z1") if path == "top-down" else ("z1", "z2")
    a, b = (
        vae(x, Draw(given={second: torch.randn(B, WIDTH[second])})) for _ in range(2)
    )
    assert torch.equal(a.latents[first].q.mean, b.latents[first].q.mean)
    c, d = (vae(x, Draw(given={first: torch.randn(B, WIDTH[first])})) for _ in range(2))
    assert not torch.allclose(c.latents[second].q.mean, d.latents[second].q.mean)
    e, f = (vae(x, Draw(given={"z2": torch.randn(B, WIDTH["z2"])})) for _ in range(2))
    assert not torch.allclose(
        e.latents["z1"].p.mean, f.latents["z1"].p.mean
    )  # p(z1 | z2) on every path


def test_a_site_is_filled_by_the_first_call_that_can_and_keeps_its_value() -> None:
    p, q = (diagonal(torch.full((B, 2), at), torch.zeros(B, 2)) for at in (-5.0, 5.0))
    draw = Draw()
    up = draw("z", q=q)
    assert up is not None and (up > 0).all() and draw("z", p=p) is up
    site = draw.finish()["z"]
    assert site.p is p and site.q is q and site.source == "q"
    assert torch.allclose(site.log_q[0], q.log_prob(up)) and torch.allclose(
        site.log_p[0], p.log_prob(up)
    )
    prior = Draw(source="p")
    assert prior("z", q=q) is None
    down = prior("z", p=p)
    assert down is not None and (down < 0).all() and prior("z", p=p, q=q) is down
    lone = Draw()
    lone("z", q=q)
    with pytest.raises(ValueError, match="no prior"):
        lone.finish()


@pytest.mark.parametrize("path", PATHS)
def test_noise_is_asked_by_site_and_makes_the_value(path: str) -> None:
    asked: list[str] = []

    def noise(name: str, dist: Distribution) -> Tensor:
        asked.append(name)
        return const(name, dist)

    vae, x = model(path), batch()
    a, b = vae(x, Draw(K, noise=noise)), vae(x, Draw(K, noise=const))
    assert tuple(sorted(asked)) == SITES[path] and torch.equal(a.log_w, b.log_w)
    for site in a.latents.values():
        assert site.q is not None and torch.allclose(
            site.z, site.q.mean + 0.5 * site.q.stddev
        )


@pytest.mark.parametrize("path", PATHS)
def test_temperature_scales_the_noise_of_prior_draws_only(path: str) -> None:
    vae, x = model(path, prior=part("learned")), batch()
    for temperature in (0.0, 0.25, 2.0):
        trace = vae.generate(B, Draw(source="p", noise=const, temperature=temperature))
        for site in trace.latents.values():
            assert site.p is not None
            assert torch.allclose(
                site.z, site.p.mean + temperature * 0.5 * site.p.stddev, atol=1e-6
            )
    warm, plain = (vae(x, Draw(noise=const, temperature=t)) for t in (3.0, 1.0))
    assert torch.equal(warm.log_w, plain.log_w)


def test_a_latent_without_q_has_no_log_q() -> None:
    with pytest.raises(ValueError, match="'p', not from q"):
        _ = Latent(1, torch.zeros(B, 2), "p", None, None).log_q


def test_labels_and_row_numbers_travel_with_the_batch() -> None:
    x = Batch(rows("real", SHAPE, B), y=torch.arange(B), index=torch.arange(B))
    trace = model("flat")(x, Draw())
    assert trace.batch is x and len(x) == B
