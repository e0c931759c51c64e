"""The server of the page: its data, and networks that the page cannot compute itself."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tightbound.exploring.assets import WASM, Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.compute import Refused, Worker, inputs_of
from tightbound.exploring.guard import Access, App, Guard, is_loopback
from tightbound.exploring.page_data import text_of
from tightbound.exploring.run_data import PageRun
from tightbound.runtime.errors import TightboundError, cut, os_reason

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import Response

NEEDED = ("fastapi", "uvicorn")
PORT = 8765  # where none is asked for and it is free
CONNECTIONS = 32
KEEP_ALIVE = 30  # seconds


@dataclass(frozen=True)
class Served:
    """What a server sends.

    Args:
        page: The data.
        runs: The runs in the order of the manifest, whose networks it computes.
        assets: The built page.
    """

    page: PageData
    runs: Sequence[PageRun]
    assets: Assets


def need_packages() -> None:
    """Raise TightboundError where the packages of the extra `explore` are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise TightboundError(
            f"the page needs {', '.join(missing)}: pip install 'tightbound[explore]'"
        )


def application(served: Served, access: Access) -> App:
    """The application of ASGI behind its guard.

    Args:
        served: What it sends.
        access: Who may ask.
    """
    app = _routes(served)
    return Guard(app, access, served.assets.policy(connects=True))


def _routes(served: Served) -> FastAPI:
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.exceptions import HTTPException

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    worker = Worker()
    html = served.assets.page(
        title=str(served.page.manifest["title"]),
        language=str(served.page.manifest["language"]),
        blocks="",
        connects=True,
    )
    manifest = text_of(served.page.manifest)
    blocks = {WASM: served.assets.wasm, **served.page.blocks}

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return PlainTextResponse(error.sentence, error.status)

    def no_such(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse("there is nothing at this address", error.status_code)

    def invalid(_: Request, error: Exception) -> Response:
        return PlainTextResponse("the address is not one that a page asks for", 400)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, no_such)
    app.add_exception_handler(RequestValidationError, invalid)

    @app.get("/")
    def page() -> Response:
        return HTMLResponse(html)

    @app.get("/data/manifest.json")
    def data() -> Response:
        return Response(manifest, media_type="application/json")

    @app.get("/data/blocks/{name}")
    def block(name: str) -> Response:
        if name not in blocks:
            raise Refused(404, "there is no such block")
        return Response(blocks[name], media_type="application/octet-stream")

    by_role = {run.role: run for run in served.runs}

    @app.post("/compute/{role}/{name}")
    async def compute(role: str, name: str, rows: int, request: Request) -> Response:
        run = by_role.get(role)
        if run is None:
            raise Refused(404, "there is no such run")
        graph = run.networks.graphs.get(name)
        if graph is None:
            raise Refused(404, "there is no such network")
        condition = run.run.spec.condition
        classes = condition.width if condition is not None else None
        inputs = inputs_of(graph, rows, await request.body(), classes)
        asking = request.headers.get("x-page", "")[:64]
        key = f"{asking} {role} {name}" if asking else ""
        content = await worker.compute(graph, inputs, key)
        return Response(content, media_type="application/octet-stream")

    return app


# ---- the process


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: An address or a name.
        port: The port; None for PORT, or any free one where it is taken.

    Raises:
        TightboundError: The address is not of this machine, or the port is taken.
    """
    with suppress(OSError):
        return _bound(host, PORT if port is None else port)
    try:
        return _bound(host, 0 if port is None else port)
    except OSError as error:
        raise TightboundError(
            f"cannot listen on {cut(host)}:{port or 0} ({os_reason(error)}): choose another "
            "--port or --host"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(128)
    except OSError:
        server.close()
        raise
    return server


def access_of(host: str, listening: socket.socket) -> Access:
    """Who may ask a server on an address: with a token, unless it is of this machine alone."""
    token = "" if is_loopback(host) else secrets.token_urlsafe(24)
    return Access(host, listening.getsockname()[1], token)


def serve(
    served: Served, host: str, port: int | None, *, browser: bool, quiet: bool = False
) -> None:
    """Serve a page until Ctrl-C.

    Args:
        served: What is sent.
        host: The address to listen on.
        port: As in `listen`.
        browser: Open the page in a browser, where there is a display.
        quiet: Print nothing but the address.

    Raises:
        TightboundError: The address cannot be listened on.
    """
    import uvicorn

    from tightbound.exploring.quiet_server import Server

    with listen(host, port) as listening:
        access = access_of(host, listening)
        config = uvicorn.Config(
            application(served, access),
            log_level="error",
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
        print(access.url, flush=True)
        if not quiet:
            print("Ctrl-C closes the page", file=sys.stderr, flush=True)
        if browser and has_display():
            webbrowser.open(access.url)
        asyncio.run(Server(config).serve([listening]))


def has_display() -> bool:
    """Whether a browser of this machine would be seen."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
