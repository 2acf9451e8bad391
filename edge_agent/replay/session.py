"""A replay: stored pictures inspected as a station would, recorded in a folder; continues where an earlier one stopped."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_agent import build
from edge_agent.backbones.weights.store import search_folders
from edge_agent.config.config import Config
from edge_agent.config.database import sqlite_url
from edge_agent.config.station import StationConfig
from edge_agent.core import AgentNow, Evidence, Inspection, SinkContext
from edge_agent.errors import EdgeAgentError
from edge_agent.evidence.choices import Kept
from edge_agent.evidence.contact_sheet import ContactSheet
from edge_agent.io.drawings import CONTACT_SHEET
from edge_agent.journal.journal import Journal
from edge_agent.replay import distributed, resume
from edge_agent.replay.local import replay_here
from edge_agent.replay.sheet import add_inspection, add_recorded, save_sheet
from edge_agent.replay.summary import summary
from edge_agent.sources.stored import StoredSource

SEND_S = 60.0  # how long to wait at the end for the broker to take what waits
Inspect = Callable[[threading.Event], Iterator[tuple[Inspection, Evidence]]]  # ends early once the event is set


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay, and how.

    Args:
        paths: pictures, videos, folders or globs.
        out: folder for journal, evidence and contact sheet.
        every: of videos, take every N-th frame.
        overlays: of which verdicts an overlay is kept.
        again: inspect everything, instead of continuing an earlier replay.
        workers: processes that decode ahead, or that inspect with `cluster`; None chooses.
        cluster: address of the Ray cluster that inspects, or "local"; None inspects in this process.
        publish: send messages to the config's broker.
    """

    paths: Sequence[str]
    out: Path
    every: int = 1
    overlays: Kept = "all"
    again: bool = False
    workers: int | None = None
    cluster: str | None = None
    publish: bool = False


class Replay:
    """A replay under way, as `open_replay` makes it.

    before: how many pictures earlier runs have inspected. total: how many there are with those; None with videos.
    send_rest: call it after the last inspection; it returns how many messages could not be sent.
    """

    def __init__(
        self,
        out: Path,
        total: int | None,
        earlier: resume.Progress,
        sheet: ContactSheet,
        inspect: Inspect,
        send_rest: Callable[[], int],
        *,
        has_pixels: bool,
    ) -> None:
        """Start the clock.

        Args:
            out: folder of the results, absolute.
            total: the number of pictures; None if it is unknown.
            earlier: what earlier runs have inspected.
            sheet: contact sheet that has those on it already.
            inspect: inspects and records the others.
            send_rest: sends the messages that wait; returns how many could not be sent.
            has_pixels: whether the frames of the inspections have their pixels.
        """
        self.total, self.before = total, earlier.counts.total()
        self._out, self._sheet, self._inspect, self.send_rest = out, sheet, inspect, send_rest
        self._counts, self._has_pixels = earlier.counts.copy(), has_pixels
        self._started = time.monotonic()

    def inspections(self, stop: threading.Event) -> Iterator[tuple[Inspection, Evidence]]:
        """Yield each inspection once it is recorded, until all are done or `stop` is set. Raises EdgeAgentError."""
        for inspection, evidence in self._inspect(stop):
            self._counts[inspection.verdict.evaluation] += 1
            add_inspection(self._sheet, inspection, evidence, has_pixels=self._has_pixels)
            yield inspection, evidence

    def finish(self) -> str:
        """Write the contact sheet and return the summary. Raises EdgeAgentError."""
        seconds, path = time.monotonic() - self._started, self._out / CONTACT_SHEET
        save_sheet(self._sheet, path)
        return summary(self._counts, self.before, seconds, self._out, path)


@contextmanager
def open_replay(config: Config, chosen: StationConfig, options: ReplayOptions) -> Iterator[Replay]:
    """Load the detector, open the journal in the folder, and find what earlier runs have inspected.

    Args:
        config: the broker, the limits and where fetched models are.
        chosen: how the pictures are judged: a station of `config`, perhaps changed.
        options: see ReplayOptions.

    Raises:
        EdgeAgentError: if a path has no pictures, the model does not load, or the folder cannot be continued.
    """
    out = Path(os.path.abspath(options.out))
    source = StoredSource(
        chosen.name,
        options.paths,
        every=options.every,
        max_megapixels=config.limits.max_megapixels,
        bit_depth=chosen.source.stored_bit_depth,
        leave_out=out,
        recursive=chosen.source.stored_recursive,
        workers=options.workers,
    )
    if options.cluster and source.count is None:
        raise EdgeAgentError("--distributed takes pictures alone, and there are videos here: replay those without it")
    station = build.station(chosen, build.loader(config), config.sha256)
    with ExitStack() as open_parts:
        if options.cluster:
            open_parts.enter_context(distributed.cluster(options.cluster))
        journal = open_parts.enter_context(
            closing(Journal.open(sqlite_url(out / "journal.db"), agent=config.agent.name))
        )
        rules = resume.judging_rules(station, chosen.detector.class_name)
        after = resume.start_after(out, journal, station.name, rules, again=options.again)
        earlier, sheet = resume.Progress(), ContactSheet(threshold=station.rules.threshold)
        for outcome in journal.outcomes(station.name, after):
            earlier.add(outcome, station.name, station.rules)
            add_recorded(sheet, outcome)
        source.skip(earlier.has_inspected)
        identity = build.identity(config, journal)
        now = AgentNow(config.sha256, {})  # it has no stations that stand anywhere
        context = SinkContext(identity, journal.outbox, lambda: now, replay=True)
        sinks = [section.build(context) for section in config.sinks().values()] if options.publish else []

        def send_rest() -> int:
            for sink in sinks:
                sink.close(SEND_S)
            return sum(journal.outbox(name).outbox_depth()[0] for sink in sinks if (name := sink.receiver))

        evidence, build_messages, batch = out / "evidence", build.message_builder(sinks), config.limits.batch_size
        inspect: Inspect
        if options.cluster:
            models = search_folders(config.agent.data_dir)
            inspect = partial(
                distributed.replay,
                source.unknown_pictures,
                distributed.Task(source.part([]), chosen, config.sha256, models, options.overlays),
                station,
                evidence,
                journal,
                build_messages,
                batch=batch,
                workers=options.workers or None,
                first_seq=earlier.counts.total(),
                alarms=earlier.alarms,
            )
        else:
            inspect = partial(
                replay_here,
                source,
                station,
                evidence,
                journal,
                build_messages,
                overlays=options.overlays,
                batch=batch,
                alarms=earlier.alarms,
            )
        yield Replay(out, source.count, earlier, sheet, inspect, send_rest, has_pixels=not options.cluster)
