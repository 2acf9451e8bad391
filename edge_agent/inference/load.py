"""Loads detectors by the names of their models, for the agent's stations and for integrators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.families import family_of
from edge_agent.backbones.memory import release_pages
from edge_agent.backbones.precision import halve
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.backbones.weights.store import search_folders
from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import load_checkpoint, unfitted_checkpoint
from edge_agent.detectors.systems import DEFAULT_DATASET, require_prompts
from edge_agent.errors import CheckpointError, DeviceMissing
from edge_agent.inference.arranged import arranged
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.together import Fusion, TogetherDetector


class Loader:
    """Loads detectors; those of one model share its backbone, and those of one class name and checkpoint are one."""

    def __init__(self, folders: Sequence[Path] | None = None) -> None:
        """folders: where fetched backbones lie, the first one first; None (default): where they lie on this machine."""
        self._folders = search_folders() if folders is None else folders
        self._backbones: dict[tuple[str, str, torch.dtype], Backbone] = {}
        self._detectors: dict[tuple[object, ...], PromptDetector] = {}
        self._together: dict[tuple[Detector, Detector], Detector] = {}
        self._arranged: dict[tuple[PromptDetector, int, bool], Detector] = {}

    def backbone(self, model: str = EMBEDDED, device: str = "auto", dtype: torch.dtype = torch.float32) -> Backbone:
        """Load a backbone, or return the one that is loaded already.

        Args:
            model: the backbone's name, see backbones/families.py.
            device: "auto", "cpu" or "cuda".
            dtype: of the vision tower's matrix products; if not fp32 it is to be called under autocast.

        Raises CheckpointError.
        """
        key = (model, str(choose_device(device)), dtype)
        if key not in self._backbones:
            backbone = family_of(model).load(model, self._folders)
            if dtype != torch.float32:
                halve(backbone, dtype)
            self._backbones[key] = backbone.to(choose_device(device))
            if not torch.cuda.is_available():
                release_pages()
        return self._backbones[key]

    def detector(
        self,
        model: str = EMBEDDED,
        checkpoint: Path | None = None,
        class_name: str = "object",
        device: str = "auto",
        precision: str = "auto",
        method: str | None = None,
        image_size: int | None = None,
        trained_on: str = DEFAULT_DATASET,
    ) -> PromptDetector:
        """Load a detector, or return the one that is loaded already.

        Args:
            model: see backbone().
            checkpoint: fitted prompts; default those that come with the model, or are published for it and fetched.
            class_name: what is in the pictures, in a word or two.
            device: "auto", "cpu" or "cuda".
            precision: "auto", "fp32", "bf16" or "fp16".
            method: one that needs no checkpoint, in place of one.
            image_size: side in pixels that pictures are read at; default as fitted.
            trained_on: a key of systems.DATASETS, of the published prompts that are taken.

        Raises CheckpointError.
        """
        if method is not None and checkpoint is not None:
            raise CheckpointError(f"{checkpoint}: {method} needs no checkpoint: leave one of the two out")
        if method is None and checkpoint is None:
            checkpoint = family_of(model).checkpoint(model) or require_prompts(model, trained_on, self._folders)
        key = (model, method, checkpoint, class_name, device, precision, image_size)
        if key not in self._detectors:
            dtype = choose_dtype(precision, choose_device(device))
            backbone = self.backbone(model, device, dtype)
            if method is not None:
                loaded = unfitted_checkpoint(method, backbone)
            else:
                assert checkpoint is not None
                loaded = load_checkpoint(checkpoint)
            if loaded.header["backbone_sha256"] != backbone.sha256 and backbone.text_depth:
                # Another backbone, or a damaged text file? Reading the text tower names a file that cannot be read.
                backbone.encode_text(["object"])
            self._detectors[key] = PromptDetector(backbone, loaded, class_name, image_size=image_size, dtype=dtype)
        return self._detectors[key]

    def arranged(self, detector: PromptDetector, windows: int = 1, squares: bool = True) -> Detector:
        """Return what reads pictures with a detector in the parts that are asked for; see arranged().

        Args:
            detector: reads one part.
            windows: along each side, read besides the whole; default 1, none.
            squares: whether elongated pictures are read in squares, instead of squeezed into one; default yes.
        """
        key = detector, windows, squares
        if key not in self._arranged:
            self._arranged[key] = arranged(detector, windows, squares)
        return self._arranged[key]

    def release(self, in_use: Sequence[Detector]) -> None:
        """Forget the detectors that are not in use, so that their memory is freed; backbones stay.

        in_use: from arranged() or together(), whose both parts stay, too.
        """
        kept = {id(one) for one in in_use}
        self._together = {key: one for key, one in self._together.items() if id(one) in kept}
        kept |= {id(part) for both in self._together for part in both}
        self._arranged = {key: one for key, one in self._arranged.items() if id(one) in kept}
        singles = {id(single) for single, *_ in self._arranged}
        self._detectors = {key: one for key, one in self._detectors.items() if id(one) in singles}

    def together(self, other: Detector, bank: Detector, fusion: Fusion) -> Detector:
        """Return what looks with both; see TogetherDetector. Raises CheckpointError."""
        key = other, bank
        if key not in self._together:
            self._together[key] = TogetherDetector(other, bank, fusion)
        return self._together[key]


def load_detector(
    model: str = EMBEDDED, checkpoint: str | Path | None = None, class_name: str = "object", device: str = "auto"
) -> Detector:
    """Load a detector for RGB arrays: `load_detector(class_name="metal plate").read([pixels])`. Arguments: see Loader.detector."""
    loader = Loader()
    return loader.arranged(loader.detector(model, Path(checkpoint) if checkpoint else None, class_name, device))


def choose_device(device: str) -> torch.device:
    """Return the device of that name; "auto" is the GPU if there is one. Raises DeviceMissing where "cuda" cannot be used."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing(
            "device cuda is asked for, but torch finds no usable GPU: run `edge-agent doctor`, or set device: auto"
        )
    return torch.device(device)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of that name; "auto" is fp16 on a GPU and fp32 on a CPU, where half precision is seldom faster."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
