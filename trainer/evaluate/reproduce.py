"""The papers' protocol on the papers' own sets: what is measured here beside what was published, and the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.data.examples import categories
from trainer.data.public_sets import PublicSet
from trainer.evaluate.measure import CategoryResult
from trainer.evaluate.published import Paper
from trainer.evaluate.run import ModelChoice, StartBar, measure_set


@dataclass(frozen=True, slots=True)
class Reproduced:
    """One set. results: by category. paper: its published row; None where the set is none of its."""

    name: str
    trained_on: str
    results: Sequence[CategoryResult]
    paper: Paper | None

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over the categories, in percent; NaN where a category lacks it."""
        return float(np.mean([one.figures[figure].value for one in self.results]))

    def published(self, figure: str) -> float:
        """Return the published figure, in percent; NaN where there is none."""
        row: Mapping[str, float] = self.paper.rows.get(self.name, {}) if self.paper else {}
        return row.get(figure, float("nan"))


def trained_on(set_name: str) -> str:
    """Return what the prompts are trained on that the papers measure on a set, a key of systems.DATASETS: never on itself."""
    return "visa" if set_name == "MVTec AD" else "mvtec"


def reproduce(
    found: PublicSet, folder: Path, choice: ModelChoice, paper: Paper | None, start_bar: StartBar
) -> Reproduced:
    """Measure one set as the papers do: pictures squeezed into a square, every category by its own name, means over categories.

    Args:
        found: the set.
        folder: where it lies.
        choice: the model.
        paper: what was published of it.
        start_bar: see measure_set.

    Raises EdgeAgentError.
    """
    results = measure_set(categories(found.examples(folder)), choice, start_bar=start_bar)
    return Reproduced(found.name, trained_on(found.name), results.model, paper)
