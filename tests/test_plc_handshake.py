"""The handshake with a PLC, step by step: one result for each trigger, and none that was not read."""

from __future__ import annotations

import pytest

from edge_agent.core import Evaluation
from edge_agent.plc.handshake import (
    LARGEST_SEQUENCE,
    LOST,
    PATIENCE_S,
    UNSEEN,
    Outputs,
    Phase,
    Seen,
    Signals,
    State,
    adopted,
    advance,
    complaint,
)
from edge_agent.plc.places import Place, parse, runs
from edge_agent.plc.wiring import in_order
from tests.plc import PLACES, WIRING

OK, NOT_OK, NOT_DECIDABLE = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE
NOTHING, TRIGGER, ACK, BOTH = Signals(False, False), Signals(True, False), Signals(False, True), Signals(True, True)
READY = State(Phase.READY, 7)
BUSY = State(Phase.BUSY, 8, ack_was_off=True, deadline=10.0)
DONE = State(Phase.DONE, 8, OK, ack_was_off=True)
ANSWERED = State(sequence=8, answered=True)


@pytest.mark.parametrize(
    ("state", "signals", "more", "phase", "result"),
    [
        # The way that all goes well.
        (State(), NOTHING, {}, Phase.READY, None),
        (READY, NOTHING, {}, Phase.READY, None),
        (READY, TRIGGER, {}, Phase.BUSY, None),
        (BUSY, TRIGGER, {}, Phase.BUSY, None),
        (BUSY, TRIGGER, {"verdict": OK}, Phase.DONE, OK),
        (BUSY, TRIGGER, {"verdict": NOT_OK}, Phase.DONE, NOT_OK),
        (BUSY, TRIGGER, {"verdict": NOT_DECIDABLE}, Phase.DONE, NOT_DECIDABLE),
        (DONE, TRIGGER, {}, Phase.DONE, OK),
        (DONE, BOTH, {}, Phase.RESTING, None),
        (DONE, ACK, {}, Phase.RESTING, None),
        (ANSWERED, BOTH, {}, Phase.RESTING, None),
        (ANSWERED, TRIGGER, {}, Phase.RESTING, None),  # it has to fall first
        (ANSWERED, ACK, {}, Phase.RESTING, None),
        (ANSWERED, NOTHING, {}, Phase.READY, None),
        # A station that can take no trigger is not ready, and says so only with NotDecidable.
        (State(), NOTHING, {"not_ready": "the agent stops"}, Phase.RESTING, None),
        (READY, NOTHING, {"not_ready": "the agent stops"}, Phase.RESTING, None),
        (READY, TRIGGER, {"not_ready": "the agent stops"}, Phase.BUSY, None),
        (BUSY, TRIGGER, {"not_ready": "the agent stops"}, Phase.BUSY, None),
        (DONE, TRIGGER, {"not_ready": "the agent stops"}, Phase.DONE, OK),
        # The connection is lost.
        (READY, None, {}, Phase.RESTING, None),
        (BUSY, None, {}, Phase.BUSY, None),
        (BUSY, None, {"verdict": OK}, Phase.DONE, NOT_DECIDABLE),
        (DONE, None, {}, Phase.DONE, OK),
        # The PLC takes its trigger back, or does what it must not.
        (BUSY, NOTHING, {}, Phase.RESTING, None),
        (BUSY, NOTHING, {"verdict": OK}, Phase.RESTING, None),
        (READY, ACK, {}, Phase.RESTING, None),
        (READY, BOTH, {}, Phase.RESTING, None),
        (State(Phase.DONE, 8, OK), BOTH, {}, Phase.DONE, OK),  # an ack that was on before the result is none
        (State(Phase.DONE, 8, OK), TRIGGER, {}, Phase.DONE, OK),
        (DONE, NOTHING, {}, Phase.DONE, OK),  # ack may come a moment later
        (DONE, NOTHING, {"now": PATIENCE_S}, Phase.RESTING, None),
        # A verdict that is late.
        (BUSY, TRIGGER, {"now": 9.9}, Phase.BUSY, None),
        (BUSY, TRIGGER, {"now": 10.0}, Phase.DONE, NOT_DECIDABLE),
        (BUSY, None, {"now": 10.0}, Phase.DONE, NOT_DECIDABLE),
    ],
)
def test_each_state_leads_where_it_should(state, signals, more, phase, result):
    after = advance(state, Seen(more.pop("now", 1.0), signals, **more)).state
    assert (after.phase, after.result) == (phase, result)
    shown = after.outputs
    assert (shown.ready, shown.busy, shown.done) == (phase is Phase.READY, phase is Phase.BUSY, phase is Phase.DONE)
    assert [shown.ok, shown.not_ok, shown.not_decidable] == [result is one for one in (OK, NOT_OK, NOT_DECIDABLE)]


