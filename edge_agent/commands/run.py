"""`edge-agent run`: the daemon."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from threading import Event
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.output import fields, heard_by_journald, logging_to_stderr, one_line
from edge_agent.commands.signals import reloaded_by_hangups, stopped_by_signals

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.config.config import Config
    from edge_agent.core import Evidence, Inspection


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent run`."""
    run = commands.add_parser("run", help="the daemon: inspect every new picture until stopped")
    config_option(run)
    run.add_argument("--verbose", action="store_true", help="log every inspection, not only those that are not OK")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config

    path = options.config or default_path()
    with reloaded_by_hangups() as hung_up:
        return _watch(load_config(path), path, hung_up, options)


def _watch(config: Config, path: Path, hung_up: Event, options: argparse.Namespace) -> int:
    """The daemon; apart from the reading of its config, as what it imports takes seconds."""
    import logging
    import os

    from edge_agent import build
    from edge_agent.config.load import load_config
    from edge_agent.config.reload import change
    from edge_agent.core import Evaluation, Sink
    from edge_agent.errors import EdgeAgentError
    from edge_agent.evidence.retention import Retention
    from edge_agent.health.drift import DriftWatch
    from edge_agent.health.systemd import notifier, watchdog_s
    from edge_agent.health.watchdog import Watchdog, watching
    from edge_agent.journal.journal import Journal
    from edge_agent.line.heartbeat import PATIENCE_S
    from edge_agent.line.judge import AlarmState
    from edge_agent.line.pipeline import Line, warm_up

    log = logging_to_stderr(options.verbose)
    manager, limit_s = notifier(os.environ), watchdog_s(os.environ, os.getpid())
    for warning in config.warnings:
        log.warning("%s", warning)
    if config.mqtt and config.mqtt.password:
        config.mqtt.password.read()  # missing ones are told now, not at every connection

    loader = build.loader(config)
    stations = build.stations(config, loader)
    for station in stations.values():
        log.info("station %s: %s, threshold %.3f", station.name, station.trace.model, station.rules.threshold)
    picture_s = warm_up(stations.values(), config.limits.batch_size)
    with closing(Journal.open(config.database.full_url(), ballast=True)) as journal:
        store = build.evidence_store(config.evidence)
        alarms = journal.last_alarm_states()
        sinks: list[Sink] = [
            Retention(
                store.sweep,
                journal,
                keep_days=config.database.keep_days,
                keep_gb=config.database.keep_gb,
                take_removed=store.take_removed,
            )
        ]
        sender = build.sender(config.mqtt, config.agent.name, journal, alarms) if config.mqtt else None
        if sender:
            sinks.append(sender)
        meter = build.meter() if config.health else None
        if meter:
            sinks.append(meter)
        drift = DriftWatch(sender.drifted) if sender else DriftWatch()
        drift.expect({one.name: one.calibration for one in config.stations})
        sinks.append(drift)
        searched = heard_by_journald(os.environ, 2)

        def report(inspection: Inspection, evidence: Evidence) -> None:
            quiet = inspection.verdict.evaluation is Evaluation.OK and inspection.verdict.alarm is None
            level = logging.DEBUG if quiet else logging.INFO
            if searched:
                log.log(level, "%s", fields(inspection))
            else:
                log.log(level, "%s: %s", inspection.frame.station, one_line(inspection, colour=False))

        commands = build.commands(config, journal)
        sources = [build.source(one, journal, config.limits.max_megapixels, commands) for one in config.stations]
        line = Line(
            sources,
            stations,
            store,
            journal,
            build.announce(config.mqtt),
            sinks,
            alarms={name: AlarmState(active) for name, active in alarms.items()},
            batch=config.limits.batch_size,
            max_wait_s=config.limits.max_wait_ms / 1e3,
            report=report,
            picture_s=picture_s,
        )

        def status() -> str:
            counts = line.counts
            return f"{counts.inspected} inspected, {counts.not_ok} NotOK, {counts.not_decidable} NotDecidable"

        def started() -> None:
            log.info("ready: watching %d station%s; stop with Ctrl-C", len(stations), "s" * (len(stations) != 1))
            manager.ready(status())
            is_ready.set()

        is_ready = Event()
        reloads = {"done": 0, "refused": 0}

        def reload() -> None:
            nonlocal config
            manager.reloading()
            try:
                new = load_config(path)
                planned = change(config, new)
                stations = build.stations(planned.config, loader)
            except EdgeAgentError as error:
                for one in str(error).splitlines():
                    log.error("%s", one)
                log.error("%s is refused: the configuration of before goes on", path)
                reloads["refused"] += 1
            else:
                for warning in new.warnings:
                    log.warning("%s", warning)
                config = planned.config

                def follow() -> None:
                    drift.expect({one.name: one.calibration for one in planned.config.stations})

                line.change(stations, follow)
                for key in planned.waiting:
                    log.warning("%s: needs a restart; till then it stays as it was", key)
                reloads["done"] += 1
                log.info("reloaded %s: %s", path, ", ".join(planned.changed) or "nothing has changed")
            manager.ready(status())

        stages = [*line.stages, *(one.stage for one in (sender, commands) if one)]
        watchdog = Watchdog(stages, manager, status, limit_s or PATIENCE_S)
        with ExitStack() as around:
            around.enter_context(watching(watchdog, (limit_s or PATIENCE_S) / 2))
            if config.health and meter:
                from edge_agent.health.server import serving

                registry = build.registry(
                    config, line, sources, meter, journal, sender, store, watchdog, drift, reloads, commands
                )
                around.enter_context(serving(config.health.port, registry, lambda: watchdog.health(is_ready.is_set())))
            try:
                with stopped_by_signals() as stop:

                    def between() -> None:
                        if stop.is_set():
                            manager.stopping()
                        elif hung_up.is_set():
                            hung_up.clear()
                            reload()

                    line.run(stop, started=started, between=between)
            finally:
                if commands:
                    commands.close()
                for sink in sinks:
                    sink.close()
        log.info("stopped: %s", status())
    return OK
