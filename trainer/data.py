"""Labelled pictures in MVTec layout: CATEGORY/{train/good,test/good,test/KIND}/STEM.*, CATEGORY/ground_truth/KIND/STEM_mask.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.pictures import SUFFIXES, decode


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled picture. mask is None where the set has none (then a defect's place is unknown)."""

    category: str
    kind: str  # "good" or the defect's name
    picture: Path
    mask: Path | None

    @property
    def defective(self) -> bool:
        return self.kind != "good"


def read_examples(folder: Path, split: str = "test") -> list[Example]:
    """All examples of a split below `folder`, a category or a folder of categories. Raises EdgeAgentError when there are none."""
    categories = (
        [folder] if (folder / split).is_dir() else sorted(path for path in folder.iterdir() if (path / split).is_dir())
    )
    examples = []
    for category in categories:
        for picture in sorted(path for path in (category / split).rglob("*") if path.suffix.lower() in SUFFIXES):
            kind = picture.parent.name
            mask = (
                next((category / "ground_truth" / kind).glob(f"{picture.stem}_mask.*"), None)
                if kind != "good"
                else None
            )
            examples.append(Example(category.name, kind, picture, mask))
    if not examples:
        raise EdgeAgentError(
            f"{folder}: no pictures in MVTec layout; expected {folder}/CATEGORY/{split}/good/*.png and {split}/KIND/*.png"
        )
    return examples


def read_mask(example: Example, size: int) -> np.ndarray | None:
    """(size, size) bool, any non-zero pixel of the mask file counts; zeros for a good picture; None when it is unknown."""
    if not example.defective:
        return np.zeros((size, size), bool)
    if example.mask is None:
        return None
    mask = decode(example.mask)[..., 0]
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST) > 0


def categories(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples by category, in order."""
    grouped: dict[str, list[Example]] = {}
    for example in examples:
        grouped.setdefault(example.category, []).append(example)
    return grouped
