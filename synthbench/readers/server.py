"""The server of a study: one page, the volumes of the current trial, and answers.

It never opens the key. A reader sees her own current trial and nothing else. No name of a copy
leaves the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from synthbench.readers.answers import Answer
from synthbench.readers.page import page
from synthbench.readers.sessions import Refused, Session, Sessions
from synthbench.runtime.documents import parse_json

MOST_BODY = 64 * 2**10
"""The most bytes of a request; an answer has a few hundred."""

COOKIE = "synthbench-reader"
CHECK = "x-synthbench-check"

_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class _Application:
    """The answers to requests."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def session(self, request: Request) -> Session | None:
        """Return the session of a request's cookie."""
        return self.sessions.of(request.cookies.get(COOKIE, ""))

    async def enter(self, request: Request) -> Response:
        """Take a reader's token from her link into a cookie."""
        token = request.path_params["token"]
        if self.sessions.of(token) is None:
            return _refusal(403)
        reply = Response(status_code=303, headers={"location": "/"})
        reply.set_cookie(COOKIE, token, httponly=True, samesite="lax", max_age=30 * 86_400)
        return reply

    async def home(self, request: Request) -> Response:
        """Return the page."""
        if self.session(request) is None:
            return _refusal(403)
        text, rules = page()
        return HTMLResponse(text, headers={"content-security-policy": rules})

    async def state(self, request: Request) -> Response:
        """Return what the reader is asked now."""
        session = self.session(request)
        return _refusal(403) if session is None else JSONResponse(self._state(session))

    async def volume(self, request: Request) -> Response:
        """Return the voxels of a volume of the current trial."""
        session = self.session(request)
        if session is None:
            return _refusal(403)
        trial, place = request.path_params["trial"], request.path_params["place"]
        voxels = await run_in_threadpool(session.volume, trial, place)
        if voxels is None:
            return _refusal(404)
        return Response(voxels, media_type="application/octet-stream")

    async def answer(self, request: Request) -> Response:
        """Write an answer, and return what comes next."""

        def write(session: Session, fields: Any) -> None:
            # The time is the server's.
            fields = {key: value for key, value in fields.items() if key not in ("at", "undone")}
            session.answer(Answer.model_validate(fields))

        return await self._written(request, write)

    async def undo(self, request: Request) -> Response:
        """Take the last answer back, and return what comes next."""
        return await self._written(request, lambda session, fields: session.undo())

    async def _written(self, request: Request, write: Callable[[Session, Any], None]) -> Response:
        session = self.session(request)
        if session is None or not self._is_own(request, session):
            return _refusal(403)
        body = await _body(request)
        if body is None:
            return _refusal(413)
        try:
            fields = parse_json(body)
            if not isinstance(fields, dict):
                raise ValueError("not an object")
            await run_in_threadpool(write, session, fields)
        except Refused as error:
            return PlainTextResponse(str(error), status_code=409, headers=_HEADERS)
        except (ValidationError, ValueError):
            return _refusal(400)
        except OSError:
            return PlainTextResponse(
                "the answer could not be written: tell who runs the study", 507, headers=_HEADERS
            )
        return JSONResponse(self._state(session))

    def _is_own(self, request: Request, session: Session) -> bool:
        """Return whether a request comes from this server's page, and not from another site."""
        origin = request.headers.get("origin")
        if origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}":
            return False
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return False
        return request.headers.get(CHECK, "") == self.sessions.check(session)

    def _state(self, session: Session) -> dict[str, Any]:
        trial, study = session.current, self.sessions.study
        return {
            "done": len(session.answered),
            "total": len(session.trials),
            "trial": None
            if trial is None
            else {"trial": trial.trial, "kind": trial.kind, "practice": trial.practice},
            "shape": study.shape,
            "spacing": study.spacing,
            "items": [
                {"key": item.key, "question": item.question, "levels": item.levels}
                for item in self.sessions.scales.items()
            ],
            "check": self.sessions.check(session),
        }


async def _body(request: Request) -> bytes | None:
    """Return the body of a request; None where it is too long. No more of it is read."""
    found = b""
    async for piece in request.stream():
        found += piece
        if len(found) > MOST_BODY:
            return None
    return found


def _refusal(status: int) -> Response:
    words = {400: "not an answer", 403: "open the link that you were given",
             404: "not there", 413: "too long"}  # fmt: skip
    return PlainTextResponse(words[status], status_code=status, headers=_HEADERS)


class _Headers:
    """Gives every reply the headers that keep it here."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(
        self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in _HEADERS.items()
                      if k.encode() not in there),
                ]  # fmt: skip
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)


def application(sessions: Sessions, hosts: tuple[str, ...]) -> Starlette:
    """Return the application of a study.

    Parameters
    ----------
    sessions
        The readers.
    hosts
        Names under which it may be asked for: a page of another site cannot use a name of its own
        for this machine.
    """
    one = _Application(sessions)
    return Starlette(
        routes=[
            Route("/", one.home),
            Route("/enter/{token}", one.enter),
            Route("/state", one.state),
            Route("/volume/{trial}/{place:int}", one.volume),
            Route("/answer", one.answer, methods=["POST"]),
            Route("/undo", one.undo, methods=["POST"]),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
    )


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def hosts_of(host: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that a server of this address answers to."""
    return (*LOOPBACK, host.strip("[]"), *names)


def serve(sessions: Sessions, host: str, port: int, names: tuple[str, ...] = ()) -> None:
    """Serve until interrupted."""
    import uvicorn

    uvicorn.run(
        application(sessions, hosts_of(host, names)), host=host, port=port, log_level="warning",
        access_log=False, server_header=False, date_header=False, limit_concurrency=200,
    )  # fmt: skip


def link(host: str, port: int, token: str) -> str:
    """Return the address that a reader opens.

    >>> link("::1", 8000, "x")
    'http://[::1]:8000/enter/x'
    """
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/enter/{token}"
