"""Measure recovery of a camera that fails in every known way, round after round, beside one that never fails.

In each round the RTSP server is killed and restarted, hangs (SIGSTOP), repeats one picture or sends none, or the capture
process is stopped or killed. Counted: seconds from the moment the cause is gone until the next picture, of which no
round may take more than 5 (a stopped process first has to be noticed, which takes 3 s more); whether that picture is in its
right colours; whether captured = given + dropped, at each picture; open files and memory of the agent after each round; and
the longest gap of the other camera. The alternative, measured in the same run: cv2.VideoCapture in a loop that opens again
when read() fails, as one would write first. It has no time-out beyond OpenCV's, and notices no freeze: while its connection
lives it need not connect again, which is why it can be quicker.
Run: python -m benchmarks.cameras [--rounds 150], of which the server fails in a hundred.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import cv2

from benchmarks.results_file import about, save
from edge_agent.core import Frame, StoredFile
from edge_agent.sources.camera.config import CameraConfig
from edge_agent.sources.camera.source import CameraSource
from tests.rtsp import COLOUR, RtspServer, colour_of, number_of

LIMIT_S = 5.0
NOTICED_S = {"capture stopped": 3.0}  # what the time-out adds where the cause does not go by itself
PATIENCE_S = 40.0  # a round without a picture for so long has failed
DOWN_S = 5.0  # how long a cause lasts: longer than it takes to be noticed


class NoLedger:
    """Without triggers no ledger is asked."""

    def seen(self, station: str, file: StoredFile) -> bool:
        raise AssertionError

    def seen_stats(self, station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
        raise AssertionError


class Watched:
    """Takes the frames of a camera in a thread, as the line does, and keeps the last one."""

    def __init__(self, frames: Callable[[threading.Event], Iterator[Frame]], balanced: Callable[[int], bool]) -> None:
        """balanced: whether the counts of the source agree with that many frames given."""
        self.count, self.longest_gap_s, self.unbalanced, self.came = 0, 0.0, 0, 0.0
        self.last: Frame | None = None
        self._stop = threading.Event()
        self._balanced = balanced
        self._thread = threading.Thread(target=self._watch, args=(frames,), daemon=True)
        self._thread.start()

    def _watch(self, frames: Callable[[threading.Event], Iterator[Frame]]) -> None:
        for frame in frames(self._stop):
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - self.came if self.came else 0.0)
            self.unbalanced += not self._balanced(self.count + 1)
            self.came, self.last, self.count = now, frame, self.count + 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def next(self) -> Frame | None:
        """The next new picture; None if none comes."""
        before, until = self.count, time.monotonic() + PATIENCE_S
        while self.count == before:
            if time.monotonic() > until:
                return None
            time.sleep(0.005)
        return self.last


def ours(url: str) -> tuple[CameraSource, Watched]:
    source = CameraConfig(camera=url, fps=10).build("cam1", NoLedger(), max_megapixels=100, triggers=None)

    def balanced(given: int) -> bool:
        counts = source.counts()
        return counts.captured == given + sum(counts.dropped.values())

    return source, Watched(source.frames, balanced)


def naive(url: str) -> Watched:
    """What one would write first: with time-outs, as OpenCV has them, and a pause between attempts."""

    def frames(stop: threading.Event) -> Iterator[Frame]:
        asked = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 3000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 3000]
        while not stop.is_set():
            video = cv2.VideoCapture(url, cv2.CAP_FFMPEG, asked)
            while not stop.is_set():
                read, picture = video.read()
                if not read:
                    break
                yield Frame("naive", 0, datetime.now(timezone.utc), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            video.release()
            stop.wait(1.0)

    return Watched(frames, lambda given: True)


def captures() -> list[int]:
    """The processes that capture for this one."""
    found = [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [pid for pid in found if b"edge_agent.sources.camera.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def used() -> tuple[int, float]:
    """Open files, and resident megabytes, of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def fail(kind: str, server: RtspServer, captured_by: list[int]) -> None:
    """Bring about one failure; return at the moment when its cause is gone."""
    if kind == "killed":
        server.kill()
        time.sleep(DOWN_S)
        server.start()
    elif kind == "hung":
        server.hang()
        time.sleep(DOWN_S)
        server.go_on()
    elif kind in ("frozen", "silent"):
        server.do("freeze" if kind == "frozen" else "silence")
        time.sleep(DOWN_S + 2)
        server.do("go")
    else:
        for pid in captured_by:
            os.kill(pid, signal.SIGSTOP if kind == "capture stopped" else signal.SIGKILL)


