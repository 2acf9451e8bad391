"""Count what becomes of triggers of a PLC while its cable is cut at any step of the handshake, and the agent killed.

A Modbus server with a handshake of its own plays the PLC. Run: python -m benchmarks.plc [--parts 500] [--write]
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter

from benchmarks.results_file import about, save
from tests.plc import Drill, drill

DIRECTIONS = ("there", "back")
FARTHEST = 16  # messages from the trigger's rise on; a part takes some 15


def cut(number: int) -> tuple[int, str] | None:
    """Return where the cable is cut while a part is inspected: two of three times anywhere in its handshake."""
    return None if number % 3 == 0 else (random.randrange(FARTHEST), random.choice(DIRECTIONS))


def counted(done: Drill) -> dict[str, object]:
    """Return what the PLC was told, and what was wrong with it."""
    return {
        "parts": len(done.told),
        "cuts": done.cuts,
        "kills": done.kills,
        "results": dict(Counter(result for told in done.told for result in sorted(told.results))),
        "not_decidable_without_a_cut": sum(
            told.results == {"not_decidable"} and told.part not in done.cut for told in done.told
        ),
        **{kind: len(found) for kind, found in done.faults().items()},
    }


def main() -> int:
    """Print the counts; fail if anything is wrong, double, missing or not read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/plc.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    random.seed(options.seed)
    begun, cpu = time.perf_counter(), time.process_time()
    done = drill(options.parts, cut, kill_every=25)
    took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    results = {**counted(done), "seed": options.seed, "seconds": round(took_s, 1), "processor_s": round(cpu_s, 1)}
    for name, value in results.items():
        print(f"{name}: {value}")
    if options.write:
        print(save("plc", {**about("pymodbus"), **results}))
    return int(any(done.faults().values()))


if __name__ == "__main__":
    sys.exit(main())
