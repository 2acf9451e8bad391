"""What the agent knows of itself as Prometheus metrics, one small collector each; serves nothing itself.

A collector that fails is counted and the others go on: what is measured must not depend on all else being well.
Frames that are captured are inspected, dropped for a reason, or still on their way.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_agent import __version__
from edge_agent.core import AgentNow, AlarmKind, Evidence, EvidenceState, Inspection, Outbox, Sink, Source
from edge_agent.errors import EdgeAgentError, JournalError
from edge_agent.health.drift import DriftWatch
from edge_agent.health.watchdog import Watchdog
from edge_agent.line.heartbeat import Stage
from edge_agent.line.line import Line

log = logging.getLogger(__name__)

Collect = Callable[[], Iterable[Metric]]
SLOW_S = 2.0  # less than what collects metrics waits for, which is 10 s with Prometheus
VERDICT_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
BUCKETS = tuple(step / 20 for step in range(1, 20))  # of scores: as fine as thresholds are chosen by hand


class Guarded(Collector):
    """Collectors by name. failures: how often each has failed."""

    def __init__(self, collectors: Mapping[str, Collect]) -> None:
        self._collectors = collectors
        self.failures: Counter[str] = Counter(dict.fromkeys(collectors, 0))

    def collect(self) -> Iterator[Metric]:
        for name, collector in self._collectors.items():
            try:
                yield from list(collector())  # all of it or nothing
            except Exception as error:
                if not self.failures[name]:
                    unexpected = None if isinstance(error, EdgeAgentError) else error
                    log.warning("the metrics of %s cannot be collected: %s", name, error, exc_info=unexpected)
                self.failures[name] += 1
        failed = _counter("collector_failures", "Times that metrics could not be collected.", "collector")
        for name, times in self.failures.items():
            failed.add_metric([name], times)
        yield failed

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is not known before it is collected need not be collected to be registered."""
        return ()


def in_time(collect: Collect) -> Collect:
    """Return a collector that fails after SLOW_S, for one that asks a database, which may not answer for minutes.

    Until it is answered it is not asked again, so that questions do not pile up.
    """
    asking: list[threading.Thread] = []

    def collected() -> Iterable[Metric]:
        answers: list[list[Metric] | Exception] = []

        def ask() -> None:
            try:
                answers.append(list(collect()))
            except Exception as error:
                answers.append(error)

        if not (asking and asking[0].is_alive()):
            asking[:] = [threading.Thread(target=ask, name="metrics", daemon=True)]
            asking[0].start()
            asking[0].join(SLOW_S)
        if not answers:
            raise JournalError(f"the journal has not answered within {SLOW_S:g} s")
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    return collected


