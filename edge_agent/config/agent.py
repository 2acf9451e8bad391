"""`agent:`, the node itself."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pydantic import Field

from edge_agent.settings.section import Section
from edge_agent.settings.values import Folder, Name, sanitised


class AgentConfig(Section):
    """The node itself: name (one level of its MQTT topics), data_dir (all that it writes, unless said otherwise)."""

    name: Name = Field(default_factory=lambda: sanitised(platform.node()))
    data_dir: Folder = Field(
        # A service of systemd may write nowhere but in its StateDirectory=.
        default_factory=lambda: Path((os.environ.get("STATE_DIRECTORY") or "edge-agent-data").split(":")[0]),
        validate_default=True,
    )
