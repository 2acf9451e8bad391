"""A burst of pictures past inotify's queue, with a kill in the middle; benchmarks/faults/burst.py does it with 10,000."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.burst import MUST_BE_NONE, QUEUE, soak


def test_each_picture_of_a_burst_past_the_kernels_queue_is_inspected_exactly_once(tmp_path: Path) -> None:
    if not QUEUE.exists() or int(QUEUE.read_text()) > 16_384:
        pytest.skip("inotify's queue is larger here than a quick test can fill")
    figures = soak(tmp_path, 400, renames=21, rescan_s=1.0)
    assert figures["events_at_least"] > 16_384
    assert {name: figures[name] for name in MUST_BE_NONE if figures[name]} == {}
