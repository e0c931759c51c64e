"""The diffusers format: a folder that AutoencoderKL.from_pretrained loads."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tightbound.components.networks.autoencoder_kl import KLDecoder, KLEncoder, Resnet
from tightbound.data import Split
from tightbound.exporting.comparison import BATCHES, SEEDS, WORST
from tightbound.exporting.graphs import on_cpu
from tightbound.exporting.inputs import raw_examples
from tightbound.models.vae import VAE
from tightbound.runs import diffusers_folder
from tightbound.runs.diffusers_folder import CLASS, CONFIG, OTHER_WEIGHTS, WEIGHTS
from tightbound.runs.run import Run
from tightbound.runtime.atomic_files import save_weights, write_atomic
from tightbound.runtime.errors import TightboundError

ENCODED = 1_000  # training examples whose codes give the scale
ROWS = 100  # encoded at once
VERSION = "0.30.0"  # the oldest diffusers that has every setting of the config

#: From images to means and standard deviations, and from latents to images.
Halves = tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Callable[[Tensor], Tensor]]


def write(run: Run, folder: Path) -> dict[str, object]:
    """Write `config.json` and weights to an existing folder, and compare them with the model.

    Returns:
        The scale of the codes, and the differences of means, standard deviations and images
        from those of the model, relative to their largest value.

    Raises:
        TightboundError: The model is no AutoencoderKL, its data are gone, or the weights that
            were written differ from the model.
    """
    reason = diffusers_folder.misfit(run.model)
    if reason is not None:
        raise TightboundError(
            f"{run.name} cannot be an {CLASS}, since {reason}: train recipe autoencoder-kl, or "
            "export with --format onnx"
        )
    model = on_cpu(run.model)
    weights, others = diffusers_folder.weights_of(model)
    shift, scale, count = latent_scale(run)
    save_weights(folder / WEIGHTS, weights, {"format": "pt"})
    save_weights(folder / OTHER_WEIGHTS, others, {"format": "pt"})
    config = _config(model, shift, scale)
    write_atomic(folder / CONFIG, json.dumps(config, indent=2))
    return {
        "scaling_factor": scale,
        "shift_factor": shift,
        "encoded_examples": count,
        "differences": _compared(model, folder),
        "images": "AutoencoderKL reads and gives images in [-1, 1]: 2 x - 1 of x in [0, 1]; "
        "latents for a diffusion model are (z - shift_factor) * scaling_factor",
    }


def _resnets(block: nn.Module) -> list[Resnet]:
    """The residual blocks of a block of the encoder."""
    return [part for part in block.modules() if isinstance(part, Resnet)]


def _config(model: VAE, shift: float, scale: float) -> dict[str, object]:
    """The settings of AutoencoderKL."""
    encoder = model.encoder.get_submodule("body")
    assert isinstance(encoder, KLEncoder)
    channels, *sides = model.spec.shape
    resnets = [_resnets(block) for block in encoder.down_blocks]
    blocks = [parts[-1].conv2.out_channels for parts in resnets]
    square = len(set(sides)) == 1
    return {
        "_class_name": CLASS,
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "block_out_channels": blocks,
        "down_block_types": ["DownEncoderBlock2D"] * len(blocks),
        "force_upcast": True,
        "in_channels": channels,
        "latent_channels": _decoder(model).post_quant_conv.in_channels,
        "layers_per_block": len(resnets[0]),
        "mid_block_add_attention": len(encoder.mid_block.attentions) > 0,
        "norm_num_groups": encoder.conv_norm_out.num_groups,
        "out_channels": channels,
        "sample_size": sides[0] if square else sides,
        "scaling_factor": scale,
        "shift_factor": shift,
        "up_block_types": ["UpDecoderBlock2D"] * len(blocks),
        "use_post_quant_conv": True,
        "use_quant_conv": True,
    }


def _decoder(model: VAE) -> KLDecoder:
    decoder = model.hierarchy.get_submodule("decoder")
    assert isinstance(decoder, KLDecoder)
    return decoder


def latent_scale(run: Run) -> tuple[float, float, int]:
    """Mean, and 1 / standard deviation, of all features of z ~ q(z|x) of training examples.

    Returns:
        Shift factor, scaling factor, and the number of examples.

    Raises:
        TightboundError: The data of the run are gone.
    """
    total = torch.zeros(2, dtype=torch.float64)
    values = 0
    count = 0
    for batch in _training_batches(run):
        with torch.no_grad():
            q = run.model.encode(batch)
            mean, deviation = q.mean.double().cpu(), q.stddev.double().cpu()
        total += torch.stack([mean.sum(), (mean.square() + deviation.square()).sum()])
        values += mean.numel()
        count += len(mean)
    mean_value, square = (total / max(values, 1)).tolist()
    return mean_value, 1 / math.sqrt(max(square - mean_value**2, 1e-12)), count


def _training_batches(run: Run) -> Iterator[Tensor]:
    """Training examples in model units: evenly spread, of a stream the first ones."""
    split = run.data.train
    if isinstance(split, Split):
        n = min(len(split), ENCODED)
        rows = torch.linspace(0, len(split) - 1, n, dtype=torch.float64).round().long()
        yield from (split.batch(part) for part in rows.split(ROWS))
        return
    for i, (_, x) in enumerate(split.batches(ROWS)):
        if i * ROWS >= ENCODED:
            return
        yield x


def _compared(model: VAE, folder: Path) -> dict[str, float]:
    """Largest differences of moments and images from the model's, of 1 and 7 rows."""
    encode, decode = _by_diffusers(folder) or _by_reading(folder)
    grid = _decoder(model).grid
    worst = {"mean": 0.0, "std": 0.0, "sample": 0.0}
    for rows in BATCHES:
        x = model.spec.to_model(raw_examples(model, rows, SEEDS[rows]))
        with torch.no_grad():
            q = model.encode(x)
            z = _places(q.mean, grid)
            mean, deviation = encode(2 * x - 1)
            pairs = {
                "mean": (mean, z),
                "std": (deviation, _places(q.stddev, grid)),
                "sample": (decode(z), 2 * model.decode(q.mean).mean - 1),
            }
        for name, (actual, expected) in pairs.items():
            difference = _difference(actual, expected)
            worst[name] = max(worst[name], difference)
    name = max(worst, key=lambda key: worst[key])
    if not worst[name] <= WORST:
        raise TightboundError(
            f"the {CLASS} is not kept, since its {name} differs from the model by "
            f"{worst[name]:.1e} of its largest value, more than {WORST:.0e}: export with --format "
            "safetensors, and report this model"
        )
    return worst


