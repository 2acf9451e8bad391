"""Check that the tests notice changed code: run mutants of a module, made by cosmic-ray, against the tests that concern it.

    python -m benchmarks.mutants --minutes 60

cosmic-ray changes files in place, so this works on a copy of the last commit. Mutants are a random sample by a seed, as many
of each module as there is time for. Left out are those of `|`, as nearly all of them stand in type annotations.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300.0  # a mutant that takes so long, such as one that never ends, is noticed
# Tests by module, as arguments of pytest. PostgreSQL's are left out: they run the same code as SQLite's but for its dialect.
PLAN: Mapping[str, str] = {
    "edge_agent/line/judge.py": "tests/test_judge.py tests/test_mask.py",
    "edge_agent/line/mask.py": "tests/test_mask.py tests/test_judge.py",
    "edge_agent/line/inbox.py": "tests/test_inbox_waits.py tests/test_pipeline.py",
    "edge_agent/line/inspect.py": "tests/test_pipeline.py tests/test_shows_nothing.py tests/test_faults_detector.py -k 'not daemon'",
    "edge_agent/line/line.py": "tests/test_pipeline.py tests/test_faults_detector.py -k 'not daemon'",
    "edge_agent/line/calibration.py": "tests/test_calibrate.py",
    "edge_agent/health/drift.py": "tests/test_drift.py -k 'not agent'",
    "edge_agent/journal/journal.py": "tests/test_journal.py tests/test_outbox.py -k 'not postgresql'",
    "edge_agent/journal/rows.py": "tests/test_journal.py tests/test_export.py -k 'not postgresql'",
    "edge_agent/journal/reader.py": "tests/test_outbox.py -k 'not postgresql and not daemon'",
    "edge_agent/journal/purge.py": "tests/test_journal.py tests/test_retention.py -k 'not postgresql'",
    "edge_agent/journal/sqlite.py": "tests/test_journal.py tests/test_journal_faults.py -k 'not postgresql'",
    "trainer/calibrate/conformal.py": "tests/test_calibrate.py -k 'rate or interval or tie or score'",
    "trainer/calibrate/calibration.py": "tests/test_calibrate.py",
}
ANNOTATIONS = "core/ReplaceBinaryOperator_BitOr"
COMMAND = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:xdist --hypothesis-seed=0 "


def main() -> None:
    """Run a sample of the mutants of every module, and print the figures as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="stop after so many minutes (60)")
    parser.add_argument("--only", nargs="+", default=list(PLAN), metavar="FILE", help="of these modules only")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of mutants (0)")
    options = parser.parse_args()
    print("| module | mutants | tried | killed | survived |\n|---|---|---|---|---|")
    survivors: list[str] = []
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", copy, "HEAD"], cwd=ROOT, check=True)
        # Bytecode would hide a mutant that is written within the same second as the file before it.
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        os.chdir(copy)
        try:
            for number, module in enumerate(options.only):
                share_s = (until - time.monotonic()) / (len(options.only) - number)
                survivors += sampled(module, time.monotonic() + share_s, random.Random(options.seed))
        finally:
            os.chdir(ROOT)
            subprocess.run(["git", "worktree", "remove", "--force", copy], cwd=ROOT, check=True)
    print("\n" + "".join(survivors))


def sampled(module: str, until: float, chance: random.Random) -> list[str]:
    """Run mutants of one module, one after another, and print its row.

    Args:
        module: the path of its file, in the working directory; the file is changed and changed back.
        until: time.monotonic() after which no other mutant is begun; one is tried in any case.
        chance: chooses them.

    Returns each survivor as a diff.
    """
    from cosmic_ray.commands import init
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome

    command = COMMAND + PLAN[module]
    if subprocess.run(shlex.split(command), stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{module}: {PLAN[module]} fails as it is")
    with use_db(":memory:", WorkDB.Mode.create) as session:
        init([Path(module)], session, {})
        items = [one for one in session.work_items if ANNOTATIONS not in one.mutations[0].operator_name]
    tried, survivors = 0, []
    for item in chance.sample(items, len(items)):
        if tried and time.monotonic() > until:
            break
        result = mutate_and_test(item.mutations, command, TIMEOUT_S)
        tried += 1
        if result.test_outcome is TestOutcome.SURVIVED:
            survivors.append(f"{result.diff}\n")
            print(result.diff, file=sys.stderr, flush=True)
    print(f"| {module} | {len(items)} | {tried} | {tried - len(survivors)} | {len(survivors)} |", flush=True)
    return survivors


if __name__ == "__main__":
    main()
