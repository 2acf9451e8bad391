"""A model, and the baseline if wanted, measured on every category of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_agent.core import Detector
from edge_agent.detectors.systems import DEFAULT_DATASET
from edge_agent.inference.load import Loader
from trainer.data.examples import Example
from trainer.evaluate.evaluation import detector_record, evaluation_record
from trainer.evaluate.local_contrast import LocalContrast
from trainer.evaluate.measure import CategoryResult, evaluate, require_measurable
from trainer.evaluate.record import EvaluationRecord


class Bar(Protocol):
    """A progress bar."""

    def update(self, n: int) -> object:
        """Add n steps."""


StartBar = Callable[[int, str], AbstractContextManager[Bar]]
"""Starts a progress bar: (number of steps, what is counted)."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model to measure.

    model: a backbone of the catalogue, or its folder. checkpoint: prompts; None for those that come with the embedded
    model. method: one that needs no checkpoint, in place of one. class_name: what the pictures show; None for the name of
    their category. image_size: side in pixels at which they are read; None for as fitted. windows: read besides, along
    each side; 1 for none. trained_on: what published prompts that come with the model were trained on, a key of
    systems.DATASETS. squares: whether elongated pictures are read in squares, instead of squeezed into one.
    """

    model: str
    checkpoint: Path | None = None
    method: str | None = None
    class_name: str | None = "object"
    image_size: int | None = None
    windows: int = 1
    trained_on: str = DEFAULT_DATASET
    squares: bool = True
    loader: Loader = field(default_factory=Loader)

    def detector(self, category: str) -> Detector:
        """Load the detector for a category. Raises EdgeAgentError."""
        class_name = category if self.class_name is None else self.class_name
        whole = self.loader.detector(
            self.model,
            self.checkpoint,
            class_name,
            method=self.method,
            image_size=self.image_size,
            trained_on=self.trained_on,
        )
        return self.loader.arranged(whole, self.windows, self.squares)


@dataclass(frozen=True, slots=True)
class SetResults:
    """Results by category of a model, and of the baseline, empty if it was not measured."""

    model: Sequence[CategoryResult]
    baseline: Sequence[CategoryResult] = ()


def measure_set(
    categories: Mapping[str, Sequence[Example]],
    choice: ModelChoice,
    *,
    baseline: bool = False,
    size: int | None = None,
    seed: int = 0,
    start_bar: StartBar,
) -> SetResults:
    """Measure a model on every category.

    Args:
        categories: examples by category, at least one.
        choice: the model.
        baseline: whether to measure local contrast too; default False.
        size: side in pixels at which maps and masks are compared; default that of the model's maps.
        seed: of the draws behind the intervals; default 0.
        start_bar: called for every category and detector.

    Raises EdgeAgentError when a category has nothing to measure or the model cannot be loaded, before any picture is read, or
    a category cannot be measured.
    """
    for category, examples in categories.items():
        require_measurable(category, examples)
    choice.detector(next(iter(categories)))
    contrast = LocalContrast()
    ours: list[CategoryResult] = []
    base: list[CategoryResult] = []
    for category, examples in categories.items():
        with start_bar(len(examples), category) as bar:
            result = evaluate(choice.detector(category), examples, size=size, seed=seed, report=bar.update)
        ours.append(result)
        if baseline:
            with start_bar(len(examples), category) as bar:
                base.append(evaluate(contrast, examples, size=result.size, seed=seed, report=bar.update))
    return SetResults(ours, base)


def record_of(results: SetResults, choice: ModelChoice, folder: Path, seed: int, command: str) -> EvaluationRecord:
    """Make the record of a run.

    Args:
        results: of every category.
        choice: the model that was measured.
        folder: of the data.
        seed: of the draws.
        command: as it was typed.
    """
    records = [detector_record(choice.detector(results.model[0].category), results.model, folder, choice.class_name)]
    if results.baseline:
        records.append(detector_record(LocalContrast(), results.baseline, folder, None))
    return evaluation_record(records, folder, seed, command)
