"""A verdict is recorded and told before its pictures are kept; what follows comes in order, also after a crash in between."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.core import MQTT, AlarmEvent, Evaluation, Evidence, EvidenceState, Inspection, Message, Record
from edge_agent.errors import JournalError
from edge_agent.evidence.store import EvidenceStore
from edge_agent.io.pictures import decode
from edge_agent.journal.journal import Journal
from edge_agent.line.keeping import Keeping
from edge_agent.line.line import Line
from edge_agent.line.resume import complete_unfinished
from edge_agent.mqtt.messages import alarm_message
from tests.conftest import PATIENCE_S, wait_until
from tests.line import inspected
from tests.test_evidence_store import stored
from tests.test_pipeline import Brightness, Given, Kept, frame, nothing, run_until, station

DARK, BRIGHT = 10, 250  # of which Brightness says OK and NotOK
PENDING = EvidenceState.PENDING


class Slow(Kept):
    """Keeps pictures of NotOK inspections, each when it is let; remembers what was committed together."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.groups: list[list[tuple[int, bool]]] = []  # of each commit: seq, and whether it completes
        self.completed: list[Inspection] = []

    def wants(self, inspection: Inspection) -> bool:
        return inspection.verdict.evaluation is Evaluation.NOT_OK

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        assert self.let.wait(PATIENCE_S)
        return Evidence()

    def commit(self, records: Sequence[Record]) -> list[bool]:
        are_new = super().commit(records)
        self.groups.append([(one.inspection.frame.seq, one.completes) for one in records])
        return are_new

    def report(self, inspection: Inspection, evidence: Evidence) -> None:
        self.completed.append(inspection)


def line_of(kept: Slow, values: Sequence[int], names: Sequence[str] = ("cam1",)) -> Line:
    frames = [frame(value, seq, names[seq % len(names)]) for seq, value in enumerate(values)]
    stations = {name: station(Brightness(), name) for name in names}
    sources = [Given(name, [one for one in frames if one.station == name]) for name in names]
    return Line(sources, stations, kept, kept, nothing, [kept], report=kept.report)


def seqs(inspections: Sequence[Inspection]) -> list[int]:
    return [one.frame.seq for one in inspections]


def test_all_verdicts_are_told_while_the_first_picture_is_still_being_written():
    kept = Slow()
    line = line_of(kept, [BRIGHT, DARK, BRIGHT, DARK])

    def told() -> bool:
        if len(kept.written) < 4:
            return False
        assert kept.let.is_set() or kept.completed == []
        kept.let.set()
        return len(kept.completed) == 4

    run_until(line, told)
    assert seqs(kept.written) == [0, 1, 2, 3]
    assert seqs(kept.completed) == [0, 1, 2, 3], "an OK inspection does not overtake the NotOK one before it"


def test_another_stations_inspections_do_not_wait():
    kept = Slow()
    line = line_of(kept, [BRIGHT, DARK, DARK, DARK], ("a", "b"))

    def told() -> bool:
        if not kept.let.is_set() and seqs(kept.completed) == [1, 3] and len(kept.written) == 4:
            kept.let.set()
        return len(kept.completed) == 4

    run_until(line, told)
    assert [one.frame.station for one in kept.completed] == ["b", "b", "a", "a"]


def test_what_waits_is_committed_together_and_each_once():
    kept = Slow()
    kept.let.set()
    busy = threading.Event()

    class Busy(Slow):
        def commit(self, records: Sequence[Record]) -> list[bool]:
            if not self.groups:
                assert busy.wait(PATIENCE_S)
            return super().commit(records)

    kept = Busy()
    kept.let.set()
    line = line_of(kept, [BRIGHT] * 30)
    threading.Timer(0.2, busy.set).start()
    run_until(line, lambda: len(kept.completed) == 30)
    assert max(map(len, kept.groups)) > 4
    for completes in (False, True):
        assert [seq for group in kept.groups for seq, its in group if its is completes] == list(range(30))


