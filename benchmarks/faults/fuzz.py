"""Fuzz every entry point for bytes from outside, guided by coverage (atheris); see entries.py.

Run: pip install atheris; python -m benchmarks.faults.fuzz [--seconds 300] [ENTRY ...]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.faults.results import tell

MUST_BE_NONE = ("findings",)
RSS_MB, SLOW_S, LONGEST = 2048, 10, 8192


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """Fuzz one entry in this process, which then ends."""
    import atheris

    with atheris.instrument_imports(include=["edge_agent", "PIL", "yaml", "safetensors"]):
        from benchmarks.faults.entries import ENTRIES

    limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={RSS_MB}", f"-timeout={SLOW_S}", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *limits, "-seed=1", "-verbosity=1", corpus], ENTRIES[name])
    atheris.Fuzz()


def soak(name: str, seconds: int) -> dict[str, object]:
    """So many seconds of inputs for one entry: how many there were, and what was found."""
    from benchmarks.faults.entries import seeds

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(name)):
            (corpus / str(number)).write_bytes(seed)
        command = [
            sys.executable,
            "-m",
            "benchmarks.faults.fuzz",
            "--one",
            name,
            str(corpus),
            "--seconds",
            str(seconds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        inputs = len(list(corpus.iterdir()))
    finished = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    if done.returncode or not finished:
        sys.stderr.write(done.stderr[-3000:])
    return {
        f"{name}_runs": int(finished[1]) if finished else 0,
        f"{name}_seconds": int(finished[2]) if finished else 0,
        f"{name}_inputs_that_reached_something_new": inputs,
        f"{name}_findings": int(done.returncode != 0 or not finished),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="ENTRY")
    parser.add_argument("--seconds", type=int, default=300, help="for each entry (default 300)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, corpus = options.one
        fuzz(name, corpus, options.seconds)
        return 0
    from benchmarks.faults.entries import ENTRIES

    figures: dict[str, object] = {}
    for name in options.entries or ENTRIES:
        figures |= soak(name, options.seconds)
    figures["findings"] = sum(int(str(value)) for key, value in figures.items() if key.endswith("_findings"))
    return tell("fuzz", figures, MUST_BE_NONE)


if __name__ == "__main__":
    sys.exit(main())
