"""Labelled pictures in files: MVTec layout, or the meta.json that several published repositories write.

MVTec layout is CATEGORY/{train,test}/{good,KIND}/STEM.*, with masks in CATEGORY/ground_truth/KIND/STEM_mask.*, STEM.*, or,
as in MVTec LOCO, several in the folder CATEGORY/ground_truth/KIND/STEM. In a folder with a meta.json only that file counts:
{"test": {CATEGORY: [{"img_path", "mask_path", "specie_name", "anomaly": 0 or 1}, ...]}, "train": ...}, paths relative to
the folder, with / or \\. Masks may have any picture format, see masks.py; hidden files (.NAME) are ignored.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from edge_agent.errors import EdgeAgentError, PictureError
from edge_agent.io.pictures import MIN_SIDE, SUFFIXES, decode, printable
from trainer.data.masks import NAMES, MaskFolder, decode_mask, stem_of, unclaimed

META = "meta.json"
GOOD = "good"
# What people call the folder of good pictures, in lower case.
_GOOD_NAMES = frozenset({"good", "goods", "ok", "o.k.", "io", "i.o.", "normal", "normals", "pass", "gut", "no_defect", "no-defect",
                         "defect_free", "defect-free", "non_defective", "non-defective"})  # fmt: skip
_BESIDE = re.compile(r"_(mask|gt)$", re.IGNORECASE)  # the end of a mask's stem, where it lies beside its picture


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled picture. masks: which together cover its defects; none where the set has none and their place is unknown."""

    category: str
    kind: str  # GOOD or the defect's name
    picture: Path
    masks: tuple[Path, ...] = ()

    @property
    def defective(self) -> bool:
        """Whether it is not a good picture."""
        return self.kind != GOOD


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was left out, and why."""

    path: Path
    reason: str

    @classmethod
    def by(cls, error: PictureError, path: Path) -> Skipped:
        """Make it from an error; a path at the beginning of its message is dropped."""
        return cls(path, str(error).removeprefix(f"{printable(path)}: "))


def training_examples(folder: Path) -> list[Example]:
    """List all examples of the training split below a folder; none where there is no such split. See read_examples."""
    _require_folder(folder)
    return _from_meta(folder, "train", False) if (folder / META).is_file() else _from_layout(folder, "train", [], False)


def read_examples(folder: Path, split: str = "test", leftover: list[Path] | None = None) -> list[Example]:
    """List all examples of a split below a folder.

    Args:
        folder: a category, a folder of categories, or a folder with a meta.json.
        split: default "test".
        leftover: files among the masks that belong to no picture are added to it; default none are looked for.

    Raises EdgeAgentError when there are none, when a meta.json is damaged or leads out of the folder, when a category has
    masks for some of its defective pictures only, or only masks that belong to none, or when good pictures may lie in
    folders of another name.
    """
    _require_folder(folder)
    meta = (folder / META).is_file()
    unclaimed_here: list[Path] = []
    examples = _from_meta(folder, split) if meta else _from_layout(folder, split, unclaimed_here)
    for category, members in categories(examples).items():
        unknown = [one.picture for one in members if one.defective and not one.masks]
        if unknown and any(one.masks for one in members if one.defective):
            raise EdgeAgentError(
                f"{folder}: {len(unknown)} defective pictures of {category} have no mask though others have one, the first is"
                f" {unknown[0]}: add the masks, or take these pictures out, or move all masks away to do without"
                + (f"; {unclaimed_here[0]} belongs to no picture" if unclaimed_here else "")
            )
    if leftover is not None:
        leftover += unclaimed_here
    return examples


def readable(
    examples: Iterable[Example], skipped: list[Skipped]
) -> Iterator[tuple[Example, np.ndarray, np.ndarray | None]]:
    """Yield examples with pixels (H, W, 3) uint8 RGB and mask (H, W) bool: all False for a good picture, None if unknown.

    A picture that cannot be read, or whose mask does not fit it, is added to `skipped` instead.
    """
    for example in examples:
        try:
            pixels = decode(example.picture, min_side=MIN_SIDE)
            mask = _mask_for(example, pixels)
        except PictureError as error:
            skipped.append(Skipped.by(error, example.picture))
        else:
            yield example, pixels, mask


def read_mask(example: Example, size: int) -> np.ndarray | None:
    """Return the mask, (size, size) bool: all False for a good picture, None if unknown."""
    if not example.defective:
        return np.zeros((size, size), bool)
    if not example.masks:
        return None
    mask = _joined(example.masks).view(np.uint8)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST) > 0


def categories(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Group examples by category, in order."""
    grouped: dict[str, list[Example]] = {}
    for example in examples:
        grouped.setdefault(example.category, []).append(example)
    return grouped


