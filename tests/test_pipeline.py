"""A frame's way to its verdict: batches, faults, failures of the detector, the daemon's threads, the inbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from edge_agent.core import (
    AlarmEvent,
    Evaluation,
    Evidence,
    Frame,
    Inspection,
    Message,
    Reading,
    Record,
    StoredFile,
    Trace,
)
from edge_agent.errors import DetectorLost, JournalError
from edge_agent.health.metrics import recording
from edge_agent.line.inbox import Inbox
from edge_agent.line.inspect import Station, inspect, warm_up
from edge_agent.line.judge import Rules
from edge_agent.line.line import MOST_FAILURES, SLOW, Line
from edge_agent.line.replay import replay
from tests.conftest import PATIENCE_S, wait_until
from tests.detectors import SynchronousDetector, info

TRACE = Trace("brightness/none", "0" * 64, "1" * 64, None, "2" * 64)


class Brightness(SynchronousDetector):
    """A detector that can be checked by hand: score = mean of the picture over 255. Fails on pictures that are all 13."""

    info = info(TRACE.model)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        self.batches.append(len(images))
        if any((image == 13).all() for image in images):
            raise RuntimeError("out of memory")
        return [Reading(float(image.mean()) / 255, np.full((4, 4), image.mean() / 255, np.float32)) for image in images]


class Apart(Brightness):
    """Reads on a thread of its own, as a GPU goes on alone: a batch fails when it is asked for, not when it starts."""

    overlaps = True

    def __init__(self, took_s: float = 0.0) -> None:
        super().__init__()
        self.took_s, self.under_way, self.most_under_way = took_s, 0, 0
        self._alone = ThreadPoolExecutor(1)

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        reading = self._alone.submit(lambda: (time.sleep(self.took_s), self.read(images, keep))[1])

        def land() -> list[Reading]:
            self.under_way -= 1
            return reading.result()

        return land

    def warm_up(self, batch: int) -> None:
        self.batches.append(-batch)


class Given:
    """A source of given frames; a live one sleeps between them."""

    def __init__(self, station: str, frames: Sequence[Frame], *, live: bool = False, pause_s: float = 0.0) -> None:
        self.station, self.live, self._frames, self._pause_s = station, live, frames, pause_s

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        for frame in self._frames:
            if stop.wait(self._pause_s):
                return
            yield frame


class Kept:
    """Evidence, journal and sink in memory; the journal refuses the first `refusals` times."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.recorded: list[Inspection] = []
        self.written: list[Inspection] = []

    def wants(self, inspection: Inspection) -> bool:
        return False

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        return Evidence()

    def commit(self, records: Sequence[Record]) -> list[bool]:
        if self.refusals:
            self.refusals -= 1
            raise JournalError("disk full")
        for one in records:
            self.record(one.inspection)
        self.recorded += [one.inspection for one in records if not one.completes]
        return [True] * len(records)

    def record(self, inspection: Inspection) -> None:
        """Raise for what cannot be recorded; nothing of its group is then."""

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        self.written.append(inspection)

    def close(self) -> None:
        pass


def frame(value: int, seq: int = 0, station: str = "cam1", fault: str | None = None) -> Frame:
    pixels = np.zeros((0, 0, 3), np.uint8) if fault else np.full((8, 8, 3), value, np.uint8)
    return Frame(station, seq, datetime.now(timezone.utc), pixels, origin=f"{seq}.png", fault=fault)


def station(detector: Brightness, name: str = "cam1", threshold: float = 0.5) -> Station:
    return Station(name, detector, Rules(threshold), TRACE)


def nothing(inspection: Inspection, evidence: Evidence) -> list[Message]:
    return []


def run_until(line: Line, done) -> None:
    """Run the line in a thread until `done()` holds, then stop it."""
    stop = threading.Event()
    thread = threading.Thread(target=line.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: done() or not thread.is_alive(), "the line has done what the test waits for")
        assert done()
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_batch_of_two_stations_with_one_detector_is_read_at_once():
    detector = Brightness()
    stations = {name: station(detector, name) for name in ("a", "b")}
    frames = [frame(250, 0, "a"), frame(10, 0, "b"), frame(20, 1, "a")]
    inspections = inspect(frames, stations, {})
    assert detector.batches == [3]
    assert [one.verdict.evaluation for one in inspections] == [Evaluation.NOT_OK, Evaluation.OK, Evaluation.OK]
    assert [one.verdict.alarm for one in inspections] == [AlarmEvent.RAISED, None, AlarmEvent.CLEARED]


