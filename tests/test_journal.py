"""What every journal promises, SQLite and PostgreSQL alike."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from edge_agent.config.database import sqlite_url
from edge_agent.core import MQTT, AlarmEvent, AlarmKind, Evaluation, Evidence, SavedFile
from edge_agent.journal.journal import Journal
from tests.conftest import PATIENCE_S
from tests.line import DEFECTS, NOON, TRACE, evidence, inspected, message, not_decidable, stored_file

RAISED, REPEATED, CLEARED = AlarmEvent.RAISED, AlarmEvent.REPEATED, AlarmEvent.CLEARED


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    journal = Journal.open(url)
    yield journal
    journal.close()


def test_an_inspection_comes_back_as_it_was_recorded_even_after_a_restart(url: str) -> None:
    inspection = inspected(RAISED, file=stored_file())
    before = datetime.now(timezone.utc)
    journal = Journal.open(url)
    assert journal.record(inspection, evidence(), [message(inspection)])
    journal.close()

    journal = Journal.open(url)
    (found,) = journal.inspections()
    journal.close()
    assert (found.id, found.station, found.seq) == (inspection.id, "cam1", inspection.frame.seq)
    assert found.taken_at == inspection.frame.taken_at
    assert found.taken_at.utcoffset() == timedelta(0)
    assert before <= found.inspected_at <= datetime.now(timezone.utc)
    assert (found.part_id, found.trigger_id) == (inspection.frame.part_id, None)
    assert (found.origin, found.width, found.height) == ("/pictures/a.png", 64, 48)
    assert (found.score, found.threshold) == (0.875, 0.62)
    assert found.verdict == inspection.verdict
    assert found.verdict.regions == DEFECTS
    assert found.trace == TRACE
    assert found.timings == {"read": 31.5, "judge": 0.25}
    assert found.evidence == evidence()
    assert found.simulated is False


def test_a_picture_that_nobody_could_read_is_recorded_with_its_reason(journal: Journal) -> None:
    journal.record(not_decidable("a.png: truncated"), Evidence(), [])
    (found,) = journal.inspections()
    assert found.verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert (found.verdict.reason, found.score, found.width) == ("a.png: truncated", None, 0)
    assert found.evidence == Evidence(None, None)


def test_messages_wait_in_the_order_of_recording_until_they_are_sent(journal: Journal) -> None:
    sent = []
    for alarm in (RAISED, None, REPEATED, CLEARED):
        inspection = inspected(alarm)
        messages = [message(inspection, "result"), message(inspection)] if alarm else []
        journal.record(inspection, Evidence(), messages)
        sent += messages
    waiting = journal.outbox(MQTT).pending(100)
    assert [row.message.id for row in waiting] == [one.id for one in sent]
    assert [row.seq for row in waiting] == sorted({row.seq for row in waiting})
    assert [(row.message.kind, row.message.station, row.message.payload) for row in waiting] == [
        (one.kind, one.station, one.payload) for one in sent
    ]
    assert journal.outbox(MQTT).outbox_depth() == (6, waiting[0].created_at)
    assert waiting[0].created_at.utcoffset() == timedelta(0)

    journal.outbox(MQTT).mark_sent([waiting[0].seq, waiting[2].seq])
    assert [row.seq for row in journal.outbox(MQTT).pending(2)] == [waiting[1].seq, waiting[3].seq]
    journal.outbox(MQTT).mark_sent(row.seq for row in waiting)
    journal.outbox(MQTT).mark_sent([])
    assert journal.outbox(MQTT).pending(100) == []
    assert journal.outbox(MQTT).outbox_depth() == (0, None)


def test_a_seq_is_never_given_twice_even_after_a_restart(url: str) -> None:
    seqs = []
    for _ in range(3):
        journal = Journal.open(url)
        inspection = inspected(RAISED)
        journal.record(inspection, Evidence(), [message(inspection)])
        (row,) = journal.outbox(MQTT).pending(10)
        journal.outbox(MQTT).mark_sent([row.seq])
        journal.close()
        seqs.append(row.seq)
    assert seqs == sorted(set(seqs))


def test_recording_one_inspection_again_changes_nothing_and_says_so(journal: Journal) -> None:
    inspection = inspected(RAISED)
    assert journal.record(inspection, evidence(), [message(inspection)]) is True
    assert journal.record(inspection, evidence(), [message(inspection)]) is False
    assert (len(journal.inspections()), journal.outbox(MQTT).outbox_depth()[0]) == (1, 1)


def test_recording_one_file_again_changes_nothing_and_says_so(journal: Journal) -> None:
    first, again = inspected(RAISED, file=stored_file()), inspected(RAISED, file=stored_file(inode=8))
    assert journal.record(first, Evidence(), [message(first)]) is True
    assert journal.record(again, Evidence(), [message(again)]) is False
    assert [found.id for found in journal.inspections()] == [first.id]
    assert journal.outbox(MQTT).outbox_depth()[0] == 1


def test_a_record_that_cannot_be_made_whole_leaves_nothing_behind(journal: Journal) -> None:
    inspection = inspected(RAISED, file=stored_file())
    naive = replace(inspection, frame=replace(inspection.frame, taken_at=datetime(2026, 11, 20)))
    unsendable = replace(message(inspection), payload={"picture": b"no JSON"})
    with pytest.raises(StatementError, match="no time zone"):
        journal.record(naive, evidence(), [message(inspection)])
    with pytest.raises((StatementError, TypeError), match="not JSON serializable"):
        journal.record(inspection, evidence(), [message(inspection), unsendable])
    assert (journal.inspections(), journal.outbox(MQTT).pending(10)) == ([], [])
    assert not journal.seen("cam1", stored_file())
    assert journal.record(inspection, evidence(), [message(inspection)])


def test_the_ledger_knows_a_file_by_path_and_content_or_by_being_renamed(journal: Journal) -> None:
    file = stored_file("/pictures/a.png", "content", inode=7, mtime_ns=5)
    assert not journal.seen("cam1", file)
    journal.record(inspected(file=file), Evidence(), [])
    assert journal.seen("cam1", file)
    touched = replace(file, mtime_ns=6)
    renamed = replace(file, path="/pictures/b.png")
    assert journal.seen("cam1", touched)
    assert journal.seen("cam1", renamed)
    assert not journal.record(inspected(file=renamed), Evidence(), [])

    rewritten = stored_file("/pictures/a.png", "CONTENT", inode=7, mtime_ns=6)
    copied = replace(file, path="/pictures/c.png", inode=8)
    assert not journal.seen("cam1", rewritten)
    assert not journal.seen("cam1", copied)
    assert not journal.seen("cam2", file)
    assert journal.record(inspected(file=rewritten), Evidence(), [])
    assert journal.record(inspected(file=copied), Evidence(), [])
    assert journal.record(inspected(file=file, station="cam2"), Evidence(), [])


def test_the_ledger_knows_a_file_by_its_stat_alone_only_where_nothing_of_it_changed(journal: Journal) -> None:
    file = stored_file("/pictures/a.png", "content", inode=2**64 - 3, mtime_ns=5)
    journal.record(inspected(file=file), Evidence(), [])
    assert journal.seen_stats("cam1", {file.path: (file.inode, file.size, file.mtime_ns)})
    assert not journal.seen_stats("cam2", {file.path: (file.inode, file.size, file.mtime_ns)})
    assert not journal.seen_stats("cam1", {"/pictures/b.png": (file.inode, file.size, file.mtime_ns)})
    assert not journal.seen_stats("cam1", {file.path: (7, file.size, file.mtime_ns)})
    assert not journal.seen_stats("cam1", {file.path: (file.inode, 8, file.mtime_ns)})
    assert not journal.seen_stats("cam1", {file.path: (file.inode, file.size, 6)})


def test_file_names_and_part_ids_that_are_not_text_are_kept_as_escapes(journal: Journal) -> None:
    file = stored_file(os.fsdecode(b"/pictures/Pr\xfcfung.png"))
    inspection = inspected(RAISED, file=file)
    inspection = replace(inspection, frame=replace(inspection.frame, part_id="SN\x001"))
    unusual = replace(message(inspection), payload={"origin": file.path, "part_id": "SN\x001"})
    journal.record(inspection, Evidence(), [unusual])
    assert journal.seen("cam1", file)
    assert journal.seen_stats("cam1", {file.path: (file.inode, file.size, file.mtime_ns)})
    (found,) = journal.inspections()
    assert (found.origin, found.part_id) == ("/pictures/Pr\\udcfcfung.png", "SN\\x001")
    assert journal.outbox(MQTT).pending(1)[0].message.payload == unusual.payload


def test_a_station_s_alarm_is_active_until_it_is_cleared_whatever_the_clock_says(journal: Journal) -> None:
    assert journal.standing_alarms() == {}
    yesterday = NOON - timedelta(days=1)
    for station, alarm, taken_at in [
        ("cam1", RAISED, NOON),
        ("cam2", RAISED, NOON),
        ("cam1", REPEATED, NOON),
        ("cam1", CLEARED, yesterday),
        ("cam2", None, NOON),
        ("cam3", None, NOON),
    ]:
        journal.record(inspected(alarm, station, taken_at=taken_at), Evidence(), [])
    journal.record(inspected(RAISED, "cam1", simulated=True), Evidence(), [])
    assert journal.standing_alarms() == {"cam1": frozenset(), "cam2": {AlarmKind.DEFECT}}


def test_inspections_are_found_by_station_and_time(journal: Journal) -> None:
    hours = [NOON + timedelta(hours=hour) for hour in (2, 0, 1)]
    eastern = timezone(timedelta(hours=9))
    for hour in hours:
        for station in ("cam1", "cam2"):
            journal.record(inspected(RAISED, station, taken_at=hour.astimezone(eastern)), Evidence(), [])
    assert [found.taken_at for found in journal.inspections("cam1")] == sorted(hours)
    assert [found.taken_at for found in journal.inspections(limit=3)] == [NOON, NOON, sorted(hours)[1]]
    later = journal.inspections(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2))
    assert [(found.station, found.verdict.regions) for found in later] == [("cam1", DEFECTS), ("cam2", DEFECTS)]


def test_what_was_replayed_is_told_in_the_order_of_recording_whatever_lies_between(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.journal.journal.PAGE", 3)
    assert (journal.last_number(), journal.last_number("cam1"), list(journal.outcomes("cam1", 0))) == (0, 0, [])
    replayed = []
    for number in range(12):
        station, simulated = ("cam2", "cam1")[number % 2], number not in (5, 6, 7, 8, 9)
        file = stored_file(f"/pictures/{number}.png", str(number), inode=number)
        one = inspected(RAISED, station, file, NOON - timedelta(seconds=number), simulated)
        journal.record(one, evidence() if number else Evidence(), [])
        replayed += [one] if station == "cam1" and simulated else []
    told = list(journal.outcomes("cam1", 0))
    assert [(one.origin, one.taken_at, one.part_id) for one in told] == [
        (one.frame.origin, one.frame.taken_at, one.frame.part_id) for one in replayed
    ]
    assert {(one.width, one.height, one.evaluation, one.score) for one in told} == {(64, 48, Evaluation.NOT_OK, 0.875)}
    saved = evidence().overlay
    assert saved is not None
    assert {one.overlay for one in told} == {saved.uri}
    assert journal.last_number() == journal.last_number("cam1") == journal.last_number("cam2") + 1
    assert list(journal.outcomes("cam1", journal.last_number("cam2"))) == told[-1:]


def test_evidence_that_retention_deleted_is_no_longer_named(journal: Journal) -> None:
    one, two = evidence("1"), evidence("2")
    for kept in (one, two):
        journal.record(inspected(), kept, [])
    assert one.image is not None
    assert two.image is not None
    assert two.overlay is not None
    journal.clear_uris([one.image.uri, two.overlay.uri, "file:///never/there.png"])
    journal.clear_uris([])
    assert [found.evidence for found in journal.inspections()] == [
        Evidence(None, one.overlay),
        Evidence(two.image, None),
    ]


def test_old_inspections_go_but_nothing_that_waits_and_no_alarm_that_is_on(journal: Journal) -> None:
    old = [
        inspected(alarm, taken_at=NOON + timedelta(seconds=i)) for i, alarm in enumerate((RAISED, None, RAISED, None))
    ]
    new = inspected(taken_at=NOON + timedelta(days=1))
    for inspection in old:
        alarm = inspection.verdict.alarm
        journal.record(inspection, evidence(inspection.id), [message(inspection)] if alarm else [])
    hour = datetime.now(timezone.utc)
    journal.record(new, Evidence(), [])
    journal.outbox(MQTT).mark_sent(
        [journal.outbox(MQTT).pending(2)[1].seq]
    )  # the message of the second alarm, which is the last one

    assert journal.purge_before(hour, limit=1).rows == 1
    assert journal.purge_before(hour).rows == 1
    assert journal.purge_before(hour).rows == 0
    assert [found.id for found in journal.inspections()] == [old[0].id, old[2].id, new.id]
    assert journal.standing_alarms() == {"cam1": {AlarmKind.DEFECT}}
    assert journal.outbox(MQTT).outbox_depth()[0] == 1

    journal.outbox(MQTT).mark_sent([journal.outbox(MQTT).pending(1)[0].seq])
    assert journal.purge_before(hour).rows == 1
    assert [found.id for found in journal.inspections()] == [old[2].id, new.id]


def test_inspections_go_by_the_time_of_inspection_whatever_the_time_of_their_pictures(url: str) -> None:
    moments = iter([NOON, NOON + timedelta(days=1), NOON + timedelta(days=2)])
    with closing(Journal.open(url, clock=lambda: next(moments))) as journal:
        of_2090, of_1970, of_today = (
            inspected(taken_at=datetime(year, 1, 1, tzinfo=timezone.utc)) for year in (2090, 1970, 2026)
        )
        for inspection in (of_2090, of_1970, of_today):
            journal.record(inspection, Evidence(), [])
        assert journal.purge_before(NOON + timedelta(hours=1)).rows == 1
        assert [found.id for found in journal.inspections()] == [of_1970.id, of_today.id]
        assert journal.purge_oldest(1).rows == 1
        assert [found.id for found in journal.inspections()] == [of_today.id]


def test_a_file_whose_inspection_went_is_not_inspected_again(journal: Journal) -> None:
    journal.record(inspected(file=stored_file()), Evidence(), [])
    assert journal.purge_before(datetime(2100, 1, 1, tzinfo=timezone.utc)).rows == 1
    assert journal.seen("cam1", stored_file())


def test_sources_the_recorder_and_the_sender_work_at_once(journal: Journal) -> None:
    files = [stored_file(f"/pictures/{number}.png", str(number), inode=number) for number in range(60)]
    failures: list[BaseException] = []
    done = threading.Event()

    def in_a_thread(work: object) -> threading.Thread:
        def guarded() -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as failure:
                failures.append(failure)
                done.set()

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def look_up() -> None:
        while not done.is_set():
            for file in files:
                journal.seen_stats("cam1", {file.path: (file.inode, file.size, file.mtime_ns)})
                journal.seen("cam1", file)

    delivered: list[int] = []

    def send() -> None:
        while not (done.is_set() and journal.outbox(MQTT).outbox_depth()[0] == 0):
            seqs = [row.seq for row in journal.outbox(MQTT).pending(7)]
            delivered.extend(seqs)
            journal.outbox(MQTT).mark_sent(seqs)

    threads = [in_a_thread(look_up), in_a_thread(look_up), in_a_thread(send)]
    for file in files:
        inspection = inspected(RAISED, file=file)
        assert journal.record(inspection, evidence(), [message(inspection)])
    done.set()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert failures == []
    assert len(delivered) == len(files)
    assert delivered == sorted(set(delivered))
    assert all(journal.seen("cam1", file) for file in files)


def test_a_journal_can_be_closed_twice_and_is_not_used_afterwards(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.record(inspected(), Evidence(), [])
    with pytest.raises(ValueError, match="closed"):
        journal.outbox(MQTT).pending(1)


def test_opening_a_journal_that_is_up_to_date_loads_neither_alembic_nor_torch(url: str) -> None:
    Journal.open(url).close()
    program = """
import sys
from edge_agent.journal.journal import Journal
Journal.open(sys.argv[1]).close()
print(sorted({"alembic", "torch", "cv2"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_saved_file_keeps_its_size_beyond_four_gigabytes(journal: Journal) -> None:
    large = Evidence(SavedFile("file:///a.tif", "a" * 64, 2**40))
    journal.record(inspected(), large, [])
    assert journal.inspections()[0].evidence == large


@pytest.mark.parametrize("name", ["a@b@c", "100%20 ?", "100%", "größer", "#1"])
def test_a_journal_lies_in_the_folder_that_is_named_whatever_is_in_its_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "journal.db"
    Journal.open(sqlite_url(path)).close()
    assert path.is_file()
    assert [one.name for one in tmp_path.iterdir()] == [name]
