"""Text of any script and any length is written where it fits, and never stops an inspection."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.evidence.text import line_height, shorten, width, wrap, write

SCRIPTS = ["plain", "Prüfteil Łódź", "部品検査", "Деталь", "café", "a\nb\tc\0", "\udcff.png", "😀"]


def written(text: str) -> np.ndarray:
    canvas = np.zeros((40, 400, 3), np.uint8)
    write(canvas, 5, 5, text, 20, (255, 255, 255))
    return canvas


@pytest.fixture(params=["this OpenCV", "OpenCV 4"])
def fonts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "OpenCV 4":
        monkeypatch.delattr(cv2, "FontFace", raising=False)


@pytest.mark.usefixtures("fonts")
@pytest.mark.parametrize("text", SCRIPTS)
def test_text_of_any_script_leaves_ink_inside_its_width(text: str) -> None:
    canvas = written(text)
    inked = np.nonzero(canvas.any(axis=(0, 2)))[0]
    assert inked.size
    assert inked[-1] < 5 + width(text, 20)
    assert not canvas[5 + line_height(20) :].any()


@pytest.mark.usefixtures("fonts")
def test_part_ids_that_differ_look_different() -> None:
    assert (written("部 1") != written("品 1")).any()


def test_without_other_fonts_letters_lose_their_accents_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    np.testing.assert_array_equal(written("Prüfteil"), written("Prufteil"))


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60), st.integers(8, 40), st.integers(0, 300))
def test_any_text_is_shortened_into_any_room(text: str, size: int, room: int) -> None:
    short = shorten(text, size, room)
    assert width(short, size) <= max(room, 0)
    canvas = np.zeros((30, 100, 3), np.uint8)
    write(canvas, -3, 20, text, size, (255, 255, 255))


def test_shortening_keeps_both_ends() -> None:
    short = shorten("line4/2026-11-20/" + "x" * 5000 + "y" * 900, 20, 300)
    assert short.startswith("line4/")
    assert "..." in short
    assert shorten("SN-1.png", 20, 300) == "SN-1.png"


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=120), st.integers(1, 4))
def test_wrapped_lines_fit_and_are_no_more_than_asked_for(text: str, lines: int) -> None:
    found = wrap(text, 16, 200, lines)
    assert len(found) <= lines
    assert all(width(line, 16) <= 200 for line in found)


def test_short_text_wraps_without_loss() -> None:
    text = "the file ends after 1,204 of 8,221 bytes: copy it again"
    assert " ".join(wrap(text, 16, 200, 8)) == text
