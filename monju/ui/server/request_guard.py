"""The request guard: one ASGI layer in front of the page, outside everything of Gradio's.

A request passes in this order: host, method and path, origin, whose it is, how often, its body (whole, in
time, not too long), its session, its share of the work. Of Gradio it knows the paths that a browser uses.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect

from monju.ui.server.hosts import Hosts
from monju.ui.server.rate_limit import RateLimit
from monju.ui.server.shares import VISITOR, Shares
from monju.ui.server.visitors import COOKIE, Visitor, Visitors, network

KIB, MIB = 1 << 10, 1 << 20
BODY, LARGE_BODY, FILES = 256 * KIB, 2 * MIB, 51 * MIB  # bytes: ordinary, a batch or the owner's, with files
LEAST = 10 * MIB  # that files count for, however small: one request may bring a thousand
BODY_S = 10  # seconds for a body, or between two parts of a file
API = "/gradio_api"
POSTS = re.compile(rf"{API}/(queue/join|run/predict|call/\w+|upload|cancel|reset)/?")
GETS = re.compile(rf"/|/config/?|/theme\.css|/plotly\.js|/favicon\.ico|/robots\.txt|/manifest\.json"
                  rf"|/(assets|static|svelte)/[^\x00-\x1f]+|/login/(huggingface|callback)|/logout"
                  rf"|{API}/(info|app_id|startup-events|theme\.css|upload_progress|queue/data"
                  rf"|heartbeat/[\w-]+|call/\w+/\w+|file=(?![a-zA-Z][\w+.-]*:|//)[^\x00-\x1f]+)/?")
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
REFUSALS = {400: "That is not a request of this page.",
            403: "That came from a page of another site.",
            404: "There is nothing here.",
            408: "The request did not come whole in time.",
            413: "That is too large: send 50 MB at most.",
            421: "The page is not served under this name: its owner sets MONJU_HOSTS.",
            422: "That is not what the page sends."}
POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
          "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
          "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
          "form-action 'self' https://huggingface.co; frame-ancestors ")
Receive, Send = Callable[[], Awaitable[dict]], Callable[[dict], Awaitable[None]]


class Refused(Exception):
    """A request is refused with an HTTP status; 503 is "busy"."""

    def __init__(self, status: int):
        self.status = status


class RequestGuard:
    """An ASGI application around another.

    Parameters
    ----------
    app : ASGI application
        The page.
    blocks : gr.Blocks
        Whose functions are called.
    hosts, visitors, shares
        Who may act, who sends, and what everybody's part is.
    limits : dict of str to RateLimit
        "visitor", "address" and "page" in requests, "files" and "all files" in bytes.
    busy : callable
        The words for 503, for an Accept-Language.
    left : callable
        Is told of a session whose page was closed.
    public : bool
        Whether this machine's own requests count, too: a public link's come from here.
    """

    def __init__(self, app: Any, blocks: Any, hosts: Hosts, visitors: Visitors, shares: Shares,
                 limits: dict[str, RateLimit], busy: Callable[[str], str] = lambda languages: "busy",
                 left: Callable[[str], None] = lambda session: None, public: bool = False):
        self.app, self.blocks, self.hosts, self.visitors, self.shares = app, blocks, hosts, visitors, shares
        self.limits, self.busy, self.left, self.public = limits, busy, left, public

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        self.shares.keep_swept()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        send = self.with_headers(send)
        try:
            with ExitStack() as stack:
                visitor = scope[VISITOR] = self.admit(scope, headers)
                act = self.read if scope["method"] in ("GET", "HEAD") else self.write
                receive, send = await act(scope, headers, visitor, receive, send, stack)
                scope["headers"] = self.trusted(scope["headers"])
                await self.app(scope, receive, send)
        except Refused as refused:
            await self.refuse(refused.status, headers, send)
        except RuntimeError as error:  # Gradio refuses a session that ends while its stream is open
            if "response already started" not in str(error):
                raise
            await send({"type": "http.response.body", "body": b""})
        except ClientDisconnect:  # of a body not sent to its end: no line in the log
            await self.refuse(408, headers, send)

    def admit(self, scope: dict, headers: dict) -> Visitor:
        """Return who sends the request, if its host, method, path and origin are the page's."""
        if not self.hosts.serves(headers.get("host", "")):
            raise Refused(421)
        allowed = {"GET": GETS, "HEAD": GETS, "POST": POSTS}.get(scope["method"])
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"
        if allowed is None or not allowed.fullmatch(path) or b"deep_link" in scope.get("query_string", b""):
            raise Refused(404)
        scope["monju_path"] = path.removeprefix(API).strip("/")
        if allowed is POSTS and not self.hosts.may_act(headers.get("origin"), headers.get("host", "")):
            raise Refused(403)
        address = network((scope.get("client") or ("", 0))[0]) or ("here" if self.public else None)
        return self.visitors.of(cookie(headers), address)

    async def read(self, scope: dict, headers: dict, visitor: Visitor, receive: Receive, send: Send,
                   stack: ExitStack) -> tuple[Receive, Send]:
        """Admit a GET: its session must be the visitor's; the page itself gives a visitor his cookie."""
        what, _, name = scope["monju_path"].partition("/")
        if what in ("", "config") and visitor.counted and not self.limits["page"].allows(visitor.address):
            raise Refused(503)
        if what == "" and visitor.name not in (cookie(headers) or "").partition("."):
            send = self.with_cookie(send, cookie_name(headers), self.visitors.new(visitor.address),
                                    scope["scheme"] == "https")
        if what == "heartbeat":
            if not SESSION.fullmatch(name) or not self.visitors.bind(name, visitor):
                raise Refused(404)
            stack.callback(self.left, name)
        if what == "queue":
            name = (parse_qs(scope["query_string"].decode("latin-1")).get("session_hash") or [""])[0]
            owner = self.visitors.owner(name)
            if not owner or owner.name != visitor.name or name not in (
                    self.shares.queue.pending_messages_per_session):
                raise Refused(404)
        if what in ("queue", "call"):
            stack.enter_context(self.shares.listener(name.rpartition("/")[2]))
        return receive, send

    async def write(self, scope: dict, headers: dict, visitor: Visitor, receive: Receive, send: Send,
                    stack: ExitStack) -> tuple[Receive, Send]:
        """Admit a POST: its body read, its session the visitor's, and its share of the work not used up."""
        path = scope["monju_path"]
        if visitor.counted and not (self.limits["visitor"].allows(visitor.name)
                                    and self.limits["address"].allows(visitor.address)):
            raise Refused(503)
        if path == "upload":
            self.files(headers, visitor)
            if not stack.enter_context(self.shares.inside(visitor, "upload")):
                raise Refused(503)
            return self.in_time(receive), send
        if not headers.get("content-type", "").lower().startswith("application/json"):
            raise Refused(422)
        body = await whole(receive, LARGE_BODY)
        asked = parsed(body)
        function = self.function(path, asked)
        if len(body) > (LARGE_BODY if function is not None and self.is_large(function) else BODY):
            raise Refused(413)
        session = asked.get("session_hash")
        if session is not None and not (isinstance(session, str) and SESSION.fullmatch(session)
                                        and self.visitors.bind(session, visitor)):
            raise Refused(404)
        if path == "run/predict":
            if not stack.enter_context(self.shares.inside(visitor, "run")):
                raise Refused(503)
            send = self.refusing_failures(headers, send)
        elif function is not None and not self.shares.may_wait(visitor, function):
            raise Refused(503)
        return again(body, receive), send

    def files(self, headers: dict, visitor: Visitor) -> None:
        """Refuse files that are too large, too many, or of no stated length."""
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not length.isdecimal():
            raise Refused(400)
        if int(length) > FILES:
            raise Refused(413)
        cost = max(int(length), LEAST)
        if visitor.counted and not (self.limits["files"].allows(visitor.address, cost)
                                    and self.limits["all files"].allows("all", cost)):
            raise Refused(503)

    def function(self, path: str, asked: dict) -> Any:
        """Return the function that a request calls; None where it calls none. Refuses unknown ones."""
        if path in ("cancel", "reset"):
            return None
        if path.startswith("call/"):
            number = next((number for number, one in self.blocks.fns.items()
                           if one.api_name == path.removeprefix("call/")), None)
        else:
            number = asked.get("fn_index")
        if type(number) is not int or number not in self.blocks.fns:
            raise Refused(404)
        return self.blocks.fns[number]

    @staticmethod
    def is_large(function: Any) -> bool:
        """Return whether a function takes long texts: a batch's lines, the owner's settings."""
        return function.concurrency_id == "batch" or getattr(function.fn, "owners", False) or any(
            block.elem_id == "json" for block in function.inputs)

    def trusted(self, headers: list) -> list:
        """Return the headers without a name of this page that a visitor may have written."""
        return [(name, value) for name, value in headers if name != b"x-forwarded-host"]

    def with_headers(self, send: Send) -> Send:
        """Return a `send` that says what a browser may do with the page; Gradio's CORS is not passed on."""
        own = [(b"content-security-policy", f"{POLICY}{self.hosts.ancestors}".encode()),
               (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]

        async def answer(message: dict) -> None:
            if message["type"] == "http.response.start":
                given = [(name, value) for name, value in message.get("headers", [])
                         if not name.lower().startswith(b"access-control-")]
                message = {**message, "headers": [*given, *own]}
            await send(message)

        return answer

    def with_cookie(self, send: Send, name: str, value: str | None, secure: bool) -> Send:
        """Return a `send` that gives the visitor a cookie; on a Space the page is inside another site's."""
        kind = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"

        async def answer(message: dict) -> None:
            if message["type"] == "http.response.start" and value:
                line = f"{name}={value}; Path=/; HttpOnly; {kind}".encode()
                message = {**message, "headers": [*message["headers"], (b"set-cookie", line)]}
            await send(message)

        return answer

    def in_time(self, receive: Receive) -> Receive:
        """Return a `receive` that takes whoever stops sending for gone."""
        async def part() -> dict:
            try:
                return await asyncio.wait_for(receive(), BODY_S)
            except asyncio.TimeoutError:
                return {"type": "http.disconnect"}

        return part

    async def refuse(self, status: int, headers: dict, send: Send) -> None:
        """Answer with a sentence where Gradio's page looks for one."""
        told = REFUSALS.get(status) or self.busy(headers.get("accept-language", ""))
        body = json.dumps({"detail": told, "error": told}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [
            (b"content-type", b"application/json"), (b"retry-after", b"1"), (b"connection", b"close"),
            (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def refusing_failures(self, headers: dict, send: Send) -> Send:
        """Return a `send` with 422 for 500, Gradio's one status for all that its functions do not take."""
        refused = False

        async def answer(message: dict) -> None:
            nonlocal refused
            if message.get("status") == 500:
                refused = True
                await self.refuse(422, headers, send)
            elif not refused:
                await send(message)

        return answer


def cookie_name(headers: dict) -> str:
    """Return the name of this page's cookie: browsers send a host's cookies to all of its ports."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isdecimal() else COOKIE


def cookie(headers: dict) -> str | None:
    """Return the visitor's cookie."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie_name(headers))
    except CookieError:
        return None
    return found.value if found else None


async def whole(receive: Receive, most: int, seconds: float = BODY_S) -> bytes:
    """Return a body, read before anything is counted for it. Refuses what is too long or too slow."""
    async def read() -> bytes:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400)
            body += message.get("body", b"")
            if len(body) > most:
                raise Refused(413)
            if not message.get("more_body"):
                return body

    try:
        return await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        raise Refused(408) from None


def parsed(body: bytes) -> dict:
    """Return a JSON object. Refuses anything else."""
    try:
        asked = json.loads(body or b"{}", parse_constant=lambda name: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        raise Refused(422) from None
    if not isinstance(asked, dict):
        raise Refused(422)
    return asked


def again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already."""
    given = False

    async def first() -> dict:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first
