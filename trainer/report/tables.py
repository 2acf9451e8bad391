"""Evaluations and comparisons as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trainer.evaluate.compare import Comparison
from trainer.evaluate.evaluation import Category, Interval, Measured
from trainer.evaluate.metrics import FIGURES
from trainer.report.formats import interval, percent, title


def figures(records: Sequence[Measured]) -> Iterator[str]:
    """Figures by category and their mean, of every detector, each with its interval below."""
    wide = max(12, *(len(name) for one in records for name in one.categories)) + 1
    yield "percent; below each figure, what it is in 95 % of 1000 draws of the pictures"
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


def warnings(record: Measured) -> Iterator[str]:
    """What of the data did not go into the figures."""
    for name, one in record.categories.items():
        yield from (f"warning: {name}: skipped {left.path}: {left.reason}" for left in one.skipped)
        if one.vanished:
            yield f"warning: {name}: {one.vanished} masks have no pixel left at {record.size} pixels: raise --size"
        missing = "good" if not one.good else "defective" if not one.defective else ""
        if missing:
            yield f"warning: {name}: no {missing} pictures, so it has no figures of pictures"
    count = sum(len(one.skipped) for one in record.categories.values())
    if count:
        yield f"warning: {count} picture{'' if count == 1 else 's'} skipped; the figures are of the others"


def differences(comparison: Comparison) -> Iterator[str]:
    """A row a category and figure: A, B, their difference with its interval, and whether the pictures support it."""
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


def _row(start: str, row: Mapping[str, Interval], detector: str) -> Iterator[str]:
    yield f"{start}{''.join(f'{percent(row[name].value):>13}' for name in FIGURES)}  {detector}"
    yield f"{'':{len(start)}}{''.join(f'{interval(row[name]):>13}' for name in FIGURES)}".rstrip()


def _decided(name: str, one: Category, detector: str) -> Iterator[str]:
    if one.threshold is not None:
        whose = "its own" if one.threshold_from == "checkpoint" else "the best F1 here"
        yield (
            f"{name}: {detector} at threshold {one.threshold:.3f} ({whose}): {one.found} of {one.defective} defective pictures"
            f" found, {one.false_alarms} of {one.good} good ones called defective"
        )
    if one.class_tokens:
        each = ", ".join(f"{token}: {percent(value)}" for token, value in one.class_tokens.items())
        yield f"{name}: image AUROC by class token {each}"
