"""`health:`, where /metrics and /healthz are served."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_agent.settings.section import Section


class HealthConfig(Section):
    """How the agent is, for programs of this machine: http://127.0.0.1:PORT/metrics and /healthz."""

    port: Annotated[int, Field(ge=1, le=65535)] = 9464
