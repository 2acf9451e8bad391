"""Figures that the methods' papers report, in percent: means over the categories of public sets, zero-shot.

Backbones: Tipsomaly TIPS L/14, ViP2-CLIP and CoPS CLIP ViT-L/14@336, all at 518. Fitted on MVTec AD, for MVTec AD itself on VisA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper. method: its name as its authors write it. rows: by public set, figures by the names of metrics.FIGURES."""

    method: str
    title: str
    link: str
    rows: Mapping[str, Mapping[str, float]]


SIX = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_aupro", "pixel_f1")
FOUR = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")


def _rows(names: tuple[str, ...], table: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {dataset: dict(zip(names, values, strict=True)) for dataset, values in table.items()}


PAPERS = (
    Paper(
        "Tipsomaly",
        "TIPS Over Tricks: Simple Prompts for Effective Zero-shot Anomaly Detection",
        "https://arxiv.org/abs/2602.03594",
        _rows(
            SIX,
            {
                "MVTec AD": (93.4, 96.1, 92.9, 90.9, 84.0, 43.8),
                "VisA": (87.7, 90.9, 84.8, 95.9, 88.2, 31.5),
                "MPDD": (74.7, 76.8, 79.7, 95.9, 86.5, 36.1),
                "BTAD": (95.0, 95.5, 91.4, 96.7, 84.7, 56.2),
                "KSDD": (97.8, 94.7, 90.1, 99.5, 97.9, 58.4),
                "DAGM": (99.7, 98.1, 96.9, 97.2, 94.3, 65.3),
                "DTD-Synthetic": (99.4, 99.7, 99.1, 99.3, 96.0, 70.3),
            },
        ),
    ),
    Paper(
        "ViP2-CLIP",
        "ViP2-CLIP: Visual-Perception Prompting with Unified Alignment for Zero-Shot Anomaly Detection",
        "https://arxiv.org/abs/2505.17692",
        _rows(
            SIX,
            {
                "MVTec AD": (91.2, 96.0, 92.0, 90.5, 87.1, 43.1),
                "VisA": (88.5, 90.4, 84.8, 95.4, 92.2, 33.6),
                "MPDD": (79.7, 84.5, 82.4, 97.2, 92.6, 35.9),
                "BTAD": (95.0, 98.4, 94.7, 95.6, 86.1, 52.7),
                "KSDD": (98.1, 95.8, 93.2, 98.5, 96.2, 53.0),
                "DAGM": (98.5, 94.3, 92.6, 97.5, 95.2, 61.2),
                "DTD-Synthetic": (95.5, 98.1, 94.3, 99.0, 96.5, 67.5),
            },
        ),
    ),
    Paper(
        "CoPS",
        "CoPS: Conditional Prompt Synthesis for Zero-Shot Anomaly Detection",
        "https://arxiv.org/abs/2508.03447",
        _rows(
            FOUR,
            {
                "MVTec AD": (95.0, 97.8, 93.4, 41.9),
                "VisA": (85.4, 88.0, 95.7, 23.4),
                "MPDD": (78.6, 81.1, 97.5, 30.9),
                "BTAD": (93.6, 94.9, 94.6, 42.6),
                "DTD-Synthetic": (95.2, 98.1, 98.4, 58.5),
            },
        ),
    ),
)
