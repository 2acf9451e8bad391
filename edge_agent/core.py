"""The nouns of the line and the protocols between its parts. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from threading import Event
from typing import Protocol

import numpy as np

MQTT = "mqtt"  # the receiver of messages that is the broker


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


class AlarmKind(str, Enum):
    """What an alarm of a station is about: its parts, its source, or pictures that cannot be decided."""

    DEFECT = "defect"
    SOURCE = "source"
    UNDECIDABLE = "undecidable"


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm of a station that began or ended, other than by the verdict on one picture.

    id: UUID version 7, of its message. at: UTC, aware. reason: why, as a clause without a full stop.
    """

    id: str
    station: str
    kind: AlarmKind
    event: AlarmEvent
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the ledger knows a file by: its place, its stat, and the SHA-256 (hex) of its bytes.

    again: it was written again with content that was inspected before, and is to be inspected again.
    """

    path: str
    inode: int
    size: int
    mtime_ns: int
    sha256: str
    again: bool = False


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

    @property
    def title(self) -> str:
        """What a person knows the picture by."""
        return picture_title(self.station, self.seq, self.part_id, self.origin)


def picture_title(station: str, seq: int, part_id: str | None, origin: str | None) -> str:
    """Return what a person knows a picture by: its part, else the name of its file, else station and number.

    Args:
        station: name of the station.
        seq: number of the frame within its source, from 0.
        part_id: identity of the part, if known.
        origin: path of the stored picture; None for cameras.
    """
    return part_id or (PurePath(origin).name if origin else f"{station} {seq}")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a detector sees in one picture, before any threshold.

    score: in [0, 1], higher is more anomalous. heatmap: (h, w) float32 in [0, 1], covers the whole picture at the
    detector's own resolution. fault: why nothing can be said of the picture; None where something can. With one the score is 1.
    """

    score: float
    heatmap: np.ndarray
    fault: str | None = None


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
    """One picture inspected, with the rules that its verdict was made by.

    reading: None when the verdict is NotDecidable. threshold: of the score, in [0, 1]. map_threshold: of the heatmap, in
    (0, 1]. timings: milliseconds by stage.
    """

    id: str  # UUID version 7, so that ids sort by time
    frame: Frame
    reading: Reading | None
    verdict: Verdict
    threshold: float
    map_threshold: float
    trace: Trace
    timings: Mapping[str, float] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is safely on disk: uri ("file:///..."), SHA-256 (hex) and size in bytes."""

    uri: str
    sha256: str
    size: int


class EvidenceState(str, Enum):
    """Why the pictures of one inspection are not what was asked for.

    PENDING: they follow, and so do the messages that name them. INTERRUPTED: the agent ended before they were written.
    SHRUNK, DROPPED: the line was behind; as JPEG and small, or none. FAILED: a picture could not be written.
    """

    PENDING = "pending"
    INTERRUPTED = "interrupted"
    SHRUNK = "shrunk"
    DROPPED = "dropped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The pictures kept of one inspection; None where none was asked for, or state says why there is none."""

    image: SavedFile | None = None
    overlay: SavedFile | None = None
    state: EvidenceState | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message to be delivered at least once to each of its receivers.

    The sender adds `seq` and `historical`, and makes the topic. receivers: names of the durable receivers, such as
    "mqtt"; the journal keeps track of each by itself.
    """

    id: str  # UUID version 7; receivers dedupe by it
    kind: str  # "alarm" or "result": the last level of the topic
    station: str
    payload: Mapping[str, object]  # JSON, see edge_agent/mqtt/schemas/
    receivers: tuple[str, ...] = (MQTT,)


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What the journal is to hold of one inspection: all of it, or, with `completes`, what follows its recorded verdict.

    evidence: with the state PENDING, what completes it follows. messages: what is to be delivered, at least once.
    """

    inspection: Inspection
    evidence: Evidence
    messages: Sequence[Message]
    completes: bool = False


