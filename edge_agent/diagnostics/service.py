"""Runs a command as the installed service runs: its user, its folders and its environment (deploy/systemd)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/run/systemd/system")  # there where systemd is the first process, see sd_booted(3)


@dataclass(frozen=True, slots=True)
class Service:
    """An installed service. instance: None is edge-agent.service, else edge-agent@INSTANCE.service."""

    instance: str | None = None

    @property
    def name(self) -> str:
        """The name of its folders and of its user."""
        return f"edge-agent-{self.instance}" if self.instance else "edge-agent"

    @property
    def config(self) -> Path:
        """The config file that its unit names."""
        return Path("/etc/edge-agent") / f"{self.instance or 'config'}.yaml"

    def environment(self) -> Mapping[str, str]:
        """Return the variables that tell its folders."""
        return {"STATE_DIRECTORY": f"/var/lib/{self.name}", "XDG_CACHE_HOME": f"/var/cache/{self.name}"}

    def properties(self) -> list[str]:
        """Return the properties of its unit that decide what it may read and write, as systemd-run takes them."""
        return [
            "DynamicUser=yes",
            f"StateDirectory={self.name}",
            "StateDirectoryMode=0750",
            f"CacheDirectory={self.name}",
            "SupplementaryGroups=video",
            "LoadCredential=mqtt_password",
            "ProtectHome=read-only",
        ]


def run_as(service: Service, arguments: Sequence[str]) -> int | None:
    """Run `edge-agent ARGUMENTS` as the service's user, with its folders; return the exit code.

    None where systemd is not the first process: nothing was run then, and this process has the service's environment.
    """
    environment = service.environment()
    if not SYSTEMD.is_dir():
        os.environ.update(environment)
        return None
    # User: as DynamicUser= derives it from the unit's name; another one would be given the service's files.
    properties = [
        f"User={service.name}",
        *service.properties(),
        f"Environment=XDG_CACHE_HOME={environment['XDG_CACHE_HOME']}",
    ]
    options = [word for one in properties for word in ("--property", one)]
    command = [sys.executable, "-m", "edge_agent.cli", *arguments]
    return subprocess.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *options, *command]).returncode
