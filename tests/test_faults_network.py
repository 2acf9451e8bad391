"""Where no broker and no server is configured, the agent opens no connection; it does its work where there is no network."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent import journalled, part, write_config
from tests.conftest import PATIENCE_S, wait_until

# Python tells its audit hooks of every socket; what other code opens would fail, as there is no network.
WATCHED = """
import sys
from pathlib import Path
told = Path(sys.argv[1])
def hear(event, arguments):
    if event.startswith("socket."):
        with told.open("a") as file:
            file.write(f"{event} {arguments}\\n")
sys.addaudithook(hear)
from edge_agent.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def alone() -> list[str]:
    """What goes before a command that is to have no network at all, not even with itself."""
    prefix = ["unshare", *(["-n"] if _allowed("-n") else ["-r", "-n"])]
    if not _allowed(*prefix[1:]):
        pytest.skip("needs the right to make network namespaces: `unshare -rn true` fails here")
    return prefix


def _allowed(*options: str) -> bool:
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode
    )


def test_a_replay_without_a_network_does_all_and_opens_no_socket(alone: list[str], tmp_path: Path) -> None:
    pictures = [part(tmp_path / "photos" / f"{number}.png", number) for number in range(3)]
    told, out = tmp_path / "told", tmp_path / "out"
    command = [*alone, sys.executable, "-c", WATCHED, told, "replay", "--json", *pictures, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    assert not told.exists(), told.read_text()


def test_a_daemon_without_a_network_does_all_and_opens_no_socket(alone: list[str], tmp_path: Path) -> None:
    config = write_config(tmp_path)
    part(tmp_path / "cam1" / "a.png")
    told, log, journal = tmp_path / "told", tmp_path / "log", tmp_path / "data" / "journal.db"
    command = [*alone, sys.executable, "-c", WATCHED, told, "run", "--config", config, "--verbose"]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            wait_until(lambda: journalled(journal) or process.poll() is not None, "it inspects")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            process.kill()
    assert not told.exists(), told.read_text()


def test_check_and_models_open_no_socket(alone: list[str], tmp_path: Path) -> None:
    told = tmp_path / "told"
    for command in (["check", "--config", write_config(tmp_path)], ["models"]):
        done = subprocess.run(
            [*alone, sys.executable, "-c", WATCHED, told, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert not told.exists(), told.read_text()


def test_the_watch_hears_of_sockets(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = WATCHED.replace("from edge_agent.cli import main", "import socket; socket.socket(); main = lambda _: 0")
    subprocess.run([sys.executable, "-c", script, told], check=True)
    assert "socket.__new__" in told.read_text()