def test_a_frame_without_a_picture_is_not_decidable_and_says_why():
    (inspection,) = inspect([frame(0, fault="3.png: is empty")], {"cam1": station(Brightness())}, {})
    assert inspection.verdict.evaluation is Evaluation.NOT_DECIDABLE
    assert inspection.verdict.reason == "3.png: is empty"
    assert inspection.reading is None


def test_the_time_of_a_batch_is_shared_by_the_pictures_that_were_read(monkeypatch):
    ticks = iter([10.0, 10.5, 20.0, 21.5] + [30.0] * 6)  # start: 0.5 s, wait for the readings: 1.5 s
    monkeypatch.setattr("edge_agent.line.inspect.time.perf_counter", lambda: next(ticks))
    frames = [frame(10, 0), frame(0, 1, fault="3.png: is empty"), frame(20, 2)]
    inspections = inspect(frames, {"cam1": station(Brightness())}, {})
    assert [one.timings["detect"] for one in inspections] == [1000.0, 0.0, 1000.0]


def test_a_picture_the_detector_fails_on_is_not_decidable_and_the_rest_goes_on():
    inspections = inspect([frame(10), frame(13), frame(250)], {"cam1": station(Brightness())}, {})
    assert [one.verdict.evaluation for one in inspections] == [
        Evaluation.OK,
        Evaluation.NOT_DECIDABLE,
        Evaluation.NOT_OK,
    ]
    assert "RuntimeError" in (inspections[1].verdict.reason or "")


def test_ids_sort_in_the_order_of_inspection():
    ids = [one.id for one in inspect([frame(index) for index in range(50)], {"cam1": station(Brightness())}, {})]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


def test_replay_gives_the_daemons_verdicts():
    frames = [frame(value, seq) for seq, value in enumerate((10, 250, 130, 120, 240))]
    kept, live = Kept(), Kept()
    replayed = [one for one, _ in replay(Given("cam1", frames), station(Brightness()), kept, kept, nothing, batch=2)]
    line = Line([Given("cam1", frames)], {"cam1": station(Brightness())}, live, live, nothing, [live])
    run_until(line, lambda: len(live.written) == len(frames))
    assert [one.verdict for one in replayed] == [one.verdict for one in live.recorded]
    assert all(one.simulated for one in replayed)
    assert not any(one.simulated for one in live.recorded)


def test_stored_frames_are_all_inspected_in_order_however_slow_the_writer():
    class Slow(Kept):
        def commit(self, records: Sequence[Record]) -> list[bool]:
            time.sleep(0.002)
            return super().commit(records)

    kept = Slow()
    frames = [frame(seq % 256, seq) for seq in range(300)]
    line = Line([Given("cam1", frames)], {"cam1": station(Brightness())}, kept, kept, nothing, [kept])
    run_until(line, lambda: len(kept.written) == 300)
    assert [one.frame.seq for one in kept.recorded] == list(range(300))
    assert line.counts.inspected == 300


def test_what_was_taken_in_before_a_stop_is_recorded():
    kept = Kept()
    line = Line(
        [Given("cam1", [frame(1, seq) for seq in range(40)])], {"cam1": station(Brightness())}, kept, kept, nothing, []
    )
    run_until(line, lambda: line.inbox.captured["cam1"] >= 40)
    assert len(kept.recorded) == line.inbox.captured["cam1"]


def test_a_journal_that_refuses_for_a_while_loses_nothing_and_says_why_until_it_records_again(
    caplog: pytest.LogCaptureFixture,
):
    reasons: list[str | None] = []

    class Noted(Kept):
        def commit(self, records: Sequence[Record]) -> list[bool]:
            reasons.append(line.not_recording)
            return super().commit(records)

    kept = Noted(refusals=3)
    line = Line(
        [Given("cam1", [frame(1, seq) for seq in range(5)])],
        {"cam1": station(Brightness())},
        kept,
        kept,
        nothing,
        [kept],
    )
    run_until(line, lambda: len(kept.written) == 5)
    assert [one.frame.seq for one in kept.recorded] == list(range(5))
    assert reasons[:4] == [None, "disk full", "disk full", "disk full"]
    assert set(reasons[4:]) <= {None}
    assert line.not_recording is None
    assert line.counts.journal_failures == 3
    figures = {sample.name: sample.value for metric in recording(line.not_recording, line) for sample in metric.samples}
    assert figures == {"edge_agent_recording": 1, "edge_agent_journal_failures_total": 3}
    assert caplog.messages.count("the journal records again") == 1