@pytest.mark.parametrize(
    ("state", "seen", "fault"),
    [
        (READY, Seen(0.0, TRIGGER), None),
        (READY, Seen(0.0, TRIGGER, fault="the part id is no text"), "the part id is no text"),
        (State(), Seen(0.0, TRIGGER), UNSEEN),
        (
            READY,
            Seen(0.0, TRIGGER, "the agent stops"),
            "the trigger came while the station was not ready: the agent stops",
        ),
    ],
)
def test_a_picture_is_taken_only_for_a_trigger_that_was_seen_to_rise_while_ready(state, seen, fault):
    step = advance(state, seen)
    assert step.ask
    assert step.fault == fault


def test_a_verdict_that_comes_after_the_connection_was_lost_and_made_again_is_not_told():
    lost = advance(BUSY, Seen(1.0, None)).state
    assert lost.doubt == LOST
    told = advance(lost, Seen(2.0, TRIGGER, verdict=OK))
    assert told.state.result is NOT_DECIDABLE
    assert LOST in str(told.said)


def test_an_ack_counts_only_after_it_was_off():
    stuck = advance(BUSY, Seen(1.0, BOTH)).state
    done = advance(stuck, Seen(1.0, BOTH, verdict=OK)).state
    assert advance(done, Seen(1.0, BOTH)).state.phase is Phase.DONE
    fell = advance(done, Seen(1.0, TRIGGER)).state
    assert advance(fell, Seen(1.0, BOTH)).state.phase is Phase.RESTING


def test_the_sequence_goes_from_its_largest_number_to_1():
    state = advance(State(Phase.READY, LARGEST_SEQUENCE), Seen(0.0, TRIGGER)).state
    assert state.sequence == 1


@pytest.mark.parametrize(
    ("left", "signals", "phase", "sequence", "asks"),
    [
        (Outputs(done=True, ok=True, sequence=5), TRIGGER, Phase.DONE, 5, False),
        (Outputs(done=True, ok=True, sequence=5), BOTH, Phase.RESTING, 5, False),
        (Outputs(done=True, ok=True, not_ok=True, sequence=5), TRIGGER, Phase.BUSY, 6, True),  # no result at all
        (Outputs(busy=True, sequence=5), TRIGGER, Phase.BUSY, 5, True),
        (Outputs(ready=True, sequence=5), NOTHING, Phase.READY, 5, False),
        (Outputs(ready=True, sequence=5), TRIGGER, Phase.BUSY, 6, True),
        (Outputs(sequence=5), BOTH, Phase.RESTING, 5, False),  # acknowledged, but done was not yet seen to fall
    ],
)
def test_a_new_run_goes_on_where_the_one_before_has_left_the_plc(left, signals, phase, sequence, asks):
    step = advance(adopted(left), Seen(0.0, signals))
    assert (step.state.phase, step.state.sequence, step.ask) == (phase, sequence, asks)


