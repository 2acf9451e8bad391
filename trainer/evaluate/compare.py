"""Comparison of two evaluations of the same pictures: is one detector better, or may the choice of pictures explain it?

Both have the same draws (see bootstrap.py), so each draw gives a difference: where 95 % of these lie on one side of zero, the
pictures support it. That is a paired bootstrap, which says more than whether two intervals overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import EdgeAgentError
from trainer.evaluate.bootstrap import Figure, figure
from trainer.evaluate.evaluation import mean_draws
from trainer.evaluate.metrics import FIGURES, PIXEL_FIGURES
from trainer.evaluate.record import CategoryRecord, EvaluationRecord

MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of A (first) and of B (second), in percent, and B's minus A's with the interval of its draws, in points."""

    first: float
    second: float
    change: Figure

    @property
    def supported(self) -> bool:
        """Return whether zero lies outside of the interval."""
        return self.change.low > 0 or self.change.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations compared.

    first, second: names of the detectors. rows: by category, the mean last, then by figure; a figure that one of them lacks
    is left out. notes: what a reader has to know.
    """

    first: str
    second: str
    rows: Mapping[str, Mapping[str, Difference]]
    notes: Sequence[str] = ()


def compare(first: EvaluationRecord, second: EvaluationRecord) -> Comparison:
    """Compare B (second) with A (first). Raises EdgeAgentError when they rest on different pictures, masks or draws."""
    _require_same(first, second)
    names, notes = list(FIGURES), []
    if first.measured.size != second.measured.size:
        names = [name for name in FIGURES if name not in PIXEL_FIGURES]
        notes.append(
            f"pixel figures are left out: A compared maps and masks at {first.measured.size} pixels, B at"
            f" {second.measured.size}; evaluate both with the same --size"
        )
    if first.measured.class_name != second.measured.class_name:
        notes.append(
            f"the class name of A was {_class_name(first)}, of B {_class_name(second)}: that may be part of the difference"
        )
    if first.measured.how_read != second.measured.how_read:
        notes.append(
            f"A read pictures {first.measured.how_read}, B {second.measured.how_read}: that may be part of the difference"
        )
    ours, theirs = first.measured.categories, second.measured.categories
    pairs = {name: ([ours[name]], [theirs[name]]) for name in ours}
    if len(ours) > 1:
        pairs[MEAN] = (list(ours.values()), list(theirs.values()))
    rows = {}
    for row, (one, other) in pairs.items():
        found = {name: _difference(one, other, name) for name in names}
        rows[row] = {name: value for name, value in found.items() if value is not None}
    return Comparison(first.measured.detector, second.measured.detector, rows, notes)


def _difference(first: Sequence[CategoryRecord], second: Sequence[CategoryRecord], name: str) -> Difference | None:
    values = [(one.figures[name].value, other.figures[name].value) for one, other in zip(first, second, strict=True)]
    known = [(a, b) for a, b in values if a is not None and b is not None]
    if not known:
        return None
    one, other = (float(np.mean(side)) for side in zip(*known, strict=True))
    return Difference(one, other, figure(other - one, mean_draws(second, name) - mean_draws(first, name)))


def _require_same(first: EvaluationRecord, second: EvaluationRecord) -> None:
    ours, theirs = first.measured.categories, second.measured.categories
    if ours.keys() != theirs.keys():
        raise EdgeAgentError(
            f"these are evaluations of different data: A has the categories {', '.join(ours)}, B {', '.join(theirs)}:"
            " evaluate both on the same folder"
        )
    for name, one in ours.items():
        a, b = (
            {picture.path: (picture.kind, picture.sha256, picture.mask_sha256) for picture in category.pictures}
            for category in (one, theirs[name])
        )
        if a != b:
            only = sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))
            raise EdgeAgentError(
                f"these are evaluations of different data: {len(only)} pictures of {name} differ or are only in one of them,"
                f" the first is {only[0]}: evaluate both on the same folder"
            )
    drawn = [
        (one.draws, one.seed, [picture.path for c in one.measured.categories.values() for picture in c.pictures])
        for one in (first, second)
    ]
    if drawn[0] != drawn[1]:
        raise EdgeAgentError(
            f"these evaluations have different draws ({first.draws} draws of seed {first.seed}, {second.draws} of"
            f" {second.seed}): evaluate both with the same --seed and this version"
        )


def _class_name(one: EvaluationRecord) -> str:
    return "what their category is called" if one.measured.class_name is None else repr(one.measured.class_name)
