"""From a Config to the parts that do its work; opens no window to the outside that the config does not ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from uuid import uuid4

from edge_agent import __version__
from edge_agent.backbones.weights.store import search_folders
from edge_agent.config.config import Config
from edge_agent.config.detector import DetectorConfig
from edge_agent.config.evidence import EvidenceConfig
from edge_agent.config.station import StationConfig
from edge_agent.core import (
    AgentIdentity,
    AgentNow,
    AlarmChange,
    Detector,
    Evidence,
    Inspection,
    Ledger,
    Message,
    Sink,
    SinkContext,
    Source,
    Trace,
)
from edge_agent.errors import ConfigError
from edge_agent.evidence.store import EvidenceStore
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.together import Fusion
from edge_agent.journal.journal import Journal
from edge_agent.line.alarms import AlarmRules, Alarms
from edge_agent.line.calibration import Calibration, least_contrast
from edge_agent.line.inspect import MessageBuilder, Station
from edge_agent.line.judge import Rules
from edge_agent.line.line import Line
from edge_agent.line.mask import MASK_SIDE, keep_mask
from edge_agent.line.periodic import Periodic

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from edge_agent.health.drift import DriftWatch
    from edge_agent.health.metrics import Meter
    from edge_agent.health.watchdog import Watchdog


def detector(wanted: DetectorConfig, loader: Loader, calibration: Calibration | None = None) -> Detector:
    """Return what a station looks with.

    Args:
        wanted: the station's section.
        loader: loads it, or shares one.
        calibration: of the station; elongated pictures are read as it was made with, unless the section says how.

    Raises CheckpointError.
    """
    squares = wanted.squares
    if squares is None:
        squares = calibration is None or calibration.squares
    return together(wanted, loader.arranged(single_detector(wanted, loader), wanted.windows, squares), loader, squares)


def together(wanted: DetectorConfig, bank: Detector, loader: Loader, squares: bool) -> Detector:
    """Return what looks with a bank and with what the section has beside it; the bank alone where that is nothing.

    Args:
        wanted: the station's section.
        bank: reads pictures with its bank.
        loader: loads the other one.
        squares: whether elongated pictures are read in squares.

    Raises CheckpointError.
    """
    for beside in wanted.together:
        other = loader.detector(beside.model, beside.checkpoint, wanted.class_name, wanted.device, wanted.precision)
        fusion = Fusion.of((wanted.header() or {})["together"])
        return loader.together(loader.arranged(other, wanted.windows, squares), bank, fusion)
    return bank


def single_detector(wanted: DetectorConfig, loader: Loader) -> PromptDetector:
    """Return what a station reads one picture, square or window with. Raises CheckpointError."""
    return loader.detector(
        wanted.model,
        wanted.checkpoint,
        wanted.class_name,
        wanted.device,
        wanted.precision,
        wanted.method,
        wanted.image_size,
        wanted.trained_on,
    )


def station(config: StationConfig, loader: Loader, config_sha256: str) -> Station:
    """Build a station that is ready to inspect.

    Args:
        config: its section.
        loader: loads its detector, or shares one.
        config_sha256: digest (hex) of the whole config, for the trace.

    Raises:
        CheckpointError, ConfigError: the detector or its calibration does not fit.
    """
    own = detector(config.detector, loader, config.calibration)
    try:
        if config.calibration:
            config.calibration.require_fit(
                own.info.model_sha256,
                own.info.checkpoint_sha256,
                own.info.image_size,
                own.info.windows,
                own.info.squares,
            )
    except ConfigError as error:
        raise ConfigError(f"station {config.name}: {error}") from None
    threshold = _chosen("threshold", config.chosen_threshold(), own.info.threshold, config.name)
    if config.debounce.hysteresis and config.debounce.hysteresis >= threshold:
        raise ConfigError(
            f"station {config.name}: hysteresis {config.debounce.hysteresis:g} is not below the threshold {threshold:g}: "
            "no alarm would clear"
        )
    map_threshold = _chosen("map_threshold", config.chosen_map_threshold(), own.info.map_threshold, config.name)
    return Station(
        name=config.name,
        detector=own,
        rules=Rules(
            threshold=threshold,
            map_threshold=map_threshold,
            min_area=config.min_area,
            raise_after=config.debounce.raise_after,
            of=config.debounce.of,
            hysteresis=config.debounce.hysteresis,
            least_contrast=least_contrast(config.calibration),
        ),
        trace=Trace(
            model=own.info.name,
            model_sha256=own.info.model_sha256,
            checkpoint_sha256=own.info.checkpoint_sha256,
            calibration_id=config.calibration.id if config.calibration else None,
            config_sha256=config_sha256,
        ),
        keep=keep_mask(config.include, config.ignore, MASK_SIDE),
    )


def _chosen(key: str, configured: float | None, recommended: float | None, station: str) -> float:
    """The configured threshold, else the one that the detector recommends. Raises ConfigError where there is neither."""
    threshold = recommended if configured is None else configured
    if threshold is None:
        raise ConfigError(f"station {station}: its detector recommends no {key}: set {key}, or calibrate")
    return threshold


def loader(config: Config) -> Loader:
    """Return what loads the stations' detectors, from the folders that search_folders() lists."""
    return Loader(search_folders(config.agent.data_dir))


