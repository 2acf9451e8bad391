"""The file that `trainer evaluate --json` writes and `trainer compare` reads: JSON, its keys are the fields here.

Figures are in percent, scores and thresholds in [0, 1]; null where there is none. What a newer version adds is passed over.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError
from edge_agent.io.pictures import printable
from trainer.evaluate.bootstrap import DRAWS, Figure, figure
from trainer.evaluate.metrics import FIGURES
from trainer.io.files import write_whole

if TYPE_CHECKING:
    from edge_agent.core import Detector
    from trainer.evaluate.measure import Result

SCHEMA: Literal["edge-agent/evaluation/1"] = "edge-agent/evaluation/1"
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), populate_by_name=True)


class Interval(_Record):
    """A figure and what 95 % of its draws lie in."""

    value: Number | None
    low: Number | None
    high: Number | None

    @classmethod
    def of(cls, one: Figure) -> Interval:
        """NaN becomes null."""
        return cls(value=_known(one.value), low=_known(one.low), high=_known(one.high))


class Picture(_Record):
    """One picture: its path below its data folder, its kind ("good" or the defect's), digests (SHA-256, hex), its score."""

    path: str
    kind: str
    sha256: str
    mask_sha256: str | None
    score: Number


class LeftOut(_Record):
    """A picture that could not be read, or whose mask could not."""

    path: str
    reason: str


class Category(_Record):
    """One category. threshold: what `found` and `false_alarms` (numbers of pictures) are counted at; threshold_from says whose.

    vanished: defective pictures whose mask has no pixel left at `size`. class_tokens: image AUROC by Tipsomaly's class token.
    draws: what each figure is in each draw of the pictures, in the order of draws (see resampling.py).
    """

    good: int
    defective: int
    regions: int
    vanished: int
    figures: dict[str, Interval]
    threshold: Number | None
    threshold_from: Literal["checkpoint", "these pictures"]
    found: int | None
    false_alarms: int | None
    class_tokens: dict[str, Number | None] = {}
    skipped: list[LeftOut]
    pictures: list[Picture]
    draws: dict[str, list[Number | None]]


class Mean(_Record):
    """Means over the categories that have the figure."""

    categories: int
    figures: dict[str, Interval]


class Measured(_Record):
    """What one detector scored. The digests (SHA-256, hex, "" for none) name its weights and its checkpoint.

    class_name: what it was told the pictures show; null: the name of the category. size: side in pixels at which maps and
    masks were compared. image_size: side in pixels at which pictures were read, null where a detector does not say; windows:
    read besides, along each side (1: none).
    """

    detector: str
    model_sha256: str
    checkpoint_sha256: str
    class_name: str | None
    size: int
    image_size: int | None = None
    windows: int = 1
    mean: Mean
    categories: dict[str, Category]

    @property
    def read(self) -> str:
        """How its pictures were read, in words."""
        side = f"at {self.image_size} pixels" if self.image_size else "at a size that is not told"
        return side + (f" and in {self.windows} x {self.windows} windows" if self.windows > 1 else "")


class Evaluation(_Record):
    """A whole run. data: name of the folder; data_sha256: of all pictures and masks that were used, and of their names."""

    schema_name: Literal["edge-agent/evaluation/1"] = Field(alias="schema")
    created: AwareDatetime
    version: str
    command: str
    data: str
    data_sha256: str
    draws: int
    seed: int
    measured: Measured
    baseline: Measured | None


def measured(detector: Detector, results: Sequence[Result], folder: Path, class_name: str | None) -> Measured:
    """What a detector scored, as a record. folder: of the data, which paths are relative to."""
    categories = {one.category: _category(one, folder) for one in results}
    return Measured(
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


def evaluation_of(records: Sequence[Measured], folder: Path, seed: int, command: str) -> Evaluation:
    """A whole run, made now: the detector's record and, if it was measured too, the baseline's. command: as it was typed."""
    return Evaluation(
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


def mean_of(categories: Mapping[str, Category]) -> Mean:
    """The means, with intervals from the means of the draws: every category is drawn on its own."""
    return Mean(
        categories=len(categories),
        figures={name: Interval.of(_mean(list(categories.values()), name)) for name in FIGURES},
    )


def mean_draws(categories: Sequence[Category], name: str) -> np.ndarray:
    """(DRAWS,): the mean of a figure over the categories that have it, draw by draw; (0,) where none has."""
    known = [one.draws[name] for one in categories if one.figures[name].value is not None]
    if not known:
        return np.zeros(0)
    return np.array([[math.nan if value is None else value for value in draws] for draws in known]).mean(axis=0)


def data_digest(categories: Mapping[str, Category]) -> str:
    """One digest for all pictures and masks that figures rest on."""
    facts = [
        (name, one.path, one.kind, one.sha256, one.mask_sha256)
        for name, category in sorted(categories.items())
        for one in sorted(category.pictures, key=lambda picture: picture.path)
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Whole or not at all. Raises EdgeAgentError."""
    write_whole(path, evaluation.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def read_evaluation(path: Path) -> Evaluation:
    """Raises EdgeAgentError when it is none, damaged, or of a version that this program does not read."""
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise EdgeAgentError(
            f"{path}: {place}: {first['msg']}: not an evaluation that this program reads ({SCHEMA});"
            " write it with `trainer evaluate --json`"
        ) from None


def _category(result: Result, folder: Path) -> Category:
    pictures = [
        Picture(
            path=_below(one.picture, folder, one.category),
            kind=one.kind,
            sha256=_digest(one.picture),
            mask_sha256=_digest(one.mask) if one.mask else None,
            score=round(float(score), 7),
        )
        for one, score in zip(result.shown, result.scores, strict=True)
    ]
    decided = math.isfinite(result.threshold)
    return Category(
        good=result.good,
        defective=result.defective,
        regions=result.tally.regions,
        vanished=result.vanished,
        figures={name: Interval.of(one) for name, one in result.figures.items()},
        threshold=result.threshold if decided else None,
        threshold_from="checkpoint" if result.own_threshold else "these pictures",
        found=result.found if decided else None,
        false_alarms=result.false_alarms if decided else None,
        class_tokens={token: _known(value) for token, value in result.class_tokens.items()},
        skipped=[LeftOut(path=_below(one.path, folder, result.category), reason=one.reason) for one in result.skipped],
        pictures=pictures,
        draws={name: [_known(value) for value in result.draws[name].tolist()] for name in FIGURES},
    )


def _below(path: Path, folder: Path, category: str) -> str:
    """The path below the category's folder, or the data folder's, so that it is the same however much was evaluated."""
    inside = printable(os.path.relpath(path, folder))
    return inside.removeprefix(f"{category}/")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mean(categories: Sequence[Category], name: str) -> Figure:
    values = [value for one in categories if (value := one.figures[name].value) is not None]
    return figure(float(np.mean(values)) if values else math.nan, mean_draws(categories, name))


def _known(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
