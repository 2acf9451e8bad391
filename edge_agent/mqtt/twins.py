"""Other agents of the same name at the broker: how they are known, and what is said of them.

All agents of a name hear its status. One that hears another instance publish it answers once with its own, so that both know.
What the broker has kept proves nothing at first: it may be of this agent's last run. But where this run has published and finds
the status of another instance when it connects again, that one has taken its client id. Two with the same id end each other's
connection; so each takes one of its own instance, and both go on and hear of each other.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from edge_agent.core import AgentIdentity
from edge_agent.mqtt.connection import Arrived

log = logging.getLogger(__name__)

TAKEOVER_S = 300.0  # after the last time that another client took the id, until it is no longer said


class Twins:
    """Knows other agents of this name. told: is called with what is known, None for nothing, whenever that changes."""

    def __init__(self, identity: AgentIdentity, told: Callable[[str | None], None]) -> None:
        self._identity, self._told = identity, told
        self._others: dict[str, str] = {}  # by instance, the stations that it has
        self._taken_at = float("-inf")  # monotonic seconds
        self._taken_id = ""
        self.text: str | None = None
        self.has_published = False  # the broker has had a status of this run
        self.must_yield = False  # another client has the same id

    def hear(self, arrived: Arrived, client_id: str | None) -> bool:
        """Take a message on the topic of the status; return whether the own one has to be published again.

        client_id: of this connection, where others may have the same; None where it is of this run alone.
        """
        try:
            said = json.loads(arrived.payload)
            instance, online, stations = str(said["instance"]), said["online"] is True, ", ".join(said["stations"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return False  # a probe, or cleared
        if arrived.retained:
            if self.has_published and client_id and instance != self._identity.instance:
                self.taken_over(client_id)
            return False
        if instance == self._identity.instance:
            return not online  # the will of a connection before this one, which the broker has only now found dead
        known = instance in self._others
        if online:
            self._others[instance] = stations
            self._taken_id = ""  # it is known by its instance now
        else:
            self._others.pop(instance, None)
        self._say()
        return not (known and online)

    def taken_over(self, client_id: str) -> None:
        """Note that another client has connected with the own id."""
        self._taken_at, self._taken_id, self.must_yield = time.monotonic(), client_id, True
        self._say()

    def look(self) -> None:
        """Forget a takeover that is long ago. Call it now and then."""
        if self._taken_id and time.monotonic() > self._taken_at + TAKEOVER_S:
            self._taken_id = ""
            self._say()

    def _say(self) -> None:
        text, name = None, self._identity.name
        if self._others:
            text = "; ".join(
                f"another agent named {name} is at the broker (instance {instance}, stations {stations})"
                for instance, stations in sorted(self._others.items())
            )
        elif self._taken_id:
            text = f"another client has connected with the client id {self._taken_id} of agent {name}"
        if text:
            text = f"{text}: give each agent its own agent.name"
        if text != self.text:
            self.text = text
            if text:
                log.error("mqtt: %s", text)
            else:
                log.warning("mqtt: no other agent named %s is at the broker any longer", name)
            self._told(text)
