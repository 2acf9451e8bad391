"""What fitting sees of its pictures: a frozen backbone's features, computed once and kept in half precision, or anew each time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.errors import EdgeAgentError
from trainer.data.examples import Skipped
from trainer.io.files import write_whole

OWN = ("unlike", "contrast")  # what some backbones tell beside features: see ImageFeatures
MARK = "features.json"  # written last: without it the features beside it are not whole


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One picture to fit on: pixels (H, W, 3) uint8 RGB, mask (H, W) bool of its defect, empty for a good one."""

    pixels: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """How pictures are looked at. image_size, map_size: sides in pixels at which they are read, and maps meet masks.

    layers, values: see Backbone.encode_image. dtype: of the vision tower's matrix products.
    """

    image_size: int
    map_size: int
    layers: tuple[int, ...] = ()
    values: bool = False
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """features of B pictures, fp32; masks (B, S, S) float and bad (B,) float, both 0 or 1."""

    features: ImageFeatures
    masks: Tensor
    bad: Tensor


class Features(Protocol):
    """The pictures of a fit by number, 0 .. len - 1."""

    def __len__(self) -> int: ...

    def batch(self, chosen: Tensor) -> Batch:
        """chosen: (B,) int64."""
        ...


class Fresh:
    """Encodes the pictures of a batch each time it is asked for: keeps no features, only the pictures."""

    def __init__(self, backbone: Backbone, pictures: Sequence[Labelled], view: View) -> None:
        self._backbone, self._pictures, self._view = backbone, pictures, view

    def __len__(self) -> int:
        return len(self._pictures)

    def batch(self, chosen: Tensor) -> Batch:
        """See Features."""
        shown = [self._pictures[number] for number in chosen.tolist()]
        masks = np.stack([_mask(one.mask, self._view.map_size) for one in shown])
        return _batch(encode(self._backbone, shown, self._view), masks, self._backbone.device)


class Kept:
    """Features of all pictures in half precision (global ones and OWN in fp32), in memory or in files of a folder."""

    def __init__(self, arrays: dict[str, np.ndarray], view: View, device: torch.device) -> None:
        """arrays: as `keep` makes them."""
        self._arrays, self._view, self._device = arrays, view, device

    def __len__(self) -> int:
        return len(self._arrays["masks"])

    @property
    def bad(self) -> np.ndarray:
        """(N,) bool: which pictures have a defect."""
        return self._arrays["masks"].max(axis=1) > 0

    def batch(self, chosen: Tensor) -> Batch:
        """See Features."""
        rows = chosen.numpy()
        part = {name: torch.from_numpy(array[rows]).to(self._device).float() for name, array in self._arrays.items()
                if name != "masks"}  # fmt: skip
        own = {name: part.pop(name) for name in OWN if name in part}
        size = self._view.map_size
        masks = np.unpackbits(self._arrays["masks"][rows], axis=1, count=size * size).reshape(-1, size, size)
        patches = [name for name in part if name != "globals"]
        layers = {int(name.removeprefix("layer")): part[name] for name in patches if name.startswith("layer")}
        last = part[patches[-1]].flatten(1, 2)
        features = ImageFeatures(
            part["globals"],
            last,
            tuple(part[patches[-1]].shape[1:3]),  # type: ignore[arg-type]
            {number: tensor.flatten(1, 2) for number, tensor in layers.items()},
            last if self._view.values else None,
            **own,
        )
        return _batch(features, masks, self._device)


