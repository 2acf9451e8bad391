"""Measure how many pictures a second the line takes with a detector that costs nothing, beside an older commit in the same run.

Frames of 1920 x 1200 from memory, the real journal and evidence; three cases: no picture is NotOK, so that none is kept; one in
twenty is; all are. Pictures a second, processor milliseconds a picture, and how long a verdict takes from its frame to the first
observer that is told: median and 99th percentile, at full speed (with what waits before it) and at 25 pictures a second.
Each case runs in a process of its own, old and new in turns; medians of the rounds. Run:
python -m benchmarks.line_speed [--before COMMIT] [--rounds 3] [--seconds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results_file import about, save

ROOT = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("line_speed_child.py")
CASES = {  # one picture in so many is NotOK (0: none), and pictures a second (0: as many as it takes)
    "nothing kept": (0, 0),
    "one in twenty": (20, 0),
    "all NotOK": (1, 0),
    "all NotOK, 25 a second": (1, 25),
}


def measure(program: Path, every: int, rate: float, seconds: float) -> dict[str, float]:
    """Run one case with the program that lies in a folder.

    Args:
        program: folder with the package edge_agent.
        every: one picture in so many is NotOK; 0 for none.
        rate: pictures a second; 0 for as many as it takes.
        seconds: how long frames are given.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(CHILD), scratch, str(every), str(rate), str(seconds)]
        environment = {"PYTHONPATH": str(program), "OMP_NUM_THREADS": "1", "PATH": ""}
        done = subprocess.run(command, cwd=program, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print all cases, and write benchmarks/results/line_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="COMMIT", help="an older program to run beside this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="frames are given for so long in each case")
    parser.add_argument("--case", choices=list(CASES), help="this one alone, and nothing is written")
    options = parser.parse_args()
    cases = {options.case: CASES[options.case]} if options.case else CASES
    with tempfile.TemporaryDirectory() as scratch:
        programs = {"now": ROOT}
        if options.before:
            programs = {options.before: Path(scratch), **programs}
            packed = subprocess.run(
                ["git", "-C", str(ROOT), "archive", options.before, "edge_agent"], check=True, capture_output=True
            ).stdout
            subprocess.run(["tar", "-x", "-C", scratch], input=packed, check=True)
        results: dict[str, dict[str, dict[str, float]]] = {}
        for case, (every, rate) in cases.items():
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
            for _ in range(options.rounds):
                for name, program in programs.items():
                    rounds[name].append(measure(program, every, rate, options.seconds))
            results[case] = {
                name: {key: round(statistics.median(one[key] for one in all_), 2) for key in all_[0]}
                for name, all_ in rounds.items()
            }
            if options.before:
                before, now = results[case][options.before], results[case]["now"]
                results[case]["ratio"] = {key: round(now[key] / max(before[key], 1e-9), 3) for key in now}
            for name, figures in results[case].items():
                print(f"{case:24} {name:8} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))
    if not options.case:
        save("line_speed", {**about("numpy", "opencv-python", "SQLAlchemy"), "cases": results})


if __name__ == "__main__":
    main()
