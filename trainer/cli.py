"""The `trainer` command line: all commands, and their errors as exit codes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from edge_agent.errors import EdgeAgentError
from trainer.commands import (
    bank,
    calibrate,
    compare,
    evaluate,
    fit,
    import_,
    materials,
    pretrain,
    reproduce,
    station,
    synthesize,
)

COMMANDS = (station, bank, fit, synthesize, import_, evaluate, reproduce, compare, calibrate, materials, pretrain)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    options.command = shlex.join(["trainer", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return int(options.run(options))
    except EdgeAgentError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"trainer: interrupted: {options.kept(options)}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line."""
    top = argparse.ArgumentParser(
        "trainer", description="Make and measure, offline, the models that edge-agent inspects with."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    top.set_defaults(kept=lambda options: "nothing was written: give the same command to start again")
    for command in COMMANDS:
        command.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
