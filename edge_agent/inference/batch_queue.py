"""Batches on their way to a device and back: bytes go up while the batch before is read, and little comes down.

Written for a GPU; off one it does the same in the same order, without pinned memory and streams.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Look
from edge_agent.core import Reading
from edge_agent.inference.cuda_graph import record
from edge_agent.kernels import scoring
from edge_agent.kernels.pictures import prepare

MOST = 32  # pictures that are read at once
LANES = 2  # batches on their way at once: one is read while the other goes up

Judge = Callable[[Tensor, "Tensor | None", "Tensor | None"], tuple[Tensor, Tensor]]


class Flights:
    """Reads batches of up to MOST pictures, padded to a power of two, as there is a recording for each size.

    Not for several threads at once; each thread that reads makes its own recordings.
    """

    def __init__(
        self, judge: Judge, look: Look, size: int, grid: tuple[int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        """judge: (B, 3, size, size) pictures, and (B, *grid) and (B, size, size) bool of what counts, or None for all of it,
        to scores (B,) and maps (B, size, size). dtype: of the pictures.
        """
        self._judge, self._look, self._size, self._grid, self._dtype, self._device = (
            judge,
            look,
            size,
            grid,
            dtype,
            device,
        )
        cuda = device.type == "cuda"
        copies = torch.cuda.Stream(device) if cuda else None
        self._lanes = deque(Lane(device, copies) for _ in range(LANES))
        self._pool = torch.cuda.graph_pool_handle() if cuda else None
        self._recorded: dict[tuple[int, int, bool], _Recorded] = {}

    def warm_up(self, most: int) -> None:
        """Record every size that batches of up to `most` pictures need, and send one of each through."""
        picture = np.zeros((self._size, self._size, 3), np.uint8)
        for count in sizes(min(most, MOST)):
            self.start([picture] * count)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """As PromptDetector.start."""
        keep = keep or [None] * len(images)
        landings = [self._depart(images[at : at + MOST], keep[at : at + MOST]) for at in range(0, len(images), MOST)]
        return lambda: [reading for land in landings for reading in land()]

    @torch.inference_mode()
    def _depart(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None]) -> Callable[[], list[Reading]]:
        lane = self._lanes[0]
        self._lanes.rotate(-1)
        groups = lane.up(images)
        patches_kept = scoring.masks_to_tensor(keep, self._grid, self._device)
        pixels_kept = scoring.masks_to_tensor(keep, (self._size, self._size), self._device)
        recorded = self._of(next(size for size in sizes(MOST) if size >= len(images)), patches_kept is not None)
        lane.arrived()
        at = 0
        for frames in groups:
            prepare(frames, self._look, recorded.pictures[at : at + len(frames)])
            at += len(frames)
        for place, kept in ((recorded.patches_kept, patches_kept), (recorded.pixels_kept, pixels_kept)):
            if place is not None and kept is not None:
                place[: len(images)].copy_(kept)
        scores, maps = recorded.run()
        return lane.down(scores[: len(images)], maps[: len(images)])

    def _of(self, count: int, masked: bool) -> _Recorded:
        key = (threading.get_ident(), count, masked)
        if key not in self._recorded:
            self._recorded[key] = _Recorded(self, count, masked)
        return self._recorded[key]


class _Recorded:
    """The judge for one number of pictures, and where it looks for them."""

    def __init__(self, flights: Flights, count: int, masked: bool) -> None:
        size, device = flights._size, flights._device
        self.pictures = torch.zeros(count, 3, size, size, dtype=flights._dtype, device=device)
        self.patches_kept = torch.ones(count, *flights._grid, dtype=torch.bool, device=device) if masked else None
        self.pixels_kept = torch.ones(count, size, size, dtype=torch.bool, device=device) if masked else None
        self.run = record(flights._judge, (self.pictures, self.patches_kept, self.pixels_kept), flights._pool)


class Lane:
    """Memory for one batch under way, on both sides, used again for the next one once this one is back."""

    def __init__(self, device: torch.device, copies: Any = None) -> None:
        """copies: the stream that bytes go up on; None off a GPU."""
        self._device, self._copies = device, copies
        self._below = self._above = torch.empty(0, dtype=torch.uint8)
        self._scores = self._maps = torch.empty(0)
        self._landing: _Landing | None = None

    def up(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Send (H, W, 3) uint8 pictures up. Returns them on the device, those of one size that follow each other as (n, H, W, 3).

        Nothing may read them before `arrived`. A batch that is still under way in this lane is waited for first.
        """
        landing, self._landing = self._landing, None
        if landing is not None:
            landing()
        total = sum(image.size for image in images)
        if total > len(self._below):
            self._below = torch.empty(total, dtype=torch.uint8, pin_memory=self._copies is not None)
            self._above = self._below if self._copies is None else torch.empty_like(self._below, device=self._device)
            if self._copies is not None:  # what used this memory before may still be running
                self._copies.wait_stream(torch.cuda.current_stream(self._device))
        begin, groups = 0, []
        for group in grouped(images):
            end = begin + group[0].size * len(group)
            shape = (len(group), *group[0].shape)
            for place, image in zip(self._below[begin:end].view(shape), group, strict=True):
                place.copy_(torch.from_numpy(np.ascontiguousarray(image)))
            groups.append(self._above[begin:end].view(shape))
            begin = end
        if self._copies is not None:
            with torch.cuda.stream(self._copies):
                self._above[:total].copy_(self._below[:total], non_blocking=True)
        return groups

    def arrived(self) -> None:
        """What the device is told from here on happens after the pictures are there."""
        if self._copies is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._copies)

    def down(self, scores: Tensor, maps: Tensor) -> Callable[[], list[Reading]]:
        """Fetch scores (B,) and maps (B, h, w). Returns what waits for them; asked again it gives the same."""
        if self._copies is None:
            self._landing = _Landing(scores.clone(), maps.clone(), nullcontext)
            return self._landing
        if self._scores.shape[:1] < scores.shape or self._maps.dtype != maps.dtype:
            self._scores = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
            self._maps = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
        below = self._scores[: len(scores)], self._maps[: len(maps)]
        for place, found in zip(below, (scores, maps), strict=True):
            place.copy_(found, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self._landing = _Landing(*below, done.synchronize)
        return self._landing


class _Landing:
    """The readings of one batch, once they are there."""

    def __init__(self, scores: Tensor, maps: Tensor, wait: Callable[[], object]) -> None:
        self._scores, self._maps, self._wait = scores, maps, wait
        self._readings: list[Reading] | None = None

    def __call__(self) -> list[Reading]:
        if self._readings is None:
            self._wait()
            maps = self._maps.numpy().astype(np.float32)  # a copy: the memory serves the next batch
            self._readings = [Reading(*each) for each in zip(self._scores.tolist(), maps, strict=True)]
        return self._readings


def sizes(most: int) -> list[int]:
    """1, 2, 4, ... up to the first that is at least `most`."""
    return [1 << power for power in range((most - 1).bit_length() + 1)]


def grouped(images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Pictures in their order, those of one size that follow each other together."""
    groups: list[list[np.ndarray]] = []
    for image in images:
        if groups and groups[-1][0].shape == image.shape:
            groups[-1].append(image)
        else:
            groups.append([image])
    return groups
