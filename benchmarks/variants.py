"""The runs that are compared: this package through `tb.train`, peers' trainers, loops by hand,
matrix products alone.

Each is a function of the gate that holds it between windows and of its spec: network, batch, data
(an .npy of bytes, n x 28 x 28), and its own options. They import what they need themselves, since
each lives in a process of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import NETWORKS, Plain
from torch import Tensor, nn

Gate = Callable[[float], None]
Spec = dict[str, Any]
FOREVER = 10**7
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def examples(spec: Spec) -> Tensor:
    """The data as every loop but this package's takes them: float32 in [0, 1], (n, 1, 28, 28)."""
    x = torch.from_numpy(np.load(spec["data"])).unsqueeze(1).float()
    return x if NETWORKS[spec["network"]].likelihood == "bernoulli" else x / 255


# ---- this package


def tightbound(gate: Gate, spec: Spec) -> None:
    """`tb.train` on the array of bytes, in a run long enough for every automatic choice; nothing is
    validated.
    """
    import tightbound as tb
    from tightbound.training.console import Quiet

    class Gated(Quiet):
        def start(self, steps: int, done: int) -> None:
            self.done = done

        def step(self, step: int) -> None:
            gate((step - self.done) * spec["batch"])
            self.done = step

    source: Any = spec["data"]
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Any] = {"out": Path(folder) / "run"}
        if not spec.get("by_path"):
            source = np.load(source)
            parts |= {"valid": source[:500], "test": source[:500]}
        tb.train(
            source,
            spec.get("recipe", "vae"),
            display=Gated(),
            report=False,
            settings=settings_of(spec),
            **parts,
        )


def settings_of(spec: Spec) -> dict[str, Any]:
    """A run that neither ends nor saves while timed; the network by its class, with the likelihood
    that peers use.
    """
    found = {
        "train.batch": spec["batch"],
        "train.steps": FOREVER,
        "train.validate_every": FOREVER,
    }
    found |= {"train.save_seconds": 1e9}
    if "network" in spec:
        network = NETWORKS[spec["network"]]
        found |= {
            "network": network,
            "latent": network.latent,
            "likelihood": network.likelihood,
        }
        found |= {
            "hierarchy": "flat" if isinstance(network.latent, int) else "top-down"
        }
        if network.likelihood == "gaussian":
            found |= {"likelihood.scale": "fixed", "likelihood.value": 1.0}
    return found | spec.get("settings", {})


# ---- peers


def pythae(gate: Gate, spec: Spec) -> None:
    """pythae's `BaseTrainer` with its defaults (Adam, 1e-4, no workers), the batch and the network
    given.
    """
    from peers import pythae_model
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Gated(TrainingCallback):
        def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
            gate(spec["batch"])

    x = examples(spec)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=FOREVER,
            per_device_train_batch_size=spec["batch"],
            **spec.get("options", {}),
        )
        data = BaseDataset(x, torch.zeros(len(x)))
        BaseTrainer(
            pythae_model(spec["network"]),
            data,
            training_config=config,
            callbacks=[Gated()],
        ).train()


