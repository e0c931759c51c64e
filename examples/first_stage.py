"""A VAE as the first stage of your own model
==========================================

A diffusion model on the latents, with gradients through both.

::

    python examples/first_stage.py             # a minute on the embedded digits; writes stages.png

First stage: a convolutional VAE whose latents lie on a grid, trained by `tb.train`. Second stage: a
small denoising diffusion model (Ho, Jain and Abbeel 2020, arXiv:2006.11239) on those grids, written
here in plain torch. New grids from it go through the VAE's decoder. At the end both stages are one
differentiable function: the gradient of log p(x|z) reaches the pixels of the input through
`decode` and `encode`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import tightbound as tb

STEPS = int(os.environ.get("TIGHTBOUND_EXAMPLE_STEPS", "600"))
LEVELS = 50  # noise levels of the diffusion


class Denoiser(nn.Module):
    """Predicts the noise in a grid z (n, C, H, W) at noise level t (n,)."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.level = nn.Embedding(LEVELS, width)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        h = self.first(z) + self.level(t)[:, :, None, None]
        return self.last(h + self.body(h))


class Diffusion:
    """q(z_t | z_0) = N(sqrt(a_t) z_0, (1 - a_t) I) with a linear schedule of betas."""

    def __init__(self) -> None:
        beta = torch.linspace(1e-3, 0.2, LEVELS)
        self.beta = beta
        self.a = (1 - beta).cumprod(0)

    def noised(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """z_t from z_0 and standard noise."""
        a = self.a[t][:, None, None, None]
        return a.sqrt() * z + (1 - a).sqrt() * noise

    @torch.no_grad()
    def sample(self, model: nn.Module, shape: tuple[int, ...]) -> Tensor:
        """Grids from noise, level by level; eq. 11 and algorithm 2 of the paper."""
        z = torch.randn(shape)
        for level in reversed(range(LEVELS)):
            t = torch.full(shape[:1], level)
            noise = model(z, t)
            beta = self.beta[level]
            z = (z - beta / (1 - self.a[level]).sqrt() * noise) / (1 - beta).sqrt()
            if level:
                z = z + beta.sqrt() * torch.randn(shape)
        return z


def second_stage(grids: Tensor) -> tuple[nn.Module, float]:
    """Trains the denoiser on grids (n, C, H, W); returns it and its last loss (1 untrained)."""
    torch.manual_seed(0)
    model = Denoiser(grids.shape[1])
    diffusion = Diffusion()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    recent: list[float] = []
    for _ in range(STEPS):
        z = grids[torch.randint(len(grids), (128,))]
        t = torch.randint(LEVELS, (len(z),))
        noise = torch.randn_like(z)
        loss = (model(diffusion.noised(z, t, noise), t) - noise).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        recent = [*recent[-49:], loss.item()]
    return model, sum(recent) / len(recent)


def picture(rows: list[Tensor], path: Path) -> None:
    """Writes rows of images (n, 1, H, W) in [0, 1] as one enlarged grey PNG."""
    from PIL import Image

    lines = [torch.cat(list(row[:, 0]), 1) for row in rows]
    grey = (torch.cat(lines).clamp(0, 1) * 255).byte().numpy()
    image = Image.fromarray(255 - grey)
    image.resize((8 * image.width, 8 * image.height), Image.Resampling.NEAREST).save(
        path
    )


def main() -> None:
    """Trains both stages, samples, and differentiates through both."""
    with tempfile.TemporaryDirectory() as temporary:
        run = tb.train(
            "digits",
            out=Path(temporary) / "first",
            network="conv",
            report=False,
            display="none",
            settings={"network.shrink": 2, "latent": 2, "seed": 0}
            | {"train.steps": STEPS},
        )
        model = run.model
        model.requires_grad_(True)
        x = model.spec.to_model(run.read("digits"))
        with torch.no_grad():
            q = model.encode(x)
            grids = q.to_grid()
        scale = grids.std()
        print("latents on a grid:", tuple(grids.shape[1:]), "features, height, width")

        denoiser, loss = second_stage(grids / scale)
        print(f"mean squared error of the predicted noise: {loss:.2f} (1.00 untrained)")

        new = Diffusion().sample(denoiser, (12, *grids.shape[1:])) * scale
        with torch.no_grad():
            top = model.spec.levels or 17
            samples = model.decode(q.from_grid(new)).mean / (top - 1)
            plain = run.sample(12, seed=0).unsqueeze(1) / (top - 1)
            real = x[:12] / (top - 1)
        picture([real, plain, samples], Path("stages.png"))
        print("stages.png: test digits, samples of the prior, samples of the diffusion")

        pixels = x[:8].clone().requires_grad_(True)
        z = model.encode(pixels).mean
        model.decode(z).log_prob(x[:8]).sum().backward()
        assert pixels.grad is not None
        print(
            f"gradient at the input pixels: {pixels.grad.norm():.3f}, through both networks"
        )


if __name__ == "__main__":
    main()
