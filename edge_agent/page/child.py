"""Processes of the page that do long work beside the line and end when the page does, whatever ends that."""

from __future__ import annotations

import os
import subprocess
import sys

KILLED = "it was killed, as for want of memory: give the service more by MemoryMax="


def program(text: str) -> str:
    """Return a Python program for `child` that runs `text`, with sys imported: interrupted at the end of the page, and nice."""
    return (
        "import ctypes, os, signal, sys\n"
        "ctypes.CDLL(None).prctl(1, signal.SIGINT)\n"
        "if os.getppid() != int(sys.argv.pop(1)): sys.exit(1)\n"
        "try: os.nice(10)\n"
        "except OSError: pass\n"
    ) + text


def child(code: str, *arguments: object, stderr: int | None = None) -> subprocess.Popen[str]:
    """Start a program, whose output is read as text. It ends with the calling thread, too.

    Args:
        code: as `program` returns it.
        arguments: in its sys.argv.
        stderr: subprocess.PIPE to read its errors; default where those of the page go.

    Raises OSError.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, str(os.getpid()), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C in the page's terminal reaches it by the end of the page alone
    )
