"""Write what a soak found as JSON in benchmarks/results, with date, commit and versions."""

from __future__ import annotations

import json
import platform
import sqlite3
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version

from benchmarks.results_file import RESULTS, commit

COMMIT = commit()  # of when the soak began
PACKAGES = ("paho-mqtt", "sqlalchemy", "torch", "watchdog")


def tell(name: str, figures: Mapping[str, object], must_be_none: tuple[str, ...]) -> int:
    """Print the figures and write them to results/faults-NAME.json; the exit code: 1 if one that must be 0 is not."""
    about = {
        "soak": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": COMMIT,
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "mosquitto": _mosquitto(),
            **{package: version(package) for package in PACKAGES},
        },
        "figures": dict(figures),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"faults-{name}.json").write_text(json.dumps(about, indent=2) + "\n")
    for key, value in figures.items():
        wrong = "   <- has to be 0" if key in must_be_none and value else ""
        print(f"{key:40} {value}{wrong}")
    return int(any(figures[key] for key in must_be_none))


def _mosquitto() -> str:
    from tests.mosquitto import program

    said = subprocess.run([program("mosquitto"), "-h"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].removeprefix("mosquitto version ")