class Meter:
    """An observer of the line that counts what comes by."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()  # of the metrics that are filled here; others may join
        self.inspected: Counter[tuple[str, str]] = Counter()  # by station and evaluation
        self.took: dict[str, tuple[int, float]] = {}  # by step: how often, and the seconds of all together
        self._scores = Histogram(
            "edge_agent_score", "Anomaly scores, 0 to 1.", ["station"], buckets=BUCKETS, registry=self.registry
        )
        text = "From when a picture was taken until its verdict is recorded and told."
        self._verdicts = Histogram(
            "edge_agent_verdict_seconds", text, ["station"], buckets=VERDICT_S, registry=self.registry
        )

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        station = inspection.frame.station
        self.inspected[station, inspection.verdict.evaluation.value] += 1
        age_s = (datetime.now(timezone.utc) - inspection.frame.taken_at).total_seconds()
        self._verdicts.labels(station).observe(max(0.0, age_s))
        if inspection.reading is None:
            return
        self._scores.labels(station).observe(float(inspection.reading.score))
        for step, ms in inspection.timings.items():
            times, seconds = self.took.get(step, (0, 0.0))
            self.took[step] = times + 1, seconds + ms / 1e3


def about(agent: str, config_sha256: str) -> Iterator[Metric]:
    info = _gauge("info", "1, with what this agent is.", "agent", "version", "config_sha256")
    info.add_metric([agent, __version__, config_sha256], 1)
    yield info


def alarms(now: AgentNow) -> Iterator[Metric]:
    active = _gauge("alarm_active", "1 while a station's alarm of this kind stands.", "station", "kind")
    for name, station in now.stations.items():
        for kind in AlarmKind:
            active.add_metric([name, kind.value], kind in station.alarms)
    yield active


def frames(line: Line, sources: Sequence[Source], meter: Meter) -> Iterator[Metric]:
    """Collect what became of the frames: captured = inspected + dropped + on their way.

    Args:
        line: its inbox and counts.
        sources: their own counts.
        meter: inspections by station and evaluation.
    """
    captured = _counter("frames_captured", "Frames that a station's source took.", "station")
    dropped = _counter("frames_dropped", "Frames that were not inspected, or not recorded.", "station", "reason")
    inspected = _counter("frames_inspected", "Inspections that are in the journal.", "station", "evaluation")
    age = _gauge("frame_age_seconds", "Since a station's newest frame came.", "station")
    lost: Counter[tuple[str, str]] = line.inbox.dropped + line.counts.dropped
    for source in sources:
        counts = source.counts()
        lost.update({(source.station, reason): times for reason, times in counts.dropped.items()})
        captured.add_metric([source.station], counts.captured)
        if source.station in line.newest_at:
            age.add_metric([source.station], time.monotonic() - line.newest_at[source.station])
    for (station, reason), times in lost.items():
        dropped.add_metric([station, reason], times)
    for (station, evaluation), times in list(meter.inspected.items()):
        inspected.add_metric([station, evaluation], times)
    yield from (captured, dropped, inspected, age)


def undecided(lengths: Mapping[str, int]) -> Iterator[Metric]:
    row = _gauge("not_decidable_in_a_row", "How many of a station's last inspections were NotDecidable.", "station")
    for station, length in list(lengths.items()):
        row.add_metric([station], length)
    yield row


def connections(sources: Sequence[Source]) -> Iterator[Metric]:
    """Collect each source's status and events, such as a camera's losses or a folder's unreadable files."""
    events = _counter("source_events", "Events of a station's source, by kind.", "station", "event")
    up = _gauge("source_up", "0 while a station's source cannot give pictures.", "station")
    for source in sources:
        for kind, times in source.counts().events.items():
            events.add_metric([source.station, kind], times)
        up.add_metric([source.station], source.status().up)
    yield from (events, up)


def steps(stages: Sequence[Stage], meter: Meter) -> Iterator[Metric]:
    took = SummaryMetricFamily(
        "edge_agent_step_seconds", "What an inspection spends on each step, and how many did.", labels=["step"]
    )
    total: dict[str, tuple[int, float]] = {}
    for took_by in (*(stage.took for stage in stages), meter.took):
        for step, (times, seconds) in list(took_by.items()):
            before, spent = total.get(step, (0, 0.0))  # several threads keep evidence
            total[step] = (before + times, spent + seconds)
    for step, (times, seconds) in total.items():
        took.add_metric([step], times, seconds)
    yield took


def outbox(receivers: Mapping[str, Outbox]) -> Iterator[Metric]:
    messages = _gauge("outbox_messages", "Messages that wait for a receiver, such as the broker.", "receiver")
    age = _gauge("outbox_age_seconds", "Since the first of them was recorded.", "receiver")
    for name, queue in receivers.items():
        waiting, oldest = queue.outbox_depth()
        messages.add_metric([name], waiting)
        age.add_metric([name], (datetime.now(timezone.utc) - oldest).total_seconds() if oldest else 0.0)
    yield from (messages, age)


def sinks(all_: Sequence[Sink]) -> Iterator[Metric]:
    """Collect the measures of all sinks; those of one name are one metric."""
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for measure in (measure for sink in all_ for measure in sink.measures()):
        family = families.get(measure.name)
        if family is None:
            make = _counter if measure.counts_up else _gauge
            family = families[measure.name] = make(measure.name, measure.text, *measure.labels)
        family.add_metric(list(measure.labels.values()), measure.value)
    yield from families.values()


