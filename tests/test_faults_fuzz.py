"""Any bytes at every place where bytes come in: an answer or an error of its own; benchmarks/faults/fuzz.py does it for hours."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.entries import ENTRIES, seeds

quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", ENTRIES)
def test_good_input_is_taken_and_any_bytes_do_no_harm(name: str) -> None:
    for seed in seeds(name):
        ENTRIES[name](seed)

    @quickly
    @given(st.binary(max_size=300))
    def any_bytes(data: bytes) -> None:
        ENTRIES[name](data)

    @quickly
    @given(st.sampled_from(seeds(name)), st.integers(0, 2**32), st.integers(1, 6))
    def damaged(good: bytes, chance: int, damages: int) -> None:
        ENTRIES[name](_damaged(good, random.Random(chance), damages))

    any_bytes()
    damaged()


def _damaged(content: bytes, chance: random.Random, damages: int) -> bytes:
    """With bytes changed, parts cut out, repeated, or moved."""
    data = bytearray(content)
    for _ in range(damages):
        start, length = chance.randrange(len(data) + 1), chance.choice([1, 1, 2, 4, 16, 200])
        part = data[start : start + length]
        kind = chance.randrange(4)
        if kind == 0:
            data[start : start + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[start : start + length]
        elif kind == 2:
            data[start:start] = part * chance.randrange(1, 4)
        else:
            other = chance.randrange(len(data) + 1)
            data[other : other + len(part)] = part
    return bytes(data)
