"""The server itself: its address, how connections are secured, and who may sign in."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asyncua import Server, ua

from edge_agent import __version__
from edge_agent.opcua.certificate import application_uri, loaded
from edge_agent.opcua.users import Rules, Users

POLICIES = {
    "sign_encrypt": [
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
        ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
        ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
    ],
    "none": [ua.SecurityPolicyType.NoSecurity],
}
POLICIES["sign"] = [
    *POLICIES["sign_encrypt"],
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
]


@dataclass(frozen=True, slots=True)
class Serving:
    """Where and for whom the server is there.

    title: what it is, for the log. agent: the agent's name. security: a key of POLICIES. cert, key: files; None without
    security. passwords: by user, what gives it at each sign-in. anonymous: whoever does not sign in may look.
    """

    title: str
    agent: str
    host: str
    port: int
    security: str
    cert: Path | None
    key: Path | None
    passwords: Mapping[str, Callable[[], str]]
    anonymous: bool


def can_listen(host: str, port: int) -> None:
    """Return if the port is to be had; else raise OSError. host, port: to listen at."""
    socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()


async def prepared(config: Serving) -> Server:
    """Return a server that is yet to be started. Raises ConfigError for a certificate of no use."""
    server = Server(user_manager=Users(config.passwords, anonymous=config.anonymous))
    await server.init()
    host = f"[{config.host}]" if ":" in config.host else config.host
    server.set_endpoint(f"opc.tcp://{host}:{config.port}/")
    server.set_server_name(f"edge-agent {config.agent}")
    server.product_uri, server.manufacturer_name = "urn:edge-agent", "edge-agent"
    server.application_type = ua.ApplicationType.Server
    await server.set_application_uri(application_uri(config.agent))
    status = server.get_node(ua.ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion)
    await status.write_value(__version__)
    if config.cert and config.key:
        loaded(config.cert, config.key)
        await server.load_certificate(config.cert.read_bytes(), _format(config.cert.read_bytes()))
        await server.load_private_key(config.key.read_bytes(), format=_format(config.key.read_bytes()))
    server.set_security_policy(POLICIES[config.security], Rules())
    tokens = [ua.UserNameIdentityToken] if config.passwords else []
    server.set_identity_tokens([*tokens, *([ua.AnonymousIdentityToken] if config.anonymous else [])])
    return server


def _format(content: bytes) -> str:
    return "pem" if content.lstrip().startswith(b"-----") else "der"
