"""Lists the cameras that GenTL producers find, in a process of its own, as a producer may hang or crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from edge_agent.errors import EdgeAgentError
from edge_agent.sources.camera.genicam.producers import FoundCamera, Producers
from edge_agent.sources.camera.reachable import Unreachable

TIMEOUT_S = 30.0  # a producer asks all networks, and waits for answers

_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    "from edge_agent.sources.camera.genicam.listing import main; main(sys.argv[2:])"
)


def find_cameras(files: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[FoundCamera]:
    """Return the cameras that these producers find.

    Args:
        files: of the producers.
        timeout_s: seconds after which they are given up.

    Raises:
        EdgeAgentError: a producer cannot be loaded, fails, or does not answer.
    """
    command = [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), *files]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise EdgeAgentError(f"no answer of the GenTL producers within {timeout_s:g} s ({', '.join(files)})") from error
    if ended.returncode:
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise EdgeAgentError(f"the GenTL producers ended the process that asked them ({', '.join(files)}): {last[0]}")
    answer = json.loads(ended.stdout)
    if isinstance(answer, str):
        raise EdgeAgentError(answer)
    return [FoundCamera(**one) for one in answer]


def main(files: Sequence[str]) -> None:
    """Write the cameras, or why there are none, to standard output, as JSON."""
    answers = os.dup(1)
    os.dup2(2, 1)  # producers may print
    try:
        found: object = [asdict(one) for one in Producers(files).find()]
    except Unreachable as error:
        found = str(error).removeprefix("cannot be opened: ")
    os.write(answers, json.dumps(found).encode())
    os._exit(0)  # closing a producer may hang
