"""Features of a fit's pictures computed once and kept in half precision, in memory or in files that a resumed fit reuses."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.errors import EdgeAgentError
from trainer.data.examples import Skipped
from trainer.fit.features import (
    EncodeSettings,
    FeatureBatch,
    LabelledPicture,
    encode,
    feature_batch,
    small_mask,
)
from trainer.io.files import write_whole

OPTIONAL = ("aligned", "dissimilarity", "contrast")  # what only some backbones give: see ImageFeatures
INDEX = "features.json"  # written last: without it the feature files beside it are not complete


class CachedFeatures:
    """See Features. Patches in half precision; global features and OPTIONAL ones in fp32."""

    def __init__(self, arrays: dict[str, np.ndarray], settings: EncodeSettings, device: torch.device) -> None:
        """Hold encoded pictures.

        Args:
            arrays: as cache_features makes them.
            settings: how the pictures were encoded.
            device: where batches are put.
        """
        self._arrays, self._settings, self._device = arrays, settings, device

    def __len__(self) -> int:
        return len(self._arrays["masks"])

    @property
    def bad(self) -> np.ndarray:
        """(N,) bool: which pictures have a defect."""
        return self._arrays["masks"].max(axis=1) > 0

    def batch(self, chosen: Tensor) -> FeatureBatch:
        """See Features."""
        rows = chosen.numpy()
        part = {name: torch.from_numpy(array[rows]).to(self._device).float() for name, array in self._arrays.items()
                if name != "masks"}  # fmt: skip
        optional = {name: part.pop(name) for name in OPTIONAL if name in part}
        size = self._settings.map_size
        masks = np.unpackbits(self._arrays["masks"][rows], axis=1, count=size * size).reshape(-1, size, size)
        pictures = part.pop("pictures", None)
        raw = {int(name.removeprefix("raw")): part.pop(name) for name in list(part) if name.startswith("raw")}
        patches = [name for name in part if name != "globals"]
        layers = {int(name.removeprefix("layer")): part[name] for name in patches if name.startswith("layer")}
        last = part[patches[-1]].flatten(1, 2)
        features = ImageFeatures(
            part["globals"],
            last,
            tuple(part[patches[-1]].shape[1:3]),  # type: ignore[arg-type]
            {number: tensor.flatten(1, 2) for number, tensor in layers.items()},
            last if self._settings.values else None,
            raw,
            pictures=pictures,
            **optional,
        )
        return feature_batch(features, masks, self._device)


def cache_features(
    backbone: Backbone,
    pictures: Iterable[LabelledPicture],
    count: int,
    settings: EncodeSettings,
    *,
    folder: Path | None = None,
    key: str = "",
    skipped: list[Skipped] | None = None,
    batch: int = 8,
    report: Callable[[int], object] = lambda n: None,
) -> CachedFeatures:
    """Encode every picture once, and keep the features.

    Args:
        backbone: encodes them.
        pictures: at least one.
        count: the most that `pictures` yields.
        settings: how they are encoded.
        folder: for features that do not fit into memory; files there are reused when they are complete and of the same key, and
            then no picture is read. Default None, memory.
        key: names backbone, pictures and settings.
        skipped: what `pictures` leaves out while it is read; reused files add what was left out then.
        batch: pictures encoded at once; default 8.
        report: called with the number of pictures encoded since the last call; default nothing.

    Raises EdgeAgentError when there is no picture, or the disk is full.
    """
    skipped = [] if skipped is None else skipped
    if folder is not None and (reopened := _reopened(folder, key)):
        arrays, left_out = reopened
        skipped += left_out
        report(len(arrays["masks"]))
        return CachedFeatures(arrays, settings, backbone.device)
    arrays = {}
    done = 0
    for chunk in _chunks(pictures, batch):
        rows = _rows(encode(backbone, chunk, settings), settings)
        rows["masks"] = np.stack([np.packbits(small_mask(one.mask, settings.map_size)) for one in chunk])
        for name, values in rows.items():
            if name not in arrays:
                arrays[name] = _allocated(folder, name, (count, *values.shape[1:]), values.dtype)
            arrays[name][done : done + len(chunk)] = values
        done += len(chunk)
        report(len(chunk))
    if not done:
        raise EdgeAgentError("no picture is left to fit on: see the reasons for the skipped ones")
    arrays = {name: array[:done] for name, array in arrays.items()}
    if folder is not None:
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        reasons = [(str(one.path), one.reason) for one in skipped]
        index = {"key": key, "count": done, "names": list(arrays), "skipped": reasons}
        write_whole(folder / INDEX, json.dumps(index).encode())
    return CachedFeatures(arrays, settings, backbone.device)


def cache_bytes(backbone: Backbone, count: int, settings: EncodeSettings) -> int:
    """Estimate the size in bytes of cached features.

    Args:
        backbone: encodes the pictures.
        count: number of pictures.
        settings: how they are encoded.
    """
    patches = (settings.image_size // backbone.patch) ** 2 * max(1, len(settings.layers))
    raw = ((settings.image_size // backbone.patch) ** 2 + 1) * len(settings.raw)
    numbers = patches * backbone.width + raw * backbone.tower_width + 3 * settings.image_size**2 * settings.pictures
    return count * (2 * numbers + math.ceil(settings.map_size**2 / 8))


def _rows(features: ImageFeatures, settings: EncodeSettings) -> dict[str, np.ndarray]:
    """Return what is kept: the global features, the optional ones, and the patches that the method uses, (B, h, w, D)."""
    patches = {f"layer{number}": features.layers[number] for number in settings.layers}
    if settings.values:
        assert features.values is not None
        patches = {"values": features.values}
    patches = patches or {"patches": features.patches}
    kept = {name: tensor.half().unflatten(1, features.grid).cpu().numpy() for name, tensor in patches.items()}
    kept |= {f"raw{number}": features.raw[number].half().cpu().numpy() for number in settings.raw}
    if features.pictures is not None:
        kept["pictures"] = features.pictures.half().cpu().numpy()
    optional = {name: tensor for name in OPTIONAL if (tensor := getattr(features, name)) is not None}
    exact = {"globals": features.globals, **optional}
    return {**{name: tensor.float().cpu().numpy() for name, tensor in exact.items()}, **kept}


def _chunks(pictures: Iterable[LabelledPicture], size: int) -> Iterator[list[LabelledPicture]]:
    chunk: list[LabelledPicture] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _allocated(folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if folder is None:
        return np.empty(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
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
        index = json.loads((folder / INDEX).read_text())
        if index["key"] != key:
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r")[: index["count"]] for name in index["names"]}
        return arrays, [Skipped(Path(path), reason) for path, reason in index["skipped"]]
    except (OSError, ValueError, KeyError):
        return None
