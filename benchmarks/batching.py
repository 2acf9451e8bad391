"""Measure how long a picture waits before it is read, beside an older commit in the same run.

Uses the embedded model and the daemon's own threads. One camera that always has a newer picture: pictures a second, and
milliseconds from camera to verdict. Four cameras around a part, five milliseconds apart, one part a second: from the first
picture to the last verdict, also without waiting for the others and with a longer wait. Medians; old and new in turns.
Run: python -m benchmarks.batching [--before COMMIT] [--rounds 5] [--parts 12]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_file import about, save

ROOT = Path(__file__).parents[1]
CAMERAS, APART_S = 4, 0.005
SETTINGS: dict[str, dict[str, float]] = {"as it is": {}, "no wait": {"max_wait_s": 0.0}, "20 ms": {"max_wait_s": 0.02}}
PIXELS = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)


class Camera:
    """A live source that takes a picture at each of these moments (monotonic seconds)."""

    live = True

    def __init__(self, station: str, moments: Sequence[float]) -> None:
        self.station, self._moments = station, moments

    def frames(self, stop: threading.Event) -> Iterator[Any]:
        from edge_agent.core import Frame

        for seq, moment in enumerate(self._moments):
            if stop.wait(max(0.0, moment - time.monotonic())):
                return
            yield Frame(self.station, seq, datetime.now(timezone.utc), PIXELS)


class Nowhere:
    """Keeps and records nothing, so that what is timed is the way there."""

    def wants(self, inspection: Any) -> bool:
        return False

    def save(self, inspection: Any, *, shrunk: bool = False) -> Any:
        from edge_agent.core import Evidence

        return Evidence()

    def commit(self, records: Any) -> list[bool]:
        return [True] * len(records)


def line(moments: list[list[float]], **settings: float) -> list[tuple[int, float, float]]:
    """Of all that is inspected: its number at its camera, when it was taken, and when its verdict was there (seconds)."""
    from edge_agent import build
    from edge_agent.config.config import Config
    from edge_agent.inference.load import Loader
    from edge_agent.line.inspect import warm_up
    from edge_agent.line.line import Line

    names = [f"cam{number}" for number in range(len(moments))]
    config = Config.model_validate({"stations": [{"name": name, "source": {"folder": "."}} for name in names]})
    stations = build.stations(config, Loader())
    warm_up(stations.values(), 8)
    begin = time.monotonic() + 0.5
    sources = [Camera(name, [begin + at for at in own]) for name, own in zip(names, moments, strict=True)]
    found: list[tuple[int, float, float]] = []

    def report(inspection: Any, evidence: Any) -> None:
        found.append((inspection.frame.seq, inspection.frame.taken_at.timestamp(), time.time()))

    stop = threading.Event()
    threading.Timer(0.5 + max(map(max, moments)) + 2.0, stop.set).start()
    Line(sources, stations, Nowhere(), Nowhere(), lambda *_: [], [], batch=8, report=report, **settings).run(stop)  # type: ignore[arg-type]
    return found


def one_camera(**settings: float) -> dict[str, float]:
    """A camera of 25 pictures a second for ten seconds."""
    found = line([[number / 25 for number in range(250)]], **settings)
    seconds = found[-1][2] - found[0][2]
    return {
        "one camera, pictures/s": (len(found) - 1) / seconds,
        "one camera, ms to the verdict": statistics.median((verdict - taken) * 1e3 for _, taken, verdict in found),
    }


def around_a_part(parts: int, **settings: float) -> dict[str, float]:
    """Cameras that see one part after the other, five milliseconds apart."""
    found = line([[part + camera * APART_S for part in range(parts)] for camera in range(CAMERAS)], **settings)
    took = []
    for part in range(parts):
        own = [(taken, verdict) for seq, taken, verdict in found if seq == part]
        assert len(own) == CAMERAS
        took.append((max(verdict for _, verdict in own) - min(taken for taken, _ in own)) * 1e3)
    return {"four cameras, ms to the last verdict": statistics.median(took)}


def main() -> None:
    """Print both, and write benchmarks/results/batching.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", default="5ded528", metavar="COMMIT", help="the older program (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", type=int, default=12)
    parser.add_argument("--one", choices=tuple(SETTINGS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        settings = SETTINGS[options.one]
        print(json.dumps(one_camera(**settings) | around_a_part(options.parts, **settings)))
        return
    rounds: dict[str, list[dict[str, float]]] = {"before": [], **{name: [] for name in SETTINGS}}
    with tempfile.TemporaryDirectory() as scratch:
        names = ["git", "-C", str(ROOT), "archive", options.before, "edge_agent"]
        packed = subprocess.run(names, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", scratch], input=packed, check=True)
        shutil.copytree(ROOT / "benchmarks", Path(scratch) / "benchmarks", ignore=shutil.ignore_patterns("results"))
        for _ in range(options.rounds):
            for name, found in rounds.items():
                one = ["--one", "as it is" if name == "before" else name, "--parts", str(options.parts)]
                command = [sys.executable, "-m", "benchmarks.batching", *one]
                folder = scratch if name == "before" else ROOT
                said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
                found.append(json.loads(said))
    medians = {
        name: {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]}
        for name, found in rounds.items()
    }
    for key in medians["before"]:
        values = "".join(f"   {name} {figures[key]:8.2f}" for name, figures in medians.items())
        print(f"{key:38}{values}   as it is / before {medians['as it is'][key] / medians['before'][key]:.2f}")
    save("batching", {**about("torch"), "before": options.before, "medians": medians, "rounds": rounds})


if __name__ == "__main__":
    main()