@pytest.mark.parametrize(
    ("state", "signals", "said"),
    [
        (DONE, TRIGGER, "does not acknowledge result 8"),
        (State(Phase.DONE, 8, OK), BOTH, "ack has been on since before done"),
        (ANSWERED, TRIGGER, "the trigger has not fallen"),
        (ANSWERED, ACK, "ack is on without done"),
        (READY, NOTHING, None),
        (BUSY, TRIGGER, None),
        (DONE, None, None),
    ],
)
def test_what_the_plc_does_not_do_is_said_after_a_while(state, signals, said):
    assert complaint(state, Seen(PATIENCE_S - 0.1, signals)) is None
    text = complaint(state, Seen(PATIENCE_S, signals))
    assert (said is None) == (text is None)
    assert said is None or said in str(text)


def test_done_falls_before_the_result_and_rises_after_it():
    told = Outputs(done=True, ok=True, sequence=8)
    first, second, third = in_order(told, Outputs(busy=True, sequence=9))
    assert (first.done, first.ok) == (False, True)
    assert second == third == Outputs(busy=True, sequence=9)
    first, second, third = in_order(Outputs(busy=True, sequence=9), Outputs(done=True, not_ok=True, sequence=9))
    assert (second.done, second.not_ok, third.done) == (False, True, True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("coil 10", Place("coil", 10)),
        (" holding 0-15 ", Place("holding", 0, 16)),
        ("holding 20.3", Place("holding", 20, 1, 3)),
        ("discrete 65535", Place("discrete", 65535)),
    ],
)
def test_a_place_is_a_table_and_an_address(text, place):
    assert parse(text) == place
    assert parse(str(place)) == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "is no place in a PLC"),
        ("%Q0.1", "is no place in a PLC"),
        ("coil -1", "is no place in a PLC"),
        ("holding 400021", "is beyond 65535: count from 0"),
        ("holding 9-3", "ends before it begins"),
        ("holding 0-200", "has more than 123 registers"),
        ("coil 3.1", "has no such bit"),
        ("holding 3.16", "has no such bit"),
    ],
)
def test_what_is_no_place_is_refused_with_an_example(text, said):
    with pytest.raises(ValueError, match=said):
        parse(text)


def test_bits_of_one_register_are_written_together():
    places = PLACES | {name: f"holding 30.{bit}" for bit, name in enumerate(("ready", "busy", "done", "ok", "not_ok"))}
    wiring = type(WIRING)(**{name: parse(place) for name, place in places.items()})
    image = wiring.image(Outputs(done=True, not_ok=True, sequence=3), 9)
    assert image == {("holding", 30): 0b10100, ("coil", 15): 0, ("holding", 20): 3, ("holding", 21): 9}
    assert wiring.outputs(image) == Outputs(done=True, not_ok=True, sequence=3)


def test_cells_that_follow_each_other_are_one_request():
    cells = [("coil", 12), ("coil", 10), ("holding", 3), ("coil", 11), ("holding", 30)]
    assert list(runs(cells)) == [("coil", 10, 3), ("holding", 3, 1), ("holding", 30, 1)]
    assert list(runs(cells, near=32)) == [("coil", 10, 3), ("holding", 3, 28)]


@pytest.mark.parametrize(
    ("raw", "swapped", "part"),
    [
        (b"SN123", False, "SN123"),
        (b"NS21\x003", True, "SN123"),
        (b"SN 1  ", False, "SN 1"),
        (b"", False, None),
        ("Teil-Ü".encode(), False, "Teil-Ü"),
    ],
)
def test_the_part_is_text_of_two_characters_a_register(raw, swapped, part):
    padded = raw.ljust(32, b"\0")
    values = {("holding", i): int.from_bytes(padded[2 * i : 2 * i + 2], "big") for i in range(16)}
    assert WIRING.part_id(values, swapped=swapped) == part


@pytest.mark.parametrize("raw", [b"\xff\xfe\xfd", b"SN\x01\x02"])
def test_a_part_that_is_no_text_is_refused_with_its_bytes(raw):
    padded = raw.ljust(32, b"\0")
    values = {("holding", i): int.from_bytes(padded[2 * i : 2 * i + 2], "big") for i in range(16)}
    with pytest.raises(ValueError, match=raw.hex(" ")):
        WIRING.part_id(values)
