"""What a line was worth in a period, as people labelled it: false alarms and misses; reads no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from edge_agent.core import Evaluation
from edge_agent.journal.rows import LabelValue, RecordedInspection


@dataclass(slots=True)
class AsLabelled:
    """Counts of one station.

    verdicts: by evaluation. said: by what was said and whether the verdict was NotOK. kinds: by kind of defect, found and missed.
    """

    station: str
    verdicts: Counter[Evaluation] = field(default_factory=Counter)
    said: Counter[tuple[LabelValue, bool]] = field(default_factory=Counter)
    kinds: Counter[tuple[str, bool]] = field(default_factory=Counter)


def as_labelled(pages: Iterable[Sequence[RecordedInspection]]) -> list[AsLabelled]:
    """Count verdicts and labels by station, in the order of their names; those of replays do not count."""
    found: dict[str, AsLabelled] = {}
    for page in pages:
        for one in page:
            if one.simulated:
                continue
            counts = found.setdefault(one.station, AsLabelled(one.station))
            counts.verdicts[one.verdict.evaluation] += 1
            is_not_ok = one.verdict.evaluation is Evaluation.NOT_OK
            if one.label:
                counts.said[one.label.value, is_not_ok] += 1
                if one.label.value is LabelValue.DEFECT:
                    counts.kinds[one.label.kind or "no kind given", is_not_ok] += 1
    return [found[name] for name in sorted(found)]


def lines(counts: AsLabelled) -> Iterator[str]:
    """Yield the counts of one station in words."""
    all_, not_ok = sum(counts.verdicts.values()), counts.verdicts[Evaluation.NOT_OK]
    undecided = all_ - not_ok - counts.verdicts[Evaluation.OK]
    yield f"{counts.station}: {all_} inspected, {not_ok} NotOK, {undecided} not decided"
    false_alarms, good_ok = counts.said[LabelValue.GOOD, True], counts.said[LabelValue.GOOD, False]
    found, missed = counts.said[LabelValue.DEFECT, True], counts.said[LabelValue.DEFECT, False]
    unsure = counts.said[LabelValue.UNSURE, True] + counts.said[LabelValue.UNSURE, False]
    silent = not_ok - false_alarms - found - counts.said[LabelValue.UNSURE, True]
    yield f"  false alarms   {false_alarms}, of {false_alarms + good_ok} parts that were said to be good"
    yield f"  missed         {missed}, of {found + missed} that were said to be defective"
    if unsure:
        yield f"  not sure       {unsure}"
    yield f"  nothing said   {silent} of the NotOK ones"
    for kind in sorted({kind for kind, _ in counts.kinds}):
        yield f"  {kind}: {counts.kinds[kind, True]} found, {counts.kinds[kind, False]} missed"
