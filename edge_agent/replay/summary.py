"""What a replay has found, in a few lines of text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edge_agent.core import Evaluation
from edge_agent.io.pictures import printable


def summary(counts: Counter[Evaluation], before: int, seconds: float, out: Path, sheet: Path) -> str:
    """Return how many pictures had which verdict, and where the files are.

    Args:
        counts: all verdicts, those of earlier runs too.
        before: how many of them are of earlier runs.
        seconds: duration of this run.
        out: folder of journal and evidence.
        sheet: the contact sheet.
    """
    total = counts.total() - before
    found = ", ".join(f"{counts[evaluation]} {evaluation.value}" for evaluation in list(Evaluation)[:3])
    more = f"; {before} {'were' if before != 1 else 'was'} inspected before; of all {total + before}" if before else ""
    return (
        f"\n{total} picture{'s' * (total != 1)} in {seconds:.1f} s ({total / seconds:.1f} a second){more}: {found}"
        f"\noverlays       {printable(out / 'evidence')}"
        f"\ncontact sheet  {printable(sheet)}"
        f"\njournal        {printable(out / 'journal.db')}"
    )
