"""What `edge-agent doctor` finds of the OPC UA server: whether its port is to be had, and its certificate in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.errors import EdgeAgentError
from edge_agent.opcua.certificate import application_uri, loaded
from edge_agent.opcua.server import can_listen
from edge_agent.settings.finding import Finding

NAME = "opcua"
SOON_DAYS = 30


def examine(host: str, port: int, cert: Path | None, key: Path | None, agent: str) -> Iterator[Finding]:
    """Yield what is found.

    Args:
        host: address to listen at.
        port: to listen at.
        cert: file of the server's certificate; None without.
        key: file of its key; None without.
        agent: the agent's name.
    """
    try:
        can_listen(host, port)
        yield Finding(NAME, "ok", f"{host}:{port} can be listened at")
    except OSError as error:
        taken = f"{host}:{port} cannot be listened at ({error.strerror}): as expected while the agent runs; else take another port"
        yield Finding(NAME, "warning", taken)
    if cert is None or key is None:
        return
    try:
        certificate = loaded(cert, key)
    except EdgeAgentError as error:
        yield Finding(NAME, "failed", str(error))
        return
    left = (certificate.expires - datetime.now(timezone.utc)).days
    if left < 0:
        yield Finding(
            NAME, "failed", f"{cert} has expired on {certificate.expires:%Y-%m-%d}: make a new one (docs/opcua.md)"
        )
    elif application_uri(agent) not in certificate.uris:
        text = f"{cert} is not for {application_uri(agent)}, which many clients insist on: make one that is (docs/opcua.md)"
        yield Finding(NAME, "warning", text)
    else:
        yield Finding(NAME, "warning" if left < SOON_DAYS else "ok", f"{cert} is valid for {left} more days")
