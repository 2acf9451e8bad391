"""Stands before every view: nobody gets to one without its role, and nothing is changed but by a form of this page."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge_agent.errors import EdgeAgentError
from edge_agent.page.access.accounts import Role, TooManyFailures
from edge_agent.page.access.sessions import Sessions, Visit
from edge_agent.page.rendering import Templates

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024  # of a form
READ_S = 10.0  # how long a form may take to arrive
UPLOAD_S = 60.0  # the same of a file
View = Callable[[Visit], Response]


class Guard:
    """Makes routes of views that are reached only by those who may."""

    def __init__(self, sessions: Sessions, templates: Templates) -> None:
        self._sessions, self._templates = sessions, templates

    def get(self, path: str, view: View, role: Role = Role.VIEWER) -> Route:
        """Return the route of a view that changes nothing.

        Args:
            path: its address.
            view: answers, in a thread.
            role: the least that it takes; default VIEWER.
        """

        def answer(request: Request) -> Response:
            visit = self._sessions.visit(request)
            if visit.person is None:
                return _to_sign_in(request)
            _require(visit, role)
            return self._with_session(visit, view(visit))

        return Route(path, answer, methods=["GET"])

    def post(self, path: str, view: View, role: Role = Role.OPERATOR) -> Route:
        """Return the route of a view that changes something; see get(). The visit has the fields of the form."""

        async def answer(request: Request) -> Response:
            visit = await run_in_threadpool(self._sessions.visit, request)
            _require(visit, role)
            return await run_in_threadpool(view, await _with_form(visit))

        return Route(path, answer, methods=["POST"])

    def upload(self, path: str, view: Callable[[Visit, bytes], Response], role: Role, most_bytes: int) -> Route:
        """Return the route of a view that takes a file, as the body of a request; the form's token is a header, X-Token.

        Args:
            path: its address.
            view: answers, in a thread; gets the file.
            role: the least that it takes.
            most_bytes: of a file.
        """

        async def answer(request: Request) -> Response:
            visit = await run_in_threadpool(self._sessions.visit, request)
            _require(visit, role)
            _require_same_site(request)
            if visit.is_new or not hmac.compare_digest(
                request.headers.get("x-token", "").encode(), visit.token.encode()
            ):
                raise HTTPException(
                    403, "This form is too old, or came from elsewhere: go back, load the page again, and repeat."
                )
            try:
                content = await asyncio.wait_for(_body(request, most_bytes), UPLOAD_S)
            except asyncio.TimeoutError:
                raise HTTPException(408, "This took too long to arrive.") from None
            return await run_in_threadpool(view, visit, content)

        return Route(path, answer, methods=["POST"])

    def sign_in_routes(self) -> list[Route]:
        """Return the routes of signing in and out, which anybody may take."""

        def show(request: Request) -> Response:
            visit = self._sessions.visit(request)
            return self._with_session(visit, self._form(visit, _local_path(request.query_params.get("next", ""))))

        async def sign_in(request: Request) -> Response:
            visit = await run_in_threadpool(self._sessions.visit, request)
            return await run_in_threadpool(self._sign_in, await _with_form(visit))

        async def sign_out(request: Request) -> Response:
            visit = await run_in_threadpool(self._sessions.visit, request)
            await _with_form(visit)
            response = RedirectResponse("/", 303)
            self._sessions.forget(response)
            return response

        return [
            Route("/sign-in", show, methods=["GET"]),
            Route("/sign-in", sign_in, methods=["POST"]),
            Route("/sign-out", sign_out, methods=["POST"]),
        ]

    def refusal(self, request: Request, code: int, said: str) -> Response:
        """Return a page that says why something is not shown or done.

        Args:
            request: what was asked.
            code: of HTTP.
            said: a sentence, or nothing.
        """
        try:
            visit = self._sessions.visit(request)
        except EdgeAgentError:  # the accounts cannot be read, which may be what is to be said
            visit = Visit(request, None, "", "", False)
        return self._templates.answer("error.html", visit, code, code=code, said=said)

    def _form(self, visit: Visit, next_: str, code: int = 200, said: str = "") -> Response:
        return self._templates.answer("sign_in.html", visit, code, next=next_, said=said)

    def _sign_in(self, visit: Visit) -> Response:
        name, next_ = visit.form.get("name", ""), _local_path(visit.form.get("next", ""))
        accounts = self._sessions.accounts
        try:
            found = accounts.check(name, visit.form.get("password", "")) if accounts else None
        except TooManyFailures as error:
            log.warning("page: %s may not sign in for now, after too many failures", name)
            return self._form(visit, next_, 429, str(error))
        if found is None:
            log.warning("page: a wrong name or password for %s", name)
            return self._form(visit, next_, 403, "This name and password do not fit.")
        log.info("page: %s signed in", name)
        response = RedirectResponse(next_, 303)
        self._sessions.remember(response, secrets.token_urlsafe(24), name, found)
        return response

    def _with_session(self, visit: Visit, response: Response) -> Response:
        if visit.is_new and response.media_type == "text/html":
            self._sessions.remember(response, visit.session)
        return response


def _require(visit: Visit, role: Role) -> None:
    if visit.person is None:
        raise HTTPException(401, "Sign in first.")
    if not visit.may(role):
        raise HTTPException(
            403,
            f"This takes the role {role.name.lower()}, and {visit.person.name} is {visit.person.role.name.lower()}.",
        )


def _require_same_site(request: Request) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This came from another site.")


async def _with_form(visit: Visit) -> Visit:
    """Read the form of a request. Raises HTTPException if it is none of this page's own for this session."""
    request = visit.request
    _require_same_site(request)
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Only forms are taken here.")
    try:
        body = await asyncio.wait_for(_body(request, MOST_BYTES), READ_S)
    except asyncio.TimeoutError:
        raise HTTPException(408, "This took too long to arrive.") from None
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise HTTPException(400, "This form cannot be read.") from None
    if visit.is_new or not hmac.compare_digest(form.pop("token", "").encode(), visit.token.encode()):
        raise HTTPException(
            403, "This form is too old, or came from elsewhere: go back, load the page again, and repeat."
        )
    return replace(visit, form=form)


async def _body(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for some in request.stream():
        body += some
        if len(body) > most_bytes:
            raise HTTPException(413, "This is more than a form of this page can hold.")
    return bytes(body)


def _to_sign_in(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(401, "Sign in first.")
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/sign-in?next={quote(request.url.path + query, safe='')}", 303)


def _local_path(text: str) -> str:
    """Return an address of this page to go on to; the first one where `text` is none, or leads elsewhere."""
    return text if re.fullmatch(r"/([^/\\].*)?", text) and text.isprintable() else "/"
