"""A user's own encoder and decoder: by import path or as a class, in any shape, saved and loaded;
what does not fit.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.core_cases import plain, spec_of
from torch import Tensor, nn

import tightbound as tb
from tightbound.cli import main
from tightbound.core.batch import Batch
from tightbound.core.draw import Clock, Draw
from tightbound.models.build import build
from tightbound.models.recipes import Recipe, part
from tightbound.runtime.errors import TightboundError

B, K = 2, 3


class Mine(tb.Network):
    """An encoder that ends in a map of channels, with batch normalisation; a decoder that gives
    flat rows.
    """

    def __init__(self, size: str, width: int = 8) -> None:
        self.width = width

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        conv = nn.Conv2d(shape[0], self.width, 3, stride=2, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(self.width), nn.Tanh())

    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, self.width),
            nn.Tanh(),
            nn.Linear(self.width, math.prod(out)),
        )


class Deep(Mine):
    def link(self, inputs: int) -> nn.Module:
        return nn.Linear(inputs, 5)


class Narrow(Mine):
    def decoder(self, inputs: int, out: tuple[int, ...]) -> nn.Module:
        return nn.Linear(inputs, 7)


class Picky(Mine):
    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(99, 3)


class Summed(Mine):
    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        class Sum(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.sum()

        return Sum()


@pytest.mark.parametrize("shape", [(1, 6, 9), (3, 4, 4)])
def test_any_shapes_are_made_to_fit_and_nothing_is_learned_while_trying(
    shape: tuple[int, ...],
) -> None:
    model, objective = build(
        plain(network=part(f"{__name__}:Mine", width=6), likelihood=part("gaussian")),
        spec_of("real", shape),
    )
    norm = model.encoder.body[1]
    assert int(norm.num_batches_tracked) == 0 and norm.training, (
        "trying the encoder moved its running statistics"
    )
    trace = model(Batch(torch.randn(B, *shape)), Draw(K))
    assert trace.log_w.shape == (K, B) and trace.px.mean.shape == (K * B, *shape)
    objective(trace, Clock()).backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters()
    )
    h = model.features(torch.randn(B, *shape))
    assert h.shape == (B, 6 * -(-shape[1] // 2) * -(-shape[2] // 2))


@pytest.mark.parametrize("path", ["top-down", "bottom-up"])
def test_a_hierarchy_uses_the_link(path: str) -> None:
    recipe = plain(
        network=part(f"{__name__}:Deep"),
        likelihood=part("gaussian"),
        hierarchy=path,
        latent=(4, 2),
    )
    model, _ = build(recipe, spec_of("real", (1, 4, 6)))
    assert model(Batch(torch.randn(B, 1, 4, 6)), Draw(K)).log_w.isfinite().all()
    with pytest.raises(TightboundError, match=r"link of network .*Mine' is missing"):
        build(
            recipe.model_copy(update={"network": part(f"{__name__}:Mine")}),
            spec_of("real", (1, 4, 6)),
        )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Narrow", ["decoder", "7 values a row", "(1, 1, 4, 6)", "24"]),
        ("Picky", ["encoder", "does not take a batch of shape (2, 1, 4, 6)"]),
        ("Summed", ["encoder", "gives () for 2 rows"]),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    name: str, words: list[str]
) -> None:
    with pytest.raises(TightboundError) as caught:
        build(
            plain(network=part(f"{__name__}:{name}"), likelihood=part("gaussian")),
            spec_of("real", (1, 4, 6)),
        )
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_class_stands_for_its_import_path_in_every_part() -> None:
    assert Recipe(network=Mine).network.name == f"{__name__}:Mine"
    assert Recipe(prior=Mine).prior.name == f"{__name__}:Mine"


def test_an_own_network_trains_is_saved_and_needs_trust_to_load(tmp_path: Path) -> None:
    x = torch.rand(64, 6, 9).numpy()
    run = tb.train(
        x,
        out=tmp_path / "run",
        report=False,
        display="none",
        settings={"network": Mine, "network.width": 5, "latent": 2, "train.steps": 3},
    )
    assert run.config.recipe.network == part(f"{__name__}:Mine", width=5)
    with pytest.raises(TightboundError, match="trust=True"):
        tb.load(tmp_path / "run")
    again = tb.load(tmp_path / "run", trust=True)
    assert torch.equal(again.reconstruct(x[:3]), run.reconstruct(x[:3]))


MODULE = """
import tightbound as tb
from torch import nn
class Small(tb.Network):
    def __init__(self, size): pass
    def encoder(self, shape): return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU())
    def decoder(self, inputs, out): return nn.Linear(inputs, 5)
"""


def test_the_command_line_finds_a_file_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    program = (
        "import sys; sys.path = [p for p in sys.path if p]; from tightbound.cli "
        "import main; sys.exit(main())"
    )
    words = [
        "train",
        "digits",
        "--out",
        "run",
        "--quiet",
        "--set",
        "network=mine:Small",
        "steps=2",
        "latent=2",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "the decoder of network 'mine:Small' gives 5 values a row" in done.stderr


def test_a_run_with_parts_of_its_users_own_needs_trust(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text(
        MODULE.replace("nn.Linear(inputs, 5)", "nn.Linear(inputs, 128)")
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for words, status, says in (
        (
            "train digits --out run --quiet --set network=mine:Small steps=2 latent=4",
            0,
            "report:",
        ),
        ("evaluate run -k 2 --limit 3", 2, "--trust"),
        ("evaluate run -k 2 --limit 3 --trust", 0, "log_px"),
    ):
        sys.modules.pop("mine", None)  # each command imports it again
        found = main(words.split())
        out, err = capsys.readouterr()
        assert found == status and says in (err if status else out), (words, err)
    sys.modules.pop("mine", None)
    assert 'name = "mine:Small"' in (tmp_path / "run" / "config.toml").read_text()