class Counting:
    """A saver whose first picture takes until it is let; remembers how each was kept."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self.kept: list[bool] = []

    def wants(self, inspection: Inspection) -> bool:
        return True

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        if not self.kept:
            self.begun.set()
            assert self.let.wait(PATIENCE_S)
        self.kept.append(shrunk)
        return Evidence(state=EvidenceState.SHRUNK if shrunk else None)


@pytest.mark.parametrize(("when_behind", "small", "dropped"), [("shrink", 4, 0), ("drop_ok", 0, 2), ("wait", 0, 0)])
def test_pictures_that_come_faster_than_they_can_be_kept(monkeypatch, caplog, when_behind, small, dropped):
    pixels = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr("edge_agent.line.keeping.BEHIND_BYTES", 3 * pixels.nbytes)
    saver = Counting()
    keeping = Keeping(saver, when_behind=when_behind, threads=1)
    keeping.start()
    ok, bad = inspected(pixels=pixels), inspected(AlarmEvent.RAISED, pixels=pixels)
    first = keeping.keep(bad)
    assert saver.begun.wait(PATIENCE_S)
    jobs = [first, *(keeping.keep(one) for one in (ok, bad, ok, bad, ok))]
    saver.let.set()
    keeping.close()
    assert sum(saver.kept) == keeping.behind[EvidenceState.SHRUNK] == small
    assert keeping.behind[EvidenceState.DROPPED] == dropped
    assert [job.evidence.state for job in jobs if job.evidence].count(EvidenceState.DROPPED) == dropped
    assert all(job.evidence for job in jobs)
    assert "pictures come faster than they can be kept" in caplog.text


@pytest.mark.parametrize(("name", "most"), [("FULL_BYTES", 20 * frame(0).pixels.nbytes), ("FULL_JOBS", 20)])
def test_the_line_inspects_no_more_than_fits_into_memory(monkeypatch, name, most):
    monkeypatch.setattr(f"edge_agent.line.keeping.{name}", most)
    kept = Slow()
    line = line_of(kept, [BRIGHT] * 200)
    stop, rounds = threading.Event(), []
    thread = threading.Thread(target=line.run, args=(stop,), kwargs={"between": lambda: rounds.append(1)})
    thread.start()
    try:
        wait_until(lambda: line.keeping.is_full, "too many pictures wait")
        seen = len(rounds)
        wait_until(lambda: len(rounds) > seen + 3, "the line goes round, and takes nothing")
        assert len(kept.recorded) <= 20 + 3 * 8
        kept.let.set()
        wait_until(lambda: len(kept.completed) == 200, "all are complete")
    finally:
        kept.let.set()
        stop.set()
        thread.join(PATIENCE_S)
    assert seqs(kept.completed) == list(range(200))


# After a crash in between


def messages(inspection: Inspection, evidence: Evidence) -> list[Message]:
    alarm = alarm_message(inspection, evidence)
    return [alarm] if alarm else []


def test_a_crash_between_verdict_and_pictures_loses_no_message_and_says_which_pictures_it_cost(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    first, second = (inspected(AlarmEvent.RAISED, pixels=pixels) for _ in range(2))
    store = EvidenceStore(tmp_path / "evidence")
    with closing(Journal.open(f"sqlite:///{tmp_path / 'journal.db'}")) as journal:
        assert journal.commit([Record(one, Evidence(state=PENDING), []) for one in (first, second)]) == [True, True]
        saved = store.save(first)
        assert journal.outbox(MQTT).pending(10) == []
    with closing(Journal.open(f"sqlite:///{tmp_path / 'journal.db'}")) as journal:
        assert [one.evidence.state for one in journal.inspections()] == [PENDING, PENDING]
        complete_unfinished(journal, EvidenceStore(tmp_path / "evidence").found, messages)
        one, other = journal.inspections()
        assert one.evidence == saved
        assert other.evidence == Evidence(state=EvidenceState.INTERRUPTED)
        assert one.evidence.image is not None
        np.testing.assert_array_equal(decode(stored(one.evidence.image)), pixels)
        told = [row.message for row in journal.outbox(MQTT).pending(10)]
        expected = [alarm_message(first, saved), alarm_message(second, other.evidence)]
        assert [(one.id, one.payload) for one in told] == [(one.id, one.payload) for one in expected if one]
        complete_unfinished(journal, EvidenceStore(tmp_path / "evidence").found, messages)
        assert len(journal.outbox(MQTT).pending(10)) == 2, "nothing is told twice"


def test_what_completes_an_inspection_is_written_once_and_only_for_one_that_waits_for_it(tmp_path: Path):
    one, other = inspected(AlarmEvent.RAISED), inspected(AlarmEvent.RAISED)
    with closing(Journal.open(f"sqlite:///{tmp_path / 'journal.db'}")) as journal:
        later = Record(one, Evidence(), messages(one, Evidence()), completes=True)
        assert journal.commit([later]) == [False]
        assert journal.commit([Record(one, Evidence(state=PENDING), []), Record(other, Evidence(), [])]) == [True, True]
        assert journal.commit([later, later]) == [True, False]
        assert journal.commit([later, replace(later, inspection=other)]) == [False, False]
        assert len(journal.outbox(MQTT).pending(10)) == 1


def test_a_stop_while_the_journal_takes_nothing_leaves_what_follows_for_the_next_start(caplog):
    class Full(Slow):
        def commit(self, records: Sequence[Record]) -> list[bool]:
            if any(one.completes for one in records):
                raise JournalError("disk full")
            return super().commit(records)

    kept = Full()
    kept.let.set()
    line = line_of(kept, [BRIGHT])
    run_until(line, lambda: "trying again" in caplog.text)
    assert "its pictures and messages follow at the next start" in caplog.text
    assert line.counts.inspected == 1
