"""The sink that is an OPC UA server: what was inspected as variables and events, and jobs that request pictures.

The server has a thread and a loop of its own. The agent's threads leave it word in a queue, and never wait for it; if it
fails, it is started again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from uuid6 import uuid7

from edge_agent.core import AlarmChange, Evaluation, Evidence, Inspection, Measure, Message, PictureRequest, Watched
from edge_agent.io.backoff import Backoff
from edge_agent.line.heartbeat import Stage
from edge_agent.settings.request_queue import RequestQueue

if TYPE_CHECKING:
    from asyncua import Server, ua

    from edge_agent.core import SinkContext
    from edge_agent.opcua.server import Serving
    from edge_agent.opcua.station import Job, Result, StationNodes

log = logging.getLogger(__name__)

TICK_S = 0.2  # how often is looked at what nobody gives word of, such as a source that is gone
START_AGAIN = Backoff(1.0, 30.0)
MOST_WAITING = 10_000  # inspections, while the server is away; the oldest are forgotten, as the journal has them
LONGEST = 200  # characters of an id


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job whose verdict is awaited. deadline: in time.monotonic()."""

    id: str
    part_id: str
    meas_id: str
    deadline: float


class OpcUaSink:
    """A core.Sink whose server starts at once. Nothing waits for its clients in the journal."""

    receiver = None

    def __init__(self, serving: Serving, context: SinkContext) -> None:
        """Start the server's thread; beside a daemon's there is none.

        serving: where, and for whom. context: see core.SinkContext.
        """
        self._serving, self._context = serving, context
        self._requests = {station: RequestQueue() for station in context.asked}
        self._jobs: dict[str, RunningJob] = {}
        self._answered: deque[str] = deque(maxlen=MOST_WAITING)  # jobs that were answered without their verdict
        self._waiting: deque[Inspection] = deque(maxlen=MOST_WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._told = self._started = 0
        self._stage = Stage("opcua")
        self.stages: Sequence[Watched] = (self._stage,)
        self._closing = threading.Event()
        self._problem: str | None = None if context.replay else "not yet started"
        self._thread = threading.Thread(target=self._run, name="opcua", daemon=True)
        if not context.replay:
            self._thread.start()

    def triggers(self, station: str) -> RequestQueue:
        """See core.Sink."""
        return self._requests[station]

    def messages(self, inspection: Inspection, evidence: Evidence) -> Sequence[Message]:
        """See core.Sink."""
        return ()

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        """Have the clients told of an inspection."""
        self._waiting.append(inspection)
        self._wake()

    def completed(self, inspection: Inspection, evidence: Evidence) -> None:
        """Nothing: the clients are told of verdicts."""

    def alarm_messages(self, change: AlarmChange) -> Sequence[Message]:
        """See core.Sink."""
        return ()

    def alarmed(self, change: AlarmChange) -> None:
        """Have the clients told."""
        self._wake()

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        """See core.Sink; clients are not told."""

    @property
    def problem(self) -> str | None:
        """See core.Sink."""
        return self._problem

    def measures(self) -> Sequence[Measure]:
        """See core.Sink."""
        return [
            Measure("opcua_serving", "1 while the OPC UA server runs.", self._problem is None, counts_up=False),
            Measure("opcua_results", "Results that the OPC UA server has sent events of.", self._told),
            Measure("opcua_starts", "Times that the OPC UA server was started.", self._started),
        ]

    def close(self, timeout_s: float = 5.0) -> None:
        """Tell what waits, and end the server."""
        self._closing.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _wake(self) -> None:
        loop, news = self._loop, self._news
        if loop and news:
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(news.set)

    # The rest runs in the server's thread.

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                asyncio.run(self._serve())
                failures = 0
            except Exception as error:  # whatever it is, the line must not notice
                pause = START_AGAIN.pause_s(failures)
                failures += 1
                self._problem = f"its server has failed ({type(error).__name__}: {error})"
                log.error("opcua: %s; starting it again in %.1f s", self._problem, pause)
                self._stage.beat(pause)
                self._closing.wait(pause)
            finally:
                self._loop = self._news = None
        self._stage.rest()

    async def _serve(self) -> None:
        """Serve until closing."""
        from edge_agent.opcua.server import can_listen, prepared
        from edge_agent.opcua.station import StationNodes
        from edge_agent.opcua.types import build

        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it would say whatever any client does wrong
        can_listen(self._serving.host, self._serving.port)  # first, as the rest takes seconds
        server: Server = await prepared(self._serving)
        types = await build(server)
        stations = {name: StationNodes(types, name) for name in self._context.now().stations}
        for name, nodes in stations.items():
            await nodes.build(server, self._job_of(name) if name in self._requests else None)
        news = self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with server:
            self._problem, self._started = None, self._started + 1
            log.info("opcua: serves %s", self._serving.title)
            while not self._closing.is_set():
                self._stage.beat()
                await self._tell(stations)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(news.wait(), TICK_S)
                news.clear()
            await self._tell(stations)

    async def _tell(self, stations: dict[str, StationNodes]) -> None:
        while self._waiting:
            inspection = self._waiting.popleft()
            await self._tell_of(stations[inspection.frame.station], inspection)
        for name, nodes in stations.items():
            job = self._jobs.get(name)
            if job and time.monotonic() >= job.deadline:
                del self._jobs[name]
                self._answered.append(job.id)
                log.warning(
                    "opcua: job %s of station %s is answered NotDecidable, late: no verdict in time", job.id, name
                )
                await self._send(nodes, _late(job))
            await self._stand(nodes, name)

    async def _tell_of(self, nodes: StationNodes, inspection: Inspection) -> None:
        frame, verdict = inspection.frame, inspection.verdict
        await nodes.count(verdict.evaluation)
        if frame.trigger_id in self._answered:
            return
        job = self._jobs.get(frame.station)
        if job and job.id == frame.trigger_id:
            del self._jobs[frame.station]
        else:
            job = None
        await self._send(nodes, _result(inspection, job))

    async def _send(self, nodes: StationNodes, result: Result) -> None:
        await nodes.tell(result)
        self._told += 1

    async def _stand(self, nodes: StationNodes, name: str) -> None:
        """Show how a station is."""
        reason, now = self._context.not_ready(name), self._context.now().stations[name]
        await nodes.show(
            AlarmActive=bool(now.alarms),
            SourceUp=now.source.up,
            Ready=reason is None,
            NotReadyReason=reason or "",
        )
        if reason is not None:
            await nodes.stand("Preoperational" if now.source.up else "Error", "Initialized")
        elif name not in self._requests:
            await nodes.stand("Operational", "ContinuousExecution")
        else:
            await nodes.stand("Operational", "SingleExecution" if name in self._jobs else "Ready")

    def _job_of(self, station: str) -> Job:
        """Return what StartSingleJob does at a station."""
        from asyncua import ua

        from edge_agent.opcua.types import made

        async def start(meas: Any, part: Any) -> list[ua.Variant] | ua.StatusCode:
            meas_id, part_id = _id(meas), _id(part)
            if meas_id is None or part_id is None:
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidArgument))
            if station in self._jobs or self._context.not_ready(station):
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidState))
            now, within_s = time.monotonic(), self._context.asked[station]
            job = RunningJob(str(uuid7()), part_id, meas_id, float("inf") if within_s is None else now + within_s)
            self._jobs[station] = job
            self._requests[station].put(PictureRequest(part_id or None, job.id, now))
            if self._news:
                self._news.set()
            outputs = [ua.Variant(made("JobIdDataType", job.id)), ua.Variant(0, ua.VariantType.Int32)]
            return outputs

        return start


