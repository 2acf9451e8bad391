"""The process that decodes pictures for another one: it receives paths, and answers with shared memory.

Each message of the socket is JSON: a path is received; [height, width, null] is sent with the descriptor of the pixels'
memory, or [0, 0, reason] if the picture cannot be decoded. The process exits when the socket is closed, so it never outlives
the other one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress

import cv2

from edge_agent.errors import PictureError
from edge_agent.io.pictures import MIN_SIDE, decode

MOST_BYTES = 1 << 16  # of a message: a path has at most 4096 bytes, and a reason names one path


def main() -> None:
    """Serve until the socket is closed. Arguments: its descriptor, and the settings of pictures.decode as JSON."""
    cv2.setNumThreads(1)
    settings = json.loads(sys.argv[2])
    # The other process may stop with answers unread; then the next call here raises one of these.
    with socket.socket(fileno=int(sys.argv[1])) as parent, suppress(BrokenPipeError, ConnectionResetError):
        while message := parent.recv(MOST_BYTES):
            _answer(parent, json.loads(message), **settings)


def _answer(parent: socket.socket, path: str, max_megapixels: float, bit_depth: int | None) -> None:
    try:
        pixels = decode(
            path, max_megapixels=max_megapixels, bit_depth=bit_depth, min_side=MIN_SIDE, refuse_drawings=True
        )
    except PictureError as error:
        parent.send(json.dumps([0, 0, str(error)]).encode())
        return
    memory = os.memfd_create("edge-agent-picture")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(pixels.data)
        socket.send_fds(parent, [json.dumps([*pixels.shape[:2], None]).encode()], [memory])
    finally:
        os.close(memory)


if __name__ == "__main__":
    main()
