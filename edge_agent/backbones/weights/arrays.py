"""Reads .npz archives of plain arrays, with errors a line engineer can act on; never unpickles."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from edge_agent.errors import CheckpointError


def read_arrays(path: Path, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name, all or `only` some. Raises CheckpointError for a missing or damaged file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if only is None or key in only}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; get it with `edge-agent models fetch`") from None
    except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly every exception there is
        raise CheckpointError(f"{path}: not a whole .npz archive ({error}); fetch or copy it again") from None
