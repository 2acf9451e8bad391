"""A thin line around a defect on a picture, at some distance from it."""

from __future__ import annotations

import cv2
import numpy as np

TRUTH = (0, 255, 255)  # RGB; not a colour of the maps, and rarely one of a part


def outline(picture: np.ndarray, mask: np.ndarray) -> None:
    """Draw the outline of a mask into the picture (H, W, 3) uint8 RGB.

    mask: bool of any size; it is enlarged a little, so that the line does not hide a small defect.
    """
    H, W = picture.shape[:2]
    small = cv2.resize(mask.view(np.uint8) * np.uint8(255), (W, H), interpolation=cv2.INTER_AREA) > 0
    grown = cv2.dilate(small.view(np.uint8), np.ones((7, 7), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (0, 0, 0), 3)
    cv2.drawContours(picture, contours, -1, TRUTH, 1)
