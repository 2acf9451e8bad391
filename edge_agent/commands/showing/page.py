"""`edge-agent page`: shows what was inspected in a browser, as a process of its own beside the agent."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK
from edge_agent.commands.output import logging_to_stderr
from edge_agent.errors import ConfigError, EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.config.config import Config
    from edge_agent.page.access.accounts import Accounts
    from edge_agent.settings.page import PageConfig

ROLES = ("viewer", "operator", "engineer")  # page.accounts.Role, which takes time to import
ACCOUNTS = "page-accounts.json"  # in agent.data_dir


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent page`."""
    page = commands.add_parser(
        "page", help="show what was inspected in a browser; needs pip install 'edge-agent[page]'"
    )
    config_option(page)
    page.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="look through this journal, without a configuration: for browsers of this machine alone, and nothing can be changed",
    )
    page.add_argument("--port", type=int, help="default: as configured, else 8080; 0 takes one that is free")
    page.set_defaults(run=_page)
    further = page.add_subparsers(metavar="COMMAND")
    passwd = further.add_parser(
        "passwd", help="add an account, or change its role and password; without a name, list them"
    )
    # Not by config_option(): its default would replace what was given before the word passwd.
    passwd.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="as of edge-agent page")
    passwd.add_argument("name", nargs="?", help="as it is to be written into labels")
    passwd.add_argument(
        "--role",
        choices=ROLES,
        help="viewer looks (default), operator labels and acknowledges, engineer sets up stations, thresholds and masks, too",
    )
    passwd.add_argument("--remove", action="store_true", help="remove the account")
    passwd.set_defaults(run=lambda options: _passwd(options, passwd))


def _page(options: argparse.Namespace) -> int:
    from edge_agent.config.config import Config
    from edge_agent.config.database import sqlite_url
    from edge_agent.config.load import default_path, load_config

    logging_to_stderr(verbose=False)
    if options.journal and options.config:
        raise ConfigError("page: --journal goes without --config: the configuration names its journal")
    if options.journal:
        journal = sqlite_url(Path(os.path.abspath(options.journal)))
        stations = [{"name": "page", "source": {"folder": "."}}]
        config = Config.model_validate({"page": {}, "database": {"url": journal}, "stations": stations})
        return _serve(config, options.port, None, None)
    path = options.config or default_path()
    config = load_config(path)
    if config.page is None:
        raise ConfigError(
            "the page is off: add a section page: to the configuration (docs/page.md), or give --journal FILE"
        )
    accounts = _accounts(config)
    if config.page.is_exposed and not accounts.names():
        raise ConfigError(
            "page: others can reach it, so it takes accounts: make one with edge-agent page passwd NAME --role engineer"
        )
    return _serve(config, options.port, accounts, path)


def _serve(config: Config, port: int | None, accounts: Accounts | None, path: Path | None) -> int:
    """Serve the page of a journal.

    Args:
        config: says where, and what the journal and the stations are.
        port: None for the configured one.
        accounts: None only looks.
        path: the file that `config` came from; None for none.
    """
    from zoneinfo import ZoneInfo

    from edge_agent.core import MQTT
    from edge_agent.journal.labels import open_labels
    from edge_agent.journal.reader import open_reader
    from edge_agent.journal.review import open_review

    section, url = config.page, config.database.full_url()
    assert section is not None
    with needing_the_extra():
        from edge_agent.page.access.accounts import Role
        from edge_agent.page.access.sessions import Sessions
        from edge_agent.page.agent_state import agent_state
        from edge_agent.page.app import Line, application
        from edge_agent.page.changes import changes_of
        from edge_agent.page.configuring.config_file import ConfigFile
        from edge_agent.page.pictures import Pictures
        from edge_agent.page.serve import listen, server
    sessions = Sessions(
        accounts,
        local=Role[section.local.upper()] if accounts else Role.VIEWER,
        exposed=section.is_exposed,
        secure=section.tls is not None or bool(section.hosts),
        lasting_s=section.session_h * 3600,
    )
    tls = (section.tls.cert, section.tls.key_file()) if section.tls else None
    with (
        open_review(url) as journal,
        open_labels(url) as labels,
        open_reader(url) as outbox,
        listen(section.host, section.port if port is None else port) as opened,
    ):
        line = Line(
            [station.name for station in config.stations],
            outbox,
            (MQTT,) if config.mqtt else (),
            lambda: agent_state(config.health.port) if config.health else None,
            ConfigFile(path) if path else None,
        )
        app = application(
            journal,
            labels,
            Pictures(picture_cache(), section.cache_mb * 1e6),
            sessions,
            changes_of(config),
            hosts=[section.host, *section.hosts],
            zone=ZoneInfo(section.zone) if section.zone else None,
            line=line if accounts else None,
            shifts=section.shifts,
        )
        ready = server(app, tls)
        print(f"{_address(section, opened.getsockname()[1])} (Ctrl-C ends)", flush=True)
        ready.run(sockets=[opened])
    return OK


def _passwd(options: argparse.Namespace, command: argparse.ArgumentParser) -> int:
    from edge_agent.config.load import default_path, load_config
    from edge_agent.page.changes import Change, changes_of

    config = load_config(options.config or default_path())
    accounts, changes, who = _accounts(config), changes_of(config), getpass.getuser()
    known = accounts.names()
    if options.name is None:
        if options.remove or options.role:
            command.error("name the account")
        print("\n".join(f"{one.role:9} {name}" for name, one in known.items()) or "there are no accounts")
    elif options.remove:
        before = {"role": known[options.name].role if options.name in known else None}
        with changes.recording(Change(who, "account", options.name, before, {"role": None})):
            accounts.remove(options.name)
        print(f"{options.name} is removed, and signed out")
    else:
        role = options.role or (known[options.name].role if options.name in known else "viewer")
        before = {"role": known[options.name].role if options.name in known else None}
        password = _password(options.name)
        after = {"role": role, "password": "set"}
        with changes.recording(Change(who, "account", options.name, before, after)):
            accounts.put(options.name, role, password)
        print(f"{options.name} may sign in as {role}")
    return OK


def _password(name: str) -> str:
    """Ask for a new password, twice; where there is no terminal, read it as one line."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"password for {name}: ")
    if getpass.getpass("the same again: ") != password:
        raise ConfigError("the two passwords differ: nothing was changed")
    return password


def _accounts(config: Config) -> Accounts:
    with needing_the_extra():
        from edge_agent.page.access.accounts import Accounts
    return Accounts(config.agent.data_dir / ACCOUNTS)


@contextmanager
def needing_the_extra() -> Iterator[None]:
    """Say how to install what an import lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise EdgeAgentError(f"the page needs {error.name}: pip install 'edge-agent[page]'") from error


def _address(section: PageConfig, port: int) -> str:
    name = section.hosts[0] if section.hosts and section.tls else section.host
    return f"{'https' if section.tls else 'http'}://{f'[{name}]' if ':' in name else name}:{port}/"


def picture_cache() -> Path:
    """Return the folder of small pictures: systemd's CacheDirectory=, else one of this user."""
    from platformdirs import user_cache_path

    given = os.environ.get("CACHE_DIRECTORY")
    return Path(given.split(":")[0], "page") if given else user_cache_path("edge-agent") / "page"
