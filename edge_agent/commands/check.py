"""`edge-agent check`: check a config file and describe it."""

from __future__ import annotations

import argparse

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("check", help="check a config file, and show where each error is")
    config_option(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from edge_agent.config.describe import describe
    from edge_agent.config.load import default_path, load_config

    path = options.config or default_path()
    config = load_config(path, thorough=True)
    print(describe(config))
    print(f"\n{path} is good")
    return OK
