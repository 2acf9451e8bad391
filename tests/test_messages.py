"""Every payload keeps to its schema, its topic to MQTT's rules, and telling the same thing twice gives the same id."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from uuid import UUID

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import (
    AgentNow,
    AlarmChange,
    AlarmEvent,
    AlarmKind,
    Evaluation,
    Evidence,
    Inspection,
    Message,
    OutboxRow,
    Region,
    SavedFile,
    SourceState,
    StationNow,
)
from edge_agent.io.names import topic_level
from edge_agent.mqtt.messages import (
    STATION_KINDS,
    LastVerdict,
    Payload,
    agent_topic,
    alarm_change_message,
    alarm_message,
    delivery,
    encode,
    result_message,
    schema,
    state_payload,
    station_topic,
    status_payload,
    timestamp,
)
from tests.line import IDENTITY, NOON, TRACE, inspected

RAISED = AlarmEvent.RAISED
SHA256 = "0123456789abcdef" * 4
EPOCH = "5f0c1c9e-7b1c-4c3e-9a53-0b1f0f3c2d11"
unhurried = settings(deadline=None, max_examples=100)

# From the conventions, with its placeholders filled.
EXAMPLE = (
    """
{"schema":"edge-agent/alarm/2","id":"019aa0a3-7c52-7b3e-8d2c-3f2a1b0c9d8e","seq":4711,"event":"raised",
 "ts":"2026-11-20T08:15:30.123456Z","agent":"line4-box1","epoch":"EPOCH","station":"cam1","kind":"defect","reason":null,"part_id":"SN123","evaluation":"NotOK","score":0.873,"threshold":0.62,
 "calibration_id":"c12","model":"tipsomaly/tips-l14","model_sha256":"MODEL",
 "regions":[{"bbox":[10,20,40,30],"peak":0.91,"area_px":812}],"image":{"uri":"file:///e/1.png","sha256":"SHA256"},
 "overlay":{"uri":"file:///e/1.overlay.jpg","sha256":"SHA256"},"simulated":false,"historical":false}