def stations(config: Config, loader: Loader) -> dict[str, Station]:
    """All stations by name; those that can share a backbone or a detector do. Raises ConfigError with a line an error."""
    built, errors = {}, []
    for one in config.stations:
        try:
            built[one.name] = station(one, loader, config.sha256)
        except ConfigError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    return built


def sinks(config: Config, context: SinkContext) -> dict[str, Sink]:
    """What is told of each inspection, by the key of its section, or by kind and station where it belongs to one.

    Each connects at once. context: without `asked`.
    """
    sections = config.sinks() | config.station_sinks()
    return {key: section.build(replace(context, asked=config.asked(key))) for key, section in sections.items()}


def source(config: Config, station: StationConfig, ledger: Ledger, sinks: Mapping[str, Sink]) -> Source:
    """Build what the station's frames come from.

    Args:
        config: the whole config.
        station: the station's section.
        ledger: knows which files were inspected.
        sinks: by their keys; one of them may request the pictures.

    Raises:
        ConfigError: a password is missing, or this machine cannot open such a source.
    """
    asking = [sink for key, sink in sinks.items() if station.name in config.asked(key)]
    triggers = asking[0].triggers(station.name) if asking else None
    return station.source.build(station.name, ledger, max_megapixels=config.limits.max_megapixels, triggers=triggers)


def identity(config: Config, journal: Journal) -> AgentIdentity:
    """Return who the agent of this run is."""
    return AgentIdentity(config.agent.name, __version__, str(uuid4()), journal.epoch, datetime.now(timezone.utc))


def alarms(config: Config, journal: Journal, sinks: Collection[Sink]) -> Alarms:
    """Return what knows the alarms of all stations, and has the others recorded and told.

    Args:
        config: the rules of the stations.
        journal: knows which alarms stand.
        sinks: are told; may be filled later.
    """

    def record(change: AlarmChange) -> None:
        journal.record_alarm(change, [message for sink in sinks for message in sink.alarm_messages(change)])
        for sink in sinks:
            sink.alarmed(change)

    built = Alarms(journal.standing_alarms(), [one.name for one in config.stations], record)
    built.expect(alarm_rules(config))
    return built


def alarm_rules(config: Config) -> dict[str, AlarmRules]:
    """Return by station when its alarms are raised that no single picture makes."""
    return {
        one.name: AlarmRules(one.source_down_s, one.debounce.undecidable_after, one.debounce.undecidable_of)
        for one in config.stations
    }


def evidence_store(evidence: EvidenceConfig) -> EvidenceStore:
    """What keeps pictures as evidence."""
    return EvidenceStore(
        evidence.folder,
        originals=evidence.originals,
        overlays=evidence.overlays,
        fmt=evidence.format,
        overlay_side=evidence.overlay_side,
        keep_days=evidence.keep_days,
        keep_gb=evidence.keep_gb,
    )


def meter() -> Meter:
    """The sink that counts for /metrics; imported only where that is asked for."""
    from edge_agent.health.metrics import Meter

    return Meter()


def registry(
    config: Config,
    line: Line,
    sources: Sequence[Source],
    meter: Meter,
    journal: Journal,
    sinks: Mapping[str, Sink],
    store: EvidenceStore,
    watchdog: Watchdog,
    drift: DriftWatch,
    undecided: Mapping[str, int],
    reloads: Mapping[str, int],
    periodic: Periodic,
    now: Callable[[], AgentNow],
) -> CollectorRegistry:
    """Return what /metrics shows: one small collector for each part.

    Args:
        config: for the folders whose disks are measured.
        line: counts, inbox and heartbeats.
        sources: their counts and status.
        meter: inspections and scores.
        journal: the outbox.
        sinks: by the key of their section.
        store: evidence that was kept, lost and dropped.
        watchdog: all heartbeats.
        drift: stations that are no longer as calibrated.
        undecided: by station, how many of its last inspections were NotDecidable.
        reloads: by outcome.
        periodic: failures and timing of periodic tasks.
        now: gives how the agent is.
    """
    from edge_agent.health import metrics

    collectors: dict[str, metrics.Collect] = {
        "about": lambda: metrics.about(config.agent.name, now().config_sha256),
        "alarms": lambda: metrics.alarms(now()),
        "frames": lambda: metrics.frames(line, sources, meter),
        "connections": lambda: metrics.connections(sources),
        "steps": lambda: metrics.steps([*line.stages, periodic.stage], meter),
        "outbox": metrics.in_time(
            lambda: metrics.outbox({name: journal.outbox(name) for sink in sinks.values() if (name := sink.receiver)})
        ),
        "evidence": lambda: metrics.evidence(store, line),
        "recording": lambda: metrics.recording(now().not_recording, line),
        "disk": lambda: metrics.disk([config.agent.data_dir, config.evidence.folder]),
        "gpu": metrics.gpu,
        "stages": lambda: metrics.stages(watchdog),
        "drift": lambda: metrics.drift(drift),
        "undecided": lambda: metrics.undecided(undecided),
        "reloads": lambda: metrics.reloads(reloads),
        "periodic": lambda: metrics.periodic(periodic.failures),
        "sinks": lambda: metrics.sinks(list(sinks.values())),
    }
    return metrics.register(meter.registry, collectors)


def message_builder(sinks: Collection[Sink]) -> MessageBuilder:
    """Return what gives the messages of all sinks for an inspection; sinks: may be filled later."""

    def messages(inspection: Inspection, evidence: Evidence) -> Sequence[Message]:
        return [message for sink in sinks for message in sink.messages(inspection, evidence)]

    return messages
