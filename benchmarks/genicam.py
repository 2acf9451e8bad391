"""Measure GenICam cameras: from a request to its picture by software trigger, and recovery of a capture that is killed.

The first is on the camera of tests/gentl_producer.c, which answers a trigger at once, so that what is measured is the agent's own
part. The second is on two cameras of the simulated producer that comes with genicam, at 100 pictures a second each: the process
that captures one is killed again and again, the other must not notice. There is no way to Aravis' fake GigE Vision camera: Aravis
is no GenTL producer, none is among Debian's packages, and of the vendors' packages on PyPI (pypylon, vmbpy, neoapi, ids-peak,
imagingcontrol4) none brings a .cti file.
Run: python -m benchmarks.genicam [--triggers 300] [--kills 20].
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import genicam
import numpy as np

from benchmarks.cameras import NoLedger, Watched, captures, used
from benchmarks.results_file import about, save
from edge_agent.core import PictureRequest
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.camera.source import CameraSource
from tests.gentl import TestCamera

SIMULATED = str(Path(genicam.__file__).with_name("viky.cti"))


class Requests:
    """Triggers that are asked for from here."""

    def __init__(self) -> None:
        self.waiting: list[PictureRequest] = []

    def requests(self) -> Iterator[PictureRequest]:
        while self.waiting:
            yield self.waiting.pop(0)


def from_trigger_to_picture(count: int) -> tuple[list[float], int]:
    """Return milliseconds from a request to its frame, and how many frames showed another trigger's picture."""
    with tempfile.TemporaryDirectory() as folder:
        camera = TestCamera(Path(folder))
        os.environ["GENTL_CAMERA"] = folder
        keys = {"camera": camera.address, "producer": camera.producer, "trigger": {"software": True}}
        requests, stop = Requests(), threading.Event()
        source = CameraConfig.model_validate(keys).build("cam1", NoLedger(), max_megapixels=100, triggers=requests)
        frames, ms, wrong = source.frames(stop), [], 0
        for number in range(1, count + 1):
            asked = time.monotonic()
            requests.waiting.append(PictureRequest(None, str(number), asked))
            frame = next(frames)
            ms.append((time.monotonic() - asked) * 1e3)
            wrong += frame.fault is not None or int(frame.pixels[-4, -4, 0]) - 10 != number % 200
        stop.set()
        assert not list(frames)
    return ms[1:], wrong  # without the first, for which the camera is opened


def simulated(serial: int) -> tuple[CameraSource, Watched]:
    keys = {"camera": f"genicam:{serial}", "producer": SIMULATED, "features": {"AcquisitionFrameRate": 100}}
    source = CameraConfig.model_validate(keys).build("cam1", NoLedger(), max_megapixels=100, triggers=None)

    def balanced(given: int) -> bool:
        counts = source.counts()
        return counts.captured == given + sum(counts.dropped.values())

    return source, Watched(source.frames, balanced)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    ms, wrong = from_trigger_to_picture(options.triggers)
    _, calm = simulated(0)
    calm.next()
    calms = captures()
    source, killed = simulated(2)
    killed.next()
    seconds, before = [], used()
    calm.longest_gap_s = 0.0
    for _ in range(options.kills):
        for pid in [one for one in captures() if one not in calms]:
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        killed.next()
        seconds.append(time.monotonic() - begun)
        time.sleep(1.0)
    after = used()
    counts = source.counts()
    figures = {
        "triggers": len(ms) + 1,
        "trigger_ms": {"median": statistics.median(ms), "p95": float(np.percentile(ms, 95)), "longest": max(ms)},
        "pictures_of_another_trigger": wrong,
        "kills": options.kills,
        "back_after_s": {"median": statistics.median(seconds), "longest": max(seconds)},
        "captured": counts.captured,
        "dropped": dict(counts.dropped),
        "pictures_with_unbalanced_counts": killed.unbalanced + calm.unbalanced,
        "longest_gap_of_the_other_camera_s": calm.longest_gap_s,
        "open_files": [before[0], after[0]],
        "memory_mb": [round(before[1]), round(after[1])],
    }
    for one in (killed, calm):
        one.stop()
    print(save("genicam", {**about("genicam", "harvesters", "opencv-python"), "figures": figures}))
    return int(bool(wrong or figures["pictures_with_unbalanced_counts"]))


if __name__ == "__main__":
    sys.exit(main())