def back_after(camera: Watched) -> tuple[float, bool]:
    """Seconds until a picture comes, PATIENCE_S if none does, and whether it has its colours and is a new one."""
    begun, before = time.monotonic(), number_of(camera.last.pixels) if camera.last else 0
    frame = camera.next()
    while frame is not None and number_of(frame.pixels) == before:  # what had been under way
        frame = camera.next()
    if frame is None:
        return PATIENCE_S, False
    off = max(abs(one - other) for one, other in zip(colour_of(frame.pixels), COLOUR, strict=True))
    return time.monotonic() - begun, off < 12


MUST_BE_NONE = ("later_than_limit", "never", "wrong_colours", "pictures_with_unbalanced_counts")
SERVER_KINDS = ("killed", "hung", "frozen", "silent")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150, help="of all six kinds together, in turns")
    parser.add_argument("--naive-rounds", type=int, default=8, help="of the alternative")
    options = parser.parse_args()
    kinds = [*SERVER_KINDS, "capture stopped", "capture killed"]
    seconds: dict[str, list[float]] = defaultdict(list)
    naive_seconds: dict[str, list[float]] = defaultdict(list)
    wrong_colours = 0
    with RtspServer(colour=(30, 160, 90)) as calm_server, RtspServer() as server:
        calm_source, calm = ours(calm_server.url)
        calm.next()
        calms = captures()
        source, camera = ours(server.url)
        camera.next()
        usage: list[tuple[int, float]] = []
        calm.longest_gap_s = 0.0
        for number in range(options.rounds):
            kind = kinds[number % len(kinds)]
            fail(kind, server, [pid for pid in captures() if pid not in calms])
            took_s, right = back_after(camera)
            seconds[kind].append(took_s)
            wrong_colours += not right
            time.sleep(1.0)
            usage.append(used())
            print(
                f"{number + 1:4} {kind:15} back after {took_s:5.2f} s, {usage[-1][0]} open files,"
                f" {usage[-1][1]:.0f} MB, longest gap of the other camera {calm.longest_gap_s:.2f} s",
                flush=True,
            )
        counts, calm_counts = source.counts(), calm_source.counts()
        camera.stop()
        loop = naive(server.url)
        loop.next()
        for number in range(options.naive_rounds):
            kind = SERVER_KINDS[number % len(SERVER_KINDS)]
            fail(kind, server, [])
            took_s, _ = back_after(loop)
            naive_seconds[kind].append(took_s)
            print(f"{number + 1:4} {kind:15} the loop is back after {took_s:5.2f} s", flush=True)
        calm.stop()
        loop.stop()

    found: dict[str, object] = {
        "rounds": options.rounds,
        "limit_s": LIMIT_S,
        "later_than_limit": sum(
            one > LIMIT_S + NOTICED_S.get(kind, 0.0) for kind, all_ in seconds.items() for one in all_
        ),
        "never": sum(one >= PATIENCE_S for all_ in seconds.values() for one in all_),
        "wrong_colours": wrong_colours,
        "pictures_with_unbalanced_counts": camera.unbalanced + calm.unbalanced,
        "back_after_s": {kind: summary(all_) for kind, all_ in seconds.items()},
        "loop_back_after_s": {kind: summary(all_) for kind, all_ in naive_seconds.items()},
        "captured": counts.captured,
        "given": counts.captured - sum(counts.dropped.values()),
        "dropped": dict(counts.dropped),
        **counts.events,
        "open_files": [usage[0][0], usage[-1][0]],
        "resident_mb": [round(usage[0][1], 1), round(usage[-1][1], 1)],
        "other_camera": {"longest_gap_s": round(calm.longest_gap_s, 2), "losses": calm_counts.events["losses"]},
    }
    print(json.dumps(found, indent=2))
    for kind, all_ in naive_seconds.items():
        ratio = statistics.median(all_) / statistics.median(seconds[kind]) if kind in seconds else float("nan")
        print(f"{kind}: the loop takes {ratio:.1f} times as long")
    save("cameras", {**about("opencv-python", "numpy"), "figures": found})
    return int(any(found[name] for name in MUST_BE_NONE))


def summary(all_: list[float]) -> dict[str, float]:
    return {
        "rounds": len(all_),
        "median": round(statistics.median(all_), 2),
        "longest": round(max(all_), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
