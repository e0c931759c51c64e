"""The folder of a run: its files, and the rules for new, resumed and replaced runs."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tightbound import config as settings_file
from tightbound.config import SECTIONS, Config
from tightbound.data.formats.builtin import BUILTIN
from tightbound.runtime import atomic_files
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.launch_context import launch_id, started_by_torchrun
from tightbound.runtime.lock import RunLock

Environment = Mapping[str, str | int | None]
Mode = Literal["new", "resume", "overwrite"]

FILES = (
    "model.safetensors",
    "ema.safetensors",
    "log.jsonl",
    "environment.json",
    "evaluation.json",
    "report.html",
)
FOLDERS = ("state", "evaluation.parts", "priors")


class RunFolder:
    """The folder of a run.

    `config.toml` exists from the first training step on. Until then `requested.toml`
    has the settings as they were requested, while the data are read and the length of
    the run is planned.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.toml"
        self.requested_file = path / "requested.toml"
        self.launch_file = path / "state" / "launch"

    def settings(self) -> Config | None:
        """The settings of a run whose training has begun."""
        return _read(self.config_file)

    def requested(self) -> Config | None:
        """The requested settings of a run whose training has not begun."""
        return _read(self.requested_file)

    def check(self, mode: Mode) -> None:
        """Refuse to replace a run unless asked to, and any other files always.

        Raises:
            TightboundError: with the options that the user has.
        """
        if mode == "resume" or not self.path.exists():
            return
        if not self.path.is_dir():
            raise TightboundError(f"{str(self.path)!r} is a file: choose another --out")
        ignored = (".lock", self.requested_file.name)
        if all(path.name in ignored for path in self.path.iterdir()):
            return
        if not self.config_file.is_file():
            raise TightboundError(
                f"folder {str(self.path)!r} holds files and is not a run: choose "
                "another --out"
            )
        if mode != "overwrite":
            raise TightboundError(
                f"run {str(self.path)!r} exists: add --resume to go on with it, "
                "--overwrite to replace it, or choose another --out"
            )

    @contextmanager
    def reserve(self, mode: Mode, requested: Config | None = None) -> Iterator[None]:
        """Lock the folder for the block, and write the requested settings if any.

        They are removed when training begins, or when an error ends the block; they
        stay after Ctrl-C or a kill. An existing run is not changed.
        """
        with RunLock(self.path):
            self.check(mode)
            if requested is None or self.config_file.is_file():
                yield
                return
            settings_file.write(self.requested_file, requested)
            try:
                yield
            except Exception:
                self._remove_request()
                raise

    def begin(self, config: Config, environment: Environment) -> None:
        """Write the resolved settings and the environment of a run that begins."""
        self.note_launch()
        settings_file.write(self.config_file, config)
        self._remove_request()
        text = json.dumps(environment, indent=2)
        atomic_files.write_atomic(self.path / "environment.json", text)

    def clear(self) -> None:
        """Remove the files of a run, and no others."""
        self.config_file.unlink(missing_ok=True)
        self._remove_request()
        for name in FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)

    def note_launch(self) -> None:
        """Write the id of this launch by torchrun, for its restarted processes."""
        if started_by_torchrun():
            atomic_files.make_folder(self.launch_file.parent)
            atomic_files.write_atomic(self.launch_file, launch_id())

    def is_of_this_launch(self) -> bool:
        """True where an earlier start of this same launch has begun to train here."""
        try:
            return started_by_torchrun() and self.launch_file.read_text() == launch_id()
        except OSError:
            return False

    def _remove_request(self) -> None:
        self.requested_file.unlink(missing_ok=True)


def _read(path: Path) -> Config | None:
    return settings_file.read(path) if path.is_file() else None


# ---- the place of a run


