"""Any bytes at every place where bytes come in: an answer or an error of its own; benchmarks/faults/fuzz.py does it for hours."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.entries import ENTRIES, GOOD_HEADER, checkpoint_of, seeds
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.errors import CheckpointError

quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged tags
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


@pytest.mark.parametrize("header", [[], 5, None, {"threshold": "high"}, {"image_size": None}, {"backbone_sha256": 7}])
def test_a_checkpoint_whose_header_is_of_the_wrong_kind_is_refused(header: object, tmp_path: Path) -> None:
    path = tmp_path / "prompts.safetensors"
    whole = {**GOOD_HEADER, **header} if isinstance(header, dict) else header
    path.write_bytes(checkpoint_of(whole))
    with pytest.raises(CheckpointError, match="copy it again or refit") as refused:
        load_checkpoint(path)
    assert str(path) in str(refused.value)
    path.write_bytes(checkpoint_of(GOOD_HEADER))
    assert load_checkpoint(path).header == GOOD_HEADER


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
