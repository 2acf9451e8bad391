"""`edge-agent page`: shows what was inspected in a browser, as a process of its own beside the agent."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge_agent.commands.exits import OK
from edge_agent.commands.output import logging_to_stderr
from edge_agent.errors import EdgeAgentError

HOST, PORT = "127.0.0.1", 8080
CACHE_BYTES = 500e6  # of small pictures


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent page`."""
    page = commands.add_parser(
        "page", help="show what was inspected in a browser; needs pip install 'edge-agent[page]'"
    )
    page.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        required=True,
        help="look through this journal, for this machine alone; changes nothing",
    )
    page.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0 takes one that is free")
    page.set_defaults(run=_page)


def _page(options: argparse.Namespace) -> int:
    from edge_agent.config.database import sqlite_url
    from edge_agent.journal.review import open_review

    try:
        from edge_agent.page.app import application
        from edge_agent.page.pictures import Pictures
        from edge_agent.page.serve import listen, serve
    except ModuleNotFoundError as error:
        raise EdgeAgentError(f"the page needs {error.name}: pip install 'edge-agent[page]'") from error

    logging_to_stderr(verbose=False)
    with (
        open_review(sqlite_url(Path(os.path.abspath(options.journal)))) as journal,
        listen(HOST, options.port) as opened,
    ):
        app = application(journal, Pictures(_cache(), CACHE_BYTES))
        print(f"http://{HOST}:{opened.getsockname()[1]}/ shows {options.journal} (Ctrl-C ends)", flush=True)
        serve(app, opened)
    return OK


def _cache() -> Path:
    """Return the folder of small pictures: systemd's CacheDirectory=, else one of this user."""
    from platformdirs import user_cache_path

    given = os.environ.get("CACHE_DIRECTORY")
    return Path(given.split(":")[0], "page") if given else user_cache_path("edge-agent") / "page"
