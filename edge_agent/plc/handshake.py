"""The handshake with a PLC as a state machine, pure: ready, trigger, busy, result and done, ack, done falls, ready.

Exactly one result is given for each trigger. A verdict is told only for a trigger that was watched from its rise to its
result; whatever else came between makes it NotDecidable. So no part is OK that was not read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from edge_agent.core import Evaluation

PATIENCE_S = 5.0  # for so long the PLC may leave a signal as it is before that is a problem
LARGEST_SEQUENCE = 0xFFFF
LOST = "the connection to the PLC was lost while its part was inspected"
UNSEEN = "the trigger was on already when the connection to the PLC was made, so its part may have gone"


class Phase(str, Enum):
    """Where the handshake stands."""

    RESTING = "resting"  # not ready, or not ready again: everything is 0
    READY = "ready"  # waits for the trigger
    BUSY = "busy"  # waits for the verdict
    DONE = "done"  # waits for ack


@dataclass(frozen=True, slots=True)
class Signals:
    """What the PLC says."""

    trigger: bool
    ack: bool


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the agent says to the PLC. sequence: of the last trigger, 1 to 65535; 0 before the first."""

    ready: bool = False
    busy: bool = False
    done: bool = False
    ok: bool = False
    not_ok: bool = False
    not_decidable: bool = False
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at one moment.

    now: monotonic seconds. signals: of the PLC; None while it cannot be reached. not_ready: why the station can take no
    trigger; None: it can. verdict: on the trigger that is being answered, if it has come. fault: why a trigger that rises
    now gets no picture.
    """

    now: float
    signals: Signals | None
    not_ready: str | None = None
    verdict: Evaluation | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Where the handshake stands.

    result: in DONE, what is told. answered: the trigger that is on has had its result, and has to fall before the next.
    ack_was_off: since the trigger, so that an ack that stays on is not taken for one. doubt: why the verdict that is awaited
    will not be told. deadline: of that verdict. since: when the PLC did something last, or had to begin to.
    """

    phase: Phase = Phase.RESTING
    sequence: int = 0
    result: Evaluation | None = None
    answered: bool = False
    ack_was_off: bool = False
    doubt: str | None = None
    deadline: float = float("inf")
    since: float = 0.0

    @property
    def outputs(self) -> Outputs:
        """Return what the PLC is to see."""
        return Outputs(
            ready=self.phase is Phase.READY,
            busy=self.phase is Phase.BUSY,
            done=self.phase is Phase.DONE,
            ok=self.result is Evaluation.OK,
            not_ok=self.result is Evaluation.NOT_OK,
            not_decidable=self.result is Evaluation.NOT_DECIDABLE,
            sequence=self.sequence,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """A state, and what its change asks for.

    ask: a picture is to be taken. fault: with `ask`, why there is to be none, but a NotDecidable all the same. late: the
    trigger is answered without its verdict. said: what has happened that somebody should know of.
    """

    state: State
    ask: bool = False
    fault: str | None = None
    late: bool = False
    said: str | None = None


def adopted(outputs: Outputs) -> State:
    """Return the state that an earlier run of the agent has left in the PLC: a result that was not yet acknowledged, or none."""
    results = {
        Evaluation.OK: outputs.ok,
        Evaluation.NOT_OK: outputs.not_ok,
        Evaluation.NOT_DECIDABLE: outputs.not_decidable,
    }
    told = [evaluation for evaluation, is_on in results.items() if is_on]
    if outputs.done and len(told) == 1:
        return State(Phase.DONE, outputs.sequence, told[0], ack_was_off=True)
    # A trigger that was not answered is answered under its own number.
    return State(sequence=max(0, outputs.sequence - 1) if outputs.busy else outputs.sequence)


def advance(state: State, seen: Seen, within_s: float | None = None) -> Step:
    """Return what follows from what is seen.

    Args:
        state: where the handshake stands.
        seen: what is known now.
        within_s: seconds from a trigger after which it is NotDecidable; None: never.
    """
    return _NEXT[state.phase](state, seen, within_s)


def complaint(state: State, seen: Seen) -> str | None:
    """Return what the PLC does not do that it should, as a sentence with the remedy; None if it does its part."""
    signals = seen.signals
    if signals is None or seen.now < state.since + PATIENCE_S:
        return None
    waited = f"for more than {PATIENCE_S:.0f} s"
    if state.phase is Phase.DONE:
        if signals.ack:
            return f"ack has been on since before done {waited}: the PLC must set it only while done is on"
        return f"the PLC does not acknowledge result {state.sequence} {waited}: it must set ack when it has read the result"
    if state.phase is Phase.RESTING and signals.trigger:
        return (
            f"the trigger has not fallen {waited} after result {state.sequence}: the PLC must reset it when done falls"
        )
    if state.phase is Phase.RESTING and signals.ack:
        return f"ack is on without done {waited}: the PLC must reset it when done falls"
    return None


def _resting(state: State, seen: Seen, within_s: float | None) -> Step:
    signals = seen.signals
    if signals is None:
        return Step(state)
    if not signals.trigger:
        state = replace(state, answered=False)
        if signals.ack:
            return Step(state)
        since = seen.now
        return Step(replace(state, since=since) if seen.not_ready else State(Phase.READY, state.sequence, since=since))
    if state.answered:
        return Step(state)
    if signals.ack:  # of a result that an earlier run has given
        return Step(replace(state, answered=True, since=seen.now))
    why = f"the trigger came while the station was not ready: {seen.not_ready}" if seen.not_ready else UNSEEN
    return _asked(state, seen, within_s, why)


def _ready(state: State, seen: Seen, within_s: float | None) -> Step:
    signals = seen.signals
    resting = State(sequence=state.sequence, since=seen.now)
    if signals is None:
        return Step(resting)
    if signals.ack:
        return Step(
            replace(resting, answered=signals.trigger), said="ack came without done: nothing is ready till it falls"
        )
    if seen.not_ready:
        return _resting(resting, seen, within_s)
    return _asked(state, seen, within_s, seen.fault) if signals.trigger else Step(state)


def _asked(state: State, seen: Seen, within_s: float | None, fault: str | None) -> Step:
    busy = State(
        Phase.BUSY,
        state.sequence % LARGEST_SEQUENCE + 1,
        ack_was_off=True,
        deadline=float("inf") if within_s is None else seen.now + within_s,
        since=seen.now,
    )
    return Step(busy, ask=True, fault=fault)


def _busy(state: State, seen: Seen, within_s: float | None) -> Step:
    signals = seen.signals
    if signals is None:
        state = replace(state, doubt=LOST)
    elif signals.trigger:
        state = replace(state, ack_was_off=not signals.ack)
    else:
        taken_back = f"the PLC has taken back trigger {state.sequence} before its result: it gets none"
        return Step(State(sequence=state.sequence, since=seen.now), said=taken_back)
    said = None
    if seen.verdict is not None:
        result = Evaluation.NOT_DECIDABLE if state.doubt else seen.verdict
        if state.doubt:
            said = f"trigger {state.sequence} is answered NotDecidable: {state.doubt}"
    elif seen.now >= state.deadline:
        result = Evaluation.NOT_DECIDABLE
        said = f"trigger {state.sequence} is answered NotDecidable, late: there was no verdict in time"
    else:
        return Step(state)
    done = State(Phase.DONE, state.sequence, result, ack_was_off=state.ack_was_off, since=seen.now)
    return Step(done, late=seen.verdict is None, said=said)


def _done(state: State, seen: Seen, within_s: float | None) -> Step:
    signals = seen.signals
    if signals is None:
        return Step(state)
    if signals.ack and state.ack_was_off:
        return Step(State(sequence=state.sequence, answered=signals.trigger, since=seen.now))
    if not signals.trigger and seen.now >= state.since + PATIENCE_S:
        said = f"the PLC has taken back trigger {state.sequence} and does not acknowledge its result: it is withdrawn"
        return Step(State(sequence=state.sequence, since=seen.now), said=said)
    return Step(replace(state, ack_was_off=state.ack_was_off or not signals.ack))


_NEXT = {Phase.RESTING: _resting, Phase.READY: _ready, Phase.BUSY: _busy, Phase.DONE: _done}
