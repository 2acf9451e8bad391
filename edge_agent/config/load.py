"""Reads config.yaml into a Config; the only reader of YAML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from edge_agent.config.checks import CHECKS, contradictions, squeezed_pictures, unreadable_folders, warnings
from edge_agent.config.config import Config
from edge_agent.config.errors import empty_values, problems_of
from edge_agent.config.places import Document, Problem, parse, shown
from edge_agent.errors import ConfigError
from edge_agent.io.texts import read_text
from edge_agent.settings.section import Loc

MAX_BYTES = 256 * 1024
MAX_LINES = 100  # of errors; more than that have one common cause


def default_path() -> Path:
    """Return the config file when none is named: $EDGE_AGENT_CONFIG, or config.yaml in the working directory."""
    return Path(os.environ.get("EDGE_AGENT_CONFIG") or "config.yaml")


def load_config(path: Path, *, thorough: bool = False, folder: Path | None = None) -> Config:
    """Read and check a config file.

    Args:
        path: of the file.
        thorough: also refuse what a running agent would wait for, such as a folder that may not be read yet; default False.
        folder: where relative paths start; None (default) for that of the file.

    Raises:
        ConfigError: all errors, one line each: `FILE:LINE:COLUMN: KEY: what`.
    """
    document = parse(read_text(path, MAX_BYTES, "config file", "give --config FILE"))
    if document.data is None and not document.problems:
        raise ConfigError(
            f"{path}: is empty: it needs at least one station, see the config.yaml that comes with edge-agent"
        )
    problems = list(document.problems)
    config = None
    if document.data is not None:
        try:
            config = Config.model_validate(document.data, context={"folder": folder or path.absolute().parent})
        except ValidationError as error:
            placed = {problem.loc for problem in document.problems}
            problems += [one for one in problems_of(error, document, Config) if one.loc not in placed]
        problems += _placed(contradictions(document.data), document)
        reported = {problem.loc for problem in problems}
        problems += [problem for problem in empty_values(document) if problem.loc not in reported]
    if config is not None:
        checks = (*CHECKS, unreadable_folders) if thorough else CHECKS
        problems += [problem for check in checks for problem in _placed(check(config), document)]
    if problems or config is None:
        raise ConfigError("\n".join(_lines(path, problems)))
    found = [*warnings(config), *(squeezed_pictures(config) if thorough else ())]
    config._warnings = tuple(_lines(path, _placed(iter(found), document)))
    return config


def _placed(found: Iterator[tuple[Loc, str]], document: Document) -> list[Problem]:
    return [Problem(document.place_of(loc), loc, text) for loc, text in found]


def _lines(path: Path, problems: list[Problem]) -> list[str]:
    """Return one line for each problem, in the order of the file."""
    lines = [
        f"{path}:{place.line}:{place.column}: {shown(loc) + ': ' if loc else ''}{text}"
        for place, loc, text in sorted(problems, key=lambda problem: problem.place)
    ]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"{path}: and {len(lines) - MAX_LINES} more"]
    return lines
