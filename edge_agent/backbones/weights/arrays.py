"""Reads .npz archives of plain arrays and the shapes in safetensors files, with errors a line engineer can act on; never unpickles."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from edge_agent.errors import CheckpointError


def read_shape(path: Path, name: str) -> tuple[int, ...] | None:
    """Return the shape of one array of an .npz or safetensors file, by its header alone; None where it is neither or has no such."""
    return _shape_in_archive(path, name) or _shape_in_safetensors(path, name)


def _shape_in_archive(path: Path, name: str) -> tuple[int, ...] | None:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return read(member)[0]
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile):
        return None


def _shape_in_safetensors(path: Path, name: str) -> tuple[int, ...] | None:
    import safetensors

    try:
        with safetensors.safe_open(path, "numpy") as file:
            return tuple(file.get_slice(name).get_shape())
    except (safetensors.SafetensorError, OSError):
        return None


def read_arrays(path: Path, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name, all or `only` some. Raises CheckpointError for a missing or damaged file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if only is None or key in only}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; get it with `edge-agent models fetch`") from None
    except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly every exception there is
        raise CheckpointError(f"{path}: not a whole .npz archive ({error}); fetch or copy it again") from None
