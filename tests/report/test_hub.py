"""Runs on the Hugging Face Hub: the files of one, its card, a local hub, a loopback endpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.small import trained

import tightbound as tb
from tightbound.config import read
from tightbound.report import hub as hub_room
from tightbound.report.hub import write_folder
from tightbound.runtime.errors import TightboundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tb.Run:
    run = trained(tmp_path_factory.mktemp("runs") / "digits", "vae", steps=60)
    evaluation = tb.evaluate(run, k=50, limit=40, subset=0)
    assert run.folder is not None
    evaluation.save(run.folder)
    return run


@pytest.fixture(scope="module")
def published(run: tb.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "ada" / "digits"
    folder.mkdir(parents=True)
    write_folder(run, folder, "ada/digits")
    return folder


def test_a_published_folder_is_the_run(run: tb.Run, published: Path) -> None:
    again = tb.load(published)
    x = run.read("digits")[:5]
    assert torch.equal(again.encode(x), run.encode(x))
    assert again.config.data.source == "digits"
    assert [line["step"] for line in again.history()] == [30, 60]
    names = {path.name for path in published.iterdir()}
    assert names == {
        "README.md",
        "config.toml",
        "environment.json",
        "evaluation.json",
        "log.jsonl",
        "model.safetensors",
        "reconstructions.png",
        "samples.png",
    }
    with Image.open(published / "samples.png") as samples:
        assert samples.width > 200


def test_the_files_are_written_to_a_folder_without_sending_them(
    run: tb.Run, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_room, "hub", lambda: pytest.fail("the hub was asked"))
    target = tmp_path / "new" / "card"
    assert run.push_to_hub("ada/digits", folder=target) == str(target)
    card = (target / "README.md").read_bytes()
    assert card == (published / "README.md").read_bytes()
    assert {p.name for p in target.iterdir()} == {p.name for p in published.iterdir()}
    for taken in (target, target / "README.md"):
        with pytest.raises(TightboundError, match="name a new or an empty"):
            tb.push_to_hub(run, "ada/digits", folder=taken)
    assert (target / "README.md").read_bytes() == card


def test_the_card_has_the_terms_and_the_diagnosis(run: tb.Run, published: Path) -> None:
    card = (published / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: tightbound\ntags:\n- "variational')
    tree = json.loads((published / "evaluation.json").read_text())
    elbo = tree["terms"]["elbo"]
    assert f"| elbo | {elbo['mean']:.2f} ± {elbo['se']:.2f} |" in card
    for verdict in tree["diagnosis"]["verdicts"]:
        assert f"**{verdict['name']}**" in card
    assert "![samples](samples.png)" in card and 'tb.load("hub:ada/digits")' in card


def test_paths_of_this_machine_are_not_published(tmp_path: Path) -> None:
    secret = tmp_path / "secret place"
    secret.mkdir()
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.save(secret / "x.npy", x)
    first = trained(secret / "first", "vae", str(secret / "x.npy"))
    second = trained(
        secret / "run", "vae", str(secret / "x.npy"), init=str(first.folder)
    )
    out = tmp_path / "out"
    out.mkdir()
    write_folder(second, out, "ada/rows")
    for path in out.iterdir():
        assert b"secret place" not in path.read_bytes(), path.name
    assert torch.allclose(tb.load(out).encode(x[:3]), second.encode(x[:3]))


# ---- a local hub


class LocalHub:
    """The calls of HfApi that are used, with repositories as folders."""

    root: Path

    def __init__(self, **options: Any) -> None:
        assert options["library_name"] == "tightbound"

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        (self.root / repo).mkdir(parents=True, exist_ok=exist_ok)

    def file_exists(self, repo: str, name: str) -> bool:
        return (self.root / repo / name).is_file()

    def upload_folder(self, *, repo_id: str, folder_path: str, **_: Any) -> str:
        if repo_id == "ada/broken":
            raise OSError("401 Unauthorized")
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"


def test_a_run_is_pushed_once_and_replaced_only_when_asked(
    run: tb.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalHub, "root", tmp_path, raising=False)
    monkeypatch.setattr(hub_room, "hub", lambda: SimpleNamespace(HfApi=LocalHub))
    assert run.push_to_hub("ada/digits").endswith("ada/digits/commit/1")
    x = run.read("digits")[:5]
    assert torch.equal(tb.load(tmp_path / "ada" / "digits").encode(x), run.encode(x))
    with pytest.raises(TightboundError, match="holds a run on the hub"):
        tb.push_to_hub(run, "ada/digits")
    assert tb.push_to_hub(run, "ada/digits", overwrite=True)
    with pytest.raises(TightboundError, match="401 Unauthorized"):
        tb.push_to_hub(run, "ada/broken")
    for name in ("ada", "ada/b/c", "ada/x y", "../ada"):
        with pytest.raises(TightboundError, match="no repository of the hub"):
            tb.push_to_hub(run, name)


# ---- a loopback endpoint


class Endpoint(BaseHTTPRequestHandler):
    """The parts of the hub's interface by which files are listed and read."""

    def __init__(self, *args: Any, root: Path) -> None:
        self.root = root
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def _answer(self, *, with_body: bool) -> None:
        words = self.path.split("?")[0].strip("/").split("/")
        if words[:2] == ["api", "models"]:
            folder = self.root.joinpath(*words[2:4])
            files = [{"rfilename": p.name} for p in sorted(folder.glob("*"))]
            about = {"id": "/".join(words[2:4]), "sha": COMMIT, "siblings": files}
            tree = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0"}
                for p in sorted(folder.glob("*"))
            ]
            answer: Any = tree if "tree" in words else about
            self._send(json.dumps(answer).encode() if files else None, with_body)
            return
        path = self.root.joinpath(*words[:2], words[-1])
        self._send(path.read_bytes() if path.is_file() else None, with_body)

    def _send(self, content: bytes | None, with_body: bool) -> None:
        self.send_response(404 if content is None else 200)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if content.startswith((b"{", b"[")):
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        if with_body:
            self.wfile.write(content)


@pytest.fixture
def endpoint(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A hub on this machine that holds `ada/digits`; its folder of repositories."""
    constants = pytest.importorskip("huggingface_hub.constants")
    handler = partial(Endpoint, root=published.parents[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield published.parents[1]
    server.shutdown()
    server.server_close()


def test_a_run_of_the_hub_is_loaded(run: tb.Run, endpoint: Path) -> None:
    loaded = tb.load("hub:ada/digits")
    x = run.read("digits")[:5]
    assert torch.equal(loaded.encode(x), run.encode(x))
    with pytest.raises(TightboundError, match="cannot read hub:ada/none"):
        tb.load("hub:ada/none")
    with pytest.raises(TightboundError, match="no repository of the hub"):
        tb.load("hub:digits")


def test_code_that_a_downloaded_config_names_needs_trust(endpoint: Path) -> None:
    bad = endpoint / "ada" / "bad"
    shutil.copytree(endpoint / "ada" / "digits", bad, dirs_exist_ok=True)
    text = (bad / "config.toml").read_text()
    named = text.replace('name = "standard"', 'name = "os.path:join"')
    assert named != text
    (bad / "config.toml").write_text(named)
    assert read(bad / "config.toml").recipe.prior.name == "os.path:join"
    with pytest.raises(TightboundError, match="trust"):
        tb.load("hub:ada/bad")


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    endpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TightboundError, match="check the name and the connection"):
        tb.load("hub:ada/digits")
