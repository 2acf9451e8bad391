"""Measure pictures per second of the whole line at 1, 2 and 8 stations, beside a naive loop in the same run.

The line: decode, read in batches, judge, overlay of what is NotOK, journal on disk. The naive loop: decode, read one picture
at a time in fp32 with torch's own threads, judge, overlay of every picture, no journal. Each measurement runs in its own
process, for a peak memory of its own. Run: python -m benchmarks.replay [--pictures 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.results_file import about, save

SAMPLES = Path(__file__).parents[1] / "edge_agent" / "samples"
STATIONS = (1, 2, 8)


def pictures(count: int, folder: Path) -> list[Path]:
    """The bundled samples over and over, as files of their own: no source takes the same file twice."""
    samples = sorted(SAMPLES.glob("*.jpg"))
    copies = [folder / f"{index:06}.jpg" for index in range(count)]
    for index, copy in enumerate(copies):
        shutil.copy(samples[index % len(samples)], copy)
    return copies


def rates(count: int, begun: float, worked: float) -> dict[str, float]:
    """Since then: by the clock, and of the processor, which others on the machine disturb less."""
    elapsed, work = time.perf_counter() - begun, time.process_time() - worked
    return {"pictures_per_s": count / elapsed, "processor_ms": work * 1e3 / count}


def naive(count: int, folder: Path) -> dict[str, float]:
    """What one would write first."""
    import torch
    from PIL import Image

    from edge_agent.core import Reading
    from edge_agent.evidence.overlay import overlay
    from edge_agent.inference.load import load_detector
    from edge_agent.io.pictures import decode
    from edge_agent.line.judge import Rules, judge

    detector = load_detector()
    rules = Rules(detector.info.threshold, detector.info.map_threshold)
    paths = pictures(count, folder)

    def look(pixels: np.ndarray) -> Reading:
        with torch.inference_mode():
            scores, maps = detector.predict(detector.method.backbone.pictures([pixels], detector.info.image_size))
        return Reading(scores.item(), maps[0].numpy())

    look(decode(paths[0]))
    begun, worked = time.perf_counter(), time.process_time()
    stages: dict[str, float] = defaultdict(float)
    for number, path in enumerate(paths):
        start = time.perf_counter()
        pixels = decode(path)
        decoded = time.perf_counter()
        reading = look(pixels)
        read = time.perf_counter()
        verdict = judge(reading, rules, pixels.shape)
        judged = time.perf_counter()
        drawn = overlay(
            pixels, reading, verdict, threshold=rules.threshold, map_threshold=rules.map_threshold, title=path.name
        )
        Image.fromarray(drawn).save(folder / f"{number}_overlay.jpg", quality=92)
        for name, ms in (
            ("decode", decoded - start),
            ("detect", read - decoded),
            ("judge", judged - read),
            ("overlay", time.perf_counter() - judged),
        ):
            stages[name] += ms * 1e3 / count
    return {**rates(count, begun, worked), **stages}


def line(count: int, folder: Path, stations: int) -> dict[str, float]:
    """The daemon's own threads over stored pictures, spread over the stations."""
    from edge_agent import build
    from edge_agent.config.config import Config
    from edge_agent.core import Evidence, Inspection
    from edge_agent.inference.load import Loader
    from edge_agent.journal.journal import Journal
    from edge_agent.line.line import Line
    from edge_agent.sources.stored import StoredSource

    names = [f"cam{number}" for number in range(stations)]
    config = Config.model_validate(
        {
            "agent": {"data_dir": str(folder)},
            "stations": [{"name": name, "source": {"folder": str(folder / name)}} for name in names],
        }
    )
    built = build.stations(config, Loader())
    built[names[0]].detector.read([np.zeros((384, 384, 3), np.uint8)])
    paths = pictures(count, folder)
    share = [paths[index::stations] for index in range(stations)]
    stop, left = threading.Event(), [count]
    stages: dict[str, float] = defaultdict(float)

    def report(inspection: Inspection, evidence: Evidence) -> None:
        for name, ms in inspection.timings.items():
            stages[name] += ms / count
        left[0] -= 1
        if not left[0]:
            stop.set()

    with closing(Journal.open(config.database.full_url())) as journal:
        store = build.evidence_store(config.evidence)
        sources = [StoredSource(name, paths) for name, paths in zip(names, share, strict=True)]
        daemon = Line(
            sources, built, store, journal, build.message_builder([]), [], batch=config.limits.batch_size, report=report
        )
        begun, worked = time.perf_counter(), time.process_time()
        daemon.run(stop)
    return {**rates(count, begun, worked), **stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            run = naive if options.one == "naive" else lambda count, where: line(count, where, int(options.one))
            figures = run(options.pictures, Path(folder))
        figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figures))
        return

    kinds = ["naive", *map(str, STATIONS)]
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):  # in turns, so that a noisy minute hits all alike
        for kind in kinds:
            command = [sys.executable, "-m", "benchmarks.replay", "--one", kind, "--pictures", str(options.pictures)]
            rounds[kind].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    where = about("torch", "opencv-python")
    print(f"{options.pictures} pictures of 384 x 384, medians of {options.rounds} rounds")
    medians = {
        kind: {name: statistics.median(one.get(name, 0.0) for one in rounds[kind]) for name in rounds[kind][0]}
        for kind in kinds
    }
    save("replay", {**where, "pictures": options.pictures, "medians": medians, "rounds": rounds})
    base = medians["naive"]["pictures_per_s"]
    for kind in kinds:
        figures = medians[kind]
        rate, peak = figures.pop("pictures_per_s"), figures.pop("peak_mb")
        name = "naive loop" if kind == "naive" else f"{kind} station{'s' * (kind != '1')}"
        stages = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in figures.items())
        print(f"{name:11} {rate:6.1f} pictures/s  {rate / base:4.2f} x naive  peak {peak:5.0f} MB  a picture: {stages}")


if __name__ == "__main__":
    main()
