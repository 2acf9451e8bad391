"""Runs an exported ONNX file with onnxruntime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from edge_agent.errors import EdgeAgentError


class OnnxFile:
    """An ONNX file that `edge-agent export --onnx` wrote, or its bytes. metadata: of the file, by key.

    Raises EdgeAgentError when it cannot be read, or onnxruntime is not installed.
    """

    def __init__(self, file: Path | bytes, threads: int = 0) -> None:
        """Load the file. threads: for each picture; 0 for all cores."""
        runtime = _onnxruntime()
        name = file if isinstance(file, Path) else "the export"
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = threads
        # Spinning threads would take cores from other programs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            content = file.read_bytes() if isinstance(file, Path) else file
            self._session = runtime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise EdgeAgentError(f"{name}: cannot be read ({error.strerror}): name an exported file") from None
        except Exception as error:  # each kind of damage has an exception of its own
            reason = str(error).splitlines()[0]
            raise EdgeAgentError(
                f"{name}: not an ONNX file that onnxruntime runs ({reason}): export it again"
            ) from None
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def read(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read pictures (n, S, S, 3) uint8 RGB; return scores (n,) and maps (n, S, S), fp32.

        In batches of the size that the file was exported for, the last one padded; one by one where the size is open.
        """
        (wanted,) = self._session.get_inputs()
        batch = wanted.shape[0] if isinstance(wanted.shape[0], int) else 1
        if pictures.dtype != np.uint8 or pictures.shape[1:] != tuple(wanted.shape[1:]):
            raise EdgeAgentError(
                f"the file takes pictures {tuple(wanted.shape)} uint8 and not {pictures.shape} {pictures.dtype}:"
                " take the golden set that was written beside it"
            )
        found = []
        for at in range(0, len(pictures), batch):
            some = pictures[at : at + batch]
            filled = np.concatenate([some, np.zeros((batch - len(some), *some.shape[1:]), np.uint8)])
            found.append([answer[: len(some)] for answer in self.read_batch(filled)])
        scores, maps = (np.concatenate(each) for each in zip(*found, strict=True))
        return scores, maps

    def read_batch(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read one batch of the size that the file was exported for; see read."""
        (wanted,) = self._session.get_inputs()
        scores, maps = self._session.run(None, {wanted.name: pictures})
        return scores, maps


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError:
        raise EdgeAgentError("running ONNX files needs onnxruntime: pip install 'edge-agent[onnx]'") from None
    return onnxruntime
