"""What a figure depends on beside the code: processor, memory, versions, threads, date, and what
else is running.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

PACKAGES = ("tightbound", "torch", "numpy", "pythae", "lightning")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> dict[str, Any]:
    """The processor's name, its cores, and which matrix instructions it has."""
    found: dict[str, Any] = {
        "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(
            line.split(":", 1)
            for line in info.read_text().split("\n\n")[0].splitlines()
            if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        found["name"] = fields.get("model name", found["name"])
        found["instructions"] = [
            flag for flag in FLAGS if flag in fields.get("flags", "").split()
        ]
    return found


def versions(python: str | None = None) -> dict[str, str]:
    """Versions of the packages that take part, in this environment or in that of another
    interpreter.
    """
    if python is not None:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
            "import machine, json; "
        )
        code += "print(json.dumps(machine.versions()))"
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True
        )
        import json

        return json.loads(done.stdout)
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the sources, with a + where files differ from it."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"],
            cwd=here,
            capture_output=True,
            text=True,
        )
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def describe(threads: int) -> dict[str, Any]:
    """All of it, as plain JSON."""
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if hasattr(os, "sysconf")
        else 0
    )
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "processor": processor(),
        "memory_gib": round(memory / 2**30, 1),
        "platform": platform.platform(),
        "versions": versions(),
        "threads": threads,
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def line(found: dict[str, Any]) -> str:
    """One line for a heading."""
    p, v = found["processor"], found["versions"]
    instructions = ", ".join(p.get("instructions", [])) or "no AVX"
    return (
        f"{found['date']}, commit {found['commit']}, {p['name']} ({p['cores']} "
        f"cores; {instructions}), "
        f"torch {v['torch']}, {found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    )
