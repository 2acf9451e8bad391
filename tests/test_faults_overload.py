"""A camera that is faster than the detector: what is inspected stays fresh, and every frame is accounted for at all times.

Ages are counted in pictures that were read meanwhile, not in seconds, which a busy machine would stretch.
"""

from __future__ import annotations

import pytest

from benchmarks.faults.overload import MOST_WAITING, MUST_BE_NONE, soak


@pytest.mark.parametrize("write_s", [0.0, 0.03], ids=["the detector is slow", "the disk is slower still"])
def test_under_three_times_the_load_frames_stay_fresh_and_all_are_accounted_for(write_s: float) -> None:
    figures = soak(2.0, read_s=0.01, write_s=write_s)
    assert figures["samples"] > 20
    assert figures["inspected"] >= 20
    assert figures["dropped"] >= figures["inspected"], "three came for each that was read"
    assert figures["captured"] == figures["inspected"] + figures["dropped"]
    assert figures["age_in_pictures_read_highest"] <= MOST_WAITING
    assert {name: figures[name] for name in MUST_BE_NONE if figures[name]} == {}
