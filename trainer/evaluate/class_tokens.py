"""Scores of Tipsomaly by class token, recorded while it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edge_agent.core import Detector
from edge_agent.detectors.tipsomaly import Tipsomaly, TipsomalyOutput, picture_score, with_consistency
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.squares import SquaresDetector


@contextmanager
def scores_by_class_token(detector: Detector) -> Iterator[dict[int, list[np.ndarray]]]:
    """Record scores with class token 1 and 2 for every batch that the detector reads inside the block.

    Both lists stay empty for other methods, and for backbones with a single class token. An elongated picture, read in squares,
    gives several scores.
    """
    scores: dict[int, list[np.ndarray]] = {1: [], 2: []}
    reads = detector.one if isinstance(detector, SquaresDetector) else detector
    method = reads.method if isinstance(reads, PromptDetector) else None
    if not isinstance(method, Tipsomaly):
        yield scores
        return

    def record(found: TipsomalyOutput) -> None:
        if found.picture.shape[1] == 2:
            found = with_consistency(found, *method.consistency)
            for token, own in scores.items():
                own.append(picture_score(found, token, None, method.evidence).cpu().numpy())

    handle = method.register_forward_hook(lambda module, given, found: record(found))
    try:
        yield scores
    finally:
        handle.remove()
