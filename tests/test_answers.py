"""Each command has one answer: its verdict while that is in time, else NotDecidable at the deadline."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest

from edge_agent.core import Evaluation, Inspection
from edge_agent.journal.journal import Journal
from edge_agent.mqtt.answers import NO_VERDICT, Answers, answer_id
from edge_agent.mqtt.messages import delivery, schema
from tests.line import NOON, inspected


@pytest.fixture
def answers() -> Answers:
    answers = Answers({"cam1": 0.8, "cam2": None})
    answers.expect("cam1", "T1", "SN1", 10.0)
    return answers


def verdict(trigger_id: str = "T1", evaluation: Evaluation = Evaluation.OK) -> Inspection:
    reason = "no picture" if evaluation is Evaluation.NOT_DECIDABLE else None
    return inspected(trigger_id=trigger_id, part_id="SN1", evaluation=evaluation, reason=reason)


@pytest.mark.parametrize("evaluation", [Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE])
def test_a_verdict_in_time_is_the_answer_and_no_other_follows(answers: Answers, evaluation: Evaluation) -> None:
    answers.tell(verdict(evaluation=evaluation), 10.79, NOON)
    (message,) = answers.to_record()
    assert (message.kind, message.id) == ("verdict", answer_id("cam1", "T1"))
    assert (message.payload["evaluation"], message.payload["late"]) == (evaluation.value, False)
    answers.recorded()
    answers.look(11.0, NOON)
    answers.tell(verdict(), 11.0, NOON)
    assert answers.to_record() == []
    assert (answers.in_time, answers.late) == (1, 0)


@pytest.mark.parametrize("by_verdict", [False, True])
def test_at_the_deadline_it_is_not_decidable_whatever_comes_then(answers: Answers, by_verdict: bool) -> None:
    if by_verdict:
        answers.tell(verdict(), 10.8, NOON)
    else:
        answers.look(10.8, NOON)
    (message,) = answers.to_record()
    assert (message.payload["evaluation"], message.payload["late"], message.payload["reason"]) == (
        "NotDecidable",
        True,
        NO_VERDICT,
    )
    answers.tell(verdict(), 10.9, NOON)
    assert answers.to_record() == [message]
    answers.recorded()
    answers.expect("cam1", "T1", "SN1", 12.0)  # it comes again, from a broker that has not heard of the answer
    assert not answers.waits("cam1", "T1")
    assert (answers.in_time, answers.late) == (0, 1)


def test_an_answer_waits_until_it_is_recorded(answers: Answers) -> None:
    assert answers.waits("cam1", "T1")
    answers.tell(verdict(), 10.1, NOON)
    assert answers.waits("cam1", "T1")
    answers.recorded()
    assert not answers.waits("cam1", "T1")


def test_a_station_without_a_time_and_a_verdict_that_nobody_awaits_have_no_answer(answers: Answers) -> None:
    answers.expect("cam2", "T1", None, 10.0)
    answers.tell(inspected(station="cam2", trigger_id="T1"), 10.0, NOON)
    answers.tell(verdict("T2"), 10.0, NOON)
    assert answers.to_record() == []
    assert answers.due_s(10.5) == pytest.approx(0.3)
    answers.look(10.8, NOON)
    assert answers.due_s(10.9) == math.inf


def test_the_journal_takes_an_answer_once_and_it_is_by_its_schema(answers: Answers, tmp_path: Path) -> None:
    answers.look(10.8, NOON)
    with closing(Journal.open(f"sqlite:///{tmp_path}/journal.db")) as journal:
        journal.record_messages(answers.to_record())
        journal.record_messages(answers.to_record())
        (row,) = journal.outbox("mqtt").pending(10)
        jsonschema.validate(delivery(row, "box", False), schema("verdict"))