def _id(given: Any) -> str | None:
    """Return the id that a structure of the method's arguments holds, "" for none; None if it is no printable text."""
    id_ = "" if given is None else getattr(given, "Id", given) or ""
    return id_ if isinstance(id_, str) and len(id_) <= LONGEST and (not id_ or id_.isprintable()) else None


def _result(inspection: Inspection, job: RunningJob | None) -> Result:
    from edge_agent.opcua.station import UNDECIDED, Result

    frame, verdict, trace = inspection.frame, inspection.verdict, inspection.trace
    decided = inspection.reading is not None and verdict.evaluation is not Evaluation.NOT_DECIDABLE
    return Result(
        id=inspection.id,
        part_id=frame.part_id or "",
        job_id=job.id if job else frame.trigger_id or "",
        meas_id=job.meas_id if job else "",
        evaluation=verdict.evaluation,
        score=float(inspection.reading.score) if decided and inspection.reading else UNDECIDED,
        reason=verdict.reason or "",
        simulated=inspection.simulated,
        recipe=trace.model,
        configuration=trace.config_sha256,
        at=frame.taken_at,
    )


def _late(job: RunningJob) -> Result:
    from edge_agent.opcua.station import UNDECIDED, Result

    return Result(
        id=str(uuid7()),
        part_id=job.part_id,
        job_id=job.id,
        meas_id=job.meas_id,
        evaluation=Evaluation.NOT_DECIDABLE,
        score=UNDECIDED,
        reason="there was no verdict in time",
        simulated=False,
        recipe="",
        configuration="",
        at=datetime.now(timezone.utc),
        late=True,
    )