@pytest.mark.parametrize(
    ("file", "then"),
    [
        (
            StoredFile("/parts/0.png", 7, 100, 1, "a" * 64),
            "0.png could be recorded: it is inspected again at the next start",
        ),
        (None, "0.png could be recorded: it is lost"),
    ],
)
def test_a_stop_before_the_journal_takes_a_picture_says_whether_it_is_lost(
    caplog: pytest.LogCaptureFixture, file: StoredFile | None, then: str
):
    kept = Kept(refusals=1_000_000)
    line = Line(
        [Given("cam1", [replace(frame(1), file=file)])], {"cam1": station(Brightness())}, kept, kept, nothing, [kept]
    )
    run_until(line, lambda: "trying again" in caplog.text)
    assert caplog.messages[-1] == f"stopped before {then}"
    assert line.counts.dropped["cam1", "stopped"] == 1


def test_a_sink_that_fails_keeps_nobody_from_being_told():
    class Broken(Kept):
        def write(self, inspection: Inspection, evidence: Evidence) -> None:
            raise ValueError("broken")

    kept = Kept()
    line = Line([Given("cam1", [frame(1)])], {"cam1": station(Brightness())}, kept, kept, nothing, [Broken(), kept])
    run_until(line, lambda: len(kept.written) == 1)
    assert line.counts.sink_failures == 1


def test_a_bug_in_a_thread_stops_the_whole_agent_with_its_error():
    class Buggy(Kept):
        def record(self, inspection: Inspection) -> None:
            raise KeyError("a bug")

    kept = Buggy()
    frames = [frame(1, seq) for seq in range(500)]
    line = Line([Given("cam1", frames)], {"cam1": station(Brightness())}, kept, kept, nothing, [])
    with pytest.raises(KeyError):
        line.run(threading.Event())


def test_what_cannot_be_recorded_is_recorded_as_not_decidable_and_what_cannot_be_at_all_is_set_aside():
    class Picky(Kept):
        def record(self, inspection: Inspection) -> None:
            seq = inspection.frame.seq
            if seq == 2 or (seq == 1 and inspection.reading):
                raise OverflowError("too large")

    kept = Picky()
    frames = [frame(200, seq) for seq in range(4)]
    line = Line([Given("cam1", frames)], {"cam1": station(Brightness())}, kept, kept, nothing, [kept])
    run_until(line, lambda: len(kept.written) == 3)
    said = [(one.frame.seq, one.verdict.evaluation.value) for one in kept.written]
    assert said == [(0, "NotOK"), (1, "NotDecidable"), (3, "NotOK")]
    assert "could not be recorded: OverflowError" in (kept.written[1].verdict.reason or "")
    assert line.counts.dropped["cam1", "unrecordable"] == 1
    assert (line.counts.not_ok, line.counts.not_decidable) == (2, 1)


def test_a_source_that_hangs_is_seen_by_the_watchdog_and_does_not_hold_up_a_stop(monkeypatch, caplog):
    monkeypatch.setattr("edge_agent.line.line.SOURCE_STOP_S", 0.1)
    monkeypatch.setattr("edge_agent.line.line.DATABASE_S", 0.0)
    monkeypatch.setattr("edge_agent.line.heartbeat.DATABASE_S", 0.0)
    free = threading.Event()

    class Stuck(Given):
        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            yield from super().frames(stop)
            free.wait()

    kept = Kept()
    line = Line([Stuck("cam1", [frame(1)])], {"cam1": station(Brightness())}, kept, kept, nothing, [])
    feeding = line.stages[-1]
    feeding.patience_s = 0.1
    try:
        run_until(line, lambda: feeding.hangs)
    finally:
        free.set()
    assert feeding.name == "source cam1"
    assert "source-cam1 does not end" in caplog.text


def test_a_live_station_gives_its_newest_frame_and_counts_the_others():
    inbox = Inbox()
    for seq in range(10):
        inbox.put(frame(1, seq), live=True)
    assert [one.seq for one in inbox.take(8, 1.0)] == [9]
    assert (inbox.captured["cam1"], inbox.dropped["cam1", "superseded"]) == (10, 9)


def test_a_busy_station_does_not_starve_another():
    inbox = Inbox(capacity=20)
    for seq in range(20):
        inbox.put(frame(1, seq, "busy"), live=False)
    inbox.put(frame(1, 0, "calm"), live=False)
    assert "calm" in [one.station for one in inbox.take(4, 1.0)]


