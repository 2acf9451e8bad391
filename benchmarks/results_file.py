"""Write results as JSON in benchmarks/results/, with date, commit, versions, processor and load."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def about(*packages: str) -> dict[str, Any]:
    """packages: whose versions matter."""
    from edge_agent.diagnostics.bench import processor  # it imports torch, which not all that saves results needs

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),  # of others, too: the machine may be shared
    }


def commit() -> str:
    """The short name of what is checked out, with "+" behind it when the program's files differ from it."""
    git = ["git", "-C", str(RESULTS)]
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    program = [str(RESULTS.parents[1] / folder) for folder in ("edge_agent", "trainer")]
    return name + "+" * bool(subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *program]).returncode)


def save(name: str, results: dict[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json and say where that is."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path
