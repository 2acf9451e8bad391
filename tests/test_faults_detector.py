"""A detector that fails, runs out of memory or is gone for good: the frame is NotDecidable, never OK, and the rest goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.core import Evaluation, Evidence, Inspection, Reading
from edge_agent.errors import DetectorLost
from edge_agent.line.line import MOST_FAILURES, Line
from tests.agent import Daemon, part, write_config
from tests.conftest import wait_until
from tests.made import png
from tests.test_pipeline import Brightness, Given, Kept, frame, nothing, run_until, station

OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Failing(Brightness):
    """Raises `error` over pictures that are all `over`, and over every batch of more than `most` pictures."""

    def __init__(self, error: Exception, *, over: int = 13, most: int = 99) -> None:
        super().__init__()
        self._error, self._over, self._most = error, over, most

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        if len(images) > self._most or any((image == self._over).all() for image in images):
            raise self._error
        return super().read(images, keep)


def inspected(detector: Brightness, values: Sequence[int]) -> tuple[list[Evaluation], Line]:
    """The evaluations of pictures of these values, in order, and the line that made them."""
    kept = Kept()
    frames = [frame(value, seq) for seq, value in enumerate(values)]
    line = Line([Given("cam1", frames)], {"cam1": station(detector)}, kept, kept, nothing, [kept])
    run_until(line, lambda: len(kept.written) == len(frames))
    return [one.verdict.evaluation for one in kept.recorded], line


@pytest.mark.parametrize(
    "error", [OUT_OF_MEMORY, RuntimeError("no"), MemoryError(), KeyError("x"), AssertionError(), OSError("gone")]
)
def test_a_frame_that_the_detector_fails_on_is_not_decidable_and_counted(error: Exception) -> None:
    evaluations, line = inspected(Failing(error), [10, 250, 13, 10, 13, 250])
    ok, bad, unknown = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE
    assert evaluations == [ok, bad, unknown, ok, unknown, bad]
    assert (line.counts.inspected, line.counts.not_decidable, line.counts.detector_failures) == (6, 2, 2)


def test_a_batch_that_memory_runs_out_over_is_read_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    evaluations, line = inspected(Failing(OUT_OF_MEMORY, most=1), [10, 250] * 12)
    assert evaluations == [Evaluation.OK, Evaluation.NOT_OK] * 12
    assert line.counts.detector_failures == 0


def test_a_detector_that_fails_on_everything_stops_the_agent_to_be_started_again() -> None:
    kept = Kept()
    frames = [frame(13, seq) for seq in range(3 * MOST_FAILURES)]
    line = Line([Given("cam1", frames)], {"cam1": station(Failing(OUT_OF_MEMORY))}, kept, kept, nothing, [kept])
    with pytest.raises(DetectorLost, match="see above what the detector failed with"):
        line.run(threading.Event())
    assert MOST_FAILURES <= len(kept.recorded) < 3 * MOST_FAILURES
    assert {one.verdict.evaluation for one in kept.recorded} == {Evaluation.NOT_DECIDABLE}
    assert [one.frame.seq for one in kept.recorded] == list(range(len(kept.recorded)))


def test_broken_pictures_are_no_failures_of_the_detector() -> None:
    kept = Kept()
    frames = [frame(0, seq, fault="empty") for seq in range(3 * MOST_FAILURES)]
    line = Line([Given("cam1", frames)], {"cam1": station(Brightness())}, kept, kept, nothing, [kept])
    run_until(line, lambda: len(kept.written) == len(frames))
    assert line.counts.detector_failures == 0


def test_evidence_that_cannot_be_made_costs_no_alarm() -> None:
    class Clumsy(Kept):
        def wants(self, inspection: Inspection) -> bool:
            return True

        def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
            raise ValueError("cannot draw this")

    kept = Clumsy()
    line = Line([Given("cam1", [frame(250)])], {"cam1": station(Brightness())}, kept, kept, nothing, [kept])
    run_until(line, lambda: line.counts.sink_failures == 1)
    assert len(kept.written) == 1
    assert kept.recorded[0].verdict.evaluation is Evaluation.NOT_OK


def forgetful() -> None:
    """In the daemon's process: the detector has no memory for pictures of one brightness."""
    from edge_agent.inference.detector import PromptDetector

    start = PromptDetector.start

    def failing(
        self: PromptDetector, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        def land() -> list[Reading]:
            raise OUT_OF_MEMORY

        return land if any((image == 77).all() for image in images) else start(self, images, keep)

    PromptDetector.start = failing  # type: ignore[method-assign]


def test_a_daemon_without_memory_for_one_picture_says_so_of_that_one_and_goes_on(tmp_path: Path) -> None:
    with Daemon(write_config(tmp_path), before=forgetful) as daemon:
        daemon.until("ready")
        part(tmp_path / "cam1" / "a.png", 1)
        (tmp_path / "cam1" / "b.png").write_bytes(png(np.full((48, 64, 3), 77, np.uint8)))
        part(tmp_path / "cam1" / "c.png", 2)
        daemon.has_inspected("a.png", "b.png", "c.png")
        wait_until(lambda: "OutOfMemoryError" in daemon.log, "it says why")
        daemon.stop()
        assert "stopped: 3 inspected, 2 NotOK, 1 NotDecidable" in daemon.log
    evaluations = {Path(row["origin"]).name: (row["evaluation"], row["reason"]) for row in daemon.rows}
    assert evaluations["b.png"] == ("NotDecidable", "the detector failed on this picture: OutOfMemoryError")
