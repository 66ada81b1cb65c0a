"""Who may see the page: known host names alone, a token where it is served beyond loopback, one origin for requests."""

import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "equiran"
LOOPBACK_NAMES = frozenset(("127.0.0.1", "localhost", "::1"))
_HARMLESS = ("GET", "HEAD")
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Gate:
    """In front of `app`. hosts: names under which it may be asked for, whatever the port: a tunnel has its own.

    token: None lets in everybody who reaches it. Who shows it once as `?token=` is given it as a cookie, and sent on to
    the address without it.
    """

    def __init__(self, app: App, hosts: Collection[str], token: str | None) -> None:
        self._app, self._hosts, self._token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what may pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if refusal := self._refusal(scope, headers):
            await _answer(send, 403, refusal)
        elif self._token is None or self._known(headers):
            await self._app(scope, receive, _marked(send))
        elif self._shown(scope):
            await self._welcome(scope, send)
        else:
            await _answer(send, 401, "open the address that `equiran watch` printed: it has the token")

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> str:
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if _name(f"//{host}") not in self._hosts:
            return "this page is not served under that name"
        if origin is None:
            return "" if scope["method"] in _HARMLESS else "a request that changes something must say where it is from"
        return "" if urlsplit(origin).netloc == host else "a request from another page"

    def _known(self, headers: dict[bytes, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._fits(cookie.value)

    def _shown(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        return self._fits(given[0])

    def _fits(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(given.encode(), self._token.encode())

    async def _welcome(self, scope: Scope, send: Send) -> None:
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = ((b"location", scope["path"].encode() or b"/"), (b"set-cookie", cookie.encode()))
        await _answer(send, 303, "", headers)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _marked(send: Send) -> Send:
    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return marked


async def _answer(send: Send, status: int, text: str, headers: Collection[tuple[bytes, bytes]] = ()) -> None:
    """A short answer of the gate's own."""
    body = f"{text}\n".encode() if text else b""
    kind = (b"content-type", b"text/plain; charset=utf-8")
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [kind, length, *headers]}
    await _marked(send)(start)
    await send({"type": "http.response.body", "body": body})