def evidence(store: Any, line: Line) -> Iterator[Metric]:
    yield CounterMetricFamily("edge_agent_evidence_kept", "Pictures that were written.", store.kept)
    yield CounterMetricFamily("edge_agent_evidence_lost", "Inspections of which one could not be.", store.lost)
    behind = _counter(
        "evidence_behind", "Inspections of which pictures were shrunk or dropped, the line being behind.", "what"
    )
    for state in (EvidenceState.SHRUNK, EvidenceState.DROPPED):
        behind.add_metric([state.value], line.keeping.behind[state])
    yield behind
    dropped = "Pictures that were deleted for want of room before they were too old, OK ones first."
    yield CounterMetricFamily("edge_agent_evidence_dropped", dropped, store.dropped)
    yield CounterMetricFamily(
        "edge_agent_detector_failures", "Pictures that a detector failed on.", line.counts.detector_failures
    )
    yield CounterMetricFamily("edge_agent_sink_failures", "Sinks that failed.", line.counts.sink_failures)


def recording(reason: str | None, line: Line) -> Iterator[Metric]:
    """Collect whether the journal records. reason: why it does not now; None while it does."""
    text = "0 while the journal takes nothing, so that nothing is inspected."
    yield GaugeMetricFamily("edge_agent_recording", text, reason is None)
    yield CounterMetricFamily(
        "edge_agent_journal_failures", "Attempts to record that the journal refused.", line.counts.journal_failures
    )


def disk(folders: Sequence[Path]) -> Iterator[Metric]:
    free = _gauge("disk_free_bytes", "Room on the disk of a folder.", "folder")
    for folder in dict.fromkeys(folders):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free.add_metric([str(folder)], shutil.disk_usage(there).free)
    yield free


def gpu() -> Iterator[Metric]:
    """Nothing unless the detectors use a GPU; asking torch earlier would make it use one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    memory = _gauge("gpu_memory_bytes", "Of the GPU: free and total, and what this agent has allocated.", "kind")
    free, total = torch.cuda.mem_get_info()
    for kind, size in (("free", free), ("total", total), ("allocated", torch.cuda.memory_allocated())):
        memory.add_metric([kind], size)
    yield memory


def stages(watchdog: Watchdog) -> Iterator[Metric]:
    silent = _gauge("stage_silent_seconds", "Since a thread last said that it lives.", "stage")
    hangs = _gauge("stage_hangs", "1 when that is longer than it may be.", "stage")
    for stage in watchdog.stages:
        silent.add_metric([stage.name], stage.silent_s)
        hangs.add_metric([stage.name], stage.hangs)
    yield from (silent, hangs)
    yield CounterMetricFamily("edge_agent_watchdog_pings", "Looks that found every thread alive.", watchdog.pings)


def drift(watch: DriftWatch) -> Iterator[Metric]:
    """Of stations whose calibration holds quantiles, once there are enough pictures."""
    active = _gauge("drift", "1 while a station's pictures are not as calibrated.", "station", "quantity")
    sigmas = _gauge("drift_sigmas", "How far off, in standard deviations of chance.", "station", "quantity")
    median = _gauge("drift_median", "Of the latest pictures.", "station", "quantity")
    for station, windows in list(watch.windows.items()):
        for quantity, window in windows.items():
            if window.drift is not None:
                active.add_metric([station, quantity], window.active)
                sigmas.add_metric([station, quantity], window.drift.sigmas)
                median.add_metric([station, quantity], window.drift.median)
    yield from (active, sigmas, median)


def reloads(counted: Mapping[str, int]) -> Iterator[Metric]:
    done = _counter("reloads", "Times that the configuration was read again.", "outcome")
    for outcome, times in counted.items():
        done.add_metric([outcome], times)
    yield done


def periodic(failures: Mapping[str, int]) -> Iterator[Metric]:
    failed = _counter("periodic_failures", "Times that a periodic task failed.", "task")
    for task, times in failures.items():
        failed.add_metric([task], times)
    yield failed


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"edge_agent_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"edge_agent_{name}", text, labels=labels)


def register(registry: CollectorRegistry, collectors: Mapping[str, Collect]) -> CollectorRegistry:
    """All collectors join what is served; their names are what failures are counted by."""
    registry.register(Guarded(collectors))
    return registry
