"""Folders of AutoencoderKL: what diffusers computes of them, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.exports import tiny_run
from torch import Tensor

import tightbound as tb
from tightbound.exporting import Exported, diffusers_files
from tightbound.runs.run import Run

WEIGHTS = "diffusion_pytorch_model.safetensors"
TINY = {"network.widths": [8, 16], "network.groups": 4, "latent": 3}
#: Names and shapes of AutoencoderKL with widths (8, 16), one layer and three latents, of one
#: block of each kind, as diffusers 0.42 has them.
SHAPES = {
    "encoder.conv_in.weight": (8, 1, 3, 3),
    "encoder.down_blocks.0.resnets.0.norm1.weight": (8,),
    "encoder.down_blocks.0.resnets.0.conv2.bias": (8,),
    "encoder.down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),
    "encoder.down_blocks.1.resnets.0.conv1.weight": (16, 8, 3, 3),
    "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (16, 8, 1, 1),
    "encoder.mid_block.attentions.0.group_norm.weight": (16,),
    "encoder.mid_block.attentions.0.to_q.weight": (16, 16),
    "encoder.mid_block.attentions.0.to_out.0.weight": (16, 16),
    "encoder.mid_block.resnets.1.conv2.weight": (16, 16, 3, 3),
    "encoder.conv_norm_out.weight": (16,),
    "encoder.conv_out.weight": (6, 16, 3, 3),
    "decoder.conv_in.weight": (16, 3, 3, 3),
    "decoder.mid_block.attentions.0.to_v.bias": (16,),
    "decoder.up_blocks.0.resnets.1.conv1.weight": (16, 16, 3, 3),
    "decoder.up_blocks.0.upsamplers.0.conv.weight": (16, 16, 3, 3),
    "decoder.up_blocks.1.resnets.0.conv_shortcut.weight": (8, 16, 1, 1),
    "decoder.up_blocks.1.resnets.1.conv2.weight": (8, 8, 3, 3),
    "decoder.conv_norm_out.bias": (8,),
    "decoder.conv_out.weight": (1, 8, 3, 3),
    "quant_conv.weight": (6, 6, 1, 1),
    "post_quant_conv.weight": (3, 3, 1, 1),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose moments are wider than twice its latents."""
    return tiny_run(tmp_path_factory.mktemp("runs") / "run", "autoencoder-kl", **TINY)


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return tb.export(run, "diffusers", tmp_path_factory.mktemp("exports") / "kl")


