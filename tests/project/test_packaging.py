"""What pyproject.toml and the files beside it say of the package agrees with the code."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import tightbound

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tightbound"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Where the module is not named as the distribution is, or comes with another one.
MODULES = {
    "annotated-types": "annotated_types",
    "huggingface-hub": "huggingface_hub",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "tomli-w": "tomli_w",
}
WITH_OTHERS = {
    "markupsafe": "jinja2",
    "braceexpand": "webdataset",
    "pydantic_core": "pydantic",
}
LATE = {
    "datasets",
    "h5py",
    "webdataset",
    "zarr",
    "onnx",
    "onnxscript",
    "tensorboard",  # by torch.utils.tensorboard
}  # imported by name, see `need`


def requirements(lines: list[str]) -> dict[str, str]:
    """Return the lowest version by distribution."""
    pairs = [re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line) for line in lines]
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def declared_lines() -> list[str]:
    """Return what the package and its extras for data require."""
    extras = PROJECT["optional-dependencies"]
    needed = [
        line
        for name in (
            "data",
            "hf",
            "webdataset",
            "export",
            "explore",
            "compress",
            "tensorboard",
        )
        for line in extras[name]
    ]
    return [*PROJECT["dependencies"], *needed]


def imported() -> set[str]:
    """Return the packages that the code imports, at any place."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"tightbound"}


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited is not None and cited[1] == tightbound.__version__


def test_what_the_code_imports_is_declared_and_nothing_else() -> None:
    lines = declared_lines()
    declared = {MODULES.get(name, name) for name in requirements(lines)}
    assert (imported() - WITH_OTHERS.keys()) | LATE == declared
    assert set(WITH_OTHERS.values()) <= declared
    assert PROJECT["optional-dependencies"]["all"] == [
        "tightbound[data,hf,webdataset,explore,compress,tensorboard]"
    ]


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    text = (ROOT / "constraints-lowest.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text, re.M))
    declared = requirements(declared_lines())
    assert pinned.keys() == declared.keys()
    for name in declared.keys() - {"torch"}:
        assert re.fullmatch(rf"{re.escape(declared[name])}(\.0)*", pinned[name]), name


def test_the_readme_of_the_package_index_has_absolute_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interface = ModuleType("hatchling.metadata.plugin.interface")
    monkeypatch.setattr(interface, "MetadataHookInterface", object, raising=False)
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    hook = importlib.import_module("readme_hook")
    text = hook.absolute((ROOT / "README.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)]+)\)", text)
    pages = "https://github.com/tightbound/tightbound/blob/main/"
    pictures = "https://raw.githubusercontent.com/tightbound/tightbound/main/"
    assert f"{pictures}docs/images/ae-and-vae.png" in links
    assert f"{pages}docs/results.md" in links
    assert [x for x in links if not x.startswith((pages, pictures))] == []
    kept = "[a](https://x.org/y) [b](#there)"
    assert hook.absolute(kept) == kept
    assert hook.absolute("[c](docs/a.md#b)") == f"[c]({pages}docs/a.md#b)"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert set(PROJECT["urls"]) >= {"Homepage", "Issues"}
