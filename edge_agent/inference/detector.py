"""A method on its backbone as the line uses it: pictures in, readings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.core import DetectorInfo, Reading
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.methods import restore
from edge_agent.errors import CheckpointError
from edge_agent.inference.aligned import Reference
from edge_agent.inference.batch_queue import BatchQueue
from edge_agent.inference.image_size import whole_patches
from edge_agent.inference.thread_batches import read_in_threads
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import heatmaps

LARGE = 5e9  # multiplications of a vision tower for one picture: what a core does in some 100 ms


class PromptDetector:
    """A method and its backbone, bound to one class name. Several may share one backbone. Satisfies core.Detector."""

    def __init__(
        self,
        backbone: Backbone,
        checkpoint: Checkpoint,
        class_name: str,
        *,
        image_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        """Restore the method of the checkpoint on the backbone.

        Args:
            backbone: the one that the checkpoint was fitted for.
            checkpoint: fitted prompts, or what stands for them.
            class_name: what is in the pictures, in a word or two.
            image_size: side in pixels that pictures are read at, a multiple of the patch; default as fitted.
            dtype: of the vision tower's matrix products; norms, softmax and logits stay in fp32.
            compiled: run the tower through torch.compile, which takes a minute for each size of batch.

        Raises CheckpointError.
        """
        checkpoint.require_backbone(backbone.name, backbone.sha256)
        with torch.inference_mode():
            try:
                self.info = DetectorInfo(
                    name=f"{checkpoint.header['method']}/{backbone.name}",
                    model_sha256=backbone.sha256,
                    checkpoint_sha256=checkpoint.sha256,
                    image_size=image_size or int(checkpoint.header["image_size"]),
                    device=str(backbone.device),
                    threshold=float(checkpoint.header["threshold"]),
                    map_threshold=float(checkpoint.header["map_threshold"]),
                )
                self.method = restore(backbone, checkpoint.header, checkpoint.tensors, class_name)
                self.method.precompute()
                self.reference = Reference.restored(checkpoint.header, checkpoint.tensors)
            except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
                raise CheckpointError(f"{checkpoint.path}: damaged ({error!r}); copy it again or refit") from None
        size = self.info.image_size
        if size % backbone.patch:
            near = whole_patches(size, backbone.patch)
            raise CheckpointError(
                f"{backbone.name} reads sides that are multiples of {backbone.patch}: take {near}, not {size}"
            )
        self.method.eval().requires_grad_(False)
        self.device = backbone.device
        self.overlaps = self.device.type == "cuda"
        self.grid = (size // backbone.patch,) * 2
        # 12 squared widths a token and block: projections of 4 and an MLP of 8.
        self.is_large = 12 * backbone.width**2 * backbone.depth * self.grid[0] * self.grid[1] > LARGE
        self.dtype = dtype
        self.map_dtype = dtype if self.overlaps else torch.float32
        self._encode = torch.compile(self.method.encode, dynamic=False) if compiled else self.method.encode
        self._batches = (
            BatchQueue(self.predict, backbone.preprocessing, size, self.grid, dtype, self.device)
            if self.overlaps
            else None
        )

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        if self._batches:
            self._batches.warm_up(batch)
        else:
            self.read([np.zeros((self.info.image_size, self.info.image_size, 3), np.uint8)])

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. The heatmap has the side that pictures are read at."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector. Without a GPU the readings are complete when this returns."""
        if self._batches:
            return self._batches.start(images, keep)
        readings = read_in_threads(
            lambda part: self._read(images[part], keep[part] if keep else [None]), len(images), large=self.is_large
        )
        return lambda: readings

    def _read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None]) -> list[Reading]:
        """Read some pictures at once, on the calling thread."""
        with torch.inference_mode():
            size = self.info.image_size
            x = self.method.backbone.pictures(images, size)
            patches_kept = scoring.masks_to_tensor(keep, self.grid, self.device)
            pixels_kept = scoring.masks_to_tensor(keep, (size, size), self.device)
            scores, maps = self.predict(x, patches_kept, pixels_kept)
        return [Reading(*each) for each in zip(scores.tolist(), maps.numpy(), strict=True)]

    def predict(
        self, x: Tensor, patches_kept: Tensor | None = None, pixels_kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute scores and maps. No host synchronisation, so it can be captured as a CUDA graph. Call in inference mode.

        Args:
            x: pictures (B, 3, S, S), as the backbone makes them.
            patches_kept: (B, *grid) bool, the patches that count; None for all.
            pixels_kept: (B, S, S) bool, the pixels that are shown; None for all.

        Returns scores (B,) fp32 and maps (B, S, S), both in [0, 1]; maps are in half precision on a GPU that reads so.
        """
        return self.score(self.encode(x), patches_kept, pixels_kept)

    def encode(self, x: Tensor) -> Any:
        """Run the vision tower, the first part of `predict`."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._encode(x)

    def score(
        self, features: Any, patches_kept: Tensor | None = None, pixels_kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the method on what `encode` returned, the second part of `predict`; see there."""
        method = self.method
        scores = method.scores(method(features), patches_kept)
        maps = heatmaps(scores.patches, self.info.image_size, method.sigma, method.upsampling, self.map_dtype)
        return scores.picture, maps if pixels_kept is None else maps * pixels_kept