def near(actual: Tensor, expected: Tensor) -> None:
    """max|a - b| <= 1e-4 max|b|."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def places(z: Tensor) -> Tensor:
    """Codes (n, 4 * 4 * 3), place by place, as (n, 3, 4, 4)."""
    return z.unflatten(1, (4, 4, 3)).movedim(-1, 1)


def test_the_weights_have_the_names_and_shapes_of_diffusers(
    exported: Exported,
) -> None:
    shapes = {
        k: tuple(v.shape) for k, v in load_file(exported.folder / WEIGHTS).items()
    }
    assert SHAPES.items() <= shapes.items()
    assert len(shapes) == 124
    assert set(exported.differences) == {"mean", "std", "sample"}
    assert 0 <= exported.worst_difference <= 1e-4


def test_diffusers_computes_the_same_means_and_images(
    run: Run, exported: Exported
) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra [diffusers]")
    vae = diffusers.AutoencoderKL.from_pretrained(
        str(exported.folder), low_cpu_mem_usage=False
    )
    x = torch.rand(3, 1, 8, 8)
    q = run.model.encode(x)
    theirs = vae.encode(2 * x - 1).latent_dist
    near(theirs.mean, places(q.mean))
    near(theirs.std, places(q.stddev))
    near(vae.decode(theirs.mean).sample, 2 * run.model.decode(q.mean).mean - 1)
    assert vae.config.latent_channels == 3 and vae.config.sample_size == 8


def test_scale_and_shift_make_the_codes_of_the_data_standard(
    run: Run, exported: Exported
) -> None:
    about = json.loads((exported.folder / "config.json").read_text())
    x = run.model.spec.to_model(run.data.train.raw(torch.arange(1000)))
    z = run.model.encode(x).rsample()
    units = (z - about["shift_factor"]) * about["scaling_factor"]
    assert abs(float(units.mean())) < 0.05
    assert float(units.std()) == pytest.approx(1, abs=0.05)


def test_a_folder_is_read_back_as_the_run(run: Run, exported: Exported) -> None:
    back = tb.load(exported.folder)
    x = run.read("digits")[:4]
    near(back.encode(x), run.encode(x))
    near(back.reconstruct(x), run.reconstruct(x))
    px, expected = (
        one.model.decode(run.model.encode(run.spec.to_model(x)).mean)
        for one in (back, run)
    )
    near(px.stddev, expected.stddev)
    assert back.config.recipe.network.options["moments"] == 6


def test_a_folder_of_diffusers_is_a_run_of_values_in_0_to_1(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra [diffusers]")
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=8,
        mid_block_add_attention=False,
    )
    vae.save_pretrained(tmp_path / "kl")
    run = tb.load(tmp_path / "kl")
    x = torch.rand(2, 3, 8, 8)
    mean = vae.encode(2 * x - 1).latent_dist.mean
    near(run.model.encode(x).mean.unflatten(1, (4, 4, 4)).movedim(-1, 1), mean)
    images = run.decode(mean.movedim(1, -1).flatten(1).detach())
    near(2 * images - 1, vae.decode(mean).sample.detach())


def test_other_models_and_damaged_folders_are_refused_in_a_sentence(
    run: Run, exported: Exported, tmp_path: Path
) -> None:
    other = tiny_run(tmp_path / "vae", "vae")
    with pytest.raises(tb.TightboundError, match="its network is not autoencoder-kl"):
        tb.export(other, "diffusers", tmp_path / "kl")
    assert not (tmp_path / "kl").exists()
    soft = tiny_run(tmp_path / "soft", "autoencoder-kl", **TINY, posterior="normal")
    with pytest.raises(tb.TightboundError, match=r"posterior\.clip=hard"):
        tb.export(soft, "diffusers", tmp_path / "kl")
    settings: dict[str, Any] = json.loads((exported.folder / "config.json").read_text())
    broken = tmp_path / "broken"
    broken.mkdir()
    weights = load_file(exported.folder / WEIGHTS)
    save_file(weights, broken / WEIGHTS)
    for change, sentence in (
        ({"act_fn": "relu"}, "has act_fn = 'relu'"),
        ({"latent_channels": None}, "can be read"),
        ({"layers_per_block": 2}, "can be read"),
    ):
        (broken / "config.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(tb.TightboundError, match=sentence):
            tb.load(broken)
    (broken / "config.json").write_text(json.dumps(settings))
    save_file({**weights, "more.weight": torch.zeros(1)}, broken / WEIGHTS)
    with pytest.raises(tb.TightboundError, match=r"has the weight 'more\.weight'"):
        tb.load(broken)
    (broken / WEIGHTS).unlink()
    with pytest.raises(tb.TightboundError, match="has no diffusion_pytorch_model"):
        tb.load(broken)


def test_weights_that_differ_are_not_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_of = diffusers_files.diffusers_folder.weights_of

    def changed(model: torch.nn.Module) -> Any:
        weights, others = weights_of(model)
        weights["quant_conv.bias"] = weights["quant_conv.bias"] + 1
        return weights, others

    monkeypatch.setattr(diffusers_files.diffusers_folder, "weights_of", changed)
    monkeypatch.setattr(diffusers_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tb.TightboundError, match="its mean differs from the model"):
        tb.export(run, "diffusers", tmp_path / "kl")


def test_sides_must_be_multiples_and_widths_of_groups() -> None:
    image = np.zeros((20, 10, 10), np.uint8)
    image[:, 3:5] = 255
    with pytest.raises(tb.TightboundError, match="sides are multiples of 4"):
        tb.build("autoencoder-kl", image)
    with pytest.raises(tb.TightboundError, match="does not divide the width 12"):
        tb.build("autoencoder-kl", image, settings={"network.widths": [12]})
    table = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(tb.TightboundError):
        tb.build("autoencoder-kl", table)
