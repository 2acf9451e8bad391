"""What reads whole pictures with a detector that reads squares of them: in squares, in windows, aligned."""

from __future__ import annotations

from edge_agent.core import Detector
from edge_agent.inference.aligned import AlignedDetector
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.squares import SquaresDetector
from edge_agent.inference.windowed import WindowedDetector


def arranged(detector: PromptDetector, windows: int = 1, squares: bool = True) -> Detector:
    """Return what reads pictures with a detector in the parts that are asked for, aligned where its checkpoint says so.

    Args:
        detector: reads one part.
        windows: along each side, read besides the whole; default 1, none.
        squares: whether elongated pictures are read in squares, instead of squeezed into one; default yes.
    """
    whole: Detector = detector if windows == 1 else WindowedDetector(detector, windows)
    whole = SquaresDetector(whole) if squares else whole
    return AlignedDetector(whole, detector.reference) if detector.reference else whole
