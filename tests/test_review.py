"""What people look through a journal with, in SQLite and in PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

from edge_agent.core import MQTT, AlarmEvent, Evaluation, Evidence
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.reader import open_reader
from edge_agent.journal.review import Mark, Selection, open_review
from edge_agent.journal.rows import LabelValue
from edge_agent.mqtt.messages import acknowledged_message, acknowledgement_id
from tests.line import NOON, inspected

MINUTE = timedelta(minutes=1)


def test_either_database_answers_what_the_page_asks(url: str) -> None:
    ok, borderline = (inspected(taken_at=NOON + at * MINUTE, score=score) for at, score in ((0, 0.1), (1, 0.6)))
    raised = inspected(AlarmEvent.RAISED, taken_at=NOON + 2 * MINUTE)
    other = inspected(evaluation=Evaluation.NOT_OK, station="cam2", taken_at=NOON + 3 * MINUTE)
    with closing(Journal.open(url)) as journal:
        for one in (ok, borderline, raised, other):
            assert journal.record(one, Evidence(), [])
        with open_review(url) as review, open_labels(url) as labels, open_reader(url) as outbox:
            assert review.stations() == ["cam1", "cam2"]
            page = review.page(Selection(), 2)
            assert [one.id for one in page.inspections] == [other.id, raised.id]
            assert [one.id for one in review.page(Selection(), 2, page.older).inspections] == [borderline.id]
            until = Selection("cam1", NOON, NOON + 2 * MINUTE, "all")
            assert [one.id for one in review.page(until, 9).inspections] == [borderline.id, ok.id]
            assert review.neighbours(raised.id, Selection("cam1")) == (borderline.id, None)
            assert review.counts("cam1", NOON) == (3, 1)

            for of, value in ((raised, LabelValue.GOOD), (ok, LabelValue.DEFECT)):
                labels.say(Statement(of.id, value, "dent" if value is LabelValue.DEFECT else None), "anna")
            assert [one.id for one in review.page(Selection(which="false_alarm"), 9).inspections] == [raised.id]
            assert [one.id for one in review.page(Selection(which="missed"), 9).inspections] == [ok.id]
            cam1, _ = review.numbers(Selection(since=NOON))
            assert (cam1.parts, cam1.not_ok, cam1.false_alarms, cam1.missed) == (3, 1, 1, 1)
            assert cam1.kinds == [("dent", 1)]
            scores = review.scores("cam1", 2)
            assert (len(scores.last), len(scores.good), len(scores.defects)) == (2, 1, 1)

            mark = review.mark()
            assert review.changed_stations(Mark(0, 0)) == {"cam1", "cam2"}
            assert review.changed_stations(mark) == set()
            alarm = review.standing_alarm("cam1", acknowledgement_id)
            assert alarm is not None
            assert (alarm.raised.id, alarm.acknowledged_by) == (raised.id, None)
            assert review.standing_alarm("cam2", acknowledgement_id) is None
            message = acknowledged_message(raised.id, "cam1", "anna", NOON, (MQTT,))
            assert outbox.queue(message, raised.id)
            assert not outbox.queue(message, raised.id)
            assert review.changed_stations(mark) == {"cam1"}
            seen = review.standing_alarm("cam1", acknowledgement_id)
            assert seen is not None
            assert seen.acknowledged_by == "anna"
        assert [row.message.id for row in journal.outbox(MQTT).pending(9)] == [message.id]
