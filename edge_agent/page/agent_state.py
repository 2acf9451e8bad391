"""How the agent beside the page is, as its /healthz and /metrics on this machine say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx2
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 1.0
LONGEST = 1 << 20  # bytes of an answer
DRIFT, CAPTURED, UNSENT = "edge_agent_drift", "edge_agent_frames_captured_total", "edge_agent_outbox_messages"
DONE = ("edge_agent_frames_inspected_total", "edge_agent_frames_dropped_total")


@dataclass(frozen=True, slots=True)
class AgentState:
    """How the agent is.

    trouble: why it inspects nothing, for every station; None while it does. away: by station, why its source gives no pictures.
    drifted: by station, what of its pictures is not as it was calibrated: score, brightness. waiting: by station, how many
    pictures wait; None if nobody knows. unsent: messages that wait for a receiver, such as the broker.
    alarms: by station, the kinds that stand.
    """

    trouble: str | None = None
    away: Mapping[str, str] = field(default_factory=dict)
    drifted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: Mapping[str, int] | None = None
    unsent: int = 0
    alarms: Mapping[str, Sequence[str]] = field(default_factory=dict)


def agent_state(port: int) -> AgentState:
    """Ask the agent. What does not answer inspects nothing. port: `health.port` of its configuration."""
    try:
        said = json.loads(_answer(port, "healthz"))
        inspects = said["status"] in ("ok", "twin")  # another agent of its name disturbs receivers alone
        trouble = None if inspects else str(said.get("not_recording") or said["status"])
        alarms = {str(name): list(map(str, kinds)) for name, kinds in said.get("alarms", {}).items()}
        away = {str(name): str(why) for name, why in said["sources_away"].items()}
        state = AgentState(trouble, away, alarms=alarms)
    except httpx2.HTTPError:
        return AgentState("the agent does not answer")
    except (ValueError, KeyError, TypeError, AttributeError):
        return AgentState(f"something else answers at port {port}: see health.port")
    try:
        return _with_metrics(state, _answer(port, "metrics").decode())
    except (httpx2.HTTPError, ValueError, KeyError):  # it inspects all the same
        return state


def _answer(port: int, path: str) -> bytes:
    address = f"http://127.0.0.1:{port}/{path}"
    return httpx2.get(address, timeout=TIMEOUT_S, trust_env=False).content[:LONGEST]


def _with_metrics(state: AgentState, text: str) -> AgentState:
    drifted: dict[str, tuple[str, ...]] = {}
    waiting: Counter[str] = Counter()
    unsent = 0
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            station = one.labels.get("station", "")
            if one.name == DRIFT and one.value:
                drifted[station] = (*drifted.get(station, ()), one.labels["quantity"])
            elif one.name == CAPTURED:
                waiting[station] += int(one.value)
            elif one.name in DONE:
                waiting[station] -= int(one.value)
            elif one.name == UNSENT:
                unsent += int(one.value)
    held = {station: count for station, count in waiting.items() if count > 0}
    return replace(state, drifted=drifted, waiting=held, unsent=unsent)
