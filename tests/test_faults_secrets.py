"""Passwords are in nothing that the agent says, however much it is asked to say and whatever fails."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.agent import part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.forked import ran
from tests.mosquitto import Listener, Mosquitto
from tests.postgres import PASSWORD, Server

RIGHT, WRONG = "r1ght-pony/charger", "wr0ng-h@rse:battery"
SECRETS = (RIGHT, WRONG, PASSWORD)


def spellings(secret: str) -> set[str]:
    """The ways in which a password may stand in a text."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1], encoded, secret.encode().hex()}


def assert_silent(said: str) -> None:
    found = [secret for secret in SECRETS for spelling in spellings(secret) if spelling in said]
    assert not found


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_daemon_never_tells_its_passwords_whatever_fails(tmp_path: Path, postgresql: Server) -> None:
    login = private(tmp_path / "broker-password", WRONG)
    database = private(tmp_path / "database-password", PASSWORD)
    url = postgresql.url(postgresql.new_schema()).replace("postgresql://", "postgresql+psycopg://")
    url = url.replace(f":{quote(PASSWORD, safe='')}@", "@")
    with Mosquitto(tmp_path, users={"agent": RIGHT, "listener": "heard"}) as broker:
        config = write_config(
            tmp_path,
            station(),
            database={"url": url, "password": {"file": str(database)}},
            mqtt={
                "host": "127.0.0.1",
                "port": broker.port,
                "username": "agent",
                "password": {"file": str(login)},
                "keepalive_s": 5,
            },
        )
        part(tmp_path / "cam1" / "a.png", 1)
        log = tmp_path / "log"
        command = [sys.executable, "-X", "dev", "-m", "edge_agent.cli", "run", "--config", config, "--verbose"]
        with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
            try:
                wait_until(lambda: "refuses the connection" in log.read_text(), "it is refused")
                login.unlink()
                wait_until(lambda: "password cannot be read" in log.read_text(), "it misses its password")
                private(login, RIGHT)
                with Listener(broker, username="listener", password="heard") as listener:
                    wait_until(lambda: listener.ids("alarm"), "it gets in")
                postgresql.stop()
                part(tmp_path / "cam1" / "b.png", 2)
                wait_until(lambda: "check that the server runs" in log.read_text(), "it misses its database")
                postgresql.start()
                wait_until(lambda: log.read_text().count("cam1: NotOK") == 2, "it goes on")
                broker.stop()
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0, log.read_text()
            finally:
                process.kill()
    said = log.read_text()
    assert "agent" in said
    assert_silent(said)


@pytest.mark.parametrize("command", ["check", "doctor", "run"])
def test_no_command_tells_a_password_that_is_wrong(command: str, tmp_path: Path, postgresql: Server) -> None:
    database = private(tmp_path / "database-password", WRONG)
    url = postgresql.url("public").replace("postgresql://", "postgresql+psycopg://")
    url = url.replace(f":{quote(PASSWORD, safe='')}@", "@")
    with Mosquitto(tmp_path, users={"agent": RIGHT}) as broker:
        config = write_config(
            tmp_path,
            database={"url": url, "password": {"file": str(database)}},
            mqtt={
                "host": "127.0.0.1",
                "port": broker.port,
                "username": "agent",
                "password": {"env": "BROKER_PASSWORD"},
            },
        )
        code, said = ran(tmp_path / "log", command, "--config", config, BROKER_PASSWORD=WRONG)
    assert (code == 0) == (command == "check"), said
    if command != "check":
        assert "check the user name and the password" in said
    assert_silent(said)


def test_the_search_for_passwords_finds_them() -> None:
    for text in (f"url {quote(PASSWORD, safe='')}@host", f"Authorization {base64.b64encode(RIGHT.encode()).decode()}"):
        with pytest.raises(AssertionError):
            assert_silent(text)
