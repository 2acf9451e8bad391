"""The agent as a user runs it: config.yaml, pictures, the daemon in its own process, and its journal."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge_agent.cli import main
from tests.conftest import PATIENCE_S, wait_until
from tests.made import gradient, png
from tests.mosquitto import Mosquitto

ALL_NOT_OK, ALL_OK = 0.0, 1.0  # thresholds that decide every verdict, whatever the model says


def station(name: str = "cam1", *, threshold: float = ALL_NOT_OK, **more: object) -> dict[str, object]:
    """Return a station's section of config.yaml; it watches the folder of its name."""
    return {"name": name, "source": {"folder": f"./{name}"}, "threshold": threshold, **more}


def write_config(
    folder: Path, *stations: Mapping[str, object], broker: Mosquitto | None = None, **sections: object
) -> Path:
    """Write FOLDER/config.yaml with the agent's data in FOLDER/data, and return its path. JSON is YAML, too."""
    content: dict[str, object] = {"agent": {"name": "box", "data_dir": "./data"}, "stations": stations or [station()]}
    if broker:
        content["mqtt"] = {"host": "127.0.0.1", "port": broker.port, "prefix": "plant/line", "keepalive_s": 5}
    path = folder / "config.yaml"
    path.write_text(json.dumps({**content, **sections}, indent=2))
    return path


def part(path: Path, seed: int = 0) -> Path:
    """Write a picture without a defect; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(gradient(48, 64, seed)))
    return path


def journalled(journal: Path) -> list[dict[str, Any]]:
    """Read the inspections of a journal's file in the order of recording, while the agent may be writing."""
    if not journal.exists():
        return []
    with closing(sqlite3.connect(f"file:{quote(str(journal))}?mode=ro", uri=True, timeout=PATIENCE_S)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("SELECT * FROM inspections ORDER BY number")]


class Daemon:
    """`edge-agent run`, forked from a server that has imported torch already, as that takes longer than most tests."""

    def __init__(self, config: Path, *, before: Callable[[], None] | None = None, **environment: str) -> None:
        """before: called in the new process before it runs; a module's own function. environment: variables to set there."""
        self._data, self._log = config.parent / "data", config.parent / "log"
        self._earlier = len(self._log.read_bytes()) if self._log.exists() else 0
        self._process = forks().Process(
            target=run_logged, args=(["run", "--config", str(config)], self._log, before, environment)
        )
        self._process.start()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What this start has logged."""
        return self._log.read_bytes()[self._earlier :].decode() if self._log.exists() else ""

    def until(self, said: str) -> None:
        """Wait until it has logged this text."""
        wait_until(lambda: said in self.log or not self._process.is_alive(), f"the daemon says {said!r}")
        assert said in self.log, self.log

    def has_inspected(self, *names: str) -> None:
        """Wait until exactly these pictures, by file name and in any order, are in its journal."""
        try:
            wait_until(
                lambda: sorted(self.inspected) == sorted(names) or not self._process.is_alive(), f"all of {names}"
            )
        finally:
            assert sorted(self.inspected) == sorted(names), self.log

    @property
    def inspected(self) -> list[str]:
        return [Path(row["origin"]).name for row in self.rows]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return journalled(self._data / "journal.db")

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        self._process.join(PATIENCE_S)
        assert self._process.exitcode is not None, f"it does not end:\n{self.log}"
        return self._process.exitcode

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, as systemd or Ctrl-C would; it has to exit with 0."""
        os.kill(self.pid, number)
        assert self.ended() == 0, self.log

    def kill(self) -> None:
        """Kill it, as the kernel does when memory runs out. Does nothing if it has ended."""
        self._process.kill()
        self._process.join(PATIENCE_S)


@functools.cache
def forks() -> ForkServerContext:
    """Return a server that forks processes which have imported already what an agent imports."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.preloaded"])
    return forks


def run_logged(
    arguments: Sequence[str],
    log: Path,
    before: Callable[[], None] | None,
    environment: Mapping[str, str],
    program: Callable[[Sequence[str]], int] = main,
) -> None:
    """Run a command line in the present process, by default the agent's, with its output in a file."""
    if before:
        before()
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(program(arguments))
