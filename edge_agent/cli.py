"""The `edge-agent` command: its commands joined, and their errors as exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from edge_agent import __version__
from edge_agent.commands import bench, cameras, check, doctor, export, models, outbox, replay, run
from edge_agent.commands.exits import BAD_CONFIG, FAILED, INTERRUPTED
from edge_agent.commands.learning import label, learn
from edge_agent.commands.output import as_errors
from edge_agent.commands.showing import page, report
from edge_agent.errors import ConfigError, EdgeAgentError

COMMANDS = (run, replay, check, doctor, cameras, bench, models, outbox, export, label, learn, page, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 failed, 2 usage, 78 bad configuration."""
    options = parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(as_errors(str(error)), file=sys.stderr)
        return BAD_CONFIG
    except EdgeAgentError as error:
        print(as_errors(f"edge-agent: {error}"), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        "edge-agent", description="Find defects on a production line without having been trained on any."
    )
    top.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
