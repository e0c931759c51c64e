"""Latents on grids: features by scale, paths through them, codes on a grid, and the two-way
path.
"""

from __future__ import annotations

import pytest
import torch
from support.core_cases import grads_ok, model_of, plain, rows, shake, spec_of
from torch import nn

from tightbound.components.networks import NETWORKS
from tightbound.components.networks.pyramid import Cell
from tightbound.components.posteriors import POSTERIORS
from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.components.priors import ConditionalNormal, StandardNormal
from tightbound.core.batch import Batch
from tightbound.core.component import Level
from tightbound.core.draw import Clock, Context, Draw, repeated, scale_of
from tightbound.models.hierarchy import Bidirectional, Flat, TopDown, on_grid
from tightbound.models.recipes import RECIPES, Recipe, part
from tightbound.runtime.errors import TightboundError

B, K = 5, 3
SHAPES = [(1, 8, 8), (3, 3, 5), (2, 33), (1, 1, 9), (1, 5, 6, 7)]
GRIDS = [name for name, cls in POSTERIORS.items() if cls.supports_grids]
SPACE = {
    name: "codes" if cls.latent_space == "codes" else "learned"
    for name, cls in POSTERIORS.items()
}


def deep(**changes: object) -> Recipe:
    return Recipe(
        hierarchy="top-down",
        network=part("pyramid", channels=8),
        latent=(2, 3, 2),
        **changes,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["vdvae", "nvae", "biva", "ladder", "vq-conv"])
def test_recipes_of_shapes_have_gradients_terms_and_samples(
    name: str, shape: tuple[int, ...]
) -> None:
    model, objective = model_of(RECIPES[name], spec_of("levels", shape))
    shake(model)
    trace = model(Batch(rows("levels", shape, B)), Draw(K))
    assert trace.log_w.shape == (K, B) and all(
        site.log_p.shape == (K, B) for site in trace.latents.values()
    )
    assert {name: site.z.shape[1] for name, site in trace.latents.items()} == dict(
        model.site_widths
    )
    objective(trace, Clock()).backward()
    grads_ok(model)
    assert model.generate(4, Draw(source="p")).px.mean.shape == (4, *shape)


def test_rows_of_k_samples_are_k_major_at_every_scale() -> None:
    h = [torch.randn(B, 4, 4, 2), torch.randn(B, 1, 1, 2)]
    for k_rows, one in zip(repeated(h, K), h, strict=True):
        assert torch.equal(k_rows, torch.cat([one] * K))
    assert torch.equal(repeated(h[0], K), torch.cat([h[0]] * K))
    assert scale_of(h, 1) is h[1] and scale_of(h[0], 1) is h[0]


def test_k_samples_of_a_pyramid_belong_to_their_example() -> None:
    """With the features of another example a row would have another q."""
    model, _ = model_of(deep(), spec_of("levels", (1, 8, 8)))
    shake(model)
    x = rows("levels", (1, 8, 8), B)
    whole = model(
        Batch(x), Draw(K, noise=lambda name, dist: torch.zeros_like(dist.mean))
    )
    for i in range(B):
        alone = model(
            Batch(x[i : i + 1]),
            Draw(noise=lambda name, dist: torch.zeros_like(dist.mean)),
        )
        assert torch.allclose(
            whole.log_w[:, i], alone.log_w[0].expand(K), rtol=1e-4, atol=1e-3
        )