""".replace("SHA256", SHA256)
    .replace("MODEL", TRACE.model_sha256)
    .replace("EPOCH", EPOCH)
)


def sent_as(message: Message, seq: int = 4711, historical: bool = False) -> Payload:
    return delivery(OutboxRow(seq, message, NOON, EPOCH), "line4-box1", historical)


def validate(kind: str, payload: Payload) -> None:
    """Against the shipped schema, after a way through JSON."""
    checker = jsonschema.Draft202012Validator(schema(kind), format_checker=jsonschema.FormatChecker())
    checker.validate(json.loads(encode(payload)))


saved_files = st.none() | st.builds(SavedFile, st.text(min_size=1), st.just(SHA256), st.integers(0, 10**9))
all_evidence = st.builds(Evidence, saved_files, saved_files)
sides = st.integers(0, 10_000)
all_regions = st.lists(
    st.builds(Region, st.tuples(sides, sides, sides, sides), st.floats(0, 1), st.integers(1, 10**8)), max_size=4
).map(tuple)


@st.composite
def inspections(draw: st.DrawFn) -> Inspection:
    """What judge and debounce can make of a picture."""
    changes = {
        "part_id": draw(st.none() | st.text()),
        "trigger_id": draw(st.none() | st.text()),
        "regions": draw(all_regions),
        "reason": draw(st.none() | st.text()),
        "simulated": draw(st.booleans()),
    }
    kind = draw(st.sampled_from([Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE]))
    if kind is Evaluation.NOT_DECIDABLE:
        score = draw(st.none() | st.floats())
        changes |= {"reason": "the file is empty", "regions": ()}
        return inspected(evaluation=kind, score=score, **changes)
    alarm = draw(st.none() | st.sampled_from(AlarmEvent))
    return inspected(alarm, evaluation=kind, score=draw(st.floats(0, 1)), **changes)


# Schemas


@pytest.mark.parametrize("kind", ["acknowledged", "alarm", "result", "state", "status"])
def test_the_schemas_are_schemas(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(kind))
    assert schema(kind)["properties"]["schema"] == {"const": f"edge-agent/{kind}/2"}


def test_the_example_of_the_conventions_keeps_to_the_schema() -> None:
    validate("alarm", json.loads(EXAMPLE))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "4711"),
        ("ts", "2026-11-20 08:15:30"),
        ("event", "shouted"),
        ("evaluation", "NG"),
        ("score", None),
        ("regions", [{"bbox": [1, 2, 3], "peak": 0.5, "area_px": 1}]),
        ("image", {"uri": "file:///e/1.png"}),
        ("colour", "red"),
    ],
)
def test_the_schema_refuses_what_an_alarm_is_not(field: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate("alarm", json.loads(EXAMPLE) | {field: value})


def test_the_schema_refuses_an_alarm_that_lacks_any_field() -> None:
    for field in json.loads(EXAMPLE):
        with pytest.raises(jsonschema.ValidationError):
            validate("alarm", {key: value for key, value in json.loads(EXAMPLE).items() if key != field})


# Alarms and results


def test_an_alarm_has_the_fields_of_the_conventions_in_their_order() -> None:
    message = alarm_message(inspected(RAISED), Evidence())
    assert message is not None
    sent = list(sent_as(message))
    assert sent.pop(sent.index("part_id") + 1) == "trigger_id"  # ours, as one part may be asked for more than once
    assert sent == list(json.loads(EXAMPLE))


def test_an_alarm_says_what_was_found() -> None:
    found = inspected(
        RAISED,
        taken_at=NOON.replace(microsecond=250),
        score=0.873,
        regions=(Region((np.int64(10), 20, 40, 30), 0.91, np.int64(812)),),
        part_id="SN123",
        trigger_id="4711",
    )
    image, overlay = SavedFile("file:///e/1.png", SHA256, 9), SavedFile("file:///e/1.overlay.jpg", SHA256, 9)
    evidence = Evidence(image, overlay)
    message = alarm_message(found, evidence)
    assert message is not None
    sent = json.loads(encode(sent_as(message, 4711, False)))
    own = {"id": found.id, "ts": "2026-11-20T12:00:00.000250Z", "trigger_id": "4711"}
    assert sent == json.loads(EXAMPLE) | own
    assert (message.id, message.kind, message.station) == (found.id, "alarm", "cam1")


def test_an_inspection_that_does_nothing_to_the_alarm_makes_no_alarm_message() -> None:
    assert alarm_message(inspected(evaluation=Evaluation.NOT_OK), Evidence()) is None


@pytest.mark.parametrize("event", list(AlarmEvent))
def test_every_event_keeps_to_the_schema(event: AlarmEvent) -> None:
    message = alarm_message(inspected(event, evaluation=Evaluation.NOT_OK), Evidence())
    assert message is not None
    assert message.payload["event"] == event.value
    validate("alarm", sent_as(message, 1, True))


@unhurried
@given(inspections(), all_evidence, st.integers(1, 2**62), st.booleans())
def test_whatever_is_inspected_its_messages_keep_to_the_schemas(
    made: Inspection, evidence: Evidence, seq: int, historical: bool
) -> None:
    validate("result", sent_as(result_message(made, evidence), seq, historical))
    alarm = alarm_message(made, evidence)
    assert (alarm is None) == (made.verdict.alarm is None)
    if alarm is not None:
        validate("alarm", sent_as(alarm, seq, historical))


def test_a_result_that_is_not_decidable_says_why_and_has_no_score() -> None:
    made = inspected(evaluation=Evaluation.NOT_DECIDABLE, reason="a.png: truncated after 512 bytes")
    payload = sent_as(result_message(made, Evidence()), 1, False)
    assert payload["reason"] == "a.png: truncated after 512 bytes"
    assert payload["score"] is None
    with pytest.raises(jsonschema.ValidationError):
        validate("result", payload | {"reason": None})


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_sent(score: float) -> None:
    with pytest.raises(ValueError, match="must be NotDecidable"):
        alarm_message(inspected(RAISED, score=score), Evidence())
    undecided = inspected(evaluation=Evaluation.NOT_DECIDABLE, score=score, reason="the score is not a number")
    assert result_message(undecided, Evidence()).payload["score"] is None


# Ids


def test_telling_of_an_inspection_twice_gives_the_same_ids() -> None:
    made = inspected(RAISED)
    assert result_message(made, Evidence()).id == result_message(made, Evidence()).id
    assert result_message(made, Evidence()).payload["inspection_id"] == made.id


def test_a_result_has_an_id_of_its_own_of_the_same_moment() -> None:
    made = inspected(RAISED)
    own = UUID(result_message(made, Evidence()).id)
    assert str(own) != made.id
    assert own.version == 7
    assert own.variant == UUID(made.id).variant
    assert own.int >> 80 == UUID(made.id).int >> 80


# Topics and times


def test_topics_are_as_the_conventions_say() -> None:
    line4 = "acme/plant1/assembly/line4"
    assert station_topic(line4, "box1", "cam1", "alarm") == f"{line4}/box1/cam1/alarm"
    assert station_topic("/acme//plant 1/", "b 1", "a/b", "state") == "acme/plant_1/b_1/a_b/state"
    assert agent_topic(line4, "box1", "cmd", "trigger") == f"{line4}/box1/cmd/trigger"
    assert topic_level("Prüfung + Kamera #1 $") == "Prüfung___Kamera__1__"
    assert topic_level("") == "_"


@given(st.text(), st.text(), st.text(), st.sampled_from(STATION_KINDS))
def test_no_name_makes_a_topic_that_mqtt_forbids_or_that_lies_elsewhere(
    prefix: str, agent: str, node: str, kind: str
) -> None:
    made = station_topic(prefix, agent, node, kind)
    assert not set(made) & set("+#$\0")
    assert not any(letter.isspace() for letter in made)
    assert made.split("/")[-3:] == [topic_level(agent), topic_level(node), kind]
    assert all(made.split("/"))
    made.encode("utf-8")


def test_times_are_utc_to_the_microsecond() -> None:
    assert timestamp(datetime(2026, 11, 20, 8, 15, 30, 123456, timezone.utc)) == "2026-11-20T08:15:30.123456Z"
    east = timezone(timedelta(hours=9))
    assert timestamp(datetime(2026, 11, 20, 17, 15, 30, tzinfo=east)) == "2026-11-20T08:15:30.000000Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        timestamp(datetime(2026, 11, 20))


# State and status


def test_the_state_follows_the_inspections_and_says_how_its_source_is() -> None:
    last, up = LastVerdict(), StationNow(TRACE, SourceState(True, NOON), frozenset())
    payload = state_payload(IDENTITY, "cam1", up, last, None)
    validate("state", payload)
    assert (payload["evaluation"], payload["source"]) == (
        "Undefined",
        {"up": True, "since": timestamp(NOON), "reason": None},
    )

    seen = []
    for evaluation, score in [
        (Evaluation.OK, 0.1),
        (Evaluation.NOT_OK, 0.7),
        (Evaluation.NOT_DECIDABLE, None),
        (Evaluation.OK, 0.2),
    ]:
        last = last.after(inspected(evaluation=evaluation, score=score, reason="why", part_id="SN1"))
        payload = state_payload(IDENTITY, "cam1", up, last, None)
        validate("state", payload)
        seen.append((payload["evaluation"], payload["score"], payload["part_id"]))
    assert seen == [("OK", 0.1, "SN1"), ("NotOK", 0.7, "SN1"), ("NotDecidable", None, "SN1"), ("OK", 0.2, "SN1")]
    assert payload["counts"] == {"OK": 2, "NotOK": 1, "NotDecidable": 1}

    away = StationNow(TRACE, SourceState(False, NOON, "no such device"), frozenset(AlarmKind))
    payload = state_payload(IDENTITY, "cam1", away, last, "the disk is full")
    validate("state", payload)
    assert (payload["alarm_active"], payload["alarms"]) == (True, ["defect", "source", "undecidable"])
    assert payload["not_recording"] == "the disk is full"


@pytest.mark.parametrize(("reason", "online"), [("connected", True), ("stopped", False), ("lost", False)])
def test_the_status_says_whether_the_agent_is_there_and_what_it_judges_by(reason: str, online: bool) -> None:
    stations = {"cam1": StationNow(TRACE, SourceState(True, NOON))}
    payload = status_payload(IDENTITY, AgentNow("c" * 64, stations), reason, NOON)
    validate("status", payload)
    assert payload["online"] is online
    assert payload["stations"] == {
        "cam1": {
            "model": TRACE.model,
            "model_sha256": TRACE.model_sha256,
            "checkpoint_sha256": TRACE.checkpoint_sha256,
            "calibration_id": "c12",
        }
    }
    with pytest.raises(jsonschema.ValidationError):
        validate("status", payload | {"online": not online})


@pytest.mark.parametrize("kind", list(AlarmKind))
@pytest.mark.parametrize("event", [AlarmEvent.RAISED, AlarmEvent.CLEARED])
def test_an_alarm_that_no_picture_made_says_why_and_nothing_of_pictures(kind: AlarmKind, event: AlarmEvent) -> None:
    change = AlarmChange(inspected().id, "cam1", kind, event, NOON, "no such device")
    payload = sent_as(alarm_change_message(change))
    validate("alarm", payload)
    said = (payload["id"], payload["kind"], payload["event"], payload["reason"], payload["score"], payload["image"])
    assert said == (change.id, kind.value, event.value, "no such device", None, None)
    with pytest.raises(jsonschema.ValidationError):
        validate("alarm", payload | {"reason": None})
    with pytest.raises(jsonschema.ValidationError):
        validate("alarm", payload | {"evaluation": "NotOK"})


# JSON


def test_any_text_can_be_sent_file_names_that_are_none_included() -> None:
    assert json.loads(encode({"part_id": "Stück 1 \U0001f529 \udce4"})) == {"part_id": "Stück 1 \U0001f529 ?"}


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"score": math.nan})
