"""A station that can decide nothing is warned of, in the log, the metrics and /healthz, and so is a source that is away."""

from __future__ import annotations

import pytest

from edge_agent.core import Evaluation, Evidence, SourceCounts, SourceStatus
from edge_agent.health.metrics import connections, undecided
from edge_agent.health.systemd import Notifier
from edge_agent.health.undecided import UndecidedRows
from edge_agent.health.watchdog import Watchdog
from tests.line import inspected


def test_a_long_row_is_warned_of_at_each_doubling_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    rows = UndecidedRows()
    for _ in range(4):
        rows.write(inspected(evaluation=Evaluation.NOT_DECIDABLE, reason="it is cut off"), Evidence())
    assert not caplog.messages
    for _ in range(11):
        rows.write(inspected(evaluation=Evaluation.NOT_DECIDABLE, reason="it is cut off"), Evidence())
    rows.write(inspected(station="cam2", evaluation=Evaluation.OK), Evidence())
    assert rows.lengths == {"cam1": 15, "cam2": 0}
    rows.write(inspected(evaluation=Evaluation.OK), Evidence())
    assert caplog.messages == [
        "station cam1: the last 5 pictures were NotDecidable, the newest because it is cut off",
        "station cam1: the last 10 pictures were NotDecidable, the newest because it is cut off",
        "station cam1: decides again, after 15 NotDecidable in a row",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert rows.lengths == {"cam1": 0, "cam2": 0}


class Away:
    """A source whose folder is gone."""

    station, live = "cam1", False

    def frames(self, stop):
        yield from ()

    def counts(self) -> SourceCounts:
        return SourceCounts(events={"losses": 1})

    def status(self) -> SourceStatus:
        return SourceStatus(False, "cannot be read (No such file or directory): create or mount it")


def test_healthz_and_the_metrics_name_what_is_away_and_what_decides_nothing() -> None:
    watchdog = Watchdog([], Notifier(None), lambda: "0 inspected")
    well, said = watchdog.health(True, [Away()], {"cam1": 15, "cam2": 0})
    assert well, "a restart would not bring the folder back"
    assert said["sources_away"] == {"cam1": "cannot be read (No such file or directory): create or mount it"}
    assert said["not_decidable_in_a_row"] == {"cam1": 15}
    figures = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in [*connections([Away()]), *undecided({"cam1": 15})]
        for sample in metric.samples
    }
    assert figures["edge_agent_source_up", "cam1"] == 0
    assert figures["edge_agent_source_events_total", "cam1", "losses"] == 1
    assert figures["edge_agent_not_decidable_in_a_row", "cam1"] == 15


def test_an_agent_whose_journal_takes_nothing_is_not_well_and_one_that_keeps_no_evidence_is() -> None:
    watchdog = Watchdog([], Notifier(None), lambda: "0 inspected")
    well, said = watchdog.health(True, not_recording="journal a.db: disk I/O error")
    assert (well, said["status"]) == (False, "not recording")
    assert said["not_recording"] == "journal a.db: disk I/O error"
    well, said = watchdog.health(True, no_evidence="Read-only file system: mount it for writing")
    assert (well, said["status"]) == (True, "ok")
    assert said["no_evidence"] == "Read-only file system: mount it for writing"