class Ledger(Protocol):
    """Knows which files a station has inspected, in this run and in earlier ones. Both raise JournalError."""

    def seen(self, station: str, file: StoredFile) -> bool:
        """Return whether this content was inspected: at this path, or in this very file under any path."""
        ...

    def seen_stats(self, station: str, files: Mapping[str, tuple[int, int, int]]) -> set[str]:
        """Return the paths of those files that were inspected, as far as their stat tells; their content need not be read.

        files: by path, at most some thousand: inode, size in bytes, and time of modification in nanoseconds since 1970.
        """
        ...


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """A request for one picture of a live station, from a trigger file or a command.

    part_id: of the part in front of the camera; None if unknown. trigger_id: names the request.
    at: when it arrived, in seconds of time.monotonic(). file: what the ledger knows the request by; None: not recorded.
    fault: why no picture can be taken for it, so that the verdict is NotDecidable; None: take one.
    """

    part_id: str | None
    trigger_id: str
    at: float
    file: StoredFile | None = None
    fault: str | None = None


class Triggers(Protocol):
    """Requests for pictures of one station, in the order of their arrival."""

    def requests(self) -> Iterable[PictureRequest]:
        """Return the requests that are new since the last call; never block."""
        ...


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What a source has counted since it was made.

    captured: pictures that came, those that cannot be decoded too. dropped: how many of them became no frame, by reason;
    captured = frames of pictures that were yielded + dropped. events: what else is worth counting, by kind, such as
    connections that were lost.
    """

    captured: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """Whether a source can give pictures now. reason: why not, as the end of a sentence about it; None while it is up."""

    up: bool
    reason: str | None = None


class Source(Protocol):
    """Where the frames of one station come from.

    live: the newest frame is wanted, and older ones that still wait may be dropped; frames of stored pictures never are.
    """

    station: str
    live: bool

    def frames(self, stop: Event) -> Iterator[Frame]:
        """Yield frames until `stop` is set or the source is exhausted. Raises SourceLost when it is gone for good.

        Looks at `stop` several times a second, whatever it waits for: a source that does not counts as hung.
        """
        ...

    def counts(self) -> SourceCounts:
        """Return the counts so far, consistent with each other. Call from any thread."""
        ...

    def status(self) -> SourceStatus:
        """Return whether the source can give pictures now. Call from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a detector is. model_sha256, checkpoint_sha256: SHA-256 (hex) of its weights and prompts, "" for none.

    name: method/backbone. image_size: side in pixels that pictures are read at. device: "cpu", "cuda" or "cuda:0".
    threshold, map_threshold: in [0, 1], what the checkpoint recommends; None where nothing is recommended.
    windows: how many windows are read besides the whole picture, along each side; 1 is none. squares: whether elongated
    pictures are read in squares.
    """

    name: str
    model_sha256: str
    checkpoint_sha256: str
    image_size: int
    device: str
    threshold: float | None
    map_threshold: float | None
    windows: int = 1
    squares: bool = False


class Detector(Protocol):
    """A zero-shot anomaly detector bound to one class name.

    overlaps: whether its device works on alone after `start`, as a GPU does, so that a batch can be started ahead.
    """

    info: DetectorInfo
    overlaps: bool

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """Read a batch of (H, W, 3) uint8 RGB pictures, of any sizes.

        keep: per picture None (all of it counts) or (h, w) bool of any size, stretched over the picture; what is False
        is neither scored nor shown.
        """
        ...

    def start(
        self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None
    ) -> Callable[[], list[Reading]]:
        """Start to read a batch, as `read` does; return a function that waits for the readings.

        The arrays may change once this returns.
        """
        ...

    def warm_up(self, batch: int) -> None:
        """Compile and allocate now, so that the first batch of up to `batch` pictures runs at full speed.

        Call on the thread that will read.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OutboxRow:
    """A message that waits for a receiver.

    seq: its place in the order of sending. epoch: of the journal when it was recorded; no seq is given twice in one.
    created_at: UTC, aware.
    """

    seq: int
    message: Message
    created_at: datetime
    epoch: str


class Outbox(Protocol):
    """The messages that wait for one receiver, as its sender sees them."""

    def pending(self, limit: int) -> Sequence[OutboxRow]:
        """Return the first `limit` rows that are not marked as sent, in seq order."""
        ...

    def mark_sent(self, seqs: Sequence[int]) -> None:
        """Never give these rows again."""
        ...

    def set_aside(self, seq: int, reason: str) -> None:
        """Take a row out of the queue that its receiver refuses again and again; a person may have it sent again."""
        ...

    def outbox_depth(self) -> tuple[int, datetime | None]:
        """Return how many rows wait, and when the first of them was recorded."""
        ...

    def retained(self) -> set[str]:
        """Return the topics that the receiver may keep for later subscribers."""
        ...

    def retain(self, topics: Collection[str]) -> None:
        """Record that the receiver is about to keep these topics."""
        ...

    def forget(self, topics: Collection[str]) -> None:
        """Record that the receiver keeps these topics no longer."""
        ...


