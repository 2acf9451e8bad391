"""What commands say of an inspection, and where they log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from edge_agent.core import Evidence, Inspection


def as_json(inspection: Inspection, evidence: Evidence) -> str:
    """One inspection as the JSON object that a broker would get, with where the picture is from and what took how long."""
    import json

    from edge_agent.messages import result_message

    payload = result_message(inspection, evidence).payload
    return json.dumps({**payload, "origin": inspection.frame.origin, "timings_ms": dict(inspection.timings)})


def one_line(inspection: Inspection, *, colour: bool) -> str:
    """One inspection on one line: verdict, score against threshold, milliseconds, picture, what else is to be said."""
    from edge_agent.build import title

    verdict, reading = inspection.verdict, inspection.reading
    word = f"{verdict.evaluation.value:12}"
    if colour:
        word = f"\033[{ {'OK': 32, 'NotOK': 31}.get(verdict.evaluation.value, 33) }m{word}\033[0m"
    score = f"score {reading.score:.3f} of {inspection.threshold:.3f}" if reading else " " * 20
    said = [f"{len(verdict.regions)} region{'s' * (len(verdict.regions) != 1)}"] if verdict.regions else []
    said += [verdict.reason] if verdict.reason else []
    said += [f"alarm {verdict.alarm.value}"] if verdict.alarm else []
    return (
        f"{word} {score}  {sum(inspection.timings.values()):5.0f} ms  {title(inspection)}  {'; '.join(said)}".rstrip()
    )


def logging_to_stderr(verbose: bool) -> logging.Logger:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for noisy in ("PIL", "watchdog", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger("edge_agent")
