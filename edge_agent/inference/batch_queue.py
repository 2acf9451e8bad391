"""An asynchronous queue of batches to a device: one batch is uploaded while the one before is read, and little is downloaded.

Written for a GPU; on a CPU it does the same steps in the same order, without pinned memory and streams.
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

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.core import Reading
from edge_agent.inference.cuda_graph import capture
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import prepare

MAX_BATCH = 32  # pictures that are read at once
BUFFERS = 2  # batches in progress at once: one is read while the other is uploaded

Predict = Callable[[Tensor, "Tensor | None", "Tensor | None"], tuple[Tensor, Tensor]]


class BatchQueue:
    """Reads batches of up to MAX_BATCH pictures, padded to a power of two, as each size has a CUDA graph of its own.

    Not thread-safe. Each thread that reads captures graphs of its own.
    """

    def __init__(
        self,
        predict: Predict,
        preprocessing: Preprocessing,
        size: int,
        grid: tuple[int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Allocate the buffers; graphs are captured when a size of batch is first read.

        Args:
            predict: pictures (B, 3, size, size), and masks (B, *grid) and (B, size, size) bool of what counts or None for
                all of it, to scores (B,) and maps (B, size, size).
            preprocessing: of the backbone.
            size: side in pixels that pictures are read at.
            grid: (rows, columns) of patches.
            dtype: of the pictures that `predict` gets.
            device: where `predict` runs.
        """
        self._predict, self._preprocessing, self._size, self._grid = predict, preprocessing, size, grid
        self._dtype, self._device = dtype, device
        cuda = device.type == "cuda"
        upload_stream = torch.cuda.Stream(device) if cuda else None
        self._buffers = deque(TransferBuffer(device, upload_stream) for _ in range(BUFFERS))
        self._pool = torch.cuda.graph_pool_handle() if cuda else None
        self._captured: dict[tuple[int, int, bool], _CapturedPredict] = {}

    def warm_up(self, batch: int) -> None:
        """Capture a graph for every size that batches of up to `batch` pictures need, and read one batch of each."""
        picture = np.zeros((self._size, self._size, 3), np.uint8)
        for count in batch_sizes(min(batch, MAX_BATCH)):
            self.start([picture] * count)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector.start. The pictures are copied before it returns."""
        keep = keep or [None] * len(images)
        waits = [
            self._submit(images[at : at + MAX_BATCH], keep[at : at + MAX_BATCH])
            for at in range(0, len(images), MAX_BATCH)
        ]
        return lambda: [reading for wait in waits for reading in wait()]

    @torch.inference_mode()
    def _submit(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None]) -> Callable[[], list[Reading]]:
        """Queue up to MAX_BATCH pictures on the device; return what waits for their readings."""
        buffer = self._buffers[0]
        self._buffers.rotate(-1)
        groups = buffer.upload(images)
        patches_kept = scoring.masks_to_tensor(keep, self._grid, self._device)
        pixels_kept = scoring.masks_to_tensor(keep, (self._size, self._size), self._device)
        padded = next(size for size in batch_sizes(MAX_BATCH) if size >= len(images))
        captured = self._captured_for(padded, patches_kept is not None)
        buffer.wait_for_upload()
        at = 0
        for frames in groups:
            prepare(frames, self._preprocessing, captured.pictures[at : at + len(frames)])
            at += len(frames)
        for place, kept in ((captured.patches_kept, patches_kept), (captured.pixels_kept, pixels_kept)):
            if place is not None and kept is not None:
                place[: len(images)].copy_(kept)
        scores, maps = captured.run()
        return buffer.download(scores[: len(images)], maps[: len(images)])

    def _captured_for(self, count: int, masked: bool) -> _CapturedPredict:
        key = (threading.get_ident(), count, masked)
        if key not in self._captured:
            self._captured[key] = _CapturedPredict(self, count, masked)
        return self._captured[key]


class _CapturedPredict:
    """`predict` for one number of pictures, and the tensors that it reads its inputs from."""

    def __init__(self, batches: BatchQueue, count: int, masked: bool) -> None:
        size, device = batches._size, batches._device
        self.pictures = torch.zeros(count, 3, size, size, dtype=batches._dtype, device=device)
        self.patches_kept = torch.ones(count, *batches._grid, dtype=torch.bool, device=device) if masked else None
        self.pixels_kept = torch.ones(count, size, size, dtype=torch.bool, device=device) if masked else None
        self.run = capture(batches._predict, (self.pictures, self.patches_kept, self.pixels_kept), batches._pool)


class TransferBuffer:
    """Memory for one batch in progress, on the host and on the device, reused for a later batch once this one is finished."""

    def __init__(self, device: torch.device, upload_stream: Any = None) -> None:
        """upload_stream: the CUDA stream that pictures are uploaded on; None on a CPU."""
        self._device, self._upload_stream = device, upload_stream
        self._host = self._on_device = torch.empty(0, dtype=torch.uint8)
        self._scores = self._maps = torch.empty(0)
        self._pending: _PendingReadings | None = None

    def upload(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Copy (H, W, 3) uint8 pictures to the device. A batch that is still in progress in this buffer is finished first.

        Returns them there, successive ones of one size together as (n, H, W, 3); not to be read before `wait_for_upload`.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending()
        total = sum(image.size for image in images)
        if total > len(self._host):
            pinned = self._upload_stream is not None
            self._host = torch.empty(total, dtype=torch.uint8, pin_memory=pinned)
            self._on_device = torch.empty_like(self._host, device=self._device) if pinned else self._host
            if self._upload_stream is not None:  # kernels that used this memory before may still be running
                self._upload_stream.wait_stream(torch.cuda.current_stream(self._device))
        begin, groups = 0, []
        for group in grouped(images):
            end = begin + group[0].size * len(group)
            shape = (len(group), *group[0].shape)
            for place, image in zip(self._host[begin:end].view(shape), group, strict=True):
                place.copy_(torch.from_numpy(np.ascontiguousarray(image)))
            groups.append(self._on_device[begin:end].view(shape))
            begin = end
        if self._upload_stream is not None:
            with torch.cuda.stream(self._upload_stream):
                self._on_device[:total].copy_(self._host[:total], non_blocking=True)
        return groups

    def wait_for_upload(self) -> None:
        """Make everything that is queued on the device from here on wait for the upload; does not block the host."""
        if self._upload_stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._upload_stream)

    def download(self, scores: Tensor, maps: Tensor) -> Callable[[], list[Reading]]:
        """Start to fetch scores (B,) and maps (B, h, w); return what waits for them and gives the same at every call."""
        if self._upload_stream is None:
            self._pending = _PendingReadings(scores.clone(), maps.clone(), nullcontext)
            return self._pending
        if self._scores.shape[:1] < scores.shape or self._maps.dtype != maps.dtype:
            self._scores = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
            self._maps = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
        on_host = self._scores[: len(scores)], self._maps[: len(maps)]
        for place, computed in zip(on_host, (scores, maps), strict=True):
            place.copy_(computed, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self._pending = _PendingReadings(*on_host, done.synchronize)
        return self._pending


class _PendingReadings:
    """The readings of one batch: the first call waits for them and copies them out of the buffer."""

    def __init__(self, scores: Tensor, maps: Tensor, wait: Callable[[], object]) -> None:
        self._scores, self._maps, self._wait = scores, maps, wait
        self._readings: list[Reading] | None = None

    def __call__(self) -> list[Reading]:
        if self._readings is None:
            self._wait()
            maps = self._maps.numpy().astype(np.float32)  # a copy: the memory is reused for a later batch
            self._readings = [Reading(*each) for each in zip(self._scores.tolist(), maps, strict=True)]
        return self._readings


def batch_sizes(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to the first that is at least `most`."""
    return [1 << power for power in range((most - 1).bit_length() + 1)]


def grouped(images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Group successive pictures of one size, in their order."""
    groups: list[list[np.ndarray]] = []
    for image in images:
        if groups and groups[-1][0].shape == image.shape:
            groups[-1].append(image)
        else:
            groups.append([image])
    return groups
