"""How the agent beside the page is, as its /healthz on this machine says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx2

TIMEOUT_S = 1.0
LONGEST = 1 << 20  # bytes of an answer


@dataclass(frozen=True, slots=True)
class AgentState:
    """How the agent is. trouble: why it inspects nothing, for every station; None while it does. away: by station, why its
    source gives no pictures."""

    trouble: str | None = None
    away: Mapping[str, str] = field(default_factory=dict)


def agent_state(port: int) -> AgentState:
    """Ask the agent. What does not answer inspects nothing. port: `health.port` of its configuration."""
    try:
        answer = httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=TIMEOUT_S, trust_env=False)
        said = json.loads(answer.content[:LONGEST])
        trouble = None if said["status"] == "ok" else str(said.get("not_recording") or said["status"])
        return AgentState(trouble, {str(name): str(why) for name, why in said["sources_away"].items()})
    except httpx2.HTTPError:
        return AgentState("the agent does not answer")
    except (ValueError, KeyError, TypeError, AttributeError):
        return AgentState(f"something else answers at port {port}: see health.port")
