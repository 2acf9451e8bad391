"""`agent:`, the name of this agent and its data folder."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pydantic import Field

from edge_agent.io.names import config_name
from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Name

NAME = "EDGE_AGENT_NAME"  # the variable by which a service names its agent


class AgentConfig(Section):
    """This agent. name: one level of its MQTT topics, by default $EDGE_AGENT_NAME or this machine's name.

    data_dir: folder of all that it writes, unless configured otherwise.
    """

    name: Name = Field(default_factory=lambda: config_name(os.environ.get(NAME) or platform.node()))
    data_dir: Folder = Field(
        # A systemd service may write only in its StateDirectory=.
        default_factory=lambda: Path((os.environ.get("STATE_DIRECTORY") or "edge-agent-data").split(":")[0]),
        validate_default=True,
    )
