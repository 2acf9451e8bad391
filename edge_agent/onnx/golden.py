"""A golden set: pictures with what torch says of them in fp32, for a gate that tells whether another runtime says the same."""

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
NOISE_PICTURES = 4  # pictures of nothing but noise, beside the samples
TOLERANCE = 1e-3  # of a runtime in fp32; what a score may differ by, and a map anywhere


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """about: of the export, its thresholds among it. names: of the n pictures. pictures: (n, S, S, 3) uint8 RGB.

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
    """score, map: the largest differences, of the pictures score_of and map_of; map is None where no maps were given.

    flipped: pictures that are OK for one and NotOK for the other. tolerance: what differences may be.
    """

    score: float
    score_of: str
    map: float | None
    map_of: str
    flipped: tuple[str, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        """Numbers that are none (NaN) pass nothing."""
        return self.score <= self.tolerance and (self.map is None or self.map <= self.tolerance) and not self.flipped


def golden_path(onnx: Path) -> Path:
    """Where the golden set of an exported file lies."""
    return onnx.with_name(f"{onnx.stem}.golden.npz")


def source_pictures() -> dict[str, np.ndarray]:
    """The pictures a golden set is made of, (H, W, 3) uint8 RGB by name: the packaged samples, and noise drawn from a seed."""
    from edge_agent.io.pictures import decode

    shown = {path.name: decode(path) for path in sorted(SAMPLES.glob("*.jpg"))}
    for seed in range(NOISE_PICTURES):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (4 << seed, 4 << seed, 3), np.uint8)
        shown[f"noise {len(coarse)}"] = coarse
    return shown


def golden_set(
    metadata: Mapping[str, str], names: Sequence[str], pictures: np.ndarray, scores: np.ndarray, maps: np.ndarray
) -> Golden:
    """See Golden. Without pictures whose scores are so near to the threshold that rounding alone could flip their verdicts."""
    clear = np.abs(scores - float(metadata["threshold"])) > TOLERANCE
    kept = [name for name, each in zip(names, clear, strict=True) if each]
    return Golden(metadata, kept, pictures[clear], scores[clear], maps[clear])


def compare(golden: Golden, scores: np.ndarray, maps: np.ndarray | None, tolerance: float = TOLERANCE) -> GoldenResult:
    """scores: (n,), maps: (n, S, S) or None, what another runtime answered. Raises EdgeAgentError for other shapes."""
    for name, given, wanted in (("scores", scores, golden.scores), ("maps", maps, golden.maps)):
        if given is not None and given.shape != wanted.shape:
            raise EdgeAgentError(
                f"{name} of shape {given.shape} where the golden set has {wanted.shape}: run all of its pictures, in its order"
            )
    apart = np.abs(scores.astype(np.float64) - golden.scores)
    worst = int(apart.argmax())  # a NaN, if there is one
    flips = (scores >= golden.threshold) != (golden.scores >= golden.threshold)
    flipped = tuple(name for name, flip in zip(golden.names, flips, strict=True) if flip)
    if maps is None:
        return GoldenResult(float(apart[worst]), golden.names[worst], None, "", flipped, tolerance)
    each = np.abs(maps.astype(np.float64) - golden.maps).max(axis=(1, 2))
    where = int(each.argmax())
    return GoldenResult(
        float(apart[worst]), golden.names[worst], float(each[where]), golden.names[where], flipped, tolerance
    )


def require_same_export(golden: Golden, about: Mapping[str, str], name: str) -> None:
    """about: an ONNX file's metadata. Raises EdgeAgentError where the golden set was made of another detector."""
    for key in ("model_sha256", "checkpoint_sha256", "class_name", "image_size", "masked"):
        if about.get(key) != golden.metadata[key]:
            raise EdgeAgentError(
                f"{name}: its {key} is {about.get(key)!r} and the golden set's is {golden.metadata[key]!r}: they are of two"
                " exports; export again and take both files"
            )


def save(golden: Golden, path: Path) -> None:
    """An .npz file of plain arrays that NumPy alone reads, whole or not at all. Raises OSError."""
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
    """Raises EdgeAgentError when it is missing, damaged or something else."""
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
    """What another runtime said: scores (n,) and, if it has them, maps (n, S, S), of a .json or .npz file.

    Raises EdgeAgentError when it is missing, damaged or has no scores.
    """
    wanted = "an object with scores, and maps if there are any"
    if path.suffix == ".json":
        try:
            told = json.loads(path.read_text())
            arrays = {key: np.array(told[key], np.float32) for key in ("scores", "maps") if key in told}
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