def free_folder(path: Path) -> Path:
    """The path, or with `-2`, `-3`, ... the first that is not taken.

    An empty folder is not taken.
    """
    number = 1
    candidate = path
    while _is_taken(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _is_taken(path: Path) -> bool:
    if not path.exists():
        return False
    return not path.is_dir() or any(path.iterdir())


def default_folder(source: object, recipe: str) -> Path:
    """`runs/<data>-<recipe>`."""
    name = "array"
    if isinstance(source, str | Path):
        path = Path(str(source).removeprefix("wds:").removeprefix("hf:"))
        name = path.resolve().name if path.is_dir() else path.name.split(".")[0]
        name = re.sub(r"[^\w.+-]+", "-", name).strip("-") or "data"
    return Path("runs") / f"{name}-{recipe}"


def choose_folder(source: object, recipe: str, mode: Mode) -> Path:
    """The folder of a run for which the user named none.

    It is the default folder, for a new run the next free one; of a launch by torchrun
    whose processes were restarted it is the folder that the launch has begun.
    """
    default = default_folder(source, recipe)
    for path in default.parent.glob(f"{default.name}*"):
        if RunFolder(path).is_of_this_launch():
            return path
    return free_folder(default) if mode == "new" else default


# ---- the data and the settings of a run that is resumed


def source_setting(source: object, valid: object = None, test: object = None) -> str:
    """The data as config.toml names them: a built-in name or an absolute path.

    It is empty for data of a Python session.
    """
    if not isinstance(source, str | Path) or valid is not None or test is not None:
        return ""
    name = str(source)
    kind, colon, place = name.partition(":")
    if colon and (kind == "wds" or (kind == "hf" and Path(place).exists())):
        return f"{kind}:{Path(place).expanduser().absolute()}"
    if Path(source).exists() and not is_builtin(source):
        return str(Path(source).resolve())
    return name


def is_builtin(source: object) -> bool:
    """True for the name of a data set that comes with the package."""
    return isinstance(source, str) and source in BUILTIN


def resumed_source(
    folder: RunFolder, source: object, wanted: Config, settings: Iterable[str]
) -> str:
    """The data of the run to resume, empty where they were given in Python.

    Args:
        source: the data that the user named for the resumed run, or None.
        wanted: the settings of this call.
        settings: the keys of `wanted` that the user set.

    Raises:
        TightboundError: where there is nothing to resume, or the data or a setting
            differ from those of the run.
    """
    name = str(folder.path)
    if not folder.path.is_dir():
        raise TightboundError(
            f"there is no run {name!r} to resume: check --out, or leave out --resume"
        )
    old = folder.settings() or folder.requested()
    if old is None:
        if source is None:
            raise TightboundError(
                f"{name!r} is not a run folder, it has no config.toml: name the data to "
                "start"
            )
        return ""
    for key in _changed(old, wanted, settings):
        raise TightboundError(
            f"run {name!r} was begun with another {key} ({_value(old, key)}): leave it "
            "out, or choose another --out"
        )
    if source is None and not old.source:
        raise TightboundError(
            f"run {name!r} was trained on arrays in Python: give the data again"
        )
    # files may have moved; the digest of the data is compared after reading them
    if is_builtin(source) and is_builtin(old.source) and source != old.source:
        raise TightboundError(
            f"run {name!r} was begun with {old.source}, not {source}: leave the data "
            "out, or choose another --out"
        )
    return old.source


def check_resumed_recipe(
    folder: RunFolder, recipe: str | None, has_settings_file: bool
) -> None:
    """Refuse another recipe, or a settings file, for a run that has its own.

    Args:
        recipe: the name of the recipe if the user named one.
    """
    if not folder.path.is_dir():
        return
    old = folder.settings() or folder.requested()
    if old is None:
        return
    name = str(folder.path)
    if has_settings_file:
        raise TightboundError(
            f"run {name!r} keeps the settings it was begun with: leave out --config"
        )
    if recipe is not None and recipe != old.recipe.name:
        raise TightboundError(
            f"run {name!r} was begun with recipe {old.recipe.name!r}, not {recipe!r}: "
            "leave out --recipe"
        )


def _changed(old: Config, new: Config, keys: Iterable[str]) -> list[str]:
    """The keys whose values differ; not those that are "auto" now, nor the device."""
    changed = []
    for key in keys:
        value = _value(new, key)
        if key != "device" and value != "auto" and not _equal(_value(old, key), value):
            changed.append(key)
    return changed


def _equal(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6)
    return bool(a == b)


def _value(config: Config, key: str) -> Any:
    """The value of a key with or without its section, or None."""
    tree = config.model_dump(mode="json")
    first, *inner = key.split(".")
    sections = [tree, *(tree[name] for name in SECTIONS)]
    value: Any = next((s[first] for s in sections if first in s), None)
    for name in inner:
        value = value.get(name) if isinstance(value, dict) else None
    return value
