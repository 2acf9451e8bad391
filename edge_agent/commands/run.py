"""`edge-agent run`: the daemon."""

from __future__ import annotations

import argparse

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.output import inspection_log, logging_to_stderr
from edge_agent.commands.signals import reloaded_by_hangups, stopped_by_signals
from edge_agent.errors import CheckpointError, ConfigError, DeviceMissing


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent run`."""
    run = commands.add_parser("run", help="the daemon: inspect every new picture until stopped")
    config_option(run)
    run.add_argument("--verbose", action="store_true", help="log every inspection, not only those that are not OK")
    run.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import os

    from edge_agent.config.load import default_path, load_config

    path = options.config or default_path()
    with reloaded_by_hangups() as reload_asked:
        config = load_config(path)
        from edge_agent.daemon import Agent  # imports for seconds: a bad config is reported before
        from edge_agent.health.systemd import notifier, watchdog_s

        log = logging_to_stderr(options.verbose, config.agent.name)
        for warning in config.warnings:
            log.warning("%s", warning)
        watchdog = watchdog_s(os.environ, os.getpid())
        try:
            agent = Agent(config, path, notifier(os.environ), watchdog_s=watchdog, report=inspection_log(log))
        except DeviceMissing:
            raise
        except CheckpointError as error:  # which no restart mends
            raise ConfigError(str(error)) from error
        with agent:
            with stopped_by_signals() as stop:
                agent.run(stop, reload_asked)
            log.info("stopped: %s", agent.status())
    return OK
