"""Measure everything on a GPU, in about ten minutes: python -m benchmarks.gpu, or make bench-gpu.

All figures come from this run: the machine's rate of matrix products, a baseline as in the papers' code, and ours. Speed is
measured with random weights, as their values do not change it. A part that fails reports why, and the others go on. Results
are written to benchmarks/results/ after every part.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import edge_agent
from benchmarks.gpu_parts import TINY, NotHere, Size, parts
from benchmarks.results_file import RESULTS, commit
from edge_agent.diagnostics.bench import processor
from edge_agent.io.files import write_durably

PACKAGES = ("torch", "triton", "open_clip_torch", "numpy")


def about(size: Size) -> dict[str, Any]:
    """What the results were measured on, and with."""
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit() or "unknown",
        "python": platform.python_version(),
        "edge-agent": edge_agent.__version__,
        "processor": processor(),
        "cpu_threads": torch.get_num_threads(),
        "size": {name: getattr(size, name) for name in size.__slots__},
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "memory_gb": properties.total_memory / 1e9,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
        said = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
        try:
            found["driver, power limit, highest clock"] = subprocess.run(
                said, capture_output=True, text=True, timeout=20
            ).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            found["driver, power limit, highest clock"] = "nvidia-smi does not say"
    else:
        found["device"] = f"no GPU: {found['processor']}"
    return found


def measured(
    wanted: Iterable[tuple[str, Callable[[], dict[str, Any]]]], keep: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Each part's figures, or why there are none, by name; `keep` is called with all of them after each."""
    results: dict[str, Any] = {}
    for name, part in wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            results[name] = {"state": "measured", **part()}
        except NotHere as reason:
            results[name] = {"state": "left out", "reason": str(reason)}
        except Exception as error:  # of whatever kind: the other parts can still be measured
            traceback.print_exc()
            reason = (str(error).strip().splitlines() or [""])[0]
            results[name] = {"state": "failed", "reason": f"{type(error).__name__}: {reason}"}
        results[name]["part_s"] = time.monotonic() - begun
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        keep(results)
    return results


def table(results: dict[str, Any]) -> str:
    """A line a part: what it came to."""
    lines = []
    for name, found in results.items():
        if found["state"] != "measured":
            lines.append(f"{name:32} {found['state']}: {found['reason']}")
            continue
        told = [f"{key} {_short(value)}" for key, value in found.items() if isinstance(value, int | float | str)]
        inner = [
            f"{key}: " + ", ".join(f"{each} {_short(one)}" for each, one in value.items())
            for key, value in found.items()
            if isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values())
        ]
        lines.append(
            f"{name:32} " + "; ".join([one for one in told if not one.startswith(("state", "part_s"))] + inner)
        )
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and say where the results lie. 0 when every part was measured or left out for a reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tiny", action="store_true", help="every part at a size that means nothing, here: does it run?"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda; with --tiny the CPU serves too")
    parser.add_argument("--only", default="", metavar="WORDS", help="parts whose name contains one of these, by commas")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args(arguments)
    device = options.device or ("cuda" if torch.cuda.is_available() or not options.tiny else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        print(
            "torch finds no usable GPU here: see `edge-agent doctor`; --tiny runs every part on a CPU", file=sys.stderr
        )
        return 1
    size = TINY if options.tiny else Size()
    where = about(size)
    slug = re.sub(r"[^a-z0-9]+", "-", where["device"].lower()).strip("-")[:40]
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"gpu-{'tiny-' if options.tiny else ''}{slug}-{time.strftime('%Y%m%d-%H%M')}.json"

    def keep(results: dict[str, Any]) -> None:
        write_durably(path, json.dumps({**where, "parts": results}, indent=2).encode())

    words = [word.strip() for word in options.only.split(",") if word.strip()]
    wanted = [each for each in parts(size, device) if not words or any(word in each[0] for word in words)]
    results = measured(wanted, keep)
    print(
        f"{where['device']}, torch {where['torch']}, triton {where['triton']}, commit {where['commit'][:12]}, {where['date']}"
    )
    print(table(results))
    print(path)
    return int(any(found["state"] == "failed" for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
