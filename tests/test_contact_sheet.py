"""A contact sheet shows the worst first, keeps to its bound, and says what it left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_agent.core import Evaluation, Reading, Verdict
from edge_agent.evidence.contact_sheet import ContactSheet

ORDER = "NotOK first, then by score; left the picture, right its map"
RED, GREEN, BLUE, GRAY = (200, 10, 10), (10, 200, 10), (10, 10, 200), (120, 120, 120)


def add(sheet: ContactSheet, colour: tuple[int, int, int], evaluation: Evaluation, score: float | None) -> None:
    reading = None if score is None else Reading(score, np.zeros((4, 4), np.float32))
    pixels = np.full((90, 120, 3), colour, np.uint8)
    sheet.add(pixels, reading, Verdict(evaluation), map_threshold=0.5, title="SN 部品")


def colours(sheet: ContactSheet) -> list[tuple[int, int, int]]:
    """The plain colours of the tiles on the sheet, in reading order."""
    picture = sheet.render()
    middles = {}
    for colour in (RED, GREEN, BLUE, GRAY):
        y, x = np.nonzero((picture == colour).all(axis=2))
        if y.size > 10_000:  # a tile, not the rim of a letter
            middles[colour] = int(np.median(y)), int(np.median(x))
    return sorted(middles, key=lambda colour: middles[colour])


def test_not_ok_comes_first_then_what_could_not_be_decided_then_ok_by_score() -> None:
    sheet = ContactSheet()
    add(sheet, GREEN, Evaluation.OK, 0.1)
    add(sheet, BLUE, Evaluation.OK, 0.4)
    add(sheet, GRAY, Evaluation.NOT_DECIDABLE, None)
    add(sheet, RED, Evaluation.NOT_OK, 0.3)
    assert colours(sheet) == [RED, GRAY, BLUE, GREEN]
    assert sheet.summary() == (
        "4 pictures: 1 NotOK, 1 NotDecidable, 2 OK",
        f"all shown; {ORDER}",
    )


def test_beyond_its_bound_the_least_important_are_left_out_and_counted() -> None:
    sheet = ContactSheet(limit=3)
    for i in range(50):
        add(sheet, GREEN, Evaluation.OK, i / 100)
    height = sheet.render().shape[0]
    add(sheet, BLUE, Evaluation.OK, 0.9)
    add(sheet, RED, Evaluation.NOT_OK, 0.6)
    assert colours(sheet) == [RED, BLUE, GREEN]
    assert sheet.render().shape[0] == height
    assert sheet.summary() == (
        "52 pictures: 1 NotOK, 51 OK",
        f"3 shown, 49 left out; {ORDER}",
    )


def test_of_equals_the_first_stays() -> None:
    sheet = ContactSheet(limit=1)
    add(sheet, GREEN, Evaluation.OK, 0.5)
    add(sheet, BLUE, Evaluation.OK, 0.5)
    assert colours(sheet) == [GREEN]


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 3000), (3000, 2), (1200, 1920)])
def test_pictures_of_any_size_become_tiles(shape: tuple[int, int]) -> None:
    sheet = ContactSheet()
    reading = Reading(math.nan, np.zeros((4, 4), np.float32))
    sheet.add(np.zeros((*shape, 3), np.uint8), reading, Verdict(Evaluation.NOT_DECIDABLE), map_threshold=0.5)
    assert sheet.render().dtype == np.uint8


def test_an_empty_sheet_says_so() -> None:
    assert ContactSheet().summary() == ("No pictures", "")
    assert ContactSheet().render().shape[2] == 3


def test_good_pictures_that_nearly_were_none_are_shown_however_many_are_not_ok() -> None:
    sheet = ContactSheet(limit=5, threshold=0.5)
    add(sheet, GREEN, Evaluation.OK, 0.2)
    for _ in range(50):
        add(sheet, RED, Evaluation.NOT_OK, 0.9)
    assert colours(sheet) == [RED, GREEN]
    add(sheet, BLUE, Evaluation.OK, 0.49)
    assert colours(sheet) == [RED, BLUE], "one in five, the one of the highest score"
    assert sheet.summary()[1].startswith("5 shown, 47 left out; threshold 0.500; ")


def test_a_picture_is_shown_as_it_is_beside_its_map() -> None:
    sheet = ContactSheet()
    marked = Reading(0.9, np.ones((4, 4), np.float32))
    sheet.add(np.full((180, 240, 3), GRAY, np.uint8), marked, Verdict(Evaluation.NOT_OK), map_threshold=0.5)
    y, x = np.nonzero((sheet.render() == GRAY).all(axis=2))
    assert (np.ptp(y) + 1, np.ptp(x) + 1) == (180, 240), "untouched on the left; on the right it is tinted"
