"""The process that decodes pictures for another one: it is asked for paths, and answers with memory that both share.

Each message of the socket is JSON: a path comes in, [height, width, null] goes out with the descriptor of the pixels'
memory, or [0, 0, why] when the picture cannot be decoded. At the end of the socket it is gone, however the other one ended.
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

MOST_BYTES = 1 << 16  # of a message: paths end at 4096 bytes, reasons name one of them


def main() -> None:
    """Serve until the end of the socket, whose descriptor is the first argument; the second says how to decode."""
    cv2.setNumThreads(1)
    settings = json.loads(sys.argv[2])
    # Who stops amid the work leaves answers unread, which the next call here says in its way.
    with socket.socket(fileno=int(sys.argv[1])) as asked, suppress(BrokenPipeError, ConnectionResetError):
        while message := asked.recv(MOST_BYTES):
            _answer(asked, json.loads(message), **settings)


def _answer(asked: socket.socket, path: str, max_megapixels: float, bit_depth: int) -> None:
    try:
        pixels = decode(path, max_megapixels=max_megapixels, bit_depth=bit_depth, min_side=MIN_SIDE)
    except PictureError as error:
        asked.send(json.dumps([0, 0, str(error)]).encode())
        return
    memory = os.memfd_create("edge-agent-picture")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(pixels.data)
        socket.send_fds(asked, [json.dumps([*pixels.shape[:2], None]).encode()], [memory])
    finally:
        os.close(memory)


if __name__ == "__main__":
    main()