class Watched(Protocol):
    """The heartbeat of a thread, as the watchdog sees it (line.heartbeat.Stage)."""

    name: str
    patience_s: float  # how long it may be silent
    thread_id: int | None

    @property
    def silent_s(self) -> float: ...

    @property
    def hangs(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a part, for /metrics.

    name: without prefix, such as "mqtt_sent". text: what it counts. counts_up: it only ever grows. labels: by name; all
    measures of one name have the same names.
    """

    name: str
    text: str
    value: float
    counts_up: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


class Sink(Protocol):
    """What is told of each inspection, such as a broker or a PLC; its section of the config builds it.

    stages: its threads.
    """

    stages: Sequence[Watched]

    @property
    def receiver(self) -> str | None:
        """Return its name in Message.receivers and in the journal; None: no message waits for it there."""
        ...

    @property
    def problem(self) -> str | None:
        """Say why its receiver cannot be reached or does not do its part; None while all is well. Call from any thread."""
        ...

    def triggers(self, station: str) -> Triggers:
        """Return the requests that its receiver makes for pictures of a station, one of SinkContext.asked."""
        ...

    def messages(self, inspection: Inspection, evidence: Evidence) -> Sequence[Message]:
        """Return what is to be recorded with an inspection and delivered to this receiver at least once."""
        ...

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Note that the journal has a verdict. Never waits for the receiver."""
        ...

    def completed(self, inspection: Inspection, evidence: Evidence) -> None:
        """Note that the journal has its pictures and messages, too. Never waits for the receiver."""
        ...

    def alarm_messages(self, change: AlarmChange) -> Sequence[Message]:
        """Return what is to be recorded with a change of an alarm and delivered to this receiver at least once."""
        ...

    def alarmed(self, change: AlarmChange) -> None:
        """Note that the journal has a change of an alarm and its messages. Never waits for the receiver."""
        ...

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        """Note which quantities of a station's pictures are no longer as calibrated; () for none any more."""
        ...

    def measures(self) -> Sequence[Measure]:
        """Return its figures for /metrics; from any thread."""
        ...

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what can be delivered in this time, and stop. What remains waits in the journal."""
        ...


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who an agent is. instance: UUID of this run. epoch: UUID of its journal, see journal/remembered/epoch.py.

    since: start of this run, UTC, aware.
    """

    name: str
    version: str
    instance: str
    epoch: str
    since: datetime


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source can give pictures, since when (UTC, aware), and why not; reason: None while it is up."""

    up: bool
    since: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StationNow:
    """A station as it is now: what its verdicts rest on, its source, and the alarms that stand."""

    trace: Trace
    source: SourceState
    alarms: frozenset[AlarmKind] = frozenset()


@dataclass(frozen=True, slots=True)
class AgentNow:
    """An agent as it is now.

    config_sha256: of its configuration (hex). stations: by name. not_recording: why the journal takes nothing, so that
    nothing is inspected; None while it does.
    """

    config_sha256: str
    stations: Mapping[str, StationNow]
    not_recording: str | None = None


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is built with.

    identity: who the agent is. outbox: gives the messages that wait for a receiver of this name. now: gives how the agent
    is, from any thread. twin: is told in words that another agent of this name is there, None that it no longer is.
    asked: the stations whose pictures its receiver requests, and the seconds after which a request
    wants an answer (None: whenever there is one). ledger: knows which requests were inspected; None where none are asked.
    record: commits messages that belong to no inspection, each once, however often it is called; raises JournalError.
    not_ready: gives why no verdict of a station is to be had now; None while there is. replay: beside a daemon of the same
    config, which it must not disturb.
    """

    identity: AgentIdentity
    outbox: Callable[[str], Outbox]
    now: Callable[[], AgentNow]
    twin: Callable[[str | None], None] = lambda reason: None
    asked: Mapping[str, float | None] = field(default_factory=dict)
    ledger: Ledger | None = None
    record: Callable[[Sequence[Message]], None] = lambda messages: None
    not_ready: Callable[[str], str | None] = lambda station: None
    replay: bool = False
