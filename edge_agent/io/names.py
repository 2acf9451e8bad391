"""The one place that makes texts from outside, such as part numbers, fit for file names, MQTT topics and config names."""

from __future__ import annotations

import re

UNFINISHED = (
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
    ".tmp",
    ".temp",
    ".swp",
    "~",
)  # ends of files that are being written
_UNFIT = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]")
LONGEST = 64  # characters of a file name's part or of a config name


def file_part(text: str, otherwise: str = "_", *, ascii_only: bool = True, also: str = "") -> str:
    """Return `text` as part of a file name: it can neither leave its folder nor be a hidden file.

    Args:
        text: any text; each run of characters that are no letter, digit, `.`, `_` or `-` becomes one `_`.
        otherwise: what to return where nothing is left.
        ascii_only: whether letters and digits of other scripts are replaced, too.
        also: further characters to keep.
    """
    kept = re.sub(rf"[^\w.{re.escape(also)}-]+", "_", text, flags=re.ASCII if ascii_only else re.UNICODE)
    return kept[:LONGEST].lstrip(".") or otherwise


def printable(text: str) -> str:
    """Return `text` fit for a line of a log or a terminal: what would end, erase or turn it round becomes an escape.

    These are control characters, line ends, marks of writing direction, and bytes of a file name that are not UTF-8.
    """
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Lines(str):
    """Text of several lines that is our own, which a log shows as such."""

    __slots__ = ()


def topic_level(text: str) -> str:
    """Return `text` as one level of an MQTT topic: / + # $, white space and control characters become `_` each."""
    return re.sub(r"[/+#$\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", text) or "_"


def config_name(text: str) -> str:
    """Return the nearest text that is valid as a name in config.yaml, such as a station's or the agent's."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:LONGEST] or "edge-agent"