def good_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder of good ones and of its subfolders, part2 before part10.

    Raises EdgeAgentError when there are none, and when the folder has test/ or ground_truth/, as defective pictures may lie
    there.
    """
    _require_folder(folder)
    if (folder / "test").is_dir() or (folder / "ground_truth").is_dir():
        raise EdgeAgentError(
            f"{folder}: looks like a labelled set in MVTec layout, which has defective pictures too: give the folder of good"
            f" pictures alone, such as {folder / 'train' / 'good'}"
        )
    found = _found_below(folder)
    if not found:
        raise EdgeAgentError(f"{folder}: no pictures there; expected are good ones as {', '.join(sorted(SUFFIXES))}")
    return found


def defective_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder of defective ones and of its subfolders, part2 before part10.

    Raises EdgeAgentError when there are none, and when some lie in a folder of good ones or of masks.
    """
    found = pictures_below(folder)
    for one in found:
        for part in one.relative_to(folder).parts[:-1]:
            if part.lower() in _GOOD_NAMES or part == "ground_truth":
                raise EdgeAgentError(
                    f"{one}: lies in a folder {part}, which holds no defective pictures: give the folder of defective ones alone"
                )
    return found


def pictures_below(folder: Path) -> list[Path]:
    """List the pictures of a folder and of its subfolders, part2 before part10. Raises EdgeAgentError when there are none."""
    _require_folder(folder)
    found = _found_below(folder)
    if not found:
        raise EdgeAgentError(f"{folder}: no pictures there; expected are {', '.join(sorted(SUFFIXES))}")
    return found


