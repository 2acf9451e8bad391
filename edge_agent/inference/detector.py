"""A method and its backbone as the line uses them: pictures in, readings out."""

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
from edge_agent.inference.batch_queue import Flights
from edge_agent.inference.image_size import whole_patches
from edge_agent.inference.thread_batches import shared_out
from edge_agent.kernels import scoring
from edge_agent.kernels.heatmap import heatmaps


class PromptDetector:
    """Bound to one class name. Several may share one backbone. Satisfies core.Detector."""

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
        """image_size: side in pixels the picture is read at, a multiple of the patch; default as fitted.

        dtype: of the vision tower's matrix products; norms, softmax and logits stay in fp32. compiled: the tower by
        torch.compile, which takes a minute at each size of batch. Raises CheckpointError.
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
                self.method.hold()
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
        # Multiplications of a tower of that width, and what a core does of them in some 100 ms.
        self.is_large = 12 * backbone.width**2 * backbone.depth * self.grid[0] * self.grid[1] > 5e9
        self.dtype = dtype
        self.map_dtype = dtype if self.overlaps else torch.float32
        self._encode = torch.compile(self.method.see, dynamic=False) if compiled else self.method.see
        self._flights = (
            Flights(self.judge, backbone.look, size, self.grid, dtype, self.device) if self.overlaps else None
        )

    def warm_up(self, batch: int) -> None:
        """See core.Detector."""
        if self._flights:
            self._flights.warm_up(batch)
        else:
            self.read([np.zeros((self.info.image_size, self.info.image_size, 3), np.uint8)])

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector. The heatmap has the side that the picture was read at."""
        return self.start(images, keep)()

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """See core.Detector. Without a GPU the readings are there when this returns."""
        if self._flights:
            return self._flights.start(images, keep)
        readings = shared_out(
            lambda part: self._read(images[part], keep[part] if keep else [None]), len(images), large=self.is_large
        )
        return lambda: readings

    def _read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None]) -> list[Reading]:
        """Some pictures at once, on the calling thread."""
        with torch.inference_mode():
            size = self.info.image_size
            x = self.method.backbone.pictures(images, size)
            patches_kept = scoring.masks_to_tensor(keep, self.grid, self.device)
            pixels_kept = scoring.masks_to_tensor(keep, (size, size), self.device)
            scores, maps = self.judge(x, patches_kept, pixels_kept)
        return [Reading(*each) for each in zip(scores.tolist(), maps.numpy(), strict=True)]

    def judge(
        self, x: Tensor, patches_kept: Tensor | None = None, pixels_kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, S, S) as the backbone makes them to scores (B,) fp32 and maps (B, S, S) in [0, 1].

        patches_kept: (B, *grid), pixels_kept: (B, S, S), both bool: what counts; None for all. On a GPU that reads in half
        precision maps are, too. Asks the CPU for nothing, so that it can be recorded. Call in inference mode.
        """
        return self.score(self.encode(x), patches_kept, pixels_kept)

    def encode(self, x: Tensor) -> Any:
        """The first part of `judge`: the vision tower."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self._encode(x)

    def score(
        self, features: Any, patches_kept: Tensor | None = None, pixels_kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The second part of `judge`: the method."""
        method = self.method
        scores = method.scores(method(features), patches_kept)
        maps = heatmaps(scores.patches, self.info.image_size, method.sigma, method.upsampling, self.map_dtype)
        return scores.picture, maps if pixels_kept is None else maps * pixels_kept
