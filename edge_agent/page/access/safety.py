"""What every request and answer has to keep to: known hosts, limited bodies, and headers that forbid all but our own."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Safety:
    """Wraps the application. A Host that is not known is refused, or any web page could read this one by a name of its own."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        """hosts: names under which browsers may ask for the page, beside those of this machine itself."""
        self._app, self._hosts = app, {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if name_of(Headers(scope=scope).get("host", "")) not in self._hosts:
            refusal = "This name is not one of the page's: add it to page.hosts, or use the name that is configured.\n"
            await PlainTextResponse(refusal, 421)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def name_of(host: str) -> str:
    """Return the name in a Host header, without the port; an IPv6 address keeps its brackets."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()