def pixels_digest(pixels: np.ndarray) -> bytes:
    """Return a digest of (H, W, 3) uint8 pixels: the same for the same picture, whatever its file and format."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise EdgeAgentError(f"{folder}: {what}: give a folder of pictures")


def _from_layout(folder: Path, split: str, leftover: list[Path], required: bool = True) -> list[Example]:
    places = (
        [folder] if (folder / split).is_dir() else sorted(one for one in folder.iterdir() if (one / split).is_dir())
    )
    examples = [one for place in places for one in _of_category(place, split, leftover)]
    if not examples and required:
        plain = any(one.suffix.lower() in SUFFIXES for one in folder.iterdir())
        raise EdgeAgentError(
            f"{folder}: {'pictures, but not' if plain else 'no pictures'} in MVTec layout; expected"
            f" {folder}/CATEGORY/{split}/good/*.png and {split}/KIND/*.png, or a {META}"
            + (
                "; where all of these pictures are good, give the folder to a command that takes --good"
                if plain
                else ""
            )
        )
    return examples


def _of_category(place: Path, split: str, leftover: list[Path]) -> list[Example]:
    """List the examples of one category in MVTec layout; see read_examples for `leftover`."""
    folders: dict[Path, MaskFolder] = {}
    examples: list[Example] = []
    claimed: list[Path] = []  # by good pictures too
    pictures = _found_below(place / split)
    known = {one.with_suffix("") for one in pictures}
    for picture in pictures:
        kind, *between = picture.relative_to(place / split).parts[:-1] or [""]
        if not kind:
            raise EdgeAgentError(
                f"{picture}: lies beside the folders of kinds, so whether it is good is unknown: move it to"
                f" {split}/good or to {split}/KIND"
            )
        if _BESIDE.search(picture.stem) and picture.with_name(stem_of(picture)) in known:
            raise EdgeAgentError(
                f"{picture}: lies beside the picture {stem_of(picture)} and seems to be its mask: move masks to"
                f" {place / 'ground_truth' / kind}"
            )
        masked = place.joinpath("ground_truth", kind, *between)
        if masked not in folders:
            folders[masked] = MaskFolder.of(masked)
        masks = folders[masked].named.get(picture.stem, ())
        claimed += masks
        examples.append(Example(place.resolve().name, kind, picture, masks if kind != GOOD else ()))
    _require_good_called_so(place / split, examples)
    unknown = unclaimed(place / "ground_truth", claimed) if examples else []
    if unknown and not any(one.masks for one in examples) and any(one.defective for one in examples):
        raise EdgeAgentError(
            f"{unknown[0]}: one of {len(unknown)} files there, and none belongs to a picture of {place / split}: masks of"
            f" {split}/KIND/STEM.png are called ground_truth/KIND/{NAMES}; rename them, or move them away to do without"
        )
    leftover += unknown
    return examples


def _require_good_called_so(place: Path, examples: Sequence[Example]) -> None:
    """Raise EdgeAgentError when the folder of good pictures seems to have another name, as all in it would count as defective."""
    for kind in dict.fromkeys(one.kind for one in examples):
        meant = kind != GOOD and kind.lower() in _GOOD_NAMES
        if meant and not any(one.masks for one in examples if one.kind == kind):
            raise EdgeAgentError(
                f"{place / kind}: seems to hold good pictures, but only a folder called {GOOD} does, all others hold defective"
                f" ones: rename it to {GOOD}; if it holds a defect, give it another name"
            )


class _Entry(BaseModel):
    img_path: Annotated[str, Field(pattern=r"^[^\x00]+$")]
    mask_path: Annotated[str, Field(pattern=r"^[^\x00]*$")] | None = None
    specie_name: str = ""
    anomaly: Literal[0, 1]


def _from_meta(folder: Path, split: str, required: bool = True) -> list[Example]:
    path = folder / META
    try:
        known = TypeAdapter(dict[str, dict[str, list[_Entry]]]).validate_json(
            path.read_bytes().removeprefix(codecs.BOM_UTF8)
        )
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = " > ".join(map(str, first["loc"])) or "the file"
        raise EdgeAgentError(
            f"{path}: {place}: {first['msg']} ({error.error_count()} errors in all); expected is"
            ' {"test": {CATEGORY: [{"img_path", "mask_path", "specie_name", "anomaly": 0 or 1}]}}'
        ) from None
    examples = []
    for category, entries in known.get(split, {}).items():
        for entry in entries:
            kind = GOOD if not entry.anomaly else entry.specie_name
            if entry.anomaly and kind in ("", GOOD):
                kind = "defect"
            masks = (_inside(folder, entry.mask_path),) if entry.anomaly and entry.mask_path else ()
            examples.append(Example(category, kind, _inside(folder, entry.img_path), masks))
    if not examples and required:
        raise EdgeAgentError(f"{path}: names no pictures of {split}; it has {', '.join(known) or 'nothing'}")
    return examples


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a meta.json's entry. Links inside the folder may lead anywhere, as the folder's owner made them."""
    if "\\" in name and not (folder / name).exists():  # written on Windows
        name = name.replace("\\", "/")
    if (
        PureWindowsPath(name).is_absolute()
        or os.path.isabs(name)
        or os.path.normpath(name).split(os.sep)[0] == os.pardir
    ):
        raise EdgeAgentError(
            f"{folder / META}: {name!r} leads out of {folder}: paths there are relative to that folder"
        )
    return folder / os.path.normpath(name)


def _mask_for(example: Example, pixels: np.ndarray) -> np.ndarray | None:
    """Return the mask, (H, W) bool at the size of the picture, None if unknown. Raises PictureError."""
    if not example.defective:
        return np.zeros(pixels.shape[:2], bool)
    if not example.masks:
        return None
    mask = _joined(example.masks)
    if mask.shape != pixels.shape[:2]:
        (h, w), (height, width) = mask.shape, pixels.shape[:2]
        raise PictureError(
            f"its mask {printable(example.masks[0])} has {w} x {h} pixels where the picture has {width} x {height}"
        )
    if not mask.any():
        raise PictureError(
            f"its mask {printable(example.masks[0])} is empty, though the picture is said to be defective"
        )
    return mask


def _joined(masks: Sequence[Path]) -> np.ndarray:
    """Return what any of the masks covers, (H, W) bool. Raises PictureError when they differ in size."""
    joined = decode_mask(masks[0])
    for path in masks[1:]:
        more = decode_mask(path)
        if more.shape != joined.shape:
            raise PictureError(f"its masks {printable(masks[0])} and {printable(path)} differ in size")
        joined |= more
    return joined


def _found_below(folder: Path) -> list[Path]:
    """List the pictures in natural order, folder by folder."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted((path for path in found if path.suffix.lower() in SUFFIXES), key=_natural)


def _natural(path: Path) -> tuple[list[list[str | int]], str]:
    # Every second piece is a number, so that numbers are only compared with numbers.
    pieces = (re.split("([0-9]+)", part) for part in path.parts)
    return [[int(one) if at % 2 else one.lower() for at, one in enumerate(part)] for part in pieces], str(path)
