"""Pauses between attempts double up to the longest, are shortened by chance, and count the time an attempt took."""

from __future__ import annotations

import random

import pytest

from edge_agent.io.backoff import Backoff


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 1.0), (1, 2.0), (4, 16.0), (5, 30.0), (1000, 30.0)])
def test_pauses_double_and_end_at_the_longest(failures: int, pause_s: float) -> None:
    assert Backoff(1.0, 30.0, least=1.0).pause_s(failures) == pause_s


def test_chance_shortens_a_pause_to_no_less_than_its_part() -> None:
    random.seed(0)
    pauses = [Backoff(1.0, 30.0, least=0.5).pause_s(3) for _ in range(1000)]
    assert 4.0 <= min(pauses) < 4.2
    assert 7.8 < max(pauses) <= 8.0


def test_the_time_that_an_attempt_took_is_part_of_its_pause_but_the_first_pause_is_always_made() -> None:
    backoff = Backoff(0.25, 2.0, least=1.0)
    assert backoff.pause_s(10, spent_s=1.5) == 0.5
    assert backoff.pause_s(10, spent_s=60.0) == 0.25
