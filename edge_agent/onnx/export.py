"""Exports a detector as one ONNX file, from bytes of pictures to scores and maps, for runtimes other than torch.

The graph holds normalisation, towers, similarity, softmax, maximum, smoothing and a station's mask. Left out: the resize, as
no other runtime's operator has the same antialias, and half precision, which the runtime chooses itself.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import heatmaps

if TYPE_CHECKING:
    from edge_agent.inference.detector import PromptDetector

FORMAT = "edge-agent/onnx/1"
INPUT, SCORES, MAPS = "pictures", "scores", "maps"
OPSET = 18  # the lowest that torch writes without converting; TensorRT 10 reads 9 to 20
MAX_BATCH = 1024  # of a file whose size of batch is open
MAX_BYTES = 2_000_000_000  # of weights: protobuf is limited to 2 GiB


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported detector. onnx: the file's bytes. metadata: as in the file. operators: names of those in its graph."""

    onnx: bytes
    metadata: Mapping[str, str]
    operators: frozenset[str]


class Graph(nn.Module):
    """The module that is exported: pictures (B, S, S, 3) uint8 RGB to scores (B,) and maps (B, S, S), both fp32 in [0, 1].

    It computes what PromptDetector.read does in fp32 on a CPU, for pictures that are resized already, with a copy of the
    method and its backbone.
    """

    def __init__(self, detector: PromptDetector, keep: np.ndarray | None = None) -> None:
        """Copy the detector, which reads in fp32 on a CPU. keep: (h, w) bool, see core.Detector.read."""
        super().__init__()
        self.method = copy.deepcopy(detector.method)
        self.method.make_portable()
        self.backbone = cast(nn.Module, self.method.backbone)
        self.size = detector.info.image_size
        self.method.fix_grid(detector.grid)  # ONNX has no antialiased resize of positions
        preprocessing = self.method.backbone.preprocessing
        self.mean: Tensor
        self.std: Tensor
        self.patches_kept: Tensor | None
        self.pixels_kept: Tensor | None
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))
        self.register_buffer("patches_kept", scoring.masks_to_tensor([keep], detector.grid, detector.device))
        self.register_buffer("pixels_kept", scoring.masks_to_tensor([keep], (self.size,) * 2, detector.device))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = (pictures.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        method = self.method
        kept = None if self.patches_kept is None else self.patches_kept.expand(pictures.shape[0], -1, -1)
        scores = method.scores(method(method.encode(x)), kept)
        maps = heatmaps(scores.patches, self.size, method.sigma, method.upsampling)
        return scores.picture, maps if self.pixels_kept is None else maps * self.pixels_kept


def resized(detector: PromptDetector, images: Sequence[np.ndarray]) -> np.ndarray:
    """Resize pictures (H, W, 3) uint8 RGB of any sizes to (B, S, S, 3) uint8, as the detector does on a CPU."""
    backbone = detector.method.backbone
    preprocessing = backbone.preprocessing
    x = backbone.pictures(images, detector.info.image_size).permute(0, 2, 3, 1)
    return (
        ((x * torch.tensor(preprocessing.std) + torch.tensor(preprocessing.mean)) * 255).round().to(torch.uint8).numpy()
    )


def reference(graph: Graph, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute with torch, picture by picture: scores (B,) and maps (B, S, S)."""
    with torch.no_grad():
        computed = [graph(torch.from_numpy(one[None])) for one in pictures]
    scores, maps = (torch.cat(each).numpy() for each in zip(*computed, strict=True))
    return scores, maps


def export(
    detector: PromptDetector,
    graph: Graph,
    *,
    threshold: float,
    map_threshold: float,
    batch: int | None = None,
    class_name: str = "object",
) -> Exported:
    """Export a detector.

    Args:
        detector: reads in fp32 on a CPU.
        graph: of that detector.
        threshold: in [0, 1], written into the file's metadata.
        map_threshold: in [0, 1], written into the file's metadata.
        batch: how many pictures the file takes at once; None leaves it open.
        class_name: of the detector.

    Raises EdgeAgentError for what one file cannot hold, and where the extra [onnx] is not installed.
    """
    onnx = _onnx()
    info, method, backbone = detector.info, detector.method, detector.method.backbone
    if detector.reference:
        raise EdgeAgentError(
            f"{info.name} aligns each part before it looks, which no ONNX file holds: make the bank without align"
        )
    if batch is None and method.fixed_batch:
        raise EdgeAgentError(f"{method.name} is exported for a fixed number of pictures at once: add --batch 1")
    weights = sum(value.numel() * value.element_size() for value in graph.state_dict().values())
    if weights > MAX_BYTES:
        raise EdgeAgentError(
            f"{backbone.name} has {weights / 1e9:.1f} GB of weights, and one ONNX file holds 2: take a smaller backbone"
        )
    about = {
        "format": FORMAT,
        "version": __version__,
        "model": info.name,
        "model_sha256": info.model_sha256,
        "checkpoint_sha256": info.checkpoint_sha256,
        "class_name": class_name,
        "image_size": str(info.image_size),
        "resize": f"{backbone.preprocessing.interpolation}, antialias, aspect not kept, rounded to whole levels",
        "batch": "any" if batch is None else str(batch),
        "masked": "no" if graph.patches_kept is None else "yes",
        "threshold": repr(threshold),
        "map_threshold": repr(map_threshold),
    }
    model = _traced(graph, batch)
    _strip(model)
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return Exported(model.SerializeToString(), about, frozenset(node.op_type for node in model.graph.node))


def _traced(graph: Graph, batch: int | None) -> Any:
    """Return the graph as an onnx.ModelProto. batch: None leaves it open."""
    # Three pictures: some numbers, above all 1, would be taken for constants.
    example = torch.zeros(batch or 3, graph.size, graph.size, 3, dtype=torch.uint8)
    open_batch = None if batch else {INPUT: {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}}
    with torch.no_grad(), _quiet():
        graph(example[:1])  # caches are filled now, with real numbers
        # Traced here: torch.onnx.export would silently fix the number of pictures where it cannot leave it open.
        program = torch.export.export(graph, (example,), dynamic_shapes=open_batch, strict=False)
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[SCORES, MAPS],
            dynamic_shapes=open_batch,
            verbose=False,
        )
    assert made is not None
    return made.model_proto


def _strip(model: Any) -> None:
    """Remove the notes on which line of which source file made each node."""
    for each in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        del each.metadata_props[:]
        each.doc_string = ""
    for weight in model.graph.initializer:
        del weight.metadata_props[:]


def _onnx() -> ModuleType:
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise EdgeAgentError(f"ONNX export needs {error.name}: pip install 'edge-agent[onnx]'") from None
    return onnx


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on what it does not fold."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