def lightning(gate: Gate, spec: Spec) -> None:
    """Lightning's `Trainer` with its defaults over a DataLoader with its defaults, and Adam."""
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Gated(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            gate(spec["batch"])

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.plain = Plain(spec["network"])

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            noise = torch.randn(
                len(batch[0]), sum(self.plain.latents), device=self.device
            )
            loss = self.plain.loss(batch[0], noise)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    with tempfile.TemporaryDirectory() as folder:
        loader = DataLoader(
            TensorDataset(examples(spec)), batch_size=spec["batch"], shuffle=True
        )
        Trainer(max_epochs=FOREVER, default_root_dir=folder, callbacks=[Gated()]).fit(
            Module(), loader
        )


# ---- by hand


def loader(gate: Gate, spec: Spec) -> None:
    """The loop of a tutorial: DataLoader over float tensors, Adam, and the loss read at
    every step.
    """
    from torch.utils.data import DataLoader, TensorDataset

    model = Plain(spec["network"]).to(device())
    opt = torch.optim.Adam(model.parameters())
    total = 0.0
    while True:
        for (x,) in DataLoader(
            TensorDataset(examples(spec)), batch_size=spec["batch"], shuffle=True
        ):
            x = x.to(device())
            loss = model.loss(
                x, torch.randn(len(x), sum(model.latents), device=device())
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
            gate(len(x))


def hand(gate: Gate, spec: Spec) -> None:
    """A step written for speed: bytes in memory, noise outside the graph, fused AdamW, nothing read
    from the device.
    """
    where = device()
    model = Plain(spec["network"]).to(where)
    data = torch.from_numpy(np.load(spec["data"])).to(where)
    scale = 1 if model.bernoulli else 255
    opt = torch.optim.AdamW(model.parameters(), fused=True)
    loss_of: Any = model.loss
    if spec.get("compile"):
        loss_of = torch.compile(
            model.loss, mode="reduce-overhead" if where.type == "cuda" else "default"
        )
    dtype, batch, n = DTYPES[spec.get("precision", "float32")], spec["batch"], len(data)
    noise = torch.empty(batch, sum(model.latents), device=where)
    while True:
        for rows in torch.randperm(n, device=where)[: n // batch * batch].split(batch):
            x = data.index_select(0, rows).unsqueeze(1).float()
            x = x if scale == 1 else x / scale
            with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
                loss = loss_of(x, noise.normal_())
            opt.zero_grad()
            loss.backward()
            opt.step()
            gate(batch)


def products(gate: Gate, spec: Spec) -> None:
    """The matrix products and convolutions of a step alone, forward and backward, into buffers: the
    limit.
    """
    dtype = DTYPES[spec.get("precision", "float32")]
    model = Plain(spec["network"]).to(device(), dtype)
    batch = spec["batch"]
    calls = layer_calls(model, batch, dtype)
    with torch.no_grad():
        while True:
            for call in calls:
                call()
            gate(batch)


def layer_calls(
    model: Plain, batch: int, dtype: torch.dtype
) -> list[Callable[[], Any]]:
    """For each layer with weights: its product forward, and those of its gradients; no input
    gradient for x itself.
    """
    seen: list[tuple[nn.Module, Tensor]] = []
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [
        m.register_forward_hook(
            lambda layer, args, out: seen.append((layer, args[0].detach()))
        )
        for m in model.modules()
        if isinstance(m, kinds)
    ]
    where = next(model.parameters()).device
    with (
        torch.no_grad(),
        torch.autocast(where.type, dtype, enabled=dtype != torch.float32),
    ):
        model.loss(
            torch.rand(batch, 1, 28, 28, device=where),
            torch.randn(batch, sum(model.latents), device=where),
        )
    for hook in hooks:
        hook.remove()
    calls: list[Callable[[], Any]] = []
    for i, (layer, x) in enumerate(seen):
        make = _linear if isinstance(layer, nn.Linear) else _conv
        calls += make(layer, x.to(dtype), i > 0)
    return calls


def _linear(layer: Any, x: Tensor, inner: bool) -> list[Callable[[], Any]]:
    weight = layer.weight.detach()
    grad = torch.randn(len(x), len(weight), device=x.device).to(x.dtype)
    y, dw, dx = torch.empty_like(grad), torch.empty_like(weight), torch.empty_like(x)
    calls = [
        lambda: torch.mm(x, weight.t(), out=y),
        lambda: torch.mm(grad.t(), x, out=dw),
    ]
    return [*calls, lambda: torch.mm(grad, weight, out=dx)] if inner else calls


def _conv(layer: Any, x: Tensor, inner: bool) -> list[Callable[[], Any]]:
    """Both memory layouts are tried, and the faster one is the limit."""
    tried = [
        _conv_as(layer, x, inner, layout)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    return min(tried, key=_seconds)


def _conv_as(
    layer: Any, x: Tensor, inner: bool, layout: torch.memory_format
) -> list[Callable[[], Any]]:
    stride, padding = layer.stride, layer.padding
    x, weight = (
        x.contiguous(memory_format=layout),
        layer.weight.detach().contiguous(memory_format=layout),
    )
    up = isinstance(layer, nn.ConvTranspose2d)
    forward = torch.nn.functional.conv_transpose2d if up else torch.nn.functional.conv2d
    grad = torch.randn_like(forward(x, weight, None, stride, padding))
    return [
        lambda: forward(x, weight, None, stride, padding),
        lambda: torch.ops.aten.convolution_backward(
            grad,
            x,
            weight,
            None,
            stride,
            padding,
            (1, 1),
            up,
            (0, 0),
            1,
            (inner, True, False),
        ),
    ]


def _seconds(calls: list[Callable[[], Any]]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for call in calls:
            call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


RUNS: dict[str, Callable[[Gate, Spec], None]] = {
    "tightbound": tightbound,
    "pythae": pythae,
    "lightning": lightning,
    "loader": loader,
    "hand": hand,
    "products": products,
}
