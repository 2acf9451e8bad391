"""Measure speed and memory of a replay over a large archive from start to end, and the gain of decoding ahead.

Three parts. Decoding alone: in line, by threads and by processes. `edge-agent replay` with the embedded model, decoding in
line and ahead, in turns. Many pictures through everything except the vision tower, which would take hours on a CPU: the same
sources, journal, evidence and contact sheet, with a detector that only measures brightness. Each replay runs in its own
process; pictures a second and resident memory are taken at every tenth of its output.
Run: python -m benchmarks.archive [--pictures 100000] [--model-pictures 3000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.results_file import about, save
from edge_agent.core import Reading
from edge_agent.io.pictures import decode
from edge_agent.sources.decode_ahead import MOST_AHEAD, decoded
from tests.detectors import SynchronousDetector, info

SAMPLES = Path(__file__).parents[1] / "edge_agent" / "samples"
LARGE = 1920, 1200
ONE_IN = 20  # pictures that the cheap detector finds a defect in


class Brightness(SynchronousDetector):
    """A detector that costs nothing, with maps of the size of the embedded model's."""

    info = info("benchmark/brightness")

    def __init__(self) -> None:
        self._seen = 0

    def read(self, images: Any, keep: Any = None) -> list[Reading]:
        readings = []
        for image in images:
            self._seen += 1
            score = 0.9 if self._seen % ONE_IN == 0 else float(image[::8, ::8].mean()) / 512
            readings.append(Reading(score, np.full((224, 224), score, np.float32)))
        return readings


def archive(count: int, folder: Path) -> None:
    """The bundled samples over and over, a thousand in each folder, as links to twenty files: only their names take room."""
    (folder / ".originals").mkdir(parents=True)
    samples = [Path(shutil.copy(sample, folder / ".originals")) for sample in sorted(SAMPLES.glob("*.jpg"))]
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"day{number // 1000}").mkdir()
        os.link(samples[number % len(samples)], folder / f"day{number // 1000}" / f"part{number}.jpg")


def cheap(folder: Path, out: Path, workers: int) -> None:
    """What replay/session.py does, with the cheap detector; a line a picture."""
    from edge_agent import build
    from edge_agent.config.evidence import EvidenceConfig
    from edge_agent.core import Trace
    from edge_agent.evidence.contact_sheet import ContactSheet
    from edge_agent.journal.journal import Journal
    from edge_agent.line.inspect import Station
    from edge_agent.line.judge import Rules
    from edge_agent.line.replay import replay
    from edge_agent.replay import resume
    from edge_agent.sources.stored import StoredSource

    source = StoredSource("replay", [folder], workers=workers)
    detector, digest = Brightness(), "0" * 64
    station = Station("replay", detector, Rules(0.8, 0.8), Trace(detector.info.name, digest, digest, None, digest))
    sheet, earlier = ContactSheet(), resume.Progress()
    kept = {"originals": "none", "overlays": "not_ok", "keep_days": 1e9, "keep_gb": 1e9}
    evidence = EvidenceConfig.model_construct(folder=out / "evidence", **kept)
    with closing(Journal.open(f"sqlite:///{out}/journal.db")) as journal:
        after = resume.start_after(out, journal, "replay", resume.judging_rules(station, "object"), again=False)
        for outcome in journal.outcomes("replay", after):
            earlier.add(outcome, "replay", station.rules)
        source.skip(earlier.has_inspected)
        store = build.evidence_store(evidence)
        stream = replay(source, station, store, journal, build.message_builder([]), alarms=earlier.alarms)
        for inspection, _ in stream:
            sheet.add(inspection.frame.pixels, inspection.reading, inspection.verdict, map_threshold=0.8)
            print(inspection.frame.part_id, flush=True)
    sheet.render()


def watched(command: list[str], count: int) -> dict[str, Any]:
    """Run it, and at every tenth of its lines note pictures a second and what it and its children hold of memory."""
    begun = time.perf_counter()
    tenths: list[dict[str, float]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = since = time.perf_counter()
        seen = last = 1
        for _ in process.stdout:
            seen += 1
            if seen >= count * (len(tenths) + 1) // 10:
                now = time.perf_counter()
                ours, theirs = resident_mb(process.pid)
                tenths.append({"pictures_per_s": (seen - last) / (now - since), "mb": ours, "decoders_mb": theirs})
                since, last = now, seen
        ended = time.perf_counter()
    if process.returncode or seen != count:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode} after {seen} of {count} pictures")
    return {"start_s": started - begun, "pictures_per_s": (seen - 1) / (ended - started), "tenths": tenths}


def resident_mb(pid: int) -> tuple[float, float]:
    """Of a process, and of its children together; those do not share much."""

    def of(one: int) -> float:
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except FileNotFoundError:
            return 0.0
        return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)

    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return of(pid), sum(of(int(child)) for child in children)


