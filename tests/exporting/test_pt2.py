"""Programs of torch.export give what the run gives, read without this package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.exports import tiny_run

import tightbound as tb
from tightbound.exporting import pt2_files

READER = """
import json, sys
import torch

folder = sys.argv[1]
extra = {"about.json": ""}
program = torch.export.load(folder + "/decoder.pt2", extra_files=extra)
about = json.loads(extra["about.json"])
torch.manual_seed(0)
z = torch.randn(5, 2)
values = dict(zip(about["outputs"], program.module()(z), strict=True))
print(json.dumps({"mean": values["mean"].tolist(), "imported": "tightbound" in sys.modules}))
"""


def test_a_program_decodes_any_number_of_rows_without_this_package(
    tmp_path: Path,
) -> None:
    run = tiny_run(tmp_path / "run", "vae", latent=2)
    exported = tb.export(run, "pt2", tmp_path / "programs")
    assert exported.files == ("decoder.pt2", "encoder.pt2", "export.json")
    assert 0 <= exported.worst_difference <= 1e-4
    assert {name.split(".")[0] for name in exported.differences} == {
        "encoder",
        "decoder",
    }
    command = [sys.executable, "-c", READER, str(exported.folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    read = json.loads(result.stdout)
    torch.manual_seed(0)
    expected = run.decode(torch.randn(5, 2)).double().numpy()
    assert not read["imported"]
    assert np.abs(read["mean"] - expected).max() <= 1e-4 * np.abs(expected).max()
    blob = (exported.folder / "decoder.pt2").read_bytes()
    assert str(Path(tb.__file__).parent).encode() not in blob


def test_a_program_that_differs_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run", "vae", latent=2)
    traced = pt2_files.traced

    def changed(module: torch.nn.Module, examples: list[torch.Tensor]) -> object:
        program = traced(module, examples)
        for name, weight in program.state_dict.items():
            if name.endswith("weight"):
                weight.mul_(1.01)
        return program

    monkeypatch.setattr(pt2_files, "traced", changed)
    with pytest.raises(tb.TightboundError, match=r"is not kept, since its output"):
        tb.export(run, "pt2", tmp_path / "programs")
    assert not (tmp_path / "programs").exists()
