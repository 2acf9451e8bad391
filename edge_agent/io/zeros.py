"""Finds zeros in place of rows that were never written, in formats that store samples as they are.

A copy that was broken off may leave zeros up to the length of the whole file. They begin and end amid a row, and there the
picture breaks off from one pixel to the next along the row's rest. Black things of a real picture do not: their edge is not
sharp to a pixel, or does not run along a row, or begins at its first pixel, as a border does.
"""

from __future__ import annotations

import numpy as np

_BRIGHT = 1 / 100  # of the brightest sample
_SHARE = 0.9  # of the pixels next to the zeros
_FEW = 4  # pixels of a row, which alone do not tell


def first_hole(samples: np.ndarray) -> int | None:
    """Return the row in which zeros begin that are no part of the picture, or None.

    Args:
        samples: (H, W, C), rows in the order of the file, zero where the file holds zeros.
    """
    brightest = samples.max(axis=2)
    width, highest = brightest.shape[1], brightest.max(initial=0)
    if not ((brightest > 0) & (brightest < highest)).any():  # A mask is sharp to a pixel.
        return None
    changes = np.flatnonzero(np.diff((brightest.ravel() == 0).astype(np.int8), prepend=0, append=0))
    is_bright = (brightest > highest * _BRIGHT).ravel()
    for begin, end in changes.reshape(-1, 2).tolist():
        if end - begin < width:
            continue
        if begin >= width and _breaks_off(is_bright[begin - width : begin], -begin % width):
            return begin // width
        if end + width <= is_bright.size and _breaks_off(is_bright[end : end + width][::-1], end % width):
            return begin // width
    return None


def _breaks_off(beside: np.ndarray, along: int) -> bool:
    """Return whether the picture breaks off at zeros.

    Args:
        beside: (W,) bool, which of the pixels just before the zeros (or, from the last to the first, just after) are bright.
        along: how many of the first of them lie above (or below) zeros of a row that is zero in part.
    """
    if along == 0:
        return False
    if _FEW <= along <= len(beside) - _FEW:
        beside = beside[:along]
    return float(beside.mean()) >= _SHARE