def keep(
    backbone: Backbone,
    pictures: Iterable[Labelled],
    count: int,
    view: View,
    *,
    folder: Path | None = None,
    key: str = "",
    skipped: list[Skipped] | None = None,
    batch: int = 8,
    report: Callable[[int], object] = lambda n: None,
) -> Kept:
    """Encode `count` pictures at most, once. folder: where features go that memory is too small for; reused when they are whole.

    key: names backbone, pictures and view, as what is reused must be of the same. skipped: what `pictures` leaves out as it is read;
    it gets the same when features are reused, and no picture is read. Raises EdgeAgentError when the disk is full.
    """
    skipped = [] if skipped is None else skipped
    if folder is not None and (reopened := _reopened(folder, key)):
        known, left_out = reopened
        skipped += left_out
        report(len(known["masks"]))
        return Kept(known, view, backbone.device)
    arrays: dict[str, np.ndarray] = {}
    done = 0
    for shown in _chunks(pictures, batch):
        rows = _rows(encode(backbone, shown, view), view)
        rows["masks"] = np.stack([np.packbits(_mask(one.mask, view.map_size)) for one in shown])
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = _room(folder, name, (count, *values.shape[1:]), values.dtype)
            arrays[name][done : done + len(shown)] = values
        done += len(shown)
        report(len(shown))
    if not done:
        raise EdgeAgentError("no picture is left to fit on")
    arrays = {name: array[:done] for name, array in arrays.items()}
    if folder is not None:
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        told = [(str(one.path), one.reason) for one in skipped]
        mark = {"key": key, "count": done, "names": list(arrays), "skipped": told}
        write_whole(folder / MARK, json.dumps(mark).encode())
    return Kept(arrays, view, backbone.device)


def bytes_of(backbone: Backbone, count: int, view: View) -> int:
    """Roughly what `keep` needs for `count` pictures."""
    patches = (view.image_size // backbone.patch) ** 2 * max(1, len(view.layers))
    return count * (2 * patches * backbone.width + math.ceil(view.map_size**2 / 8))


def encode(backbone: Backbone, shown: Sequence[Labelled], view: View) -> ImageFeatures:
    """The features of some pictures, fp32, not part of any graph."""
    with torch.no_grad():
        x = backbone.pictures([one.pixels for one in shown], view.image_size)
        with torch.autocast(x.device.type, view.dtype, enabled=view.dtype != torch.float32):
            return backbone.encode_image(x, view.layers, values=view.values)


def _rows(features: ImageFeatures, view: View) -> dict[str, np.ndarray]:
    """What is kept: the global features, and of the patches what the method looks at, (B, h, w, D)."""
    patches = {f"layer{number}": features.layers[number] for number in view.layers}
    if view.values:
        assert features.values is not None
        patches = {"values": features.values}
    patches = patches or {"patches": features.patches}
    kept = {name: tensor.half().unflatten(1, features.grid).cpu().numpy() for name, tensor in patches.items()}
    told = {name: tensor for name in OWN if (tensor := getattr(features, name)) is not None}
    whole = {"globals": features.globals, **told}
    return {**{name: tensor.float().cpu().numpy() for name, tensor in whole.items()}, **kept}


def _mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(size, size) uint8, 0 or 1: the nearest pixel of the mask; where all of it falls between, whatever it touches."""
    small = cv2.resize(mask.view(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    if (
        not small.any() and mask.any()
    ):  # a scratch in a large picture: without it a defective picture would pass for a good one
        small = (cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > 0).view(np.uint8)
    return small


def _batch(features: ImageFeatures, masks: np.ndarray, device: torch.device) -> Batch:
    truth = torch.from_numpy(masks).to(device).float()  # (B, S, S)
    return Batch(features, truth, truth.amax(dim=(1, 2)))


def _chunks(pictures: Iterable[Labelled], size: int) -> Iterator[list[Labelled]]:
    chunk: list[Labelled] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _room(folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if folder is None:
        return np.empty(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).unlink(missing_ok=True)
        path = folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with path.open("r+b") as file:  # reserved now: writing into a map on a full disk would end the process
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array
    except OSError as error:
        raise EdgeAgentError(
            f"{folder}: no room for the features ({error.strerror}): free space, fit on fewer pictures, or give --memory-gb more"
        ) from error


def _reopened(folder: Path, key: str) -> tuple[dict[str, np.ndarray], list[Skipped]] | None:
    try:
        mark = json.loads((folder / MARK).read_text())
        if mark["key"] != key:
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r")[: mark["count"]] for name in mark["names"]}
        return arrays, [Skipped(Path(path), reason) for path, reason in mark["skipped"]]
    except (OSError, ValueError, KeyError):
        return None
