"""The checks of every request of the page's server, before anything reads it."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from tightbound.exploring.compute import MOST_BODY, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::", "")
TOKEN = "token"
REFUSALS = 400  # the least status of a refusal
METHODS = ("GET", "HEAD", "POST")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Args:
        host: The address that the server listens on.
        port: Its port.
        token: What each request must know; "" on loopback.
    """

    host: str
    port: int
    token: str = ""

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        host = socket.gethostname() if self.host in ANY else self.host
        if ":" in host:
            host = f"[{host}]"
        query = f"?{TOKEN}={self.token}" if self.token else ""
        return f"http://{host}:{self.port}/{query}"

    @property
    def cookie(self) -> str:
        """Name of the cookie with the token; a browser sends cookies to all ports of a host."""
        return f"tightbound-{self.port}"

    def knows_host(self, value: str) -> bool:
        """Whether a Host header names this server, so that no name from outside leads here."""
        name, _, port = value.rpartition(":")
        if (
            not name
            or name.endswith(":")
            or (name.startswith("[") != name.endswith("]"))
        ):
            return False
        if port != str(self.port):
            return False
        name = name.strip("[]").lower()
        if is_loopback(self.host):
            return name in LOOPBACK or name == self.host.lower()
        if name in (self.host.lower(), socket.gethostname().lower(), *LOOPBACK):
            return True
        return self.host in ANY and _is_address(name)

    def knows_origin(self, value: str) -> bool:
        """Whether an Origin header is that of this page."""
        scheme, _, host = value.partition("://")
        return scheme == "http" and self.knows_host(host)

    def knows_token(self, given: str | None) -> bool:
        """Whether a token is right, in a time that does not depend on where it differs."""
        if not self.token:
            return True
        return secrets.compare_digest((given or "").encode(), self.token.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses what does not come from the page, and what is too large.

    Args:
        app: The application behind.
        access: Who may ask.
        policy: The Content-Security-Policy that each answer states.
    """

    def __init__(self, app: App, access: Access, policy: str) -> None:
        self.app = app
        self.access = access
        self.headers = {
            **HEADERS,
            # a meta tag cannot say who may frame a page
            "content-security-policy": f"{policy}; frame-ancestors 'none'",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An application of ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = (query.get(TOKEN) or [_cookie(headers, self.access.cookie)])[0]
        try:
            self._check(scope, headers, given)
        except Refused as refused:
            await _refuse(self._with_headers(send, ""), refused)
            return
        cookie = ""
        if self.access.token and TOKEN in query:
            cookie = f"{self.access.cookie}={self.access.token}; HttpOnly; SameSite=Strict; Path=/"
        await self.app(scope, _bounded(receive), self._with_headers(send, cookie))

    def _check(self, scope: Scope, headers: dict[str, str], given: str | None) -> None:
        if scope["method"] not in METHODS:
            raise Refused(405, f"{scope['method']} is not answered")
        if not self.access.knows_host(headers.get("host", "")):
            raise Refused(421, "this server is not of that name")
        origin = headers.get("origin")
        if origin is not None and not self.access.knows_origin(origin):
            raise Refused(403, "the request comes from another page")
        site = headers.get("sec-fetch-site", "same-origin")
        if scope["path"] != "/" and site not in ("same-origin", "none"):
            raise Refused(403, "the request comes from another page")
        if not self.access.knows_token(given):
            raise Refused(
                403, "the token is missing or wrong: open the printed address"
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refused(400, "Content-Length is no number")
        if int(length[:18]) > MOST_BODY:
            raise _too_large()

    def _with_headers(self, send: Send, cookie: str) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = dict(self.headers)
                if cookie:
                    extra["set-cookie"] = cookie
                if message["status"] >= REFUSALS:
                    # so that the server reads no more of what was refused
                    extra["connection"] = "close"
                pairs = [(k.encode(), v.encode()) for k, v in extra.items()]
                message = {**message, "headers": [*message.get("headers", ()), *pairs]}
            await send(message)

        return with_headers


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name; of one that is sent twice, both with a comma."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def _cookie(headers: dict[str, str], name: str) -> str | None:
    cookies = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        return None
    return cookies[name].value if name in cookies else None


def _too_large() -> Refused:
    return Refused(413, f"the body has more than {MOST_BODY:,} bytes")


def _bounded(receive: Receive) -> Receive:
    """The same messages; one that makes the body too large ends the reading."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BODY:
            raise _too_large()
        return message

    return bounded


async def _refuse(send: Send, refused: Refused) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": refused.status,
            "headers": [(b"content-type", b"text/plain; charset=utf-8")],
        }
    )
    await send({"type": "http.response.body", "body": refused.sentence.encode()})
