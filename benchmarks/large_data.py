"""Trains on a file of 200 GB (sparse, so it costs no disk) and says how much memory that took.

python benchmarks/large_data.py [--gigabytes 200] [--steps 300]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import tightbound as tb

SHAPE = (28, 28)


def sparse(path: Path, gigabytes: float) -> int:
    """An .npy of uint8 images, zero but for one row in a few thousand; returns how many rows."""
    rows = int(gigabytes * 1e9) // (SHAPE[0] * SHAPE[1])
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *SHAPE)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + rows * SHAPE[0] * SHAPE[1])
        random = np.random.RandomState(0)
        for row in range(0, rows, max(1, rows // 2000)):
            file.seek(start + row * SHAPE[0] * SHAPE[1])
            file.write(
                random.randint(0, 256, 64 * SHAPE[0] * SHAPE[1])
                .astype(np.uint8)
                .tobytes()[: (rows - row) * 784]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=200)
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.npy"
        rows = sparse(path, asked.gigabytes)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        settings = {
            "train.steps": asked.steps,
            "data.binarize": "dynamic",
            "data.valid": 2000,
            "data.test": 2000,
        }
        settings |= {"recipe.size": "s", "train.validate_every": asked.steps}
        tb.train(
            path,
            out=Path(folder) / "run",
            settings=settings,
            report=False,
            display="none",
        )
        found = {
            "rows": rows,
            "file_gb": path.stat().st_size / 1e9,
            "on_disk_gb": path.stat().st_blocks * 512 / 1e9,
            "steps": asked.steps,
            "seconds": round(time.perf_counter() - start, 1),
            "peak_rss_mb_before": round(before / 1024),
            "peak_rss_mb": round(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            ),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
