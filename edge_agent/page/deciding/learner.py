"""The process that makes a corrected bank for the page, which never loads what that takes.

It writes lines of JSON: {"total": pictures to read}, {"read": pictures read}, and last {"made": ...} or {"error": ...}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent.config.load import load_config
from edge_agent.detectors.checkpoint import encoded
from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import write_durably, write_errors
from edge_agent.journal.rows import LabelValue
from edge_agent.learn.candidate import Candidate, make_candidate
from edge_agent.learn.gate import Compared
from edge_agent.page.deciding.candidates import BANK, digest_of

MOST = 200  # pictures that are shown


def main(arguments: Sequence[str]) -> int:
    """Make a bank, and return 0; 1 where that cannot be. arguments: config.yaml, the station's name, and a folder; see make()."""
    config, station, folder = arguments
    try:
        _tell(made=make(Path(config), station, Path(folder)))
    except EdgeAgentError as error:
        _tell(error=str(error))
        return 1
    return 0


def make(config: Path, station: str, folder: Path) -> Mapping[str, Any]:
    """Make a corrected bank, and return what it would change.

    Args:
        config: the agent's config.yaml.
        station: name of the station.
        folder: takes the bank, as BANK.
    """
    made = make_candidate(load_config(config), config, station, reading=_reading)
    path = folder / BANK
    with write_errors(path, "free some space"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        write_durably(path, encoded(made.checkpoint))
    return {**told(made), "sha256": made.checkpoint.sha256, "station": digest_of(made.station), "labels": made.learnt}


def told(made: Candidate) -> Mapping[str, Any]:
    """Return what a candidate would change, as the page shows it."""
    good = [one for one in made.compared if one.said is LabelValue.GOOD]
    defects = [one for one in made.compared if one.said is LabelValue.DEFECT]
    last = [one for one in made.compared if one.evidence]
    shown = [one for one in made.compared if one.flipped or one.lost]
    shown.sort(key=lambda one: not _is_against(one))
    return {
        "changes": made.changes,
        "learnt": len(made.found.to_learn),
        "withdrawn": len(made.found.withdrawn),
        "good": [len(good), sum(one.before for one in good), sum(one.after for one in good)],
        "defects": [len(defects), sum(not one.before for one in defects), sum(not one.after for one in defects)],
        "last": [len(last), sum(one.flipped for one in last)],
        "shown": [_shown(one) for one in shown[:MOST]],
        "more": max(0, len(shown) - MOST),
        "objections": list(made.objections),
        "left_out": list(made.left_out),
    }


def _shown(one: Compared) -> Mapping[str, Any]:
    return {
        "id": one.picture.inspection.id,
        "title": one.picture.inspection.title,
        "said": one.said.value if one.said else None,
        "before": one.before,
        "after": one.after,
        "scores": [one.score_before, one.score_after],
        "is_against": _is_against(one),
    }


def _is_against(one: Compared) -> bool:
    """Return whether the other verdict is the wrong one, by all that is known."""
    return one.lost or (one.flipped and one.after and one.said is not LabelValue.DEFECT)


def _reading(total: int) -> Callable[[int], object]:
    _tell(total=total)
    return lambda count: _tell(read=count)


def _tell(**what: object) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()
