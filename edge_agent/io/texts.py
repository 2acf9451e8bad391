"""Small text files that were written by people or by our own programs: read whole, within a limit."""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import ConfigError


def read_text(path: Path, most_bytes: int, kind: str, remedy: str) -> str:
    """Read a file of UTF-8 text; a byte-order mark at its beginning is left out.

    Args:
        path: of the file.
        most_bytes: a larger file is refused, and not read to its end.
        kind: what it should be, for messages, such as "config file".
        remedy: what to do if there is no file.

    Raises:
        ConfigError: it cannot be read, is too large, or is not UTF-8: `FILE: what: remedy`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder: name the file in it") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: does not exist: {remedy}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise ConfigError(f"{path}: is larger than {most_bytes // 1024} KiB: this is not a {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text: save it as UTF-8") from error
