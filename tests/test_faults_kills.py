"""The real daemon, killed at random instants while pictures come in; benchmarks/faults/kills.py does it 200 times."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.kills import MUST_BE_NONE, soak


def test_a_daemon_killed_at_random_instants_loses_no_picture_and_no_alarm_and_inspects_none_twice(
    tmp_path: Path,
) -> None:
    figures = soak(tmp_path, 3, every_s=0.2, longest_s=1.0, light=True)
    assert figures["kills"] == 3
    assert figures["alarms_recorded"] > 0
    assert {name: figures[name] for name in MUST_BE_NONE if figures[name]} == {}
