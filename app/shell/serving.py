"""What stands between a browser and the dashboard: who may ask, and what a page may do.

1. A request that names another host than `server.allowedHosts` is refused, whatever it asks for. Streamlit 1.67 asks
   that of its web socket alone; without it a foreign page whose name is pointed at this machine (DNS rebinding) reads
   files and media.
2. A content-security policy: scripts, styles, fonts and connections of this server alone, no frames, no forms, no
   plugins. Text of unknown origin never becomes markup (`app.shell.untrusted`); should one slip through, it can run,
   load and send nothing. Streamlit needs four things beyond its own files: the one script inside its page, allowed by
   its hash; styles that its library for them writes into the page; scripts by `blob:`, as which it loads the code of
   our components; and `eval`, with which Plotly (regl) compiles its WebGL charts.
3. No other site may frame a page, guess at types, or hear where a link came from.
4. A document is asked for at a path of one part: Streamlit's page names its files beside itself, and would find none
   further down, which is a blank window. A deeper path is sent to one of the same words, which the dashboard knows or
   says it does not.

5. The modules of all pages are imported while the browser opens, and not when it asks for the first page.

Streamlit has no setting for headers. Since 1.67 it takes ASGI middleware where the script defines a `streamlit.App`;
nothing of Streamlit is replaced here.
"""

import base64
import gc
import hashlib
import importlib
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import streamlit
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from backend.root import module


def _own_scripts() -> str:
    """Hashes of the scripts inside Streamlit's page, as a policy names them."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    inside = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in inside)


POLICY = {
    "default-src": "'none'",
    "script-src": f"'self' blob: 'unsafe-eval' {_own_scripts()}",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "media-src": "'self' blob:",
    "worker-src": "'self' blob:",
    "manifest-src": "'self'",
    "object-src": "'none'",
    "frame-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {values}" for name, values in POLICY.items()),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_FILES = frozenset(
    {"_stcore", "app", "component", "media", "static"}
)  # where Streamlit keeps files, which a browser may open by itself
_SLASH = "\N{DIVISION SLASH}"  # reads as a slash and parts nothing
_RAW = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}


class Guard:
    """ASGI middleware around all that Streamlit answers."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in _RAW]
                message = {**message, "headers": [*others, *_RAW.items()]}
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if scope["type"] == "http" and not (len(hosts) == 1 and is_host_allowed(hosts[0])):
            await PlainTextResponse("This host name is not one of this dashboard's (server.allowedHosts).", 403)(
                scope, receive, guarded
            )
            return
        if (shallow := _of_one_part(scope)) is not None:
            await RedirectResponse(shallow, 307)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)  # a foreign web socket is refused by Streamlit itself


def _of_one_part(scope: Scope) -> str | None:
    """Where a document that is asked for at a path of several parts is to be had; None for any other request."""
    accepted = [value for name, value in scope["headers"] if name == b"accept"]
    parts = [part for part in scope["path"].split("/") if part]
    if (
        scope["type"] != "http"
        or len(parts) < 2
        or parts[0] in _FILES
        or not any(b"text/html" in value for value in accepted)
    ):
        return None
    query = scope["query_string"].decode("latin-1")
    return "/" + quote(_SLASH.join(parts), safe="") + (f"?{query}" if query else "")


def guards() -> list[Middleware]:
    return [Middleware(Guard)]


@asynccontextmanager
async def reading_ahead(_server: object) -> AsyncIterator[None]:
    """From the start of the server on."""
    threading.Thread(target=_import_pages, name="imports", daemon=True).start()
    yield


def _import_pages() -> None:
    importlib.import_module(module("app.entry"))
    importlib.import_module(module("app.views")).registered()
    gc.collect()
    gc.freeze()  # Streamlit collects garbage after every run: it need not look through all that was imported, each time
