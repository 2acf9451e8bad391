"""Figures that papers report, in percent: means over the categories of public sets, zero-shot.

PAPERS has the methods' own; RUN_ANEW those of methods that ViP2-CLIP's authors ran anew, all trained alike. Backbones: Tipsomaly
TIPS L/14, the others CLIP ViT-L/14@336, all at 518. Fitted on MVTec AD, for MVTec AD itself on VisA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paper:
    """One paper's figures of one method.

    method: its name as its authors write it. rows: by public set, figures by the names of metrics.FIGURES. table: of the paper that
    link leads to; empty where it was not read.
    """

    method: str
    title: str
    link: str
    rows: Mapping[str, Mapping[str, float]]
    table: str = ""

    @property
    def source(self) -> str:
        """Where the figures stand."""
        return f"{self.link}, {self.table}" if self.table else self.link


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
        "table 1",
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

VIP2CLIP = next(one for one in PAPERS if one.method == "ViP2-CLIP")

RUN_ANEW = tuple(
    Paper(method, f"run anew by the authors of {VIP2CLIP.title}", VIP2CLIP.link, _rows(SIX, table), VIP2CLIP.table)
    for method, table in (
        (
            "plain CLIP",
            {
                "MVTec AD": (66.5, 82.6, 86.7, 35.6, 10.6, 6.9),
                "VisA": (60.2, 66.2, 73.0, 43.6, 14.0, 1.5),
                "MPDD": (58.7, 69.7, 76.0, 56.2, 27.3, 8.2),
                "KSDD": (74.3, 55.3, 57.8, 21.7, 2.6, 0.5),
                "BTAD": (25.7, 49.8, 66.0, 41.2, 10.8, 6.8),
                "DAGM": (55.3, 43.2, 49.6, 49.6, 12.4, 2.4),
                "DTD-Synthetic": (52.3, 77.8, 85.1, 43.8, 16.0, 3.7),
            },
        ),
        (
            "WinCLIP",
            {
                "MVTec AD": (91.8, 96.5, 92.7, 85.1, 64.6, 24.8),
                "VisA": (78.1, 81.2, 78.2, 79.6, 56.8, 9.0),
                "MPDD": (61.5, 69.2, 77.5, 71.2, 40.5, 15.4),
                "KSDD": (92.4, 82.9, 77.7, 92.8, 70.3, 15.8),
                "BTAD": (68.2, 70.9, 67.8, 72.7, 27.5, 18.5),
                "DAGM": (91.8, 79.5, 75.7, 87.6, 65.7, 12.7),
                "DTD-Synthetic": (95.1, 97.7, 94.1, 79.5, 51.4, 16.1),
            },
        ),
        (
            "APRIL-GAN",
            {
                "MVTec AD": (86.1, 93.5, 90.4, 87.6, 44.0, 43.3),
                "VisA": (77.5, 80.9, 78.7, 94.2, 86.6, 32.3),
                "MPDD": (76.8, 83.0, 81.0, 94.3, 83.8, 31.3),
                "KSDD": (96.5, 91.2, 85.4, 93.2, 84.1, 43.6),
                "BTAD": (73.7, 69.7, 68.2, 89.3, 68.7, 40.6),
                "DAGM": (94.4, 83.9, 80.2, 82.4, 66.0, 37.4),
                "DTD-Synthetic": (85.6, 94.0, 89.1, 95.2, 87.3, 67.4),
            },
        ),
        (
            "AnomalyCLIP",
            {
                "MVTec AD": (91.6, 96.4, 92.7, 91.1, 81.4, 39.1),
                "VisA": (82.0, 85.3, 80.4, 95.5, 86.7, 28.3),
                "MPDD": (77.5, 82.5, 80.4, 96.5, 88.7, 34.2),
                "KSDD": (97.8, 94.2, 89.7, 98.1, 94.9, 56.5),
                "BTAD": (88.2, 88.2, 83.8, 94.2, 75.4, 49.7),
                "DAGM": (97.7, 92.4, 90.1, 95.6, 91.0, 58.9),
                "DTD-Synthetic": (93.9, 97.2, 93.6, 97.9, 92.0, 62.2),
            },
        ),
        (
            "AdaCLIP",
            {
                "MVTec AD": (90.1, 95.6, 92.3, 89.6, 37.8, 45.1),
                "VisA": (87.2, 89.7, 83.5, 95.5, 56.8, 37.0),
                "MPDD": (74.8, 78.6, 83.3, 96.1, 60.3, 31.9),
                "KSDD": (97.2, 92.6, 89.5, 98.4, 53.0, 52.8),
                "BTAD": (89.3, 96.5, 90.9, 90.7, 22.3, 51.4),
                "DAGM": (98.2, 92.3, 90.9, 94.3, 42.5, 59.6),
                "DTD-Synthetic": (96.3, 98.1, 95.5, 98.5, 75.0, 71.8),
            },
        ),
    )
)
