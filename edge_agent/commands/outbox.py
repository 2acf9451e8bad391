"""`edge-agent outbox`: the messages that wait for their receivers: list, retry or drop them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option, words
from edge_agent.commands.exits import OK

if TYPE_CHECKING:
    from edge_agent.journal.reader import JournalReader, QueuedMessage

MOST = 10_000  # numbers that one command takes


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent outbox`."""
    outbox = commands.add_parser(
        "outbox", help="messages that wait for a receiver: list, retry or drop them, beside a running agent"
    )
    actions = outbox.add_subparsers(required=True, metavar="ACTION")

    shown = actions.add_parser("list", help="the messages that wait, in the order of sending")
    config_option(shown)
    _receiver_option(shown)
    shown.add_argument("--dropped", action="store_true", help="list the dropped messages instead, with the reason")
    shown.add_argument("--json", action="store_true", help="one JSON object a message on stdout")
    shown.set_defaults(run=_list)

    again = actions.add_parser(
        "retry",
        help="send messages again",
        description="Have messages sent again that were dropped, or sent to a receiver that has lost them; they keep"
        " their ids. What waits is tried again without this: at once when the broker comes back, and at the latest"
        " every few minutes when it refuses.",
    )
    config_option(again)
    _receiver_option(again)
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "seqs", nargs="*", default=[], type=numbers, metavar="SEQ", help="as `list` shows it, or FROM-TO"
    )
    which.add_argument("--dropped", action="store_true", help="all that were dropped")
    again.set_defaults(run=_retry)

    drop = actions.add_parser("drop", help="drop waiting messages; the journal records the reason")
    config_option(drop)
    _receiver_option(drop)
    which = drop.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "seqs", nargs="*", default=[], type=numbers, metavar="SEQ", help="as `list` shows it, or FROM-TO"
    )
    which.add_argument("--station", help="all of this station")
    which.add_argument("--all", action="store_true", help="all waiting messages")
    drop.add_argument("--reason", required=True, type=words, help="the reason, recorded in the journal")
    drop.set_defaults(run=_drop)


def _receiver_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--receiver", metavar="NAME", help="for this receiver only, such as mqtt (default: all)")


def numbers(text: str) -> range:
    """ "17", or "17-20" with both ends."""
    first, dash, last = text.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash):
        found = range(int(first), int(last or first) + 1)
        if 0 < len(found) <= MOST:
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is no number such as 17 and no 17-20 of at most {MOST} numbers")


def _list(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    count, aside = 0, 0
    with _visited(options) as journal:
        aside = 0 if options.dropped else sum(1 for _ in journal.dropped(options.receiver))
        for one in (journal.dropped if options.dropped else journal.waiting)(options.receiver):
            count += 1
            if options.json:
                print(json.dumps({**asdict(one), "created_at": one.created_at.isoformat()}))
            else:
                print(_line(one))
    if not options.json:
        print(f"{count} message{'s' * (count != 1)} {'dropped' if options.dropped else 'waiting'}")
        if aside:
            print(f"{aside} dropped, or set aside as their receiver refuses them: edge-agent outbox list --dropped")
    return OK


def _line(one: QueuedMessage) -> str:
    what = one.payload.get("event") or one.payload.get("evaluation") or ""
    why = f"  dropped: {one.dropped}" if one.dropped else ""
    said = f"{one.seq:8}  {one.created_at:%Y-%m-%d %H:%M:%S} UTC  {one.receiver}  {one.station}/{one.kind}  {what}{why}"
    return " ".join(said.splitlines())


def _retry(options: argparse.Namespace) -> int:
    with _visited(options) as journal:
        count = journal.retry(seqs=None if options.dropped else _all(options.seqs), receiver=options.receiver)
    print(f"{count} message{'s' * (count != 1)} will be sent again")
    return OK


def _drop(options: argparse.Namespace) -> int:
    chosen = None if options.all or options.station else _all(options.seqs)
    with _visited(options) as journal:
        count = journal.drop(options.reason, seqs=chosen, station=options.station, receiver=options.receiver)
    print(f"{count} message{'s' * (count != 1)} dropped; `edge-agent outbox retry` brings them back")
    return OK


def _all(chosen: list[range]) -> list[int]:
    from edge_agent.errors import EdgeAgentError

    found = sorted({seq for some in chosen for seq in some})
    if len(found) > MOST:
        raise EdgeAgentError(f"{len(found)} numbers: at most {MOST} at once")
    return found


@contextmanager
def _visited(options: argparse.Namespace) -> Iterator[JournalReader]:
    from edge_agent.config.load import default_path, load_config
    from edge_agent.journal.reader import open_reader

    config = load_config(options.config or default_path())
    with open_reader(config.database.full_url()) as journal:
        yield journal
