"""Whatever a broker does to the agent, every alarm arrives, and nobody claims that it is online when it is not.

benchmarks/faults/broker.py does the same for minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.broker import FAULTS, MUST_BE_NONE, soak


@pytest.mark.parametrize("fault", FAULTS)
def test_no_alarm_is_lost_whatever_the_broker_does(fault: str, tmp_path: Path) -> None:
    seconds = 6.0 if fault == "frozen" else 2.0  # that is when a silent broker has been given up
    figures = soak(tmp_path, fault, seconds, keepalive_s=1, calm_s=0.5)
    assert figures["connections"] >= 2, "the fault has been met"
    assert figures["alarms_recorded"] >= 8
    assert figures["samples"] or fault == "taken_over"
    assert {name: figures[name] for name in MUST_BE_NONE if figures[name]} == {}
