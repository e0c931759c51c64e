"""Folders of diffusers' AutoencoderKL: the names of weights, and a folder read as a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tightbound.components.likelihoods.continuous import GaussianLikelihood
from tightbound.components.networks.autoencoder_kl import KLDecoder, KLEncoder
from tightbound.components.posteriors.normal import NormalPosterior
from tightbound.config import Config
from tightbound.core.data_spec import DataSpec
from tightbound.models.build import build
from tightbound.models.hierarchy import Flat
from tightbound.models.recipes import RECIPES, Recipe, part
from tightbound.models.vae import VAE
from tightbound.runs import fitted_prior
from tightbound.runtime.atomic_files import load_weights
from tightbound.runtime.errors import TightboundError, cut
from tightbound.runtime.reading import read_json

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
#: Weights of a run that AutoencoderKL has not: those of the likelihood, and the data's scale.
OTHER_WEIGHTS = "tightbound.safetensors"
ABOUT = "export.json"
CLASS = "AutoencoderKL"
#: Settings of a config that must have these values.
FIXED: dict[str, object] = {"act_fn": "silu", "latents_mean": None, "latents_std": None}
#: Names of the weights of attention in older files.
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
ENCODER = "encoder.body."
DECODER = "hierarchy.decoder."
POSTERIOR = "hierarchy.posterior."
MOMENTS = ("encoder.conv_out.weight", "encoder.conv_out.bias")
QUANT = ("quant_conv.weight", "quant_conv.bias")
NOISE = 1.0  # standard deviation of p(x|z) of a folder that another program wrote

Weights = dict[str, Tensor]


def is_one(folder: Path) -> bool:
    """Whether a folder holds a config of AutoencoderKL."""
    if not (folder / CONFIG).is_file():
        return False
    try:
        return read_json(folder / CONFIG).get("_class_name") == CLASS
    except TightboundError:
        return False


def misfit(model: VAE) -> str | None:
    """The reason why a model is no AutoencoderKL; None where it is one."""
    if not isinstance(_body(model), KLEncoder):
        return "its network is not autoencoder-kl"
    hierarchy = model.hierarchy
    if not isinstance(hierarchy, Flat) or not isinstance(hierarchy.decoder, KLDecoder):
        return "it has more than one layer of latents"
    posterior = hierarchy.posterior
    if not isinstance(posterior, NormalPosterior) or posterior.log_scale is None:
        return "its q(z|x) is not a normal with a predicted scale (posterior=normal)"
    if posterior.clip != "hard":
        return "the scale of its q(z|x) is bounded otherwise (posterior.clip=hard)"
    if model.spec.condition is not None:
        return "it is conditional"
    likelihood = model.likelihood
    if not isinstance(likelihood, GaussianLikelihood) or likelihood.half is None:
        return "the mean of its p(x|z) is not scaled from [-1, 1] (likelihood.output=range)"
    return None


def _body(model: VAE) -> object:
    return dict(model.encoder.named_children()).get("body")


def weights_of(model: VAE) -> tuple[Weights, Weights]:
    """The weights of a model by the names of AutoencoderKL, and those that it has not.

    Moments of another width than twice the latents are multiplied into the last convolution.

    Args:
        model: A model without `misfit`.
    """
    theirs: Weights = {}
    others: Weights = {}
    posterior: Weights = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu()
        if name.startswith(POSTERIOR):
            posterior[name.removeprefix(POSTERIOR)] = value
        elif (key := _their_name(name)) is not None:
            theirs[key] = value
        else:
            others[name] = value
    weight = torch.cat([posterior["mean.weight"], 2 * posterior["log_scale.weight"]])
    bias = torch.cat([posterior["mean.bias"], 2 * posterior["log_scale.bias"]])
    if weight.shape[0] != weight.shape[1]:
        theirs[MOMENTS[1]] = weight @ theirs[MOMENTS[1]] + bias
        theirs[MOMENTS[0]] = torch.einsum("of,fihw->oihw", weight, theirs[MOMENTS[0]])
        weight, bias = torch.eye(len(weight)), torch.zeros(len(weight))
    theirs[QUANT[0]] = weight[..., None, None]
    theirs[QUANT[1]] = bias
    channels = model.spec.shape[0]
    for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        theirs[name] = theirs[name][:channels]  # the others are of a predicted scale
    return {name: value.contiguous() for name, value in theirs.items()}, others


def _their_name(name: str) -> str | None:
    """The name of a weight in AutoencoderKL; None of one that it has not."""
    if name.startswith(ENCODER):
        return "encoder." + name.removeprefix(ENCODER)
    if name.startswith(DECODER):
        inner = name.removeprefix(DECODER)
        return inner if inner.startswith("post_quant_conv.") else f"decoder.{inner}"
    return None


def read(folder: Path, *, trust: bool = False) -> tuple[Config, VAE]:
    """Rebuild the model of a folder of AutoencoderKL, as settings and a module.

    A folder that `export` wrote has the spec of its data and the noise of its p(x|z). Another one
    has neither: images are then values in [0, 1] of the size that its config names, and the noise
    is `NOISE`.

    Raises:
        TightboundError: The folder is damaged, or its model is of another layout.
    """
    values = read_json(folder / CONFIG)
    try:
        recipe, spec = _settings(folder, values)
        theirs = _read_weights(folder, values)
        model, _ = build(recipe, spec, trust=trust)
        state = {**model.state_dict(), **_other_weights(folder)}
        for name in state:
            key = _their_name(name)
            if key is not None:
                state[name] = _taken(theirs, key)
        weight, bias = _taken(theirs, QUANT[0])[..., 0, 0], _taken(theirs, QUANT[1])
        for i, (name, factor) in enumerate((("mean", 1.0), ("log_scale", 0.5))):
            half = slice(i * len(weight) // 2, (i + 1) * len(weight) // 2)
            state[f"{POSTERIOR}{name}.weight"] = factor * weight[half]
            state[f"{POSTERIOR}{name}.bias"] = factor * bias[half]
    except (KeyError, TypeError, ValueError) as error:
        raise TightboundError(
            f"{str(folder)!r} is no {CLASS} that can be read ({cut(str(error))}): restore its "
            f"{CONFIG} and {WEIGHTS} from one copy"
        ) from error
    if theirs:
        raise TightboundError(
            f"{WEIGHTS} of {str(folder)!r} has the weight {min(theirs)!r}, which its {CONFIG} "
            "does not name: restore both from one copy"
        )
    fitted_prior.fill(model, state, folder / WEIGHTS)
    return Config(recipe=recipe, spec=spec), model.eval().requires_grad_(False)


def _taken(weights: Weights, name: str) -> Tensor:
    return weights.pop(name).float()


def _other_weights(folder: Path) -> Weights:
    """The weights that AutoencoderKL has not, of a finished export."""
    path = folder / OTHER_WEIGHTS
    if not (folder / ABOUT).is_file() or not path.is_file():
        return {}
    return load_weights(path)[0]


def _read_weights(folder: Path, values: Mapping[str, object]) -> Weights:
    """The weights by the names of today, with identities for maps that are left out."""
    if not (folder / WEIGHTS).is_file():
        raise TightboundError(
            f"{str(folder)!r} has no {WEIGHTS}: save the model with "
            "save_pretrained(..., safe_serialization=True)"
        )
    weights: Weights = {}
    for name, value in load_weights(folder / WEIGHTS)[0].items():
        for old, new in OLDER.items():
            name = name.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
        is_linear = ".attentions." in name and value.dim() == 4
        weights[name] = value.flatten(1) if is_linear else value
    size = _number(values, "latent_channels")
    for name, width in (("quant_conv", 2 * size), ("post_quant_conv", size)):
        if not values.get(f"use_{name}", True):
            weights[f"{name}.weight"] = torch.eye(width)[..., None, None]
            weights[f"{name}.bias"] = torch.zeros(width)
    return weights


def _settings(folder: Path, values: Mapping[str, object]) -> tuple[Recipe, DataSpec]:
    """Recipe and spec: those of an export, with the network of the config, else new ones."""
    widths = values["block_out_channels"]
    assert isinstance(widths, list)
    _check(folder, values, len(widths))
    latent = _number(values, "latent_channels")
    network = part(
        "autoencoder-kl",
        widths=tuple(widths),
        layers=_number(values, "layers_per_block"),
        groups=_number(values, "norm_num_groups"),
        attention=bool(values.get("mid_block_add_attention", True)),
        moments=2 * latent,
    )
    if (folder / ABOUT).is_file():
        about = read_json(folder / ABOUT)
        recipe = Recipe.model_validate(about["recipe"])
        spec = DataSpec.model_validate(about["spec"])
        return recipe.model_copy(update={"network": network}), spec
    likelihood = part("gaussian", scale="fixed", value=NOISE, output="range")
    recipe = RECIPES["autoencoder-kl"].model_copy(
        update={
            "network": network,
            "likelihood": likelihood,
            "prior": part("standard"),
            "latent": latent,
            "size": "s",
        }
    )
    size = values.get("sample_size", 32)
    sides = tuple(size) if isinstance(size, list) else (size, size)
    shape = (_number(values, "in_channels"), *sides)
    layout = "chw" if shape[0] > 1 else "hw"
    return recipe, DataSpec.model_validate(
        {"shape": shape, "domain": "unit", "layout": layout}
    )


def _check(folder: Path, values: Mapping[str, object], blocks: int) -> None:
    """Refuse settings that the network autoencoder-kl does not have."""
    expected = {
        **FIXED,
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "out_channels": values.get("in_channels"),
    }
    for name, value in expected.items():
        if values.get(name, value) != value:
            raise TightboundError(
                f"{CONFIG} of {str(folder)!r} has {name} = {cut(repr(values[name]))}, and "
                f"network autoencoder-kl has {value!r} alone: load the model with diffusers"
            )


def _number(values: Mapping[str, object], name: str) -> int:
    value = values[name]
    if not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}")
    return value
