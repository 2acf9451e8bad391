"""The file that `trainer evaluate --json` writes and `trainer compare` reads: JSON, its keys are the fields here.

Figures are in percent, scores and thresholds in [0, 1]; null where there is none. Keys that a newer version adds are ignored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edge_agent.errors import EdgeAgentError
from trainer.evaluate.bootstrap import Figure
from trainer.io.files import write_whole

SCHEMA: Literal["edge-agent/evaluation/1"] = "edge-agent/evaluation/1"
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), populate_by_name=True)


class FigureRecord(_Record):
    """A figure and the interval that holds 95 % of its draws."""

    value: Number | None
    low: Number | None
    high: Number | None

    @classmethod
    def of(cls, one: Figure) -> FigureRecord:
        """Make the record of a figure; NaN becomes null."""
        return cls(value=finite_or_none(one.value), low=finite_or_none(one.low), high=finite_or_none(one.high))


class PictureRecord(_Record):
    """One picture: path below its data folder, kind ("good" or the defect's), digests (SHA-256, hex) and score."""

    path: str
    kind: str
    sha256: str
    mask_sha256: str | None
    score: Number


class SkippedRecord(_Record):
    """A picture that could not be read, or whose mask could not, and why."""

    path: str
    reason: str


class CategoryRecord(_Record):
    """One category.

    good, defective: numbers of pictures. regions: number of connected defects. vanished: number of defective pictures whose
    mask has no pixel left at the detector's `size`. doubtful: number of masks that seem to be inverted.
    threshold: where `found` and `false_alarms` (numbers of pictures) are counted; threshold_from: its origin. class_tokens:
    image AUROC by Tipsomaly's class token. draws: every figure in every draw of the pictures, in the order of draws, see
    bootstrap.py.
    """

    good: int
    defective: int
    regions: int
    vanished: int
    doubtful: int = 0
    figures: dict[str, FigureRecord]
    threshold: Number | None
    threshold_from: Literal["checkpoint", "these pictures"]
    found: int | None
    false_alarms: int | None
    class_tokens: dict[str, Number | None] = {}
    skipped: list[SkippedRecord]
    pictures: list[PictureRecord]
    draws: dict[str, list[Number | None]]

    def copies(self) -> list[list[PictureRecord]]:
        """List the groups of pictures whose files are the same, byte by byte."""
        groups: dict[str, list[PictureRecord]] = {}
        for one in self.pictures:
            groups.setdefault(one.sha256, []).append(one)
        return [group for group in groups.values() if len(group) > 1]


class MeanRecord(_Record):
    """Means over the categories that have the figure; categories: their number in all."""

    categories: int
    figures: dict[str, FigureRecord]


class DetectorRecord(_Record):
    """What one detector scored.

    model_sha256, checkpoint_sha256: digests (hex, "" for none) of its weights and its prompts. class_name: given to the
    detector; null where it was the name of each category. size: side in pixels at which maps and masks were compared.
    image_size: side in pixels at which pictures were read; null in files of earlier versions. windows: read besides, along
    each side (1: none).
    """

    detector: str
    model_sha256: str
    checkpoint_sha256: str
    class_name: str | None
    size: int
    image_size: int | None = None
    windows: int = 1
    mean: MeanRecord
    categories: dict[str, CategoryRecord]

    @property
    def how_read(self) -> str:
        """Describe how pictures were read."""
        side = f"at {self.image_size} pixels" if self.image_size else "at an unknown size"
        return side + (f" and in {self.windows} x {self.windows} windows" if self.windows > 1 else "")


class EvaluationRecord(_Record):
    """A whole run. data: name of the folder. data_sha256: digest of all pictures and masks that were used, and of their names."""

    schema_name: Literal["edge-agent/evaluation/1"] = Field(alias="schema")
    created: AwareDatetime
    version: str
    command: str
    data: str
    data_sha256: str
    draws: int
    seed: int
    measured: DetectorRecord
    baseline: DetectorRecord | None


def write_evaluation(evaluation: EvaluationRecord, path: Path) -> None:
    """Write the file, whole or not at all. Raises EdgeAgentError."""
    write_whole(path, evaluation.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def read_evaluation(path: Path) -> EvaluationRecord:
    """Read the file. Raises EdgeAgentError when it is no evaluation, damaged, or of a version that this program does not read."""
    try:
        return EvaluationRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise EdgeAgentError(
            f"{path}: {place}: {first['msg']}: not an evaluation that this program reads ({SCHEMA});"
            " write it with `trainer evaluate --json`"
        ) from None


def finite_or_none(value: float) -> float | None:
    """Round to four decimals; None for NaN."""
    return round(value, 4) if math.isfinite(value) else None
