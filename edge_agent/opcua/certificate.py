"""The certificate of the OPC UA server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edge_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate. uris: that it is for. expires: UTC, aware."""

    uris: tuple[str, ...]
    expires: datetime


def application_uri(agent: str) -> str:
    """Return what the server calls itself; its certificate has to be for it."""
    return f"urn:edge-agent:{agent}"


def loaded(cert: Path, key: Path) -> Certificate:
    """Read a certificate and its key. Raises ConfigError unless they are readable and belong together."""
    try:
        content, secret = cert.read_bytes(), key.read_bytes()
        is_pem = content.lstrip().startswith(b"-----")
        certificate = x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)
        load_key = (
            serialization.load_pem_private_key
            if secret.lstrip().startswith(b"-----")
            else serialization.load_der_private_key
        )
        private = load_key(secret, password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{cert} and {key} are no certificate with its key ({error}): set opcua.cert and opcua.key to PEM or DER files, "
            "the key without a passphrase"
        ) from error
    as_bytes = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if certificate.public_key().public_bytes(*as_bytes) != private.public_key().public_bytes(*as_bytes):
        raise ConfigError(f"{key} is not the key of {cert}: set opcua.key to the one that is")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        uris = ()
    return Certificate(uris, certificate.not_valid_after_utc)
