"""An evaluation as one page of HTML for the people responsible for the line.

The page loads nothing, runs no script and prints as it looks. Every number is followed by what it means in plain words.
Left out: what only concerns how the model was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from trainer.evaluate.measure import CategoryResult
from trainer.evaluate.metrics import precision_recall_curve, roc_curve
from trainer.evaluate.published import PAPERS
from trainer.evaluate.record import CategoryRecord, EvaluationRecord
from trainer.io.files import write_whole
from trainer.report import charts
from trainer.report.cautions import find_cautions
from trainer.report.formats import percent
from trainer.report.rendering import render
from trainer.report.selection import Selection

HEADLINE_FIGURES = ("image_auroc", "pixel_auroc", "pixel_aupro")
MEANINGS: Mapping[str, str] = {
    "image_auroc": "Take one defective and one good picture by chance: how often the defective one gets the higher score."
    " 50 is guessing, 100 is never wrong.",
    "image_ap": "Go through the pictures from the highest score down until all defects are found: how many of those seen so far"
    " are truly defective, on average. Guessing gives the share of defective pictures in the set.",
    "image_f1": "The best balance of finding defects and not calling good parts defective that any threshold gives on these"
    " pictures. It is chosen with hindsight, so a real line will do a little worse.",
    "pixel_auroc": "The same as image AUROC, for single pixels: how often a pixel of a defect is marked more strongly than one"
    " of good surface. High values come easily, since most surface is good.",
    "pixel_aupro": "How much of each marked defect the map covers, small defects counting as much as large ones, as long as at most"
    " 30 % of the good surface is marked by mistake.",
    "pixel_f1": "How well the marked area and the true defect coincide at the best threshold; 100 is the same outline, to the pixel.",
    "pixel_ap": "Go through the pixels from the most strongly marked down: how many of those seen so far are truly defect, on"
    " average. The strictest of these figures.",
}


@dataclass(frozen=True, slots=True)
class Decisions:
    """Numbers of pictures over the categories that have a threshold, and the threshold or the range of them as text."""

    defective: int
    found: int
    good: int
    false_alarms: int
    threshold: str
    from_checkpoint: bool


@dataclass(frozen=True, slots=True)
class CaptionedChart:
    """A chart as SVG and the sentence below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class CategorySection:
    """What the page's section on one category shows."""

    name: str
    record: CategoryRecord
    charts: Sequence[CaptionedChart]
    selection: Selection


def report_page(
    evaluation: EvaluationRecord,
    results: Sequence[CategoryResult],
    baseline: Sequence[CategoryResult],
    selections: Mapping[str, Selection],
) -> str:
    """Render the whole page.

    Args:
        evaluation: the record of the run.
        results: what the record was made of, one a category.
        baseline: the same of the baseline; empty if it was not measured.
        selections: the pictures to show, by category.
    """
    ours, base = evaluation.measured, evaluation.baseline
    others = {one.category: one for one in baseline}
    records = list(ours.categories.values())
    return render(
        "report.html",
        evaluation=evaluation,
        ours=ours,
        base=base,
        good=sum(one.good for one in records),
        defective=sum(one.defective for one in records),
        decisions=_decisions(records),
        headline_figures=HEADLINE_FIGURES,
        meanings=MEANINGS,
        cautions=find_cautions(ours, base),
        chart=_category_chart(evaluation),
        categories=[
            CategorySection(
                one.category,
                ours.categories[one.category],
                list(_charts(one, ours.categories[one.category], others.get(one.category))),
                selections[one.category],
            )
            for one in results
        ],
        papers=PAPERS,
    )


def write_report(html: str, path: Path) -> None:
    """Write the page, whole or not at all. Raises EdgeAgentError."""
    write_whole(path, html.encode())


def _decisions(categories: Sequence[CategoryRecord]) -> Decisions:
    decided = [one for one in categories if one.threshold is not None]
    thresholds = sorted({one.threshold for one in decided if one.threshold is not None})
    return Decisions(
        sum(one.defective for one in decided),
        sum(one.found or 0 for one in decided),
        sum(one.good for one in decided),
        sum(one.false_alarms or 0 for one in decided),
        " to ".join(f"{one:.3f}" for one in thresholds[:1] + thresholds[1:][-1:]),
        bool(decided) and decided[0].threshold_from == "checkpoint",
    )


def _category_chart(evaluation: EvaluationRecord) -> Markup | None:
    """Draw the image AUROC of every category with its interval; None where no category has one."""
    ours, base = evaluation.measured, evaluation.baseline
    bars = [
        charts.Bar(name, value, low, high, base.categories[name].figures["image_auroc"].value if base else None)
        for name, one in ours.categories.items()
        if (value := (figure := one.figures["image_auroc"]).value) is not None
        and (low := figure.low) is not None
        and (high := figure.high) is not None
    ]
    if not bars:
        return None
    values = "; ".join(f"{bar.name} {bar.value:.1f}, between {bar.low:.1f} and {bar.high:.1f}" for bar in bars)
    return charts.intervals(bars, f"Image AUROC by category, percent: {values}")


def _charts(result: CategoryResult, record: CategoryRecord, base: CategoryResult | None) -> Iterator[CaptionedChart]:
    good, bad = result.scores[~result.bad], result.scores[result.bad]
    threshold = record.threshold
    at = "" if threshold is None else f" The threshold is {threshold:.3f}."
    description = (
        f"Scores of {len(good)} good pictures, median {_median(good)}, and of {len(bad)} defective ones,"
        f" median {_median(bad)}.{at}"
    )
    yield CaptionedChart(
        charts.histogram(good, bad, threshold, description),
        "Scores. The less the two overlap, the better; what lies right of the dashed line is called defective.",
    )
    for kind, counts in (("image", _image_counts(result)), ("pixel", (result.pixels.good, result.pixels.bad))):
        if record.figures[f"{kind}_auroc"].value is None:
            continue
        other = (
            None if base is None else _image_counts(base) if kind == "image" else (base.pixels.good, base.pixels.bad)
        )
        what = "pictures" if kind == "image" else "pixels"
        yield CaptionedChart(
            charts.curves(
                _lines(roc_curve, counts, other),
                f"good {what} called defective",
                f"defective {what} found",
                f"ROC curve of {what}, AUROC {percent(record.figures[f'{kind}_auroc'].value)} percent.",
            ),
            f"ROC of {what}. What finding more costs in false alarms, from strict (left) to lenient; the closer to the upper left"
            " corner, the better.",
        )
        yield CaptionedChart(
            charts.curves(
                _lines(precision_recall_curve, counts, other),
                f"defective {what} found",
                "alarms that are right" if kind == "image" else "marked pixels that are right",
                f"Precision and recall of {what}, AP {percent(record.figures[f'{kind}_ap'].value)} percent.",
            ),
            f"Precision and recall of {what}. How far an alarm can be trusted as more are found; the closer to the upper right"
            " corner, the better.",
        )


Counts = tuple[np.ndarray, np.ndarray]  # good, defective, each (L,) by level of score


def _lines(
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray], ours: Counts, other: Counts | None
) -> list[charts.Line]:
    lines = [charts.Line("this model", curve(*ours))]
    if other is not None:
        lines.append(charts.Line("local contrast", curve(*other), dashed=True))
    return lines


def _image_counts(result: CategoryResult) -> Counts:
    levels, at = np.unique(result.scores, return_inverse=True)
    good, bad = (np.bincount(at[members], minlength=len(levels)) for members in (~result.bad, result.bad))
    return good, bad


def _median(scores: np.ndarray) -> str:
    return f"{np.median(scores):.3f}" if len(scores) else "-"
