"""What the broker keeps for later subscribers: the agent's status and the state of each station; it sends nothing itself.

The journal remembers every topic that was ever published so, before it is. Those of stations that are gone, and of a name or
prefix that the agent had before, are cleared once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from edge_agent.core import AgentIdentity, AgentNow, Inspection, Outbox
from edge_agent.errors import JournalError
from edge_agent.mqtt.messages import (
    LastVerdict,
    agent_topic,
    encode,
    state_payload,
    station_topic,
    status_payload,
    utc_now,
)

log = logging.getLogger(__name__)

CLEAR = b""  # payload that makes a broker forget a topic


class Retained:
    """The payloads that are to be at the broker, and which of them are not known to be there yet. Thread-safe.

    twin: what is known of another agent of this name; None without one.
    """

    def __init__(self, prefix: str, identity: AgentIdentity, now: Callable[[], AgentNow], outbox: Outbox) -> None:
        """Publish nothing yet.

        Args:
            prefix: first levels of all topics.
            identity: who the agent is.
            now: gives how it is.
            outbox: remembers topics.
        """
        self._prefix, self._identity, self._now, self._outbox = prefix, identity, now, outbox
        self.status_topic = agent_topic(prefix, identity.name, "status")
        self.twin: str | None = None
        self._last: dict[str, LastVerdict] = {}  # by station
        self._payloads: dict[str, bytes] = {}  # by topic
        self._unpublished: set[str] = set()
        self._remembered: set[str] | None = None  # topics that the journal has; None: not asked yet
        self._shown: object = None  # what the status that is to be published was made of
        self._lock = threading.RLock()

    def inspected(self, inspection: Inspection) -> None:
        """Note an inspection; refresh() makes its station's state anew."""
        with self._lock:
            station = inspection.frame.station
            self._last[station] = self._last.get(station, LastVerdict()).after(inspection)

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        """Note which quantities of a station's pictures are no longer as calibrated."""
        with self._lock:
            self._last[station] = replace(self._last.get(station, LastVerdict()), drift=quantities)

    def status(self, reason: str) -> bytes:
        """Return the status of the agent as it is now. reason: connected, stopped or lost."""
        return encode(status_payload(self._identity, self._now(), reason, utc_now(), self.twin))

    def refresh(self, *, all_again: bool = False) -> None:
        """Make all payloads anew, and publish those that have changed. all_again: the others, too."""
        now = self._now()
        with self._lock:
            for name, station in now.stations.items():
                last = self._last.get(name, LastVerdict())
                payload = encode(state_payload(self._identity, name, station, last, now.not_recording))
                self._put(station_topic(self._prefix, self._identity.name, name, "state"), payload)
            stations = {name: station.trace for name, station in now.stations.items()}
            shown = (now.config_sha256, stations, now.not_recording, self.twin)
            if all_again or shown != self._shown:
                self._shown = shown
                self._put(self.status_topic, self.status("connected"))
            self._clear_old()
            if all_again:
                self._unpublished.update(self._payloads)

    def again(self, topic: str) -> None:
        """Publish a topic again, as the broker has refused it, or another agent has published there."""
        with self._lock:
            if topic in self._payloads:
                self._unpublished.add(topic)

    def taken(self, topic: str) -> None:
        """Note that the broker has what was last published on a topic."""
        with self._lock:
            if self._payloads.get(topic) != CLEAR or topic in self._unpublished:
                return
            del self._payloads[topic]
            log.info("mqtt: %s is cleared: nothing is published there any more", topic)
            try:
                self._outbox.forget([topic])
            except JournalError as error:
                log.debug("mqtt: %s is cleared again at the next start (%s)", topic, error)
            else:
                (self._remembered or set()).discard(topic)

    def due(self, takes: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Yield what is to be published now, the status first. takes: whether a topic may be published now."""
        with self._lock:
            for topic in sorted(self._unpublished, key=lambda topic: topic != self.status_topic):
                if takes(topic):
                    self._remember(topic)
                    self._unpublished.remove(topic)
                    yield topic, self._payloads[topic]

    def _put(self, topic: str, payload: bytes) -> None:
        if self._payloads.get(topic) != payload:
            self._payloads[topic] = payload
            self._unpublished.add(topic)

    def _clear_old(self) -> None:
        """Clear, once, the topics that an earlier run published and this one does not."""
        if self._remembered is not None:
            return
        try:
            self._remembered = self._outbox.retained()
        except JournalError as error:
            log.debug("mqtt: old topics are cleared later (%s)", error)
            return
        for topic in self._remembered - self._payloads.keys():
            self._put(topic, CLEAR)

    def _remember(self, topic: str) -> None:
        if self._remembered is None or topic in self._remembered:
            return
        try:
            self._outbox.retain([topic])
        except JournalError as error:  # that it is there is worth more than that it can be cleared one day
            log.debug("mqtt: %s is not remembered (%s)", topic, error)
        else:
            self._remembered.add(topic)
