"""`edge-agent run`: the daemon."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.signals import stopped_by_signals
from edge_agent.commands.told import logging_to_stderr, one_line

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.core import Evidence, Inspection


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent run`."""
    run = commands.add_parser("run", help="the daemon: inspect every new picture until stopped")
    config_option(run)
    run.add_argument("--verbose", action="store_true", help="log every inspection, not only those that are not OK")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from edge_agent.config import default_path, load_config

    return _watch(load_config(options.config or default_path()), options)


def _watch(config: Config, options: argparse.Namespace) -> int:
    """The daemon; apart from the reading of its config, as what it imports takes seconds."""
    import logging

    from edge_agent import build
    from edge_agent.core import Evaluation, Sink
    from edge_agent.journal import Journal
    from edge_agent.judge import AlarmState
    from edge_agent.pipeline import Line
    from edge_agent.sinks.retention import Retention

    log = logging_to_stderr(options.verbose)
    for warning in config.warnings:
        log.warning("%s", warning)
    if config.mqtt and config.mqtt.password:
        config.mqtt.password.read()  # missing ones are told now, not at every connection

    stations = build.stations(config, build.loader(config))
    for station in stations.values():
        log.info("station %s: %s, threshold %.3f", station.name, station.trace.model, station.rules.threshold)
    with closing(Journal.open(config.database.full_url())) as journal:
        gallery = build.gallery(config.evidence, stations)
        alarms = journal.last_alarm_states()
        sinks: list[Sink] = [
            Retention(gallery.sweep, journal, keep_days=config.database.keep_days, keep_gb=config.database.keep_gb)
        ]
        if config.mqtt:
            sinks.append(build.sender(config.mqtt, config.agent.name, journal, alarms))

        def report(inspection: Inspection, evidence: Evidence) -> None:
            quiet = inspection.verdict.evaluation is Evaluation.OK and inspection.verdict.alarm is None
            level = logging.DEBUG if quiet else logging.INFO
            log.log(level, "%s: %s", inspection.frame.station, one_line(inspection, colour=False))

        line = Line(
            [build.source(one, journal, config.limits.max_megapixels) for one in config.stations],
            stations,
            gallery,
            journal,
            build.announce(config.mqtt),
            sinks,
            alarms={name: AlarmState(active) for name, active in alarms.items()},
            batch=config.limits.batch_size,
            report=report,
        )
        log.info("ready: watching %d station%s; stop with Ctrl-C", len(stations), "s" * (len(stations) != 1))
        try:
            with stopped_by_signals() as stop:
                line.run(stop)
        finally:
            for sink in sinks:
                sink.close()
        log.info(
            "stopped: %d inspected, %d NotOK, %d NotDecidable",
            line.counts.inspected,
            line.counts.not_ok,
            line.counts.not_decidable,
        )
    return OK
