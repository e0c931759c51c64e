"""The server of the page refuses what is not the page's, and answers on after that."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from exploring.pages import small_page, stand_in_assets

from tightbound.exploring.compute import MOST_BODY
from tightbound.exploring.guard import Access
from tightbound.exploring.server import Served, access_of, application, listen


@dataclass
class Address:
    """A server that runs in a thread."""

    access: Access
    served: Served

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> tuple[int, bytes, dict[str, str]]:
        """The status, body and headers of an answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.access.port, timeout=20
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            pairs = {k.lower(): v for k, v in answer.getheaders()}
            return answer.status, answer.read(), pairs
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """The first bytes of the answer to a request as it is written."""
        with socket.create_connection(("127.0.0.1", self.access.port), 20) as s:
            s.sendall(request)
            return s.recv(4096)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    pytest.importorskip("fastapi", reason="needs the extra explore")
    pytest.importorskip("onnxscript", reason="needs the extra explore")
    folder = tmp_path_factory.mktemp("page")
    page, runs = small_page(folder)
    return Served(page, runs, stand_in_assets(folder))


def start(served: Served, host: str) -> Iterator[Address]:
    """A server in a thread, which ends with the tests of this file."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra explore")
    with listen("127.0.0.1", 0) as listening:
        access = access_of(host, listening)
        app = application(served, access)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off")
        )
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve([listening])), daemon=True
        )
        thread.start()
        yield Address(access, served)
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[Address]:
    yield from start(served, "127.0.0.1")


@pytest.fixture(scope="module")
def guarded(served: Served) -> Iterator[Address]:
    """One that listens on an address of a network, as with --host."""
    yield from start(served, "0.0.0.0")


def answers(address: Address) -> bool:
    """Whether it still computes."""
    status, body, _ = decoded(address, np.zeros((1, 2)))
    return status == 200 and len(body) % 4 == 0


def decoded(address: Address, z: np.ndarray, **headers: str) -> tuple[int, bytes, dict]:
    body = z.astype("<f4").tobytes()
    path = f"/compute/main/decoder?rows={len(z)}"
    return address.ask(path, "POST", body, **headers)


def test_the_page_and_its_data_are_served(address: Address) -> None:
    status, body, headers = address.ask("/")
    assert status == 200 and b"<title>" in body
    assert headers["content-type"].startswith("text/html")
    status, body, _ = address.ask("/data/manifest.json")
    graphs = json.loads(body)["runs"][0]["graphs"]
    assert status == 200 and graphs["decoder"]["where"] == "server"
    assert "more than 0" in graphs["decoder"]["reason"]
    name, content = next(iter(address.served.page.blocks.items()))
    assert address.ask(f"/data/blocks/{name}")[1] == content
    assert address.ask("/data/blocks/ort.wasm")[1] == b"\0asm"


def test_networks_are_computed_as_in_torch(address: Address) -> None:
    z = np.array([[0.5, -1.0], [2.0, 0.25], [0.0, 0.0]], np.float32)
    status, body, _ = decoded(address, z)
    assert status == 200
    run = address.served.runs[0].run
    graph = address.served.runs[0].networks.graphs["decoder"]
    sizes = [3 * int(np.prod(port["shape"][1:])) for port in graph.outputs]
    values = np.frombuffer(body, "<f4")
    assert len(values) == sum(sizes) and graph.outputs[0]["name"] == "mean"
    mean = values[: sizes[0]].reshape(3, 8, 8)
    np.testing.assert_allclose(mean, run.decode(z).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
def test_other_pages_and_names_are_refused(
    address: Address, headers: dict[str, str], status: int
) -> None:
    filled = {k: v.format(port=address.access.port) for k, v in headers.items()}
    z = np.zeros((1, 2))
    assert decoded(address, z, **filled)[0] == status
    assert address.ask("/data/manifest.json", **filled)[0] == status
    assert answers(address)


def test_the_page_itself_may_ask(address: Address) -> None:
    port = address.access.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert decoded(address, np.zeros((1, 2)), **headers)[0] == 200


def test_large_bodies_are_refused_before_they_are_read(address: Address) -> None:
    port = address.access.port
    head = f"POST /compute/main/decoder?rows=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    answer = address.raw(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    # an image of 10,000 x 10,000 pixels as float32
    answer = address.raw(f"{head}Content-Length: 400000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 413")
    answer = address.raw(f"{head}Content-Length: -1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answers(address)


def test_large_bodies_in_chunks_are_refused(address: Address) -> None:
    """One gigabyte is announced nowhere; the reading ends at the limit."""
    port = address.access.port
    head = (
        "POST /compute/main/decoder?rows=1 HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(head.encode())
        try:
            for _ in range(1000):
                s.sendall(chunk)
                sent += 1 << 20
        except OSError:
            pass
    assert sent < 20 * MOST_BODY
    assert answers(address)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/data/blocks/..%2f..%2fetc%2fpasswd",
        "/data/blocks/../manifest.json",
        "/data/blocks/%2e%2e",
        "/static/../../pyproject.toml",
        "//etc/passwd",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_path_reaches_a_file(address: Address, path: str) -> None:
    status, body, _ = address.ask(path)
    assert status == 404 and b"root:" not in body
    assert answers(address)


def test_latents_that_are_not_finite_are_refused(address: Address) -> None:
    for value in (np.nan, np.inf, -np.inf):
        status, body, _ = decoded(address, np.array([[0.0, value]]))
        assert (status, body) == (422, b"z has a value that is not finite")
    assert answers(address)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/compute/main/decoder?rows=1", bytes(7), 400),
        ("/compute/main/decoder?rows=2", bytes(8), 400),
        ("/compute/main/decoder?rows=0", b"", 413),
        ("/compute/main/decoder?rows=100000", bytes(800_000), 413),
        ("/compute/main/decoder?rows=many", bytes(8), 400),
        ("/compute/main/decoder", bytes(8), 400),
        ("/compute/main/nothing?rows=1", bytes(8), 404),
        ("/compute/third/decoder?rows=1", bytes(8), 404),
        ("/compute/main/encoder?rows=1", bytes(4 * 10_000), 400),
    ],
)
def test_requests_of_a_wrong_size_are_refused(
    address: Address, path: str, body: bytes, status: int
) -> None:
    assert address.ask(path, "POST", body)[0] == status
    assert answers(address)


def test_other_methods_are_refused(address: Address) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert address.ask("/", method)[0] == 405


def test_each_answer_states_the_policy(address: Address) -> None:
    for path in ("/", "/nothing", "/data/manifest.json"):
        headers = address.ask(path)[2]
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "'unsafe-inline'" not in policy and "'unsafe-eval'" not in policy
        assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_another_address_needs_the_token(guarded: Address) -> None:
    token = guarded.access.token
    assert len(token) >= 32 and token in guarded.access.url
    for path in ("/", "/data/manifest.json"):
        assert guarded.ask(path)[0] == 403
        assert guarded.ask(f"{path}?token=wrong")[0] == 403
        assert guarded.ask(f"{path}?token={token}")[0] == 200
    cookie = guarded.ask(f"/?token={token}")[2]["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    sent = cookie.partition(";")[0]
    assert guarded.ask("/data/manifest.json", Cookie=sent)[0] == 200
    assert guarded.ask("/data/manifest.json", Cookie=f"{sent}x")[0] == 403


def test_on_loopback_there_is_no_token(address: Address) -> None:
    assert address.access.token == "" and "token" not in address.access.url


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    from tightbound.runtime.errors import TightboundError

    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(TightboundError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen("127.0.0.1", port)


def test_a_page_without_assets_says_what_to_run(tmp_path: Path) -> None:
    from tightbound.exploring.assets import Assets
    from tightbound.runtime.errors import TightboundError

    with pytest.raises(TightboundError, match="make web"):
        Assets(tmp_path)
