"""A real Mosquitto on a free loopback port, certificates for it, and a listener to all topics."""

from __future__ import annotations

import getpass
import json
import random
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.conftest import PATIENCE_S, wait_until


def program(name: str) -> str:
    """Return the full path of a program; skip the test where it is not installed. Debian keeps mosquitto in /usr/sbin."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt install mosquitto openssl)")
    return found


def free_port() -> int:
    """A port that nobody listens on and, being none that the system gives to clients, nobody takes while it is down.

    A client that keeps trying a port of the system's own range may even connect to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, PEM files."""

    cert: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """Make a certificate authority."""
    extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
    return _certificate(folder, name, extensions, None)


def certificate(
    folder: Path, name: str, signed_by: Certificate, *, usage: str, subject: str = "IP:127.0.0.1"
) -> Certificate:
    """usage: serverAuth or clientAuth. subject: IP:... or DNS:..., what a server's name is checked against."""
    extensions = (
        f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
        f"subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName={subject}\n"
    )
    return _certificate(folder, name, extensions, signed_by)


def _certificate(folder: Path, name: str, extensions: str, signed_by: Certificate | None) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request, wanted = folder / f"{name}.csr", folder / f"{name}.ext"
    wanted.write_text(extensions)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl("req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
    if signed_by is None:
        signature: list[object] = ["-signkey", made.key]
    else:
        signature = ["-CA", signed_by.cert, "-CAkey", signed_by.key, "-CAcreateserial"]
    _openssl("x509", "-req", "-in", request, "-days", "2", *signature, "-extfile", wanted, "-out", made.cert)
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run([program("openssl"), *map(str, arguments)], check=True, capture_output=True, timeout=PATIENCE_S)


class Mosquitto:
    """A broker that keeps its sessions and retained messages over restarts.

    users: passwords by name; then nobody else gets in. server: TLS with this certificate. clients_by: the authority
    that every client needs a certificate of. settings: further lines of mosquitto.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        server: Certificate | None = None,
        clients_by: Certificate | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self._program = program("mosquitto")
        self._folder = folder / "mosquitto"
        self._folder.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.access = self._folder / "access"
        lines = [
            f"user {getpass.getuser()}",  # it would become another user, who cannot read the folder
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_queued_messages 0",
            f"allow_anonymous {'false' if users else 'true'}",
            *settings,
        ]
        if users:
            passwords = self._folder / "passwords"
            passwords.touch(0o600)
            for name, password in users.items():
                command = [program("mosquitto_passwd"), "-b", str(passwords), name, password]
                subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
            lines.append(f"password_file {passwords}")
        if server:
            lines += [f"certfile {server.cert}", f"keyfile {server.key}"]
        if clients_by:
            lines += [f"cafile {clients_by.cert}", "require_certificate true"]
        self._lines = lines

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def allow(self, *rules: str) -> None:
        """Allow just this from now on, in the words of mosquitto's acl_file, such as `topic readwrite line/#`."""
        self.access.write_text("".join(f"{rule}\n" for rule in rules))
        if f"acl_file {self.access}" not in self._lines:
            self._lines.append(f"acl_file {self.access}")
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start, and wait until it listens."""
        settings = self._folder / "mosquitto.conf"
        # In this order, as some settings belong to the listener above them.
        settings.write_text("\n".join([f"listener {self.port} 127.0.0.1", *self._lines]) + "\n")
        log = self._folder / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen([self._program, "-c", settings], stdout=file, stderr=file)
        wait_until(lambda: self._listens() or self._process.poll() is not None, "mosquitto listens")
        assert self._process.poll() is None, f"mosquitto does not start:\n{log.read_text()}"

    def stop(self) -> None:
        """Stop it cleanly; it saves its sessions. Does nothing if it is not running."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            finally:
                self._process.kill()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def forget(self) -> None:
        """Lose sessions and retained messages. Only while stopped."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Suspend it: connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        with socket.socket() as trial:
            trial.settimeout(1.0)
            return trial.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Heard:
    """One message; of one that clears its topic, or is no JSON, the payload is empty. retained: it waited when the listener subscribed."""

    topic: str
    payload: dict[str, Any]
    retained: bool


class Listener:
    """Receives every message at least once; the broker keeps those that come while either is away."""

    def __init__(
        self,
        broker: Mosquitto,
        *,
        username: str | None = None,
        password: str | None = None,
        ca: Path | None = None,
        own: Certificate | None = None,
    ) -> None:
        self._heard: list[Heard] = []
        self._lock = Lock()
        self._subscribed = False
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"listener{random.getrandbits(64):x}", protocol=paho.MQTTv5
        )
        client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 1)
        if username:
            client.username_pw_set(username, password)
        if ca:
            context = ssl.create_default_context(cafile=str(ca))
            if own:
                context.load_cert_chain(own.cert, own.key)
            client.tls_set_context(context)
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", broker.port, keepalive=10, clean_start=False, properties=lasting)
        client.loop_start()
        wait_until(lambda: self._subscribed, "the listener is subscribed")

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        try:
            payload = json.loads(message.payload or b"{}")
        except (ValueError, RecursionError):  # tests send what is no message, too
            payload = {}
        with self._lock:
            self._heard.append(Heard(message.topic, payload, message.retain))

    def settled(self) -> None:
        """Wait until what was published before has come: a message of its own, sent now, has."""
        mark = f"{random.getrandbits(64):x}/settled"
        self._client.publish(mark, b"{}", qos=1)
        wait_until(lambda: any(one.topic == mark for one in self.heard("settled")), "the listener has heard all")

    def heard(self, kind: str) -> list[Heard]:
        """Return all messages on topics that end in /kind, in order of arrival."""
        with self._lock:
            return [message for message in self._heard if message.topic.endswith(f"/{kind}")]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        return [message.payload for message in self.heard(kind)]

    def ids(self, kind: str) -> list[str]:
        """Return the ids of those messages without repetitions, in order of first arrival."""
        return list(dict.fromkeys(payload["id"] for payload in self.payloads(kind)))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker whose files lie in the test's folder."""
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    """A listener to all topics from the start of the test."""
    with Listener(broker) as listening:
        yield listening
