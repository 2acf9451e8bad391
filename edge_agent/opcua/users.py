"""Who may sign in to the OPC UA server, and what they may do there."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import USER_TYPES, SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager

from edge_agent.errors import EdgeAgentError
from edge_agent.opcua.types import node_id

log = logging.getLogger(__name__)

DOING = (ua.ObjectIds.CallRequest_Encoding_DefaultBinary, ua.ObjectIds.WriteRequest_Encoding_DefaultBinary)
MAY = {
    UserRole.User: {node_id(number) for number in USER_TYPES},
    UserRole.Anonymous: {node_id(number) for number in USER_TYPES if number not in DOING},
}


class Users(UserManager):
    """Checks passwords, which are read anew each time, so that they can change."""

    def __init__(self, passwords: Mapping[str, Callable[[], str]], *, anonymous: bool) -> None:
        """passwords: by name of the user, what gives it. anonymous: whoever does not sign in may look."""
        self._passwords, self._anonymous = passwords, anonymous

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Return the user, or None if they may not come in. Arguments as asyncua gives them, see UserManager."""
        if username is None:
            return User(UserRole.Anonymous) if self._anonymous else None
        known = self._passwords.get(username)
        try:
            right = known() if known else None
        except EdgeAgentError as error:
            log.error("opcua: %s cannot sign in: %s", username, error)
            return None
        if right is None or not hmac.compare_digest(right.encode(), (password or "").encode()):
            log.warning("opcua: %r was refused: wrong name or password", username[:40])
            return None
        return User(UserRole.User, username)


class Rules(SimpleRoleRuleset):
    """Whoever has signed in may read, subscribe and start jobs; others may read and subscribe."""

    def check_validity(self, user: User, action_type: ua.NodeId, body: Any) -> bool:
        """Return whether a request is allowed. Arguments as asyncua gives them, see SimpleRoleRuleset."""
        return action_type in MAY.get(user.role, set())
