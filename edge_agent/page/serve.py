"""Makes the server that gives the page over HTTP, encrypted or not."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from edge_agent.errors import EdgeAgentError

KEEP_ALIVE_S = 5  # how long a connection may stay open between two requests
STOP_S = 2  # how long requests may take at the end


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises EdgeAgentError if the port cannot be had.

    host: name or address. port: 1 to 65535, or 0 for any that is free.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        said = error.strerror if isinstance(error, OSError) else "a port is 1 to 65535"
        raise EdgeAgentError(
            f"page: port {port} of {host} cannot be had ({said}): choose another, or end what uses it"
        ) from error


def server(app: ASGIApp, tls: tuple[Path, Path] | None = None) -> uvicorn.Server:
    """Return what answers requests once it is run with a socket of listen(), until SIGINT or SIGTERM.

    Args:
        app: what answers.
        tls: files of the certificate and of its key; None (default) for no encryption.

    Raises:
        EdgeAgentError: the certificate and the key do not go together.
    """
    for noisy in ("uvicorn.error", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and str(tls[1]),
    )
    try:
        config.load()
    except OSError as error:
        raise EdgeAgentError(
            f"page.tls: {tls and tls[0]}: {error}: give a PEM certificate, and the key it was made with"
        ) from error
    return uvicorn.Server(config)