def decoding(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Pictures a second by way of decoding and by size; each way has one other worker, and starts before the clock does."""
    found = {}
    for size in ("384 x 384", f"{LARGE[0]} x {LARGE[1]}"):
        paths = _of_size(folder, size)
        with (
            ThreadPoolExecutor(1) as threads,
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as processes,
        ):
            processes.submit(decode, paths[0]).result()
            ways: dict[str, Callable[[], Iterable[Any]]] = {
                "in line": partial(map, decode, paths),
                "a thread": partial(_ahead, threads, paths),
                "a process, pickled": partial(_ahead, processes, paths),
            }
            rates: dict[str, list[float]] = {name: [] for name in [*ways, "a process, shared memory"]}
            for _ in range(rounds):
                for name, way in ways.items():
                    rates[name].append(_rate(iter(way()), len(paths)))
                given = decoded(
                    [(path, path) for path in paths[:1] + paths], 1, threading.Event(), max_megapixels=100, bit_depth=16
                )
                next(given)
                rates["a process, shared memory"].append(_rate((pixels for _, pixels in given), len(paths)))
        found[size] = {name: statistics.median(each) for name, each in rates.items()}
    return found


def _of_size(folder: Path, size: str) -> list[str]:
    samples = sorted(SAMPLES.glob("*.jpg"))
    if size == "384 x 384":
        return [str(sample) for sample in samples] * 15
    for sample in samples:
        cv2.imwrite(str(folder / sample.name), cv2.resize(cv2.imread(str(sample)), LARGE))
    return [str(folder / sample.name) for sample in samples] * 2


def _ahead(pool: ThreadPoolExecutor | ProcessPoolExecutor, paths: list[str]) -> Iterable[np.ndarray]:
    running = [pool.submit(decode, path) for path in paths[:MOST_AHEAD]]
    for number in range(len(paths)):
        running += [pool.submit(decode, path) for path in paths[number + MOST_AHEAD : number + MOST_AHEAD + 1]]
        yield running.pop(0).result()


def _rate(found: Iterable[Any], count: int) -> float:
    """Pictures a second, each touched, as a resize would."""
    begun = time.perf_counter()
    for pixels in found:
        pixels[::4, ::4].sum()
    return count / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000, help="through all but the tower")
    parser.add_argument("--model-pictures", type=int, default=3000, help="through the embedded model, for the tenths")
    parser.add_argument("--turn", type=int, default=300, help="through the embedded model, in each of the turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cheap", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cheap:
        folder, out, workers = options.cheap
        cheap(Path(folder), Path(out), int(workers))
        return

    results: dict[str, Any] = {**about("torch", "opencv-python", "pillow"), "cheap detector": Brightness.__doc__}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def replayed(pictures: int, workers: int, out: str) -> dict[str, Any]:
            archive(pictures, folder / out / "photos")
            command = [sys.executable, "-m", "edge_agent.cli", "replay", "--json", str(folder / out / "photos")]
            more = ["--out", str(folder / out / "out"), "--workers", str(workers), "--overlays", "not_ok"]
            found = watched([*command, *more], pictures)
            shutil.rmtree(folder / out)
            return found

        def without_tower(pictures: int, workers: int, out: str, *, twice: bool = False) -> dict[str, Any]:
            archive(pictures, folder / out / "photos")
            (folder / out / "out").mkdir()
            paths = [str(folder / out / "photos"), str(folder / out / "out")]
            command = [sys.executable, "-m", "benchmarks.archive", "--cheap", *paths, str(workers)]
            found = watched(command, pictures)
            if twice:
                begun = time.perf_counter()
                subprocess.run(command, check=True)
                found["nothing_left_s"] = time.perf_counter() - begun
                found["journal_mb"] = (folder / out / "out" / "journal.db").stat().st_size / 1e6
            shutil.rmtree(folder / out)
            return found

        long = {"pictures": options.pictures, **without_tower(options.pictures, 1, "long", twice=True)}
        results["all but the tower"] = long
        told("all but the tower", long)
        print(f"the same command once all is done: {long['nothing_left_s']:.1f} s; journal {long['journal_mb']:.0f} MB")
        save("archive", results)

        long = {"pictures": options.model_pictures, **replayed(options.model_pictures, 1, "long")}
        results["embedded model"] = long
        told("embedded model", long)
        save("archive", results)

        for what, run, count in (
            ("embedded model", replayed, options.turn),
            ("all but the tower", without_tower, 5 * options.turn),
        ):
            turns: dict[int, list[float]] = {0: [], 1: []}
            for _ in range(options.rounds):
                for workers, rates_of in turns.items():
                    rates_of.append(run(count, workers, "turn")["pictures_per_s"])
            inline, ahead = statistics.median(turns[0]), statistics.median(turns[1])
            results[what]["turns"] = {"pictures": count, "in line": turns[0], "one process ahead": turns[1]}
            print(f"{what}: in line {inline:.1f}/s, one process ahead {ahead:.1f}/s: {ahead / inline:.2f} x")
            save("archive", results)

        results["decoding"] = decoding(folder, options.rounds)
        for size, rates in results["decoding"].items():
            for way, rate in rates.items():
                print(f"decoding {size:11}  {way:25} {rate:6.1f}/s  {rate / rates['in line']:4.2f} x in line")
    print(save("archive", results))


def told(what: str, found: dict[str, Any]) -> None:
    first, last = found["tenths"][1], found["tenths"][-1]  # the first one still warms up
    for number, tenth in enumerate(found["tenths"], 1):
        print(
            f"{what}, {number:2}/10 of {found['pictures']}: {tenth['pictures_per_s']:6.1f}/s  "
            f"{tenth['mb']:6.1f} MB, decoders {tenth['decoders_mb']:5.1f} MB"
        )
    ratio = last["pictures_per_s"] / first["pictures_per_s"]
    print(f"{what}: the last tenth {ratio:.2f} x as fast as the second, and {last['mb'] - first['mb']:+.1f} MB")


if __name__ == "__main__":
    main()
