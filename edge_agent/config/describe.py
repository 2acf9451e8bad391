"""Describes a Config in plain words: what the agent is going to do. Shows no secrets."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.config.config import Config
from edge_agent.config.detector import DetectorConfig
from edge_agent.config.evidence import EvidenceConfig
from edge_agent.config.station import StationConfig
from edge_agent.detectors.systems import DATASETS

_KEPT = {"none": "none", "not_ok": "of NotOK", "all": "all"}


def describe(config: Config) -> str:
    """Return a few lines of text without a final line end; warnings come last."""
    lines = [
        f"agent     {config.agent.name}, config {config.sha256[:12]}",
        f"journal   {config.database.url}, for {config.database.keep_days:g} days, up to {config.database.keep_gb:g} GB",
        f"evidence  {_evidence(config.evidence)}",
    ]
    sinks = config.sinks()
    lines += [f"{key:9} {sink.describe(config.agent.name)}" for key, sink in sinks.items()]
    if not sinks:
        lines.append("mqtt      nothing is published")
    if config.health:
        lines.append(f"health    http://127.0.0.1:{config.health.port}/metrics and /healthz")
    if config.page:
        lines.append(f"page      {config.page.describe()}")
    for station in config.stations:
        lines += ["", f"station   {station.name}", *(f"  {line}" for line in _station(station))]
    if config.warnings:
        lines += ["", *(f"warning   {warning}" for warning in config.warnings)]
    return "\n".join(lines)


def _evidence(evidence: EvidenceConfig) -> str:
    if evidence.originals == evidence.overlays == "none":
        return "no pictures are kept"
    kept = f"originals: {_KEPT[evidence.originals]}, overlays: {_KEPT[evidence.overlays]} ({evidence.format})"
    return f"{evidence.folder}; {kept}; for {evidence.keep_days:g} days, up to {evidence.keep_gb:g} GB"


def _station(station: StationConfig) -> Iterator[str]:
    detector = station.detector
    yield f"watches   {station.source.describe()}"
    prompts = f", checkpoint {detector.checkpoint}" if detector.checkpoint else ""
    if detector.takes_published_prompts():
        prompts = f", prompts published for it, trained on {DATASETS[detector.trained_on]}"
    prompts += f", method {detector.method}" if detector.method else ""
    prompts += "".join(f", together with model {one.model}" for one in detector.together)
    size = f" at {detector.image_size} pixels" if detector.image_size else ""
    near = f", in {detector.windows} x {detector.windows} windows too" if detector.windows > 1 else ""
    yield f"looks at  {detector.class_name!r} with model {detector.model}{size}{near}{prompts}; {_device(detector)}"
    yield f"NotOK     {_rule(station)}"
    yield f"alarm     {_alarm(station)}"
    if station.include or station.ignore:
        inside = f"{len(station.include)} include" if station.include else "the whole picture"
        yield f"area      {inside}, {len(station.ignore)} ignore polygons"


def _device(detector: DetectorConfig) -> str:
    device = "on the GPU if there is one" if detector.device == "auto" else f"on {detector.device}"
    return device if detector.precision == "auto" else f"{device}, {detector.precision}"


def _rule(station: StationConfig) -> str:
    threshold = station.chosen_threshold()
    rule = "from the score that the checkpoint recommends" if threshold is None else f"from score {threshold:g}"
    made = station.calibration
    if made:
        measured = f"{made.good_pictures} good pictures, {made.false_alarm_rate:.3%} false alarms"
        rule += f" (calibration {made.id}: {measured})"
    return f"{rule}, if a defect covers {station.min_area:.3%} of the picture" if station.min_area else rule


def _alarm(station: StationConfig) -> str:
    debounce = station.debounce
    several = f"when {debounce.raise_after} of the last {debounce.of} pictures are NotOK"
    when = "at each NotOK picture" if debounce.of == 1 else several
    return f"{when}; clears {debounce.hysteresis:g} below the threshold" if debounce.hysteresis else when
