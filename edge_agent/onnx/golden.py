"""A golden set: pictures with torch's fp32 scores and maps, to check that another runtime gives the same."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.io.files import write_durably

SAMPLES = Path(__file__).parents[1] / "samples"
NOISE_PICTURES = 4  # pictures of noise, beside the samples
TOLERANCE = 1e-3  # that a score, and a map anywhere, of a runtime in fp32 may differ by


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Pictures and torch's results.

    metadata: of the export, with its thresholds. names: of the n pictures. pictures: (n, S, S, 3) uint8 RGB.
    scores: (n,), maps: (n, S, S), both fp32 in [0, 1].
    """

    metadata: Mapping[str, str]
    names: Sequence[str]
    pictures: np.ndarray
    scores: np.ndarray
    maps: np.ndarray

    @property
    def threshold(self) -> float:
        """The score from which a picture is NotOK."""
        return float(self.metadata["threshold"])


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How another runtime's results differ from torch's.

    score, map: the largest differences, of the pictures score_of and map_of; map is None where no maps were given.
    flipped: pictures that are OK for one and NotOK for the other. tolerance: the largest difference that passes.
    """

    score: float
    score_of: str
    map: float | None
    map_of: str
    flipped: tuple[str, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether differences are within the tolerance and no verdict flips; NaN does not pass."""
        return self.score <= self.tolerance and (self.map is None or self.map <= self.tolerance) and not self.flipped


def golden_path(onnx: Path) -> Path:
    """Return where the golden set of an exported file lies."""
    return onnx.with_name(f"{onnx.stem}.golden.npz")


def source_pictures() -> dict[str, np.ndarray]:
    """Load the pictures of a golden set, (H, W, 3) uint8 RGB by name: the packaged samples, and noise from fixed seeds."""
    from edge_agent.io.pictures import decode

    pictures = {path.name: decode(path) for path in sorted(SAMPLES.glob("*.jpg"))}
    for seed in range(NOISE_PICTURES):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (4 << seed, 4 << seed, 3), np.uint8)
        pictures[f"noise {len(coarse)}"] = coarse
    return pictures


def golden_set(
    metadata: Mapping[str, str], names: Sequence[str], pictures: np.ndarray, scores: np.ndarray, maps: np.ndarray
) -> Golden:
    """Build a golden set (see Golden) without pictures so near to the threshold that rounding alone could flip their verdicts."""
    clear = np.abs(scores - float(metadata["threshold"])) > TOLERANCE
    kept = [name for name, each in zip(names, clear, strict=True) if each]
    return Golden(metadata, kept, pictures[clear], scores[clear], maps[clear])


def compare(golden: Golden, scores: np.ndarray, maps: np.ndarray | None, tolerance: float = TOLERANCE) -> GoldenResult:
    """Compare another runtime's results with a golden set.

    Args:
        golden: torch's results.
        scores: (n,), of the other runtime.
        maps: (n, S, S), or None where it gave none.
        tolerance: the largest difference that passes.

    Raises EdgeAgentError for other shapes.
    """
    for name, given, wanted in (("scores", scores, golden.scores), ("maps", maps, golden.maps)):
        if given is not None and given.shape != wanted.shape:
            raise EdgeAgentError(
                f"{name} of shape {given.shape} where the golden set has {wanted.shape}: run all of its pictures, in its order"
            )
    apart = np.abs(scores.astype(np.float64) - golden.scores)
    worst = int(apart.argmax())  # the NaN, if there is one
    flips = (scores >= golden.threshold) != (golden.scores >= golden.threshold)
    flipped = tuple(name for name, flip in zip(golden.names, flips, strict=True) if flip)
    if maps is None:
        return GoldenResult(float(apart[worst]), golden.names[worst], None, "", flipped, tolerance)
    each = np.abs(maps.astype(np.float64) - golden.maps).max(axis=(1, 2))
    where = int(each.argmax())
    return GoldenResult(
        float(apart[worst]), golden.names[worst], float(each[where]), golden.names[where], flipped, tolerance
    )


def require_same_export(golden: Golden, metadata: Mapping[str, str], name: str) -> None:
    """Raise EdgeAgentError where the golden set was made of another detector.

    Args:
        golden: the golden set.
        metadata: of an ONNX file.
        name: of that file, for the message.
    """
    for key in ("model_sha256", "checkpoint_sha256", "class_name", "image_size", "masked"):
        if metadata.get(key) != golden.metadata[key]:
            raise EdgeAgentError(
                f"{name}: its {key} is {metadata.get(key)!r} and the golden set's is {golden.metadata[key]!r}: they are of two"
                " exports; export again and use both files"
            )


def save(golden: Golden, path: Path) -> None:
    """Write an .npz file of plain arrays, whole or not at all. Raises OSError."""
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        about=np.array(json.dumps(dict(golden.metadata))),
        names=np.array(json.dumps(list(golden.names))),
        pictures=golden.pictures,
        scores=golden.scores,
        maps=golden.maps,
    )
    write_durably(path, packed.getvalue())


def load(path: Path) -> Golden:
    """Read a golden set. Raises EdgeAgentError when it is missing, damaged or something else."""
    arrays = _arrays(path, "export again: the golden set is written beside the ONNX file")
    try:
        return Golden(
            json.loads(str(arrays["about"])),
            json.loads(str(arrays["names"])),
            arrays["pictures"],
            arrays["scores"],
            arrays["maps"],
        )
    except (KeyError, ValueError) as error:
        raise EdgeAgentError(
            f"{path}: not a golden set ({error!r}): take the one written beside the ONNX file"
        ) from None


def read_answers(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read another runtime's results from a .json or .npz file: scores (n,) and, if it has them, maps (n, S, S).

    Raises EdgeAgentError when it is missing, damaged or has no scores.
    """
    wanted = "an object with scores, and maps if there are any"
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_text())
            arrays = {key: np.array(content[key], np.float32) for key in ("scores", "maps") if key in content}
        except OSError as error:
            raise EdgeAgentError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError) as error:
            raise EdgeAgentError(f"{path}: not answers ({error}): write {wanted}") from None
    else:
        arrays = _arrays(path, f"write a .json or .npz file, {wanted}")
    if "scores" not in arrays:
        raise EdgeAgentError(f"{path}: has no scores: write {wanted}")
    return arrays["scores"], arrays.get("maps")


def _arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    from edge_agent.backbones.weights.arrays import read_arrays
    from edge_agent.errors import CheckpointError

    if not path.is_file():
        raise EdgeAgentError(f"{path}: no such file: {remedy}")
    try:
        return read_arrays(path)
    except CheckpointError as error:
        raise EdgeAgentError(str(error)) from None
