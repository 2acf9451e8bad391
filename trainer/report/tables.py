"""Evaluations and comparisons as text tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from trainer.data.doubts import of_copies, of_inverted
from trainer.data.examples import GOOD
from trainer.evaluate.compare import Comparison
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.record import CategoryRecord, DetectorRecord, EvaluationRecord, FigureRecord
from trainer.evaluate.reproduce import Reproduced
from trainer.report.formats import interval, percent, title


def figures(evaluation: EvaluationRecord) -> Iterator[str]:
    """Yield a table of figures by category and of their means, for every detector, each figure with its interval below."""
    records = [evaluation.measured, *([evaluation.baseline] if evaluation.baseline else [])]
    wide = max(12, *(len(name) for one in records for name in one.categories)) + 1
    yield f"percent; below each figure its range in 95 % of {evaluation.draws} draws of the pictures"
    yield f"{'category':{wide}}{'good':>5}{'bad':>6}{''.join(f'{title(name):>13}' for name in FIGURES)}  detector"
    for name in records[0].categories:
        for record in records:
            one = record.categories[name]
            yield from _row(f"{name:{wide}}{one.good:5}{one.defective:6}", one.figures, record.detector)
    if len(records[0].categories) > 1:
        for record in records:
            yield from _row(f"{'mean':{wide + 11}}", record.mean.figures, record.detector)
    for record in records:
        yield from (line for name, one in record.categories.items() for line in _decided(name, one, record.detector))


def warnings(record: DetectorRecord) -> Iterator[str]:
    """Yield warnings about data that are not in the figures."""
    for name, one in record.categories.items():
        yield from (f"warning: {name}: skipped {left.path}: {left.reason}" for left in one.skipped)
        if one.vanished:
            yield f"warning: {name}: {one.vanished} masks have no pixel left at {record.size} pixels: raise --size"
        yield from (f"warning: {name}: {doubt}" for doubt in doubts(one))
        missing = "good" if not one.good else "defective" if not one.defective else ""
        if missing:
            yield f"warning: {name}: no {missing} pictures, so its figures for pictures are missing"
    count = sum(len(one.skipped) for one in record.categories.values())
    if count:
        yield f"warning: {count} picture{'' if count == 1 else 's'} skipped; the figures are those of the others"


def doubts(category: CategoryRecord) -> Iterator[str]:
    """Yield what makes a category's pictures or masks doubtful, in sentences."""
    yield from of_inverted(category.doubtful, category.defective)
    copies = category.copies()
    contradicting = sum(len({one.kind == GOOD for one in group}) > 1 for group in copies)
    yield from of_copies([[one.path for one in group] for group in copies], contradicting)


def differences(comparison: Comparison) -> Iterator[str]:
    """Yield a row for every category and figure: A, B, their difference with its interval, and whether the pictures support it."""
    wide = max(12, *(len(name) for name in comparison.rows)) + 1
    yield f"A is {comparison.first}, B is {comparison.second}; percent, differences in points"
    yield from (f"note: {note}" for note in comparison.notes)
    yield f"{'category':{wide}}{'figure':13}{'A':>7}{'B':>7}{'B - A':>8}   95 % of draws    "
    for name, row in comparison.rows.items():
        for key, one in row.items():
            low, high = f"{one.change.low:+.1f}", f"{one.change.high:+.1f}"
            verdict = "B is better" if one.change.low > 0 else "A is better" if one.change.high < 0 else "not decided"
            yield (
                f"{name:{wide}}{title(key):13}{one.first:7.1f}{one.second:7.1f}{one.change.value:+8.1f}"
                f"{low:>8} to {high:<8}{verdict}"
            )


def _row(start: str, row: Mapping[str, FigureRecord], detector: str) -> Iterator[str]:
    yield f"{start}{''.join(f'{percent(row[name].value):>13}' for name in FIGURES)}  {detector}"
    yield f"{'':{len(start)}}{''.join(f'{interval(row[name]):>13}' for name in FIGURES)}".rstrip()


def _decided(name: str, one: CategoryRecord, detector: str) -> Iterator[str]:
    if one.threshold is not None:
        origin = "its own" if one.threshold_from == "checkpoint" else "the best F1 here"
        yield (
            f"{name}: {detector} at threshold {one.threshold:.3f} ({origin}): {one.found} of {one.defective} defective pictures"
            f" found, {one.false_alarms} of {one.good} good ones called defective"
        )
    if one.class_tokens:
        each = ", ".join(f"{token}: {percent(value)}" for token, value in one.class_tokens.items())
        yield f"{name}: image AUROC by class token {each}"


def reproduced(one: Reproduced) -> Iterator[str]:
    """Yield a set's rows as text: here, published, difference."""
    good, bad = (sum(each) for each in zip(*((own.good, own.defective) for own in one.results), strict=True))
    skipped = sum(len(own.skipped) for own in one.results)
    left_out = f", {skipped} skipped" if skipped else ""
    many = "category" if len(one.results) == 1 else "categories"
    yield f"{one.name}: {len(one.results)} {many}, {good} good and {bad} defective pictures{left_out}"
    yield f"{'':12}{''.join(f'{title(name):>13}' for name in FIGURES)}"
    rows = {
        "here": [one.mean(name) for name in FIGURES],
        "published": [one.published(name) for name in FIGURES],
    }
    rows["difference"] = [here - there for here, there in zip(*rows.values(), strict=True)]
    for name, values in rows.items():
        shown = [f"{value:+.1f}" if name == "difference" and np.isfinite(value) else percent(value) for value in values]
        yield f"  {name:10}{''.join(f'{value:>13}' for value in shown)}"
