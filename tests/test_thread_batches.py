"""A batch that several cores share reads as one that a single core reads, and a map made in one step as one made in two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.inference.load import load_detector
from edge_agent.inference.thread_batches import read_in_threads
from edge_agent.kernels import scoring
from tests.made import gradient


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_every_picture_is_read_once_and_in_order(threads, cores, count, large):
    threads(cores)
    parts = []
    assert read_in_threads(lambda part: parts.append(part) or list(range(count))[part], count, large=large) == [
        *range(count)
    ]
    assert all(part.stop - part.start <= 4 for part in parts)
    assert torch.get_num_threads() == cores


def test_what_one_core_cannot_read_is_an_error_of_the_whole_batch(threads):
    threads(2)

    def read(part):
        if part.start:
            raise MemoryError("the second core's")
        return [part.start]

    with pytest.raises(MemoryError, match="second"):
        read_in_threads(read, 2, large=False)


def test_shared_pictures_read_as_alone(threads):
    detector = load_detector(device="cpu")
    pictures = [gradient(60 + 9 * number, 80, 20 * number) for number in range(5)]
    keep = [None, np.arange(16).reshape(4, 4) > 7, None, None, None]
    threads(1)
    alone = [detector.read([one], [mask])[0] for one, mask in zip(pictures, keep, strict=True)]
    threads(2)
    for ours, theirs in zip(detector.read(pictures, keep), alone, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=1e-5)
    assert (alone[1].heatmap[:100] == 0).all()


@pytest.mark.parametrize(
    ("upsampling", "steps"), [("bilinear", scoring.resize_bilinear), ("nearest", scoring.resize_nearest)]
)
def test_a_map_in_one_step_is_the_one_in_two(upsampling, steps):
    patches = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    made = scoring.heatmaps(patches, 70, 12.0, upsampling)
    expected = scoring.smooth(steps(patches, 70), 12.0 * 70 / 518).clamp(0, 1)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
    made.sum().backward()
    assert patches.grad is not None
