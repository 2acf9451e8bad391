"""Records made from the results of detectors: see record.py for what they hold."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edge_agent import __version__
from edge_agent.core import Detector
from edge_agent.io.pictures import printable
from trainer.evaluate.bootstrap import DRAWS, Figure, figure
from trainer.evaluate.measure import CategoryResult
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.record import (
    SCHEMA,
    CategoryRecord,
    DetectorRecord,
    EvaluationRecord,
    FigureRecord,
    MeanRecord,
    PictureRecord,
    SkippedRecord,
    finite_or_none,
)


def detector_record(
    detector: Detector, results: Sequence[CategoryResult], folder: Path, class_name: str | None
) -> DetectorRecord:
    """Make the record of one detector.

    Args:
        detector: the one that was measured.
        results: its results, one a category.
        folder: of the data, which paths are relative to.
        class_name: given to the detector; None if it was the name of each category.
    """
    categories = {one.category: _category(one, folder) for one in results}
    return DetectorRecord(
        detector=detector.info.name,
        model_sha256=detector.info.model_sha256,
        checkpoint_sha256=detector.info.checkpoint_sha256,
        class_name=class_name,
        size=results[0].size,
        image_size=detector.info.image_size,
        windows=detector.info.windows,
        mean=mean_of(categories),
        categories=categories,
    )


def evaluation_record(records: Sequence[DetectorRecord], folder: Path, seed: int, command: str) -> EvaluationRecord:
    """Make the record of a whole run, dated now.

    Args:
        records: the detector's record and, if it was measured too, the baseline's.
        folder: of the data.
        seed: of the draws.
        command: as it was typed.
    """
    return EvaluationRecord(
        schema=SCHEMA,
        created=datetime.now(timezone.utc),
        version=__version__,
        command=command,
        data=folder.resolve().name,
        data_sha256=data_digest(records[0].categories),
        draws=DRAWS,
        seed=seed,
        measured=records[0],
        baseline=records[1] if len(records) > 1 else None,
    )


def mean_of(categories: Mapping[str, CategoryRecord]) -> MeanRecord:
    """Return the means over categories, with intervals from the means of their draws: every category is drawn on its own."""
    return MeanRecord(
        categories=len(categories),
        figures={name: FigureRecord.of(_mean(list(categories.values()), name)) for name in FIGURES},
    )


def mean_draws(categories: Sequence[CategoryRecord], name: str) -> np.ndarray:
    """Return the mean of a figure over the categories that have it, draw by draw: (DRAWS,), or (0,) where none has."""
    known = [one.draws[name] for one in categories if one.figures[name].value is not None]
    if not known:
        return np.zeros(0)
    return np.array([[math.nan if value is None else value for value in draws] for draws in known]).mean(axis=0)


def data_digest(categories: Mapping[str, CategoryRecord]) -> str:
    """Return one digest (hex) of all pictures and masks that the figures rest on."""
    facts = [
        (name, one.path, one.kind, one.sha256, one.mask_sha256)
        for name, category in sorted(categories.items())
        for one in sorted(category.pictures, key=lambda picture: picture.path)
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _category(result: CategoryResult, folder: Path) -> CategoryRecord:
    pictures = [
        PictureRecord(
            path=_below(one.picture, folder, one.category),
            kind=one.kind,
            sha256=_digest(one.picture),
            mask_sha256=_digest(*one.masks) if one.masks else None,
            score=round(float(score), 7),
        )
        for one, score in zip(result.examples, result.scores, strict=True)
    ]
    decided = math.isfinite(result.threshold)
    return CategoryRecord(
        good=result.good,
        defective=result.defective,
        regions=result.pixels.regions,
        vanished=result.vanished,
        doubtful=result.doubtful,
        figures={name: FigureRecord.of(one) for name, one in result.figures.items()},
        threshold=result.threshold if decided else None,
        threshold_from="checkpoint" if result.own_threshold else "these pictures",
        found=result.found if decided else None,
        false_alarms=result.false_alarms if decided else None,
        class_tokens={token: finite_or_none(value) for token, value in result.class_tokens.items()},
        skipped=[
            SkippedRecord(path=_below(one.path, folder, result.category), reason=one.reason) for one in result.skipped
        ],
        pictures=pictures,
        draws={name: [finite_or_none(value) for value in result.draws[name].tolist()] for name in FIGURES},
    )


def _below(path: Path, folder: Path, category: str) -> str:
    """Return the path below the category's folder, which is the same whether one category was evaluated or several."""
    inside = printable(os.path.relpath(path, folder))
    return inside.removeprefix(f"{category}/")


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _mean(categories: Sequence[CategoryRecord], name: str) -> Figure:
    values = [value for one in categories if (value := one.figures[name].value) is not None]
    return figure(float(np.mean(values)) if values else math.nan, mean_draws(categories, name))
