"""The server of the page: its data, and networks that the page cannot compute itself."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tightbound.exploring.assets import Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.graph_process import GraphProcess
from tightbound.exploring.guard import Access, App, Guard, is_loopback
from tightbound.exploring.run_data import PageRun
from tightbound.runtime.errors import TightboundError, cut, os_reason

if TYPE_CHECKING:
    from uvicorn import Server

NEEDED = ("fastapi", "uvicorn")
PORT = 8765  # where none is asked for and it is free
CONNECTIONS = 32
KEEP_ALIVE = 30  # seconds
WAIT = 0.5  # seconds between looks at the server
TO_CLOSE = 3.0  # seconds for requests that have begun


@dataclass(frozen=True)
class Served:
    """What a server sends.

    Args:
        page: The data.
        runs: The runs in the order of the manifest, whose networks it computes.
        assets: The built page.
        graphs: Makes the ONNX graphs that the page waits for.
    """

    page: PageData
    runs: Sequence[PageRun]
    assets: Assets
    graphs: GraphProcess | None = None


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
    from tightbound.exploring.routes import routes_of

    runs = {run.role: run for run in served.runs}
    graphs = served.graphs or GraphProcess(served.runs)
    app = routes_of(served.page, runs, served.assets, graphs)
    return Guard(app, access, served.assets.policy(connects=True))


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
        _run(uvicorn.Server(config), listening)


def _run(server: Server, listening: socket.socket) -> None:
    """Run a server in a thread, so that signals stay with the caller; until it ends or Ctrl-C.

    A notebook has a loop of events in its main thread, where no second one can run.
    """
    errors: list[Exception] = []

    def work() -> None:
        try:
            asyncio.run(server.serve([listening]))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="tightbound-page", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(WAIT)
    finally:
        server.should_exit = True
        thread.join(TO_CLOSE)
    if errors:
        raise errors[0]


def has_display() -> bool:
    """Whether a browser of this machine would be seen."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
