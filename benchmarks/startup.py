"""Measure how long `edge-agent run` takes until it is ready, and its memory, beside an older commit in the same run.

Wall seconds and processor seconds (which other work disturbs less); resident memory when it is ready, after sixteen pictures,
and the peak. "Anonymous" pages are the process's own; the others belong to files, mostly libraries, and the kernel can drop
them. Medians; old and new in turns; the first run of each is not counted, as it fills the disk cache.
Run: python -m benchmarks.startup [--before COMMIT] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results_file import about, save

ROOT = Path(__file__).parents[1]
SAMPLES = sorted((ROOT / "edge_agent" / "samples").glob("*.jpg"))[:16]
KINDS = {"resident_mb": "VmRSS", "anonymous_mb": "RssAnon", "highest_mb": "VmHWM"}


def start(program: Path, folder: Path) -> dict[str, float]:
    """One start of the program that lies in a folder, with a journal in another that the first start made."""
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {
                "agent": {"name": "box", "data_dir": str(folder / "data")},
                "stations": [{"name": "cam1", "source": {"folder": str(folder / "in")}}],
            }
        )
    )
    shutil.rmtree(folder / "in", ignore_errors=True)
    command = [sys.executable, "-m", "edge_agent.cli", "run", "--verbose", "--config", str(config)]
    begun = time.perf_counter()
    with subprocess.Popen(command, cwd=program, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "ready: watching" in line), None)
        assert said, "it ended before it was ready"
        found = {"ready_s": time.perf_counter() - begun, "processor_s": _processor_s(process.pid)}
        found |= _memory(process.pid)
        (folder / "in").mkdir()
        for number, sample in enumerate(SAMPLES):
            shutil.copy(sample, folder / "in" / f"{time.time_ns()}-{number}.jpg")
        inspected = 0
        while inspected < len(SAMPLES):
            inspected += "cam1: " in next(process.stderr) and 1
        found["resident_at_work_mb"] = _memory(process.pid)["resident_mb"]
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    return found


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = {kind: re.search(rf"{name}:\s+(\d+) kB", status) for kind, name in KINDS.items()}
    return {kind: int(size[1]) / 1024 for kind, size in sizes.items() if size}


def main() -> None:
    """Print both, and write benchmarks/results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", default="6bea1fb", metavar="COMMIT", help="the older program (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {options.before: [], "now": []}
    with tempfile.TemporaryDirectory() as scratch:
        before = Path(scratch) / "before"
        before.mkdir()
        packed = subprocess.run(
            ["git", "-C", str(ROOT), "archive", options.before, "edge_agent"], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(before)], input=packed, check=True)
        for number in range(options.rounds + 1):
            for name, program in ((options.before, before), ("now", ROOT)):
                folder = Path(scratch) / name
                folder.mkdir(exist_ok=True)
                found = start(program, folder)
                if number:
                    rounds[name].append(found)
    medians = {
        name: {key: round(statistics.median(one[key] for one in all_), 2) for key in all_[0]}
        for name, all_ in rounds.items()
    }
    for name, figures in medians.items():
        print(f"{name:8} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))
    ratios = {key: round(medians["now"][key] / medians[options.before][key], 3) for key in medians["now"]}
    print("ratio    " + "  ".join(f"{key} {value:g}" for key, value in ratios.items()))
    save("startup", {**about("torch"), "medians": medians, "ratios": ratios, "rounds": rounds})


if __name__ == "__main__":
    main()
