"""The Content-Security-Policy of a page, with hashes of its inline scripts and styles."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence


def hash_of(text: str) -> str:
    """The source expression of an inline script or style: 'sha256-...'."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def policy(
    scripts: Sequence[str], styles: Sequence[str], *, connects: bool = False
) -> str:
    """The policy of a page.

    Nothing is loaded, and nothing runs but these scripts and WebAssembly. Images come from the
    page itself.

    Args:
        scripts: Texts of its inline scripts.
        styles: Texts of its inline style sheets.
        connects: Whether the page may ask its own server.
    """
    directives = [
        "default-src 'none'",
        f"script-src {' '.join([*map(hash_of, scripts), chr(39) + 'wasm-unsafe-eval' + chr(39)])}",
        f"style-src {' '.join(map(hash_of, styles)) or chr(39) + 'none' + chr(39)}",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if connects:
        directives.append("connect-src 'self'")
    return "; ".join(directives)
