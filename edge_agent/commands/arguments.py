"""Arguments that several commands share, and what they may be."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from edge_agent.inference.image_size import MAX_WINDOWS


def config_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, help="default: $EDGE_AGENT_CONFIG, or ./config.yaml")


def words(text: str) -> str:
    if text.strip():
        return text
    raise argparse.ArgumentTypeError("is empty: say what the pictures show, such as hazelnut")


def count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def windows(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MAX_WINDOWS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_WINDOWS}")


def seed(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")


def fraction(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if 0 <= value <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
