"""What commands say of an inspection, and where they log."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

from edge_agent.io.digits import told_apart
from edge_agent.io.names import Lines, printable

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from edge_agent.core import Evidence, Inspection


def as_json(inspection: Inspection, evidence: Evidence) -> str:
    """One inspection as the JSON object that a broker would get, with where the picture is from and what took how long."""
    import json

    from edge_agent.mqtt.messages import result_message

    payload = result_message(inspection, evidence).payload
    return json.dumps({**payload, "origin": inspection.frame.origin, "timings_ms": dict(inspection.timings)})


def one_line(inspection: Inspection, *, colour: bool) -> str:
    """One inspection on one line: verdict, score against threshold, milliseconds, picture, what else is to be said."""
    verdict, reading = inspection.verdict, inspection.reading
    word = f"{verdict.evaluation.value:12}"
    if colour:
        word = f"\033[{ {'OK': 32, 'NotOK': 31}.get(verdict.evaluation.value, 33) }m{word}\033[0m"
    score = " " * 20
    if reading:
        score = "score {} of {}".format(*told_apart(float(reading.score), inspection.threshold))
    said = [f"{len(verdict.regions)} region{'s' * (len(verdict.regions) != 1)}"] if verdict.regions else []
    said += [verdict.reason] if verdict.reason else []
    said += [f"alarm {verdict.alarm.value}"] if verdict.alarm else []
    title, rest = printable(inspection.frame.title), printable("; ".join(said))
    return f"{word} {score}  {sum(inspection.timings.values()):5.0f} ms  {title}  {rest}".rstrip()


def fields(inspection: Inspection) -> str:
    """One inspection as KEY=VALUE words on one line, for logs that programs search."""
    import json

    frame, verdict, reading = inspection.frame, inspection.verdict, inspection.reading
    score, threshold = None, f"{inspection.threshold:.4f}"
    if reading:
        score, threshold = told_apart(float(reading.score), inspection.threshold, digits=4)
    words = {
        "station": frame.station,
        "evaluation": verdict.evaluation.value,
        "score": score,
        "threshold": threshold,
        "alarm": verdict.alarm.value if verdict.alarm else None,
        "regions": len(verdict.regions) or None,
        "part": frame.part_id,
        "trigger": frame.trigger_id,
        "reason": verdict.reason,
        "ms": f"{sum(inspection.timings.values()):.0f}",
        "id": inspection.id,
    }
    plain = re.compile(r"[\w.:/+-]+", re.ASCII)
    said = {key: str(value) for key, value in words.items() if value is not None}
    return " ".join(f"{key}={text if plain.fullmatch(text) else json.dumps(text)}" for key, text in said.items())


def inspection_log(log: logging.Logger) -> Callable[[Inspection, Evidence], None]:
    """Return what logs one inspection on one line: as words for people, for journald as KEY=VALUE; quiet ones as debug."""
    import logging

    from edge_agent.core import Evaluation

    searched = heard_by_journald(os.environ, 2)

    def report(inspection: Inspection, evidence: Evidence) -> None:
        quiet = inspection.verdict.evaluation is Evaluation.OK and inspection.verdict.alarm is None
        level = logging.DEBUG if quiet else logging.INFO
        if searched:
            log.log(level, "%s", fields(inspection))
        else:
            log.log(level, "%s: %s", inspection.frame.station, one_line(inspection, colour=False))

    return report


def heard_by_journald(environment: Mapping[str, str], fd: int) -> bool:
    """Whether what is written to `fd` goes to the journal of systemd, which says so in $JOURNAL_STREAM."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def as_errors(text: str) -> str:
    """What is the last to be said on stderr; for journald as an error, line by line, so that who looks for errors finds it."""
    if not heard_by_journald(os.environ, 2):
        return text
    return "\n".join(f"<3>{line}" for line in text.splitlines())


def logging_to_stderr(verbose: bool, agent: str | None = None) -> logging.Logger:
    """Lines with time and level; for journald, which notes times itself, with the level as sd-daemon(3) has it.

    agent: its name, which every line carries; None for a command that is none.
    """
    import logging
    from datetime import datetime

    class Timed(logging.Formatter):
        """Times with their offset to UTC, as 2026-11-20T12:00:00.123+01:00."""

        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
            return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    class Prefixed(logging.Formatter):
        """<N> before every line, as each becomes an entry of its own."""

        def format(self, record: logging.LogRecord) -> str:
            priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
            return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())

    def make_printable(record: logging.LogRecord) -> bool:
        """Escape what names from outside would do to the log; a message's own line ends stay."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                printable(str(one))
                if isinstance(one, str | PurePath | BaseException) and not isinstance(one, Lines)
                else one
                for one in record.args
            )
        return True

    named = f"{agent.replace('%', '%%')}: " if agent else ""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(make_printable)
    if heard_by_journald(os.environ, 2):
        handler.setFormatter(Prefixed(f"{named}%(message)s"))
    else:
        handler.setFormatter(Timed(f"%(asctime)s %(levelname)s {named}%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)
    for noisy in ("PIL", "watchdog", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger("edge_agent")


# Python's levels, and syslog's priorities: critical, error, warning, informational, debug.
_PRIORITIES = ((50, 2), (40, 3), (30, 4), (20, 6), (0, 7))
