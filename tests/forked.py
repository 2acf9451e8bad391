"""Commands and functions in processes of their own, forked from a server that has imported what they need: see agent.forks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from edge_agent import cli
from tests.agent import forks, run_logged
from tests.conftest import PATIENCE_S
from tests.mosquitto import free_port

Program = Callable[[Sequence[str]], int]


def started(
    log: Path,
    *arguments: object,
    program: Program = cli.main,
    before: Callable[[], None] | None = None,
    **environment: str,
) -> BaseProcess:
    """Start a command line.

    Args:
        log: A file; its output and its errors are added to it.
        arguments: Of the command line.
        program: Its main(), which returns the exit code.
        before: Called in the new process before it runs; a module's own function.
        environment: Variables to set there.
    """
    process = forks().Process(
        target=run_logged, args=(list(map(str, arguments)), log, before, environment, program), daemon=False
    )
    process.start()
    return process


def ran(log: Path, *arguments: object, program: Program = cli.main, **environment: str) -> tuple[int, str]:
    """Run a command line; return its exit code, and its output and errors. For the arguments see started()."""
    before = len(log.read_bytes()) if log.exists() else 0
    process = started(log, *arguments, program=program, **environment)
    process.join(PATIENCE_S)
    said = log.read_bytes()[before:].decode()
    assert process.exitcode is not None, f"it does not end:\n{said}"
    return process.exitcode, said


def together(count: int, function: Callable[..., object], *arguments: object) -> None:
    """Call a module's own function in `count` processes at once, with the environment that torchrun gives each of them."""
    shared = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for number in range(count):
        own = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(count)}
        processes.append(forks().Process(target=_call, args=(shared | own, function, arguments)))
        processes[-1].start()
    for process in processes:
        process.join(PATIENCE_S)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * count


def _call(environment: Mapping[str, str], function: Callable[..., object], arguments: Sequence[object]) -> None:
    os.environ.update(environment)
    function(*arguments)
