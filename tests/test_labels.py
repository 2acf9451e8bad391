"""What people say of inspections: recorded beside a running agent, never changed, and kept until it is learnt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.core import AlarmEvent, Evaluation, Inspection
from edge_agent.errors import LabelRefused
from edge_agent.evidence.retention import Retention
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import Labels, Statement, open_labels
from edge_agent.journal.reader import open_reader
from edge_agent.journal.rows import LabelValue
from tests.line import evidence, inspected

GOOD, DEFECT, UNSURE, NONE = LabelValue.GOOD, LabelValue.DEFECT, LabelValue.UNSURE, LabelValue.NONE
FAR = datetime(2100, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    with closing(Journal.open(url)) as journal:
        yield journal


@pytest.fixture
def labels(url: str, journal: Journal) -> Iterator[Labels]:
    with open_labels(url) as labels:
        yield labels


def recorded(journal: Journal, count: int = 1, station: str = "cam1") -> list[Inspection]:
    made = [inspected(station=station) for _ in range(count)]
    for one in made:
        assert journal.record(one, evidence(one.id), [])
    return made


def test_a_label_holds_all_that_was_said(journal: Journal, labels: Labels) -> None:
    (one,) = recorded(journal)
    before = datetime.now(timezone.utc)
    said = labels.say(Statement(one.id, DEFECT, " scratch ", (4, 8, 60, 40), "left edge\n鉄"), "anna")
    assert (said.inspection, said.station, said.value) == (one.id, "cam1", DEFECT)
    assert (said.kind, said.box, said.who, said.note) == ("scratch", (4, 8, 60, 40), "anna", "left edge\n鉄")
    assert said.supersedes is None
    assert before <= said.said_at <= datetime.now(timezone.utc)
    assert labels.latest([one.id, "unknown"]) == {one.id: said}
    assert labels.kinds("cam1") == ["scratch"]
    assert labels.kinds("cam2") == []


def test_the_later_word_holds_and_names_the_earlier_one_even_if_that_is_somebody_elses(
    journal: Journal, labels: Labels
) -> None:
    (one,) = recorded(journal)
    first = labels.say(Statement(one.id, GOOD), "anna")
    second = labels.say(Statement(one.id, DEFECT), "bob", at=first.said_at - timedelta(hours=1))  # a slow clock
    assert second.supersedes == first.number
    assert labels.latest([one.id]) == {one.id: second}
    undone = labels.say(Statement(one.id, NONE), "bob")
    assert undone.supersedes == second.number
    assert labels.latest([one.id]) == {}
    assert labels.history(one.id) == [first, second, undone]


def test_two_people_at_once_are_one_after_the_other(url: str, journal: Journal) -> None:
    (one,) = recorded(journal)
    both = threading.Barrier(2)

    def say(who: str) -> None:
        with open_labels(url) as labels:
            both.wait()
            for value in (GOOD, DEFECT) * 5:
                labels.say(Statement(one.id, value), who)

    people = [threading.Thread(target=say, args=(who,)) for who in ("anna", "bob")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    with open_labels(url) as labels:
        said = labels.history(one.id)
    assert len(said) == 20
    assert [label.supersedes for label in said] == [None, *(label.number for label in said[:-1])]


def test_labels_are_read_in_the_order_of_saying_page_after_page(
    journal: Journal, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.journal.labels.PAGE", 3)
    monkeypatch.setattr("edge_agent.journal.labels.AT_ONCE", 4)
    ones = recorded(journal, 10)
    other = recorded(journal, station="cam2")
    now = datetime.now(timezone.utc)
    said = labels.say_all([Statement(one.id, GOOD) for one in [*ones, *other]], "anna", now - timedelta(days=9))
    again = labels.say(Statement(ones[0].id, UNSURE), "anna", now)
    assert list(labels.labelled()) == [*said[1:], again]
    assert list(labels.labelled("cam2")) == said[10:]
    assert list(labels.labelled(since=now)) == [again]
    assert len(labels.latest(one.id for one in ones)) == 10


@pytest.mark.parametrize(
    ("statement", "who", "refusal"),
    [
        (Statement("unknown", GOOD), "anna", "inspection unknown: the journal has none of this id"),
        (Statement("id", GOOD), "  ", "give a name"),
        (Statement("id", GOOD, kind="scratch"), "anna", "kind with the label good: only a defect has one"),
        (Statement("id", UNSURE, box=(0, 0, 1, 1)), "anna", "box with the label unsure: only a defect has one"),
        (Statement("id", DEFECT, box=(0, 0, 65, 48)), "anna", "does not lie in its picture of 64 x 48 pixels"),
        (Statement("id", DEFECT, box=(-1, 0, 9, 9)), "anna", "the box x -1, y 0, width 9, height 9 does not lie"),
        (Statement("id", DEFECT, box=(3, 3, 0, 9)), "anna", "does not lie"),
        (Statement("id", DEFECT, kind="k" * 65), "anna", "kind: 65 characters; at most 64"),
        (Statement("id", DEFECT, note="n" * 2001), "anna", "note: 2001 characters; at most 2000"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_of_its_call_is_recorded(
    tmp_path: Path, statement: Statement, who: str, refusal: str
) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(Journal.open(url)) as journal, open_labels(url) as labels:
        (one,) = recorded(journal)
        named = Statement(
            one.id if statement.inspection == "id" else statement.inspection,
            statement.value, statement.kind, statement.box, statement.note,
        )  # fmt: skip
        with pytest.raises(LabelRefused, match=refusal):
            labels.say_all([Statement(one.id, GOOD), named], who)
        assert labels.history(one.id) == []


def test_the_reader_gives_each_inspection_with_the_label_that_holds(url: str, journal: Journal, labels: Labels) -> None:
    silent, undone, said = recorded(journal, 3)
    labels.say_all([Statement(undone.id, GOOD), Statement(undone.id, NONE), Statement(said.id, GOOD)], "anna")
    holds = labels.say(Statement(said.id, DEFECT, "dent"), "bob")
    with open_reader(url) as reader:
        assert [one.label for page in reader.inspections() for one in page] == [None, None, holds]
    assert silent.id not in labels.latest([silent.id])


def test_labelled_inspections_stay_until_they_are_learnt_or_too_long_ago(journal: Journal, labels: Labels) -> None:
    ones = recorded(journal, 6)
    now = datetime.now(timezone.utc)
    fresh, old, undone, learnt, unsure, _ = [one.id for one in ones]
    said = labels.say_all([Statement(one, GOOD) for one in (fresh, undone, learnt)], "anna")
    labels.say_all([Statement(undone, NONE), Statement(unsure, UNSURE)], "anna")
    labels.say(Statement(old, DEFECT), "anna", now - timedelta(days=100))
    for _ in range(2):  # twice is once
        labels.note_learnt([said[2].number, said[2].number], "a" * 64)
    since = now - timedelta(days=90)
    assert set(journal.to_learn(since)) == {fresh, unsure}
    assert set(journal.to_learn()) == {fresh, unsure, old}
    while journal.purge_before(FAR, labelled_since=since).more:
        pass
    assert {one.id for one in journal.inspections()} == {fresh, unsure}
    assert len(labels.history(learnt)) == 1, "what was said outlives the inspection"
    labels.say(Statement(fresh, GOOD), "bob")  # said again, it is to be learnt again
    labels.note_learnt([label.number for label in labels.labelled()], "b" * 64)
    while journal.purge_oldest(labelled_since=since).rows:
        pass
    assert journal.inspections() == []


def test_retention_holds_the_pictures_that_are_to_be_learnt(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    store = EvidenceStore(tmp_path / "evidence", originals="all", overlays="none", keep_days=1)
    with closing(Journal.open(url)) as journal, open_labels(url) as labels:
        ones = [inspected(AlarmEvent.RAISED, simulated=True), inspected(), inspected()]
        kept = [store.save(one) for one in ones]
        for one, its in zip(ones, kept, strict=True):
            journal.record(one, its, [])
        said = labels.say(Statement(ones[1].id, DEFECT), "anna")

        def sweep(days: float) -> list[bool]:
            now = datetime.now(timezone.utc) + timedelta(days=days)
            retention = Retention(
                store.sweep, journal, keep_days=1, keep_gb=10, keep_labelled_days=90, hold=store.hold, clock=lambda: now
            )
            while retention.run():
                pass
            return [Path(its.image.uri.removeprefix("file://")).exists() for its in kept if its.image]

        assert sweep(5) == [False, True, False]
        assert [one.id for one in journal.inspections()] == [ones[1].id]
        labels.note_learnt([said.number], "a" * 64)
        assert sweep(6) == [False, False, False]
        assert journal.inspections() == []


def test_pictures_on_hold_go_last_when_there_is_no_room(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, originals="all", overlays="none", keep_gb=1e-9)
    roomy = EvidenceStore(tmp_path, originals="all", overlays="none")
    ones = [inspected(evaluation=Evaluation.NOT_OK) for _ in range(3)]
    uris = [its.image.uri for its in map(roomy.save, ones) if its.image]
    store.hold([ones[0].id])
    assert store.sweep(datetime.now(timezone.utc)) == [uris[1], uris[2], uris[0]]
