"""The agent: all parts of one configuration, started, reloaded and stopped together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from edge_agent import build
from edge_agent.config.config import Config
from edge_agent.config.load import load_config
from edge_agent.config.reload import Change, change
from edge_agent.core import (
    AgentNow,
    AlarmKind,
    Evidence,
    Inspection,
    Sink,
    SinkContext,
    StationNow,
    Watched,
)
from edge_agent.errors import EdgeAgentError
from edge_agent.evidence.retention import Retention
from edge_agent.health.drift import DriftWatch
from edge_agent.health.squeezed import SqueezedPictures
from edge_agent.health.systemd import Notifier
from edge_agent.health.undecided import UndecidedRows
from edge_agent.health.watchdog import Watchdog, watching
from edge_agent.io.clock import CautiousClock
from edge_agent.journal.journal import Journal
from edge_agent.line.heartbeat import PATIENCE_S
from edge_agent.line.inspect import Station, warm_up
from edge_agent.line.judge import AlarmState
from edge_agent.line.line import Line, feeding_name
from edge_agent.line.periodic import Periodic, Task
from edge_agent.line.resume import complete_unfinished

log = logging.getLogger("edge_agent")

RETENTION_S = (
    1.0  # how often the journal learns which pictures were deleted to make room; retention itself sweeps once a minute
)
DRIFT_S = 1.0
ALARMS_S = 0.5


class Agent:
    """One agent: it loads its detectors and opens its journal when it is made, and inspects in run()."""

    def __init__(
        self,
        config: Config,
        path: Path,
        notifier: Notifier,
        *,
        watchdog_s: float | None = None,
        report: Callable[[Inspection, Evidence], None] = lambda inspection, evidence: None,
    ) -> None:
        """Load the detectors, open the journal and connect to the broker.

        Args:
            config: what to inspect, and how.
            path: the file that `config` came from; reload() reads it again.
            notifier: reports how the agent is to the service manager.
            watchdog_s: seconds of silence after which the service manager restarts the agent; None: it does not.
            report: called for every inspection that was recorded.

        Raises:
            ConfigError, CheckpointError: a station cannot be built.
            JournalError: the journal cannot be opened.
        """
        self._config, self._path, self._notifier = config, path, notifier
        self._patience_s = watchdog_s or PATIENCE_S
        self._is_ready = Event()
        self._busy_with: str | None = None  # what keeps the agent from inspecting; None: nothing
        self._reloads: Counter[str] = Counter(done=0, refused=0)
        for section in (config.sinks() | config.station_sinks()).values():
            section.require()

        self._loader = build.loader(config)
        stations = build.stations(config, self._loader)
        for station in stations.values():
            log.info("station %s: %s, threshold %.3f", station.name, station.trace.model, station.rules.threshold)
        picture_s = warm_up(stations.values(), config.limits.batch_size)
        self._detectors = [one.detector for one in stations.values()]
        with ExitStack() as parts:
            self._journal = Journal.open(config.database.full_url(), agent=config.agent.name, ballast=True)
            parts.callback(self._journal.close)
            self._assemble(stations, picture_s, report)
            self._parts = parts.pop_all()

    def _assemble(
        self, stations: dict[str, Station], picture_s: float, report: Callable[[Inspection, Evidence], None]
    ) -> None:
        config, journal = self._config, self._journal
        self._store = build.evidence_store(config.evidence)
        self._identity = build.identity(config, journal)
        self._twin: str | None = None
        self._retention = Retention(
            self._store.sweep,
            journal,
            keep_days=config.database.keep_days,
            keep_gb=config.database.keep_gb,
            take_removed=self._store.take_removed,
            keep_labelled_days=config.labels.keep_days,
            hold=self._store.hold,
            clock=CautiousClock(last_known=journal.last_inspected_at()),
        )
        self._stations = stations
        self._sinks: dict[str, Sink] = {}
        self._alarms = build.alarms(config, journal, self._sinks.values())
        context = SinkContext(
            self._identity,
            journal.outbox,
            self.now,
            self._note_twin,
            ledger=journal,
            record=journal.record_messages,
            not_ready=self._not_ready,
        )
        self._sinks |= build.sinks(config, context)
        self._meter = build.meter() if config.health else None
        self._drift = DriftWatch(self._drifted)
        self._undecided, self._squeezed = UndecidedRows(), SqueezedPictures()
        self._expect(config, stations)
        self._periodic = Periodic(
            [
                Task("retention", RETENTION_S, self._retention.run),
                Task("drift", DRIFT_S, self._drift.look),
                Task("alarms", ALARMS_S, self._alarms.look),
            ]
        )
        self._sources = [build.source(config, one, journal, self._sinks) for one in config.stations]
        others = [one for one in (self._meter, self._drift, self._undecided, self._squeezed) if one]
        self._line = Line(
            self._sources,
            stations,
            self._store,
            journal,
            build.message_builder(self._sinks.values()),
            [self._alarms, *self._sinks.values(), *others],
            alarms={name: AlarmState(AlarmKind.DEFECT in kinds) for name, kinds in journal.standing_alarms().items()},
            batch=config.limits.batch_size,
            max_wait_s=config.limits.max_wait_ms / 1e3,
            report=report,
            picture_s=picture_s,
            when_behind=config.evidence.when_behind,
            followers=[sink.completed for sink in self._sinks.values()],
        )
        complete_unfinished(journal, self._store.found, build.message_builder(self._sinks.values()))
        self._alarms.watch(self._sources, self._line.feeding)
        stages: list[Watched] = [*self._line.stages, self._periodic.stage]
        stages += [stage for sink in self._sinks.values() for stage in sink.stages]
        self._watchdog = Watchdog(stages, self._notifier, self.status, self._patience_s, self._line.feeding)

    def run(self, stop: Event, reload_asked: Event) -> None:
        """Inspect until `stop` is set, and read the configuration again whenever `reload_asked` is.

        Raises what a thread of the line raised.
        """
        with self._watched():
            try:
                self._line.run(
                    stop,
                    started=self._started,
                    between=lambda: self._reload_if_asked(reload_asked),
                    stopping=self._stopping,
                )
            finally:
                self._stop_parts()

    def now(self) -> AgentNow:
        """Return how the agent is. Call from any thread."""
        alarms = self._alarms
        stations = {
            name: StationNow(one.trace, alarms.source(name), alarms.standing(name))
            for name, one in self._stations.items()
        }
        return AgentNow(self._config.sha256, stations, self._not_recording() if self._is_ready.is_set() else None)

    def _note_twin(self, text: str | None) -> None:
        self._twin = text

    def status(self) -> str:
        """Return the counts since the start in one line."""
        counts = self._line.counts
        counted = f"{counts.inspected} inspected, {counts.not_ok} NotOK, {counts.not_decidable} NotDecidable"
        reason = self._not_recording()
        return f"not recording: {reason}; {counted}" if reason else counted

    def _not_recording(self) -> str | None:
        """Return why the journal takes nothing now, or cannot be asked what is new; None while it is well."""
        return self._line.not_recording or self._journal.unread

    def _not_ready(self, station: str) -> str | None:
        """Say why no verdict of a station is to be had now; None while there is. Call from any thread."""
        if self._busy_with or not self._is_ready.is_set():
            return self._busy_with or "the agent starts"
        if reason := self._not_recording():
            return f"the journal takes nothing ({reason})"
        others = [
            stage for stage in self._line.feeding if stage.name != feeding_name(station)
        ]  # they hold up nothing here
        if hanging := [stage for stage in self._line.stages if stage.hangs and stage not in others]:
            return f"the {hanging[0].name} hangs"
        status = next(source.status() for source in self._sources if source.station == station)
        return None if status.up else f"its source gives no pictures ({status.reason})"

    def reload(self) -> None:
        """Read the configuration again and judge by it from the next batch on; a bad one is refused with its errors."""
        self._busy_with = "the agent reads its configuration again"
        try:
            self._reload()
        finally:
            self._busy_with = None

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            new = load_config(self._path)
            planned = change(self._config, new)
            stations = build.stations(planned.config, self._loader)
            known = {id(detector) for detector in self._detectors}
            warm_up([one for one in stations.values() if id(one.detector) not in known], self._config.limits.batch_size)
        except EdgeAgentError as error:
            self._refuse(error)
        else:
            for warning in new.warnings:
                log.warning("%s", warning)
            self._follow(planned, stations)
        self._notifier.ready(self.status())

    def close(self) -> None:
        """Close the journal; call it once run() has returned, or was never called."""
        self._parts.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have the watchdog look at all threads, and serve /metrics and /healthz if the config asks for it."""
        with ExitStack() as around:
            around.enter_context(watching(self._watchdog, self._patience_s / 2))
            if self._config.health and self._meter:
                from edge_agent.health.server import serving

                registry = build.registry(
                    self._config,
                    self._line,
                    self._sources,
                    self._meter,
                    self._journal,
                    self._sinks,
                    self._store,
                    self._watchdog,
                    self._drift,
                    self._undecided.lengths,
                    self._reloads,
                    self._periodic,
                    self.now,
                )
                around.enter_context(serving(self._config.health.port, registry, self._health))
            yield

    def _health(self) -> tuple[bool, dict[str, object]]:
        return self._watchdog.health(
            self._is_ready.is_set(),
            self._sources,
            self._undecided.lengths,
            self._not_recording(),
            self._store.fault,
            {key: sink.problem for key, sink in self._sinks.items() if sink.problem},
            self._twin,
            {name: self._alarms.standing(name) for name in self._stations},
        )

    def _started(self) -> None:
        count = len(self._sources)
        log.info("ready: watching %d station%s; stop with Ctrl-C", count, "s" * (count != 1))
        self._periodic.start()
        self._notifier.ready(self.status())
        self._is_ready.set()

    def _stopping(self) -> None:
        self._busy_with = "the agent stops"
        self._notifier.stopping()

    def _reload_if_asked(self, reload_asked: Event) -> None:
        if reload_asked.is_set():
            reload_asked.clear()
            self.reload()

    def _refuse(self, error: EdgeAgentError) -> None:
        for line in str(error).splitlines():
            log.error("%s", line)
        log.error("%s is refused: the configuration of before goes on", self._path)
        self._reloads["refused"] += 1

    def _follow(self, planned: Change, stations: dict[str, Station]) -> None:
        self._config = planned.config
        self._line.change(stations, lambda: self._expect(planned.config, stations))
        self._stations = stations
        self._alarms.expect(build.alarm_rules(planned.config))
        self._detectors = [one.detector for one in stations.values()]
        self._loader.release(self._detectors)
        for key in planned.waiting:
            log.warning("%s: needs a restart; till then it stays as it was (%s)", key, planned.shown(key))
        self._reloads["done"] += 1
        log.info("reloaded %s: %s", self._path, ", ".join(map(planned.shown, planned.changed)) or "nothing has changed")

    def _expect(self, config: Config, stations: Mapping[str, Station]) -> None:
        self._squeezed.expect({one.name for one in stations.values() if not one.detector.info.squares})
        self._drift.expect({one.name: one.calibration for one in config.stations})

    def _drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        for sink in self._sinks.values():
            sink.drifted(station, quantities)

    def _stop_parts(self) -> None:
        """Stop what has threads of its own, the receivers of messages last."""
        self._periodic.close()
        self._retention.close()
        for sink in self._sinks.values():
            sink.close()
