"""The nouns of the line and the protocols between its parts. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from threading import Event
from typing import Protocol, runtime_checkable

import numpy as np


class Evaluation(str, Enum):
    """The outcome of one inspection, in the words of OPC 40100-1 and OPC UA Machinery-Result."""

    OK = "OK"
    NOT_OK = "NotOK"
    NOT_DECIDABLE = "NotDecidable"
    UNDEFINED = "Undefined"


class AlarmEvent(str, Enum):
    """What one inspection does to its station's alarm (see judge.py)."""

    RAISED = "raised"
    REPEATED = "repeated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the ledger knows a file by: its place, its stat, and the SHA-256 (hex) of its bytes."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of one station.

    pixels: (H, W, 3) uint8 RGB; (0, 0, 3) when `fault` says why there is no picture.
    seq: counts the frames of one source from 0. taken_at: UTC, aware.
    origin: where a stored picture lies (path, or path#frame for videos); None for cameras.
    file: the stored file this frame is all of, for the ledger; None for cameras and videos.
    """

    station: str
    seq: int
    taken_at: datetime
    pixels: np.ndarray
    part_id: str | None = None
    trigger_id: str | None = None
    origin: str | None = None
    file: StoredFile | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a detector sees in one picture, before any threshold.

    score: in [0, 1], higher is more anomalous. heatmap: (h, w) float32 in [0, 1], covers the whole picture at the
    detector's own resolution.
    """

    score: float
    heatmap: np.ndarray


@dataclass(frozen=True, slots=True)
class Region:
    """One connected defect: bbox (x, y, width, height) and area in pixels of the frame, peak of the heatmap in [0, 1]."""

    bbox: tuple[int, int, int, int]
    peak: float
    area_px: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the agent says of one picture, and what that does to the station's alarm (None: nothing)."""

    evaluation: Evaluation
    regions: tuple[Region, ...] = ()
    reason: str | None = None
    alarm: AlarmEvent | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a verdict rests on, so that any verdict can be traced: names and SHA-256 digests (hex)."""

    model: str  # method/backbone, e.g. "tipsomaly/tips-l14"
    model_sha256: str
    checkpoint_sha256: str
    calibration_id: str | None
    config_sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """One picture inspected. reading is None when the verdict is NotDecidable. timings: milliseconds by stage."""

    id: str  # UUID version 7, so that ids sort by time
    frame: Frame
    reading: Reading | None
    verdict: Verdict
    threshold: float
    trace: Trace
    timings: Mapping[str, float] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is safely on disk: uri ("file:///..."), SHA-256 (hex) and size in bytes."""

    uri: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pictures kept of one inspection; None where none was asked for or none could be written."""

    image: SavedFile | None = None
    overlay: SavedFile | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message to be delivered at least once. The sender adds `seq` and `historical`, and makes the topic."""

    id: str  # UUID version 7; receivers dedupe by it
    kind: str  # "alarm" or "result": the last level of the topic
    station: str
    payload: Mapping[str, object]  # JSON, see edge_agent/mqtt/schemas/


class Source(Protocol):
    """Where frames come from. live: the newest frame counts and older ones may be dropped; stored ones never are."""

    station: str
    live: bool

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames until `stop` is set or the source is exhausted. Raises SourceLost when it is gone for good."""
        ...


class Detector(Protocol):
    """A zero-shot anomaly detector bound to one class name."""

    name: str  # method/backbone
    model_sha256: str
    checkpoint_sha256: str

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """Read a batch of (H, W, 3) uint8 RGB pictures, of any sizes.

        keep: per picture None (all of it counts) or (h, w) bool of any size, stretched over the picture; what is False
        is neither scored nor shown.
        """
        ...


@runtime_checkable
class AheadDetector(Detector, Protocol):
    """A detector that can be given a batch while it still reads the one before.

    overlaps: whether that is of use: its device goes on alone, as a GPU does.
    """

    overlaps: bool

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """As `read`, but returns what waits for the readings. Pictures may change meanwhile."""
        ...

    def warm_up(self, most: int) -> None:
        """Be as fast as ever from the first batch of up to `most` pictures on. For the thread that will read."""
        ...


class Sink(Protocol):
    """Where inspections go after the journal has them."""

    def write(self, inspection: Inspection, evidence: Evidence) -> None: ...

    def close(self) -> None: ...