def test_one_block_from_the_top_down_is_the_flat_model() -> None:
    """Same parts, same noise: the path with one site is the flat one, whose decoder begins with the
    link.
    """
    grid, features = (4, 3), 6
    net = NETWORKS["pyramid"]("s", channels=features)
    link, decoder = (
        shake(net.link(2, Level(grid, (8, 5), first=True))),
        shake(net.decoder(Level((8, 5)), (2, 1, 8, 5))),
    )
    prior, posterior = StandardNormal(2 * 12), shake(NormalPosterior(features, 2))
    deep_path = TopDown(
        [prior], [posterior], [link], decoder, [24], scales=[1], grids=[grid]
    )

    class Placed(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return decoder(link(on_grid(z, grid)))

    flat, h = Flat(prior, posterior, Placed(), 24), torch.randn(B, *grid, features)
    noise = torch.randn(B, 24)
    found = []
    for path, seen, name in (
        (deep_path, [torch.zeros(B, 8, 5, features), h], "z1"),
        (flat, h, "z"),
    ):
        draw = Draw(noise=lambda name, dist: noise)
        y = path(draw, Context(B, seen))
        site = draw.finish()[name]
        found.append((y, site.log_p, site.log_q, site.kl))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_mixture_of_posteriors_reads_pseudo_inputs_as_the_posterior_reads_examples() -> (
    None
):
    """On a pyramid the topmost q reads the encoder through a network of its own."""
    spec = spec_of("unit", (1, 8, 8))
    recipe = plain(
        network=part("pyramid"),
        hierarchy="top-down",
        latent=(2, 2),
        prior=part("vamp", components=B),
        size="s",
    )
    model, x = shake(model_of(recipe, spec)[0]), rows("unit", (1, 8, 8), B)
    q = model(Batch(x), Draw()).latents["z2"].q
    made = model.hierarchy.priors[0].codes(model.inputs(Batch(x)))
    assert torch.allclose(made.mean, q.mean, atol=1e-5) and torch.allclose(
        made.stddev, q.stddev, atol=1e-5
    )


@pytest.mark.parametrize("name", GRIDS)
def test_a_posterior_on_a_grid_is_the_same_at_every_place(name: str) -> None:
    """What it says of one place depends on the features there alone, and stands there in z."""
    options = {"dim": 2, "codes": 8} if name == "vector-quantized" else {}
    options |= (
        {"classes": 2}
        if name == "categorical"
        else {"levels": (3, 3)}
        if name == "finite-scalar"
        else {}
    )
    needs = {"places": 6} if "places" in POSTERIORS[name].build_arguments else {}
    posterior, h = (
        shake(POSTERIORS[name](4, 2, **options, **needs)),
        torch.randn(B, 2, 3, 4),
    )
    p = StandardNormal(12)(Context(B), Draw(), None)
    one = StandardNormal(2)(Context(B), Draw(), None)
    whole = posterior(h, Context(B, h), p)
    small = shake(POSTERIORS[name](4, 2, **options))
    small.load_state_dict(posterior.state_dict())

    def centre(q: object) -> torch.Tensor:
        point = getattr(q, "point", None)
        return q.mean if point is None else point  # type: ignore[attr-defined, no-any-return]

    z = centre(whole)
    assert z.shape == (B, 12)
    for place in range(6):
        there = h[:, place // 3, place % 3]
        q = small(there, Context(B, there), one)
        assert torch.allclose(z.reshape(B, 6, 2)[:, place], centre(q), atol=1e-5)


def test_codes_of_a_grid_go_row_by_row() -> None:
    recipe = RECIPES["rq-vae"].model_copy(
        update={
            "network": part("conv", shrink=2),
            "posterior": part("vector-quantized", codes=8, dim=4, levels=2),
        }
    )
    model, _ = model_of(
        recipe.model_copy(update={"latent": 4}), spec_of("levels", (1, 4, 6))
    )
    shake(model)
    code = model(Batch(rows("levels", (1, 4, 6), B)), Draw()).latents["z"].q.code
    places = 4 * 6 // 4
    assert code.index.shape == (B, places * 2) and code.vector.shape == (B, places * 4)
    table = model.hierarchy.posterior.codebook.table
    index = code.index.reshape(B, places, 2)
    summed = table[0][index[..., 0]] + table[1][index[..., 1]]
    assert torch.allclose(code.vector.reshape(B, places, 4), summed)


@pytest.mark.parametrize("shrink", [1, 2, 4, 100])
def test_shrink_says_how_much_smaller_the_grid_is(shrink: int) -> None:
    encoder = NETWORKS["conv"]("s", shrink=shrink).encoder((3, 32, 20))
    side = max(encoder.grid)
    assert side <= -(-32 // shrink) and encoder(torch.randn(2, 3, 32, 20)).shape == (
        2,
        *encoder.grid,
        encoder.features,
    )


@pytest.mark.parametrize("kind", ["bottleneck", "depthwise"])
def test_a_stack_of_cells_starts_calm_whatever_its_depth(kind: str) -> None:
    """64 cells add little more than 2 do where their last weights are scaled by their number, and
    much more if not.
    """
    x, grown = torch.randn(20, 16, 6, 6), {}
    for count, depth in ((2, 2), (64, 64), (64, 1)):
        y = x
        with torch.no_grad():
            for _ in range(count):
                y = Cell(16, (6, 6), kind, depth)(y)
        grown[count, depth] = float((y - x).var())
    assert grown[64, 64] < 3 * grown[2, 2] < grown[64, 1]


def test_scales_of_sites() -> None:
    net = NETWORKS["pyramid"]("s")
    assert net.scales((1, 8, 8), 4) == (0, 1, 2, 3) and net.scales((1, 8, 8), 2) == (
        0,
        3,
    )
    assert (
        net.scales((1, 8, 8), 1) == (0,) and len(net.encoder((1, 8, 8), 2).grids) == 3
    )
    assert NETWORKS["pyramid"]("s", sites=(0, 0, 2)).scales((1, 8, 8), 3) == (0, 0, 2)
    for sites in ((0, 1), (0, 2, 1), (0, 1, 4)):
        with pytest.raises(
            TightboundError, match=r"network\.sites .* 3 latents and scales 0 to 3"
        ):
            NETWORKS["pyramid"]("s", sites=sites).scales((1, 8, 8), 3)


REFUSED: list[tuple[dict[str, object], tuple[int, ...], str]] = [
    (
        {"network": part("pyramid"), "hierarchy": "flat", "latent": 3},
        (1, 8, 8),
        "set hierarchy top-down",
    ),
    (
        {"network": part("pyramid"), "hierarchy": "top-down", "latent": (2, 2)},
        (7,),
        "'pyramid' needs signals",
    ),
    (
        {"network": part("conv", shrink=2), "hierarchy": "top-down", "latent": (2, 2)},
        (1, 8, 8),
        "set hierarchy flat",
    ),
    (
        {"network": part("conv", shrink=2), "posterior": part("planar"), "latent": 2},
        (1, 8, 8),
        "'planar' is for vect",
    ),
]


@pytest.mark.parametrize(("changes", "shape", "said"), REFUSED)
def test_grids_where_there_can_be_none_are_refused(
    changes: dict[str, object], shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(TightboundError, match=said):
        model_of(Recipe(**changes), spec_of("levels", shape))


def two_way(latent: int = 2) -> Bidirectional:
    """Two levels of linear parts over features (n, 4)."""

    def linear(inputs: int) -> nn.Linear:
        return shake(nn.Linear(inputs, 3))

    return Bidirectional(
        [StandardNormal(latent), shake(ConditionalNormal(3, latent))],
        [shake(ConditionalNormal(3, latent))],
        [shake(NormalPosterior(4, latent)), shake(NormalPosterior(3, latent))],
        [linear(4 + latent)],
        [shake(NormalPosterior(4 + 3, latent))],
        [linear(latent), linear(3 + 2 * latent)],
        linear(3),
        [2, 2],
    )


def test_the_two_way_path_factorises_as_it_says() -> None:
    """log q and log p of each site, by hand from the parts."""
    path, h = two_way(), torch.randn(B, 4)
    draw = Draw()
    y = path(draw, Context(B, h))
    sites = draw.finish()
    assert set(sites) == set(path.sites) == {"z2", "z1", "t1"}
    z1, z2, t1 = (sites[name].z for name in ("z1", "z2", "t1"))
    ctx = Context(B, h)
    assert torch.allclose(
        sites["z1"].log_q[0], path.rises[0](h, ctx, None).log_prob(z1)
    )
    above = path.climbs[0](torch.cat([h, z1], -1))
    assert torch.allclose(
        sites["z2"].log_q[0], path.rises[1](above, ctx, None).log_prob(z2)
    )
    state = path.links[0](z2)
    assert torch.allclose(
        sites["z1"].log_p[0], path.priors[1](ctx, draw, state).log_prob(z1)
    )
    assert torch.allclose(
        sites["t1"].log_p[0], path.sides[0](ctx, draw, state).log_prob(t1)
    )
    assert torch.allclose(
        sites["t1"].log_q[0],
        path.posteriors[0](torch.cat([h, state], -1), ctx, None).log_prob(t1),
    )
    assert torch.allclose(
        y, path.decoder(path.links[1](torch.cat([state, z1, t1], -1)))
    )
    assert sites["z1"].late and not sites["t1"].late, (
        "a closed-form KL of z1 would take its p as independent of z1"
    )


@pytest.mark.parametrize("site", ["z1", "z2", "t1"])
def test_one_site_of_the_two_way_path_given(site: str) -> None:
    path, h = two_way(), torch.randn(B, 4)
    value = torch.randn(B, 2)
    draw = Draw(given={site: value})
    path(draw, Context(B, h))
    assert torch.equal(draw.finish()[site].z, value)
    from_prior = Draw(source="p")
    path(from_prior, Context(B))
    assert all(found.source == "p" for found in from_prior.finish().values())


def test_importance_weights_of_the_two_way_path_are_unbiased() -> None:
    """Their mean estimates p(x), which sums to one over all x of three binary pixels."""
    model, _ = model_of(
        Recipe(hierarchy="bidirectional", latent=(2, 2), network="linear"),
        spec_of("binary", (3,)),
    )
    x = torch.tensor([[float(i >> j & 1) for j in range(3)] for i in range(8)])
    with torch.no_grad():
        for parameter in [
            q
            for module in model.hierarchy.inference_modules()
            for q in module.parameters()
        ]:
            parameter.zero_()
        for parameter in (
            model.parameters()
        ):  # q near p, or the weights have tails that 20,000 draws do not see
            parameter.add_(0.05 * torch.randn_like(parameter))
        total = torch.logsumexp(model(Batch(x), Draw(20_000)).log_p_hat, 0)
    assert abs(float(total.exp()) - 1) < 0.03
