"""`edge-agent doctor`: check whether the agent would work on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.exits import FAILED, OK

if TYPE_CHECKING:
    from edge_agent.config.config import Config


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    doctor = commands.add_parser("doctor", help="check whether the agent can work on this machine")
    doctor.add_argument(
        "--config",
        type=Path,
        help="also check what this config needs: models, disk, journal, "
        "broker; default: $EDGE_AGENT_CONFIG, or ./config.yaml if there is one",
    )
    doctor.add_argument(
        "--as-service",
        dest="service",
        nargs="?",
        const="",
        metavar="INSTANCE",
        help="judge as the installed service's user, with its folders and its config (as root); INSTANCE: of edge-agent@INSTANCE",
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object a finding on stdout")
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config

    if options.service is not None:
        from edge_agent.diagnostics.service import Service, run_as

        service = Service(options.service or None)
        options.config = options.config or service.config
        wanted = ["doctor", "--config", str(options.config.absolute()), *(["--json"] if options.json else [])]
        code = run_as(service, wanted)
        if code is not None:
            return code
        print("no systemd runs here: with the service's folders, but not as its user", file=sys.stderr)
    path = options.config or default_path()
    there = options.config or "EDGE_AGENT_CONFIG" in os.environ or path.exists()
    return _examine(load_config(path) if there else None, options)


def _examine(config: Config | None, options: argparse.Namespace) -> int:
    """Print the findings; return the exit code."""
    import json
    from dataclasses import asdict

    from edge_agent.diagnostics.doctor import examine

    failed = False
    for finding in examine(config):
        failed |= finding.state == "failed"
        print(
            json.dumps(asdict(finding)) if options.json else f"{finding.state:8} {finding.name:9} {finding.text}",
            flush=True,
        )
    if not options.json:
        works = "the agent would work here" if config else "the agent would work here; no config.yaml was examined"
        print("the agent would not work here: correct what failed" if failed else works)
    return FAILED if failed else OK