def _places(z: Tensor, grid: Sequence[int]) -> Tensor:
    """Latents place by place (n, places * features) as (n, features, *grid)."""
    places: Tensor = z.unflatten(1, (*grid, -1)).movedim(-1, 1)
    return places


def _difference(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return math.inf
    largest = float(expected.abs().max().clamp(min=1e-12))
    return float((actual - expected).abs().max()) / largest


def _by_diffusers(folder: Path) -> Halves | None:
    """Moments and images by diffusers; None where it is not installed."""
    if importlib.util.find_spec("diffusers") is None:
        return None
    module = importlib.import_module("diffusers")
    vae = module.AutoencoderKL.from_pretrained(
        str(folder), local_files_only=True, low_cpu_mem_usage=False
    )

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        q = vae.encode(x).latent_dist
        return q.mean, q.std

    def decode(z: Tensor) -> Tensor:
        sample: Tensor = vae.decode(z).sample
        return sample

    return encode, decode


def _by_reading(folder: Path) -> Halves:
    """Moments and images of the model that the folder is read as."""
    _, model = diffusers_folder.read(folder)
    grid = _decoder(model).grid

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        q = model.encode((x + 1) / 2)
        return _places(q.mean, grid), _places(q.stddev, grid)

    def decode(z: Tensor) -> Tensor:
        return 2 * model.decode(z.movedim(1, -1).flatten(1)).mean - 1

    return encode, decode
