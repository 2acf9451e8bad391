"""Who asks: signed cookies in place of a table of sessions, and the tokens of forms, without which nothing is changed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from edge_agent.page.access.accounts import Account, Accounts, Role

COOKIE, SECURE_COOKIE = "edge-agent", "__Host-edge-agent"
LOCAL = "this machine"  # who says what is said without an account


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. has_account: signed in, in place of a browser of this machine while there are no accounts."""

    name: str
    role: Role
    has_account: bool


@dataclass(frozen=True, slots=True)
class Visit:
    """One request with who makes it. person: None for nobody who is known. token: what forms have to carry, by session."""

    request: Request
    person: Person | None
    session: str
    token: str
    is_new: bool
    form: dict[str, str] = field(default_factory=dict)

    def may(self, role: Role) -> bool:
        """Return whether whoever asks may do what takes this role."""
        return self.person is not None and self.person.role >= role


class Sessions:
    """Tells who asks by the cookie of a request, and signs people in and out."""

    def __init__(
        self, accounts: Accounts | None, *, local: Role, exposed: bool, secure: bool, lasting_s: float = 12 * 3600
    ) -> None:
        """Decide who may what.

        Args:
            accounts: of people; None for none at all.
            local: what whoever asks may do while there is no account.
            exposed: whether accounts are needed even so.
            secure: whether browsers send the cookie over TLS alone.
            lasting_s: seconds after which one has to sign in again; default 12 hours.
        """
        self.accounts, self._local, self._exposed, self._secure = accounts, local, exposed, secure
        self._lasting_s, self._cookie = lasting_s, SECURE_COOKIE if secure else COOKIE
        self._own_key = secrets.token_hex(32)

    def visit(self, request: Request) -> Visit:
        """Return the request with who makes it."""
        key = self._key()
        name, stamp, session = self._read(request, key)
        is_new = session is None
        session = session or secrets.token_urlsafe(24)
        token = hmac.new(key.encode(), f"form {session}".encode(), hashlib.sha256).hexdigest()
        return Visit(request, self._person(name, stamp), session, token, is_new)

    def needs_account(self) -> bool:
        """Return whether one has to sign in."""
        return self._exposed or (self.accounts is not None and bool(self.accounts.names()))

    def remember(self, response: Response, session: str, name: str = "", account: Account | None = None) -> None:
        """Give the browser a session.

        Args:
            response: the answer that carries it.
            session: its id; a new one for whoever signs in.
            name: of the account; empty (default) for none.
            account: of that name; default None.
        """
        content = [name, account.stamp if account else "", session]
        response.set_cookie(
            self._cookie,
            _signer(self._key()).dumps(content),
            max_age=int(self._lasting_s),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def forget(self, response: Response) -> None:
        """Take the session from the browser."""
        response.delete_cookie(self._cookie, path="/", secure=self._secure, httponly=True, samesite="lax")

    def _person(self, name: str, stamp: str) -> Person | None:
        if name and self.accounts is not None:
            found = self.accounts.find(name)
            if found is not None and hmac.compare_digest(found.stamp, stamp):
                return Person(name, Role[found.role.upper()], True)
        return None if self.needs_account() else Person(LOCAL, self._local, False)

    def _read(self, request: Request, key: str) -> tuple[str, str, str | None]:
        """Return name, stamp and id of the session; no id where there is none, or it was not signed here, or is too old."""
        try:
            name, stamp, session = _signer(key).loads(
                request.cookies.get(self._cookie, ""), max_age=int(self._lasting_s)
            )
        except (BadData, ValueError, TypeError):
            return "", "", None
        return str(name), str(stamp), str(session)

    def _key(self) -> str:
        return (self.accounts.key() if self.accounts else "") or self._own_key


def _signer(key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(key, salt="edge-agent session", signer_kwargs={"digest_method": hashlib.sha256})
