"""Contracts of the networks: any shape, one size dial, and no example that looks at its
neighbours.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from support.core_cases import grads_ok, model_of, plain, shake, spec_of
from torch import nn

from tightbound.components.networks import NETWORKS
from tightbound.components.networks.conv import (
    from_patches,
    norm,
    pyramid,
    to_patches,
)
from tightbound.components.networks.size import SIZES
from tightbound.core.component import MultiscaleNetwork
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError

B = 4
VECTORS: list[tuple[int, ...]] = [(1,), (7,)]
IMAGES: list[tuple[int, ...]] = [
    (1, 1, 1),
    (3, 3, 5),
    (1, 28, 20),
    (3, 33, 47),
    (2, 1, 9),
]
GRIDS = [*IMAGES, (2, 33), (1, 1), (3, 600), (1, 5, 6, 7), (2, 1, 3, 18)]
FLAT = [
    name for name, cls in NETWORKS.items() if not issubclass(cls, MultiscaleNetwork)
]  # others: components/test_grids.py
# The latents of autoencoder-kl lie on a grid, and its shapes are bound: it has its own tests.
FITTING = {"conv": GRIDS, "autoencoder-kl": []}
CASES = [(name, shape) for name in FLAT for shape in FITTING.get(name, GRIDS + VECTORS)]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_encoder_and_decoder_fit_every_shape(name: str, shape: tuple[int, ...]) -> None:
    network, x = NETWORKS[name]("s"), torch.randn(B, *shape)
    encoder, decoder = network.encoder(shape), network.decoder(3, (2, *shape))
    shake(encoder)
    shake(decoder)
    h, y = encoder(x), decoder(torch.randn(B, 3))
    assert h.shape == (B, encoder.features) and y.shape == (B, 2, *shape)
    (h.square().sum() + y.square().sum()).backward() if count(
        encoder
    ) else y.square().sum().backward()
    grads_ok(encoder)
    grads_ok(decoder)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_example_never_depends_on_its_neighbours(
    name: str, shape: tuple[int, ...]
) -> None:
    """No statistics of the batch, in training mode too: figures cannot depend on the batch size."""
    network, x, z = NETWORKS[name]("s"), torch.randn(B, *shape), torch.randn(B, 3)
    encoder, decoder = (
        shake(network.encoder(shape)),
        shake(network.decoder(3, (1, *shape))),
    )
    for module, value in ((encoder, x), (decoder, z)):
        far = torch.cat([value[:1], 100 * value[1:]])
        assert torch.allclose(module(value)[:1], module(far)[:1], atol=1e-5)
        assert torch.allclose(module(value)[:1], module(value[:1]), atol=1e-5)


@pytest.mark.parametrize("name", FLAT)
def test_links_keep_rows_and_say_how_wide_they_are(name: str) -> None:
    link = NETWORKS[name]("s").link(3)
    assert link(torch.randn(B, 3)).shape == (B, link.features)


@pytest.mark.parametrize("name", [name for name in FLAT if name != "linear"])
def test_the_size_dial_turns_every_network(name: str) -> None:
    shape = (1, 28, 20)
    for make in (
        lambda size: NETWORKS[name](size).encoder(shape),
        lambda size: NETWORKS[name](size).decoder(3, (1, *shape)),
        lambda size: NETWORKS[name](size).link(3),
    ):
        counts = [count(make(size)) for size in SIZES]
        assert counts == sorted(counts) and len(set(counts)) == len(SIZES)


def test_the_linear_network_is_linear() -> None:
    network, a, b = NETWORKS["linear"]("s"), torch.randn(B, 3), torch.randn(B, 3)
    decoder, encoder = network.decoder(3, (1, 7)), network.encoder((7,))
    assert torch.allclose(decoder(a) + decoder(b), 2 * decoder((a + b) / 2), atol=1e-5)
    assert count(encoder) == 0 and count(network.link(3)) == 0 and encoder.features == 7


@pytest.mark.parametrize("shape", GRIDS)
def test_the_pyramid_halves_until_the_longest_side_is_four(
    shape: tuple[int, ...],
) -> None:
    sizes = pyramid(*shape[1:])
    grids = [
        tuple(math.ceil(side / patch) for side in shape[1:])
        for patch in range(1, max(shape[1:]) + 1)
    ]
    assert (
        sizes[0] in grids and max(sizes[-1]) <= 4
    )  # whole pixels, or square patches that cover the image
    for above, below in pairwise(sizes):
        assert below == tuple(math.ceil(side / 2) for side in above) and max(above) > 4


@pytest.mark.parametrize(
    ("size", "side"), [((11,), 4), ((3, 5), 2), ((4, 6, 7), 2), ((1, 9), 1)]
)
def test_patches_and_back(size: tuple[int, ...], side: int) -> None:
    """A patch holds its values and zeros beyond the edge, and the way back gives the example."""
    x = torch.randn(2, 3, *size)
    patches = to_patches(x, side)
    assert patches.shape == (
        2,
        3 * side ** len(size),
        *(math.ceil(s / side) for s in size),
    )
    assert torch.equal(from_patches(patches, side, size), x)
    block = x[0, 0][tuple(slice(side) for _ in size)]
    first = patches[0, : side ** len(size)][(slice(None), *[0] * len(size))]
    assert math.isclose(float(first.sum()), float(block.sum()), abs_tol=1e-5)
    if len(size) == 2:
        padded = nn.functional.pad(x, (0, -size[1] % side, 0, -size[0] % side))
        assert torch.equal(patches, nn.functional.pixel_unshuffle(padded, side))


def test_a_decoder_reaches_every_pixel_of_an_odd_image() -> None:
    decoder = shake(NETWORKS["conv"]("s").decoder(3, (1, 3, 33, 47)))
    a, b = decoder(torch.zeros(1, 3)), decoder(torch.ones(1, 3))
    assert ((a - b).abs() > 0).float().mean() > 0.99


def test_an_encoder_sees_every_pixel_of_an_odd_image() -> None:
    encoder, x = (
        shake(NETWORKS["conv"]("s").encoder((3, 33, 47))),
        torch.randn(1, 3, 33, 47, requires_grad=True),
    )
    encoder(x).square().sum().backward()
    assert x.grad is not None and (x.grad != 0).float().mean() > 0.99


def test_dense_layers_are_those_of_the_papers() -> None:
    """784-200-200 with tanh, and two gated layers of 300: (W x + b) * sigmoid(V x + c)."""
    burda = NETWORKS["dense"]("m", widths=(200, 100), activation="tanh")
    encoder = burda.encoder((1, 28, 28))
    assert count(encoder) == 784 * 200 + 200 + 200 * 100 + 100
    decoder = burda.decoder(50, (1, 1, 28, 28))
    assert count(decoder) == 50 * 100 + 100 + 100 * 200 + 200 + 200 * 784 + 784
    x = torch.randn(B, 1, 28, 28)
    first, second = (part[0] for part in encoder.body)
    known = torch.tanh(second(torch.tanh(first(x.flatten(1)))))
    assert torch.equal(encoder(x), known) and encoder.features == 100
    gated = NETWORKS["dense"](
        "s", widths=(300,), link_widths=(7, 5), activation="gated"
    )
    (layer,) = gated.encoder((6,)).body
    h = torch.randn(B, 6)
    value, gate = layer.value(h), torch.sigmoid(layer.gate(h))
    assert torch.equal(layer(h), value * gate)
    assert gated.link(3)(torch.randn(B, 3)).shape == (B, 5)


def test_convolutions_may_have_a_perceptron_as_decoder() -> None:
    network = NETWORKS["conv"]("s", channels=4, width=16, depth=2, decoder="mlp")
    decoder = network.decoder(3, (2, 1, 9, 7))
    assert decoder(torch.randn(B, 3)).shape == (B, 2, 1, 9, 7)
    assert {type(m) for m in decoder.modules() if isinstance(m, nn.Conv2d)} == set()
    known = NETWORKS["mlp"]("s", width=16, depth=2).decoder(3, (2, 1, 9, 7))
    assert count(decoder) == count(known)


def test_a_perceptron_decodes_no_grid_of_places() -> None:
    network = part("conv", shrink=2, decoder="mlp")
    with pytest.raises(TightboundError, match=r"network.shrink and network.decoder"):
        model_of(plain(network=network), spec_of("binary", (1, 8, 8)))


def test_groups_of_normalisation_have_two_values_at_least() -> None:
    """One place and eight channels: one group, as a group of one value would become 0."""
    x = torch.linspace(-1, 3, 8).reshape(1, 8, 1, 1)
    expected = nn.functional.layer_norm(x.flatten(), (8,)).reshape(x.shape)
    assert torch.allclose(norm(8, (1, 1))(x), expected, atol=1e-6)
    single = torch.tensor([[[2.0]]])
    assert torch.equal(norm(1, (1,))(single), single)
    groups = [norm(c, grid).num_groups for c, grid in ((8, (1, 2)), (24, (1, 1)))]
    assert groups == [8, 8]