def test_a_full_inbox_makes_a_stored_source_wait_and_a_close_frees_it():
    inbox = Inbox(capacity=2)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.extend(inbox.put(frame(1, seq), live=False) for seq in range(3)))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    inbox.close()
    thread.join(PATIENCE_S)
    assert answers == [True, True, False]
    assert len(inbox.take(8, 0.1)) == 2
    assert inbox.drained


def test_a_batch_is_begun_while_the_one_before_is_read_and_none_is_lost_or_swapped():
    detector, kept = Apart(took_s=0.05), Kept()
    frames = [frame(value, seq) for seq, value in enumerate([10, 250, 13, 20, 250] * 8)]
    line = Line([Given("cam1", frames)], {"cam1": station(detector)}, kept, kept, nothing, [kept], batch=2)
    run_until(line, lambda: len(kept.recorded) == len(frames))
    assert [one.frame.seq for one in kept.recorded] == list(range(len(frames)))
    assert detector.most_under_way == 2
    words = {10: Evaluation.OK, 20: Evaluation.OK, 250: Evaluation.NOT_OK, 13: Evaluation.NOT_DECIDABLE}
    assert [one.verdict.evaluation for one in kept.recorded] == [
        words[int(one.frame.pixels[0, 0, 0])] for one in kept.recorded
    ]


def test_a_batch_that_is_being_read_does_not_wait_for_a_next_one():
    detector, kept = Apart(), Kept()
    line = Line([Given("cam1", [frame(10)])], {"cam1": station(detector)}, kept, kept, nothing, [kept])
    run_until(line, lambda: len(kept.recorded) == 1)  # and no other frame ever comes
    assert detector.under_way == 0


def test_what_was_being_read_at_a_change_is_judged_as_before():
    detector, kept = Apart(took_s=0.05), Kept()
    frames = [frame(100, seq) for seq in range(6)]
    line = Line([Given("cam1", frames)], {"cam1": station(detector)}, kept, kept, nothing, [kept], batch=1)
    stop, asked, changed = threading.Event(), threading.Event(), []

    def between() -> None:
        if detector.under_way and not asked.is_set():
            asked.set()
            line.change({"cam1": station(detector, threshold=0.1)}, lambda: changed.append(len(kept.recorded)))
        if len(kept.recorded) == len(frames):
            stop.set()

    line.run(stop, between=between)
    verdicts = [one.verdict.evaluation for one in kept.recorded]
    (before,) = changed
    assert before > 0
    assert verdicts == [Evaluation.OK] * before + [Evaluation.NOT_OK] * (len(frames) - before)


def test_a_detector_is_warmed_up_for_the_largest_batch():
    detector = Apart()
    assert warm_up([station(detector)], 8) >= 0
    assert detector.batches == [-8, 1, 1]


class Moody(Brightness):
    """Fails on each picture whose brightness is 0."""

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        if any(not image.any() for image in images):
            raise RuntimeError("out of memory")
        return super().read(images, keep)


def test_failures_of_a_detector_count_only_in_a_row_and_one_picture_that_is_read_ends_the_row():
    row = [0] * (MOST_FAILURES - 1)
    values = [*row, 200, *row, 200]
    kept = Kept()
    source = Given("cam1", [frame(value, seq) for seq, value in enumerate(values)])
    line = Line([source], {"cam1": station(Moody())}, kept, kept, nothing, [kept], batch=1)
    run_until(line, lambda: len(kept.recorded) == len(values))
    assert line.counts.detector_failures == 2 * len(row)

    line = Line(
        [Given("cam1", [frame(0, seq) for seq in range(MOST_FAILURES)])],
        {"cam1": station(Moody())},
        Kept(),
        Kept(),
        nothing,
        [],
    )
    with pytest.raises(DetectorLost, match=f"of the last {MOST_FAILURES}"):
        line.run(threading.Event())


def test_a_slow_machine_may_take_its_time_for_a_batch_before_the_watchdog_calls_it_a_hang():
    granted: list[float] = []

    class Slow(Brightness):
        def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
            stage = line.stages[0]
            granted.append(stage._until - stage._beat_at - stage.patience_s)
            return super().read(images, keep)

    kept = Kept()
    source = Given("cam1", [frame(100, seq) for seq in range(3)])
    line = Line([source], {"cam1": station(Slow())}, kept, kept, nothing, [kept], batch=1, picture_s=7.0)
    run_until(line, lambda: len(kept.recorded) == 3)
    assert granted == pytest.approx([SLOW * 7.0] * 3)
