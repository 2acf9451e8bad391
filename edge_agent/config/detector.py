"""`detector:` of a station: model, method, device and image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.backbones.families import family_of
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.backbones.tips.folder import HINT
from edge_agent.backbones.weights.store import search_folders
from edge_agent.detectors.header import UNFITTED_THRESHOLD, read_header
from edge_agent.detectors.methods import checkpoint_methods, unfitted_methods
from edge_agent.detectors.systems import DEFAULT_DATASET, default_system, find_prompts
from edge_agent.errors import CheckpointError
from edge_agent.inference.image_size import MAX_WINDOWS, whole_patches
from edge_agent.settings.section import Section
from edge_agent.settings.values import ReadableFile, Text, folder_of, invalid


def _model(name: str, info: ValidationInfo) -> str:
    try:
        family = family_of(name)
    except CheckpointError as error:
        raise invalid(f"{error}; {HINT}") from error
    try:
        return family.resolve(name, folder_of(info))
    except CheckpointError as error:
        raise invalid(str(error)) from error


Model = Annotated[Text, AfterValidator(_model)]


def _method(name: str) -> str:
    if name not in unfitted_methods():
        choices = " or ".join(map(repr, unfitted_methods()))
        raise PydanticCustomError("literal_error", "wants {expected}", {"expected": choices})
    return name


Method = Annotated[Text, AfterValidator(_method)]


def _check_header(checkpoint: Path) -> None:
    try:
        header = read_header(checkpoint)
    except CheckpointError as error:
        raise invalid(str(error)) from error
    if header["method"] not in checkpoint_methods():
        known = ", ".join(checkpoint_methods())
        raise invalid(f"{checkpoint} is of the method {header['method']!r}; this version knows {known}")


def _has_prompts(model: str) -> bool:
    """Return whether a model comes with prompts, or some are published for it."""
    return family_of(model).checkpoint(model) is not None or default_system(model) is not None


class Beside(Section):
    """A detector with prompts that looks together with a bank: its model and checkpoint; None is the one that comes with it."""

    model: Model = EMBEDDED
    checkpoint: ReadableFile | None = None


class DetectorConfig(Section):
    """The detector of a station; stations with equal sections share one.

    model: "embedded", the name of a known backbone, or a folder with its files (beginning with /, ./, ../ or ~).
    method: one that needs no checkpoint, instead of a checkpoint. checkpoint: None is the one that comes with the model, or that
    `edge-agent models fetch` made of prompts that are published for it. trained_on: the data set that these were trained on.
    class_name: what is in the picture, in one or two words. image_size: side in pixels at which pictures are read; None is
    as fitted. windows: number of windows along each side that are read besides the whole picture; 1 is none. squares: whether
    elongated pictures are read in squares; None: as the station's calibration was made, yes without one. together: what looks
    beside this one; it is written as a list of both, `[{model: embedded}, {model: M, checkpoint: BANK}]`, in place of their keys.
    """

    model: Model = EMBEDDED
    method: Method | None = None
    checkpoint: ReadableFile | None = Field(default=None, validate_default=True)
    trained_on: Literal["mvtec", "visa"] = DEFAULT_DATASET
    class_name: Text = "object"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    image_size: Annotated[int, Field(ge=32, le=2048)] | None = None
    windows: Annotated[int, Field(ge=1, le=MAX_WINDOWS)] = 1
    squares: bool | None = None
    together: Annotated[tuple[Beside, ...], Field(max_length=1)] = Field(default=(), validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _bank_is_the_last(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "together" not in data:
            return data
        both = data["together"]
        if not isinstance(both, Sequence) or len(both) != 2 or not all(isinstance(one, Mapping) for one in both):
            raise invalid(
                "together wants two detectors: [{model: embedded}, {model: efficientnet-lite0, checkpoint: BANK}]"
            )
        first, last = both
        if twice := [key for key in (*Beside.model_fields, "method") if key in data]:
            raise invalid(f"has together, whose detectors say their own {twice[0]}: remove {twice[0]}")
        return {**data, **last, "together": [first]}

    @field_validator("checkpoint")
    @classmethod
    def _check_checkpoint(cls, checkpoint: Path | None, info: ValidationInfo) -> Path | None:
        model = info.data.get("model", EMBEDDED)
        method = info.data.get("method")
        if checkpoint is not None and method is not None:
            raise invalid(f"cannot be combined with method {method}, which needs none: remove one of them")
        if checkpoint is None and method is None and not _has_prompts(model):
            methods = " or ".join(unfitted_methods())
            raise invalid(
                f"is missing: {model} comes without prompts, name a checkpoint that was fitted for it, or method: {methods}"
            )
        if checkpoint is not None:
            _check_header(checkpoint)
        return checkpoint

    @field_validator("trained_on")
    @classmethod
    def _check_trained_on(cls, trained_on: str, info: ValidationInfo) -> str:
        model, method, checkpoint = (info.data.get(key) for key in ("model", "method", "checkpoint"))
        if model and (method or checkpoint or default_system(model) is None):
            raise invalid(
                f"chooses between the prompts that are published for a model, and {method or checkpoint or model} has none: remove it"
            )
        return trained_on

    @field_validator("together")
    @classmethod
    def _check_together(cls, together: tuple[Beside, ...], info: ValidationInfo) -> tuple[Beside, ...]:
        checkpoint = info.data.get("checkpoint")
        if "checkpoint" not in info.data:  # its own error is told
            return together
        made = checkpoint is not None and "together" in read_header(checkpoint)
        if together and not made:
            raise invalid("wants a bank that was made for it by `trainer station` as the second detector's checkpoint")
        if made and not together:
            raise invalid(
                f"is missing: {checkpoint} was made to look together with another: together: [{{model: embedded}},"
                " {model: ..., checkpoint: ...}]"
            )
        return together

    @field_validator("image_size")
    @classmethod
    def _check_image_size(cls, side: int | None, info: ValidationInfo) -> int | None:
        model = info.data.get("model")
        patch = family_of(model).patch(model) if model else None  # unknown for a folder until its files are read
        if side and patch and side % patch:
            near = whole_patches(side, patch)
            raise invalid(f"is {side}; must be a multiple of {model}'s patch of {patch} pixels: take {near}")
        return side

    def prompts(self, folders: Sequence[Path] | None = None) -> Path | None:
        """Return the checkpoint that is inspected with, also where it comes with the model; None without one.

        There is none for a method that needs none, and where published prompts have to be fetched first. folders: where fetched
        models lie; None (default): where they lie on this machine.
        """
        if self.method is not None:
            return None
        own = self.checkpoint or family_of(self.model).checkpoint(self.model)
        return own or find_prompts(self.model, self.trained_on, search_folders() if folders is None else folders)

    def takes_published_prompts(self) -> bool:
        """Return whether prompts are taken that are published for the model, fetched or not."""
        own = self.method or self.checkpoint or family_of(self.model).checkpoint(self.model)
        return own is None

    def header(self, folders: Sequence[Path] | None = None) -> Mapping[str, Any] | None:
        """Read the header of the checkpoint that `prompts` returns; None without one. folders: as there.

        Raises CheckpointError if it cannot be read any more.
        """
        prompts = self.prompts(folders)
        return read_header(prompts) if prompts else None

    def recommended_threshold(self) -> float:
        """Return the threshold of scores that is taken where neither threshold nor calibration is given, in [0, 1]."""
        header = self.header()
        return float(header["threshold"]) if header else UNFITTED_THRESHOLD
