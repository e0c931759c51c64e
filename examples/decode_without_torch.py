"""A digit by numpy and onnxruntime alone
======================================

The decoder of a run, where torch is not installed.

::

    tightbound train digits --out runs/vae
    tightbound export runs/vae --format onnx --out digits-onnx
    python examples/decode_without_torch.py digits-onnx      # prints a digit, writes digit.pgm

It draws z from the prior N(0, I), decodes it to grey levels 0 to 16, and takes one step back:
the encoder gives q(z|x) of the picture.
"""

# sphinx_gallery_thumbnail_path = "images/recipes/ae.png"

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

SHADES = " .:-=+*#%@"
TOP = 16  # the highest grey level of the digits


def main(folder: Path) -> None:
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    width = sum(about["latents"].values())
    z = np.random.default_rng(0).standard_normal((1, width), dtype=np.float32)

    decoder = onnxruntime.InferenceSession(folder / "decoder.onnx")
    (mean,) = decoder.run(["mean"], {"z": z})  # E[x|z] in raw units, (1, 8, 8)
    shares = np.clip(mean[0] / TOP, 0, 1)
    for row in shares:
        print("".join(2 * SHADES[int(share * (len(SHADES) - 1))] for share in row))
    pixels = (shares * 255).astype(np.uint8)
    size = f"{pixels.shape[1]} {pixels.shape[0]}"
    Path("digit.pgm").write_bytes(f"P5 {size} 255\n".encode() + pixels.tobytes())

    encoder = onnxruntime.InferenceSession(folder / "encoder.onnx")
    codes, log_variance = encoder.run(["codes", "q.z.log_variance"], {"x": mean})
    print("z of the picture:   ", np.round(z[0, :4], 2))
    print("mean of q(z|x):     ", np.round(codes[0, :4], 2))
    print("deviation of q(z|x):", np.round(np.exp(log_variance[0, :4] / 2), 2))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "usage: decode_without_torch.py FOLDER, of tightbound export --format onnx"
        )
    main(Path(sys.argv[1]))
