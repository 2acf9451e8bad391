"""Stored pictures inspected by the machines of a Ray cluster, as a Ray Data job; recorded by this process only, in order.

Each machine has edge_agent installed, and pictures and model at the same paths as this one. It decodes, reads, judges and
draws, and returns the verdict and the bytes of the overlay file. This process updates the alarms and writes evidence and
journal, so that a worker that dies and is restarted records nothing twice.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import build
from edge_agent.core import Evidence, Inspection, Record
from edge_agent.errors import EdgeAgentError
from edge_agent.evidence.choices import Format, Kept
from edge_agent.evidence.encoding import encode
from edge_agent.evidence.overlay import draw
from edge_agent.evidence.store import EvidenceStore, is_kept
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import nothing
from edge_agent.line.inspect import MessageBuilder, Recorder, Station, inspect
from edge_agent.line.judge import AlarmState, debounce
from edge_agent.sources.camera.reachable import Unreachable, require_reachable
from edge_agent.sources.stored import StoredSource

if TYPE_CHECKING:
    from edge_agent.config.station import StationConfig

LOCAL = "local"  # the address of a cluster that is started on this machine for this job only
OVERLAY: Format = "jpg"
BLOCK, AHEAD = 4, 64  # batches in one Ray task; pictures that may wait to be recorded
CORES = 4  # of a worker without a GPU, where its machine has as many
TICK_S = 0.1  # how soon a stop is noticed


@dataclass(frozen=True, slots=True, eq=False)
class WorkerResult:
    """A worker's result for a picture. inspection: without the frame's pixels, which had `shape` (H, W). overlay: a file."""

    inspection: Inspection
    shape: tuple[int, int]
    overlay: bytes | None


@dataclass(frozen=True, slots=True)
class Task:
    """What each worker needs.

    source: how pictures are decoded. station, config_sha256: see build.station. models: folders of fetched backbones.
    overlays: of which verdicts an overlay is drawn.
    """

    source: StoredSource
    station: StationConfig
    config_sha256: str
    models: Sequence[Path]
    overlays: Kept


class Inspector:
    """The work of a worker; constructed once in each worker process."""

    def __init__(self, task: Task) -> None:
        self._source, self._overlays = task.source, task.overlays
        station = build.station(task.station, Loader(task.models), task.config_sha256)
        self._stations = {station.name: station}

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """Turn {"path": paths as bytes} into {"found": WorkerResult}, both arrays of objects, in the same order."""
        paths = [os.fsdecode(path) for path in batch["path"]]
        frames = list(self._source.part(paths).frames(threading.Event()))
        found = np.empty(len(frames), object)
        found[:] = [self._result(one) for one in inspect(frames, self._stations, {}, simulated=True)]
        return {"found": found}

    def _result(self, inspection: Inspection) -> WorkerResult:
        is_drawn = is_kept(self._overlays, inspection.verdict.evaluation)
        overlay = encode(draw(inspection), OVERLAY) if is_drawn else None
        height, width = inspection.frame.pixels.shape[:2]
        reading = inspection.reading and replace(inspection.reading, heatmap=np.empty((0, 0), np.float32))
        bare = replace(inspection, reading=reading, frame=replace(inspection.frame, pixels=nothing()))
        return WorkerResult(bare, (height, width), overlay)


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connect to a Ray cluster, or start one on this machine. Raises EdgeAgentError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EdgeAgentError(
            f"--distributed needs Ray, which is not installed ({error}): pip install 'edge-agent[distributed]'"
        ) from error
    here: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    try:
        require_reachable(address if "://" in address else f"ray://{address}")  # Ray itself tries for minutes
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (Unreachable, ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise EdgeAgentError(
            f"--distributed {address}: no Ray cluster is reached ({reason}): check the address, and that "
            "`ray status` answers there with the same versions of Ray and Python; or say --distributed local"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    try:
        yield
    finally:
        ray.shutdown()


def replay(
    paths: Sequence[str],
    task: Task,
    station: Station,
    evidence: Path,
    journal: Recorder,
    build_messages: MessageBuilder,
    stop: threading.Event,
    *,
    batch: int,
    workers: int | None,
    first_seq: int,
    alarms: dict[str, AlarmState],
) -> Iterator[tuple[Inspection, Evidence]]:
    """Inspect pictures in order, within `cluster`; each is recorded before it is yielded.

    Args:
        paths: the pictures, the same on all machines.
        task: what the workers need.
        station: as this machine loads it; workers that load another model are refused.
        evidence: folder of the overlays.
        journal: records the inspections.
        build_messages: makes the messages of each.
        stop: ends the replay before the next picture.
        batch: pictures that the detector reads at once, at least 1.
        workers: number of processes; None is as many as the cluster has room for.
        first_seq: seq of the first frame.
        alarms: the debounce state by station; updated.

    Raises:
        EdgeAgentError: if the job fails, or a worker has another model.
    """
    overlays: dict[str, bytes] = {}  # of the present picture, by the inspection's id
    store = EvidenceStore(
        evidence, render=lambda inspection, largest: overlays.pop(inspection.id), originals="none", overlays="all",
        keep_days=1e9, keep_gb=1e9,
    )  # fmt: skip
    for seq, found in enumerate(_job(paths, task, batch, workers, stop), first_seq):
        one = found.inspection
        if one.trace != station.trace:
            raise EdgeAgentError(
                f"a worker judges by {one.trace}, this machine by {station.trace}: copy the same model to all machines"
            )
        state, score = alarms.get(station.name, AlarmState()), one.reading.score if one.reading else 0.0
        alarms[station.name], event = debounce(state, one.verdict, score, station.rules)
        pixels = np.broadcast_to(np.uint8(0), (*found.shape, 3))  # takes no memory; only the shape is recorded
        frame = replace(one.frame, seq=seq, pixels=pixels)
        inspection = replace(one, frame=frame, verdict=replace(one.verdict, alarm=event))
        saved = Evidence()
        if found.overlay is not None:
            overlays[inspection.id] = found.overlay
            saved = store.save(inspection)
        journal.commit([Record(inspection, saved, build_messages(inspection, saved))])
        yield inspection, saved


def _job(
    paths: Sequence[str],
    task: Task,
    batch: int,
    workers: int | None,
    stop: threading.Event,
) -> Iterator[WorkerResult]:
    """Yield the workers' results in the order of the paths, until `stop` is set. Arguments as in replay()."""
    if not paths:
        return

    import ray
    import ray.data
    import ray.exceptions

    there = ray.cluster_resources()
    cores = max(1, min(CORES, int(there.get("CPU", 1))))
    share = {"num_gpus": 1} if task.station.detector.device != "cpu" and there.get("GPU") else {"num_cpus": cores}
    room = int(there["GPU"] if "num_gpus" in share else there.get("CPU", 1) // cores)
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, workers or room))
    do: dict[str, Any] = {"fn_constructor_args": (task,), "batch_size": batch, "compute": pool, **share}
    rows = [{"path": os.fsencode(path)} for path in paths]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // (BLOCK * batch)))
    results: queue.Queue[WorkerResult | BaseException | None] = queue.Queue(AHEAD)

    def pull() -> None:
        try:
            for row in dataset.map_batches(Inspector, **do).iter_rows():
                results.put(row["found"])
            results.put(None)
        except BaseException as error:
            results.put(error)

    threading.Thread(
        target=pull, daemon=True
    ).start()  # a thread, because waiting for Ray cannot be interrupted by `stop`
    while not stop.is_set():
        try:
            found = results.get(timeout=TICK_S)
        except queue.Empty:
            continue
        if found is None:
            return
        if isinstance(found, ray.exceptions.RayError):
            why = next((line for line in reversed(str(found).splitlines()) if line.strip()), type(found).__name__)
            raise EdgeAgentError(
                f"the Ray job failed: {why}: correct that; the same command continues where it stopped"
            ) from found
        if isinstance(found, BaseException):
            raise found
        yield found
