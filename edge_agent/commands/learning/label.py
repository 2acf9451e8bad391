"""`edge-agent label`: record what people say of inspections, from a file."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option, words
from edge_agent.commands.exits import OK

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edge_agent.config.config import Config
    from edge_agent.journal.labels import Labels, Statement

FILE_OF_LABELS = (
    "a table as `edge-agent export` writes it with its column label filled in, or any CSV or JSON with inspection, label and, if wanted,"
    " kind, box (x y width height in pixels) and note; label is good, defect, unsure, or none to take back what was said"
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent label`."""
    label = commands.add_parser(
        "label", help="record which inspections were false alarms and which were defects, beside a running agent"
    )
    config_option(label)
    label.add_argument("--station", help="whose inspections they are; needed where the config has several")
    label.add_argument("--labels", type=Path, required=True, metavar="FILE", help=FILE_OF_LABELS)
    who_option(label)
    label.set_defaults(run=_label)


def who_option(command: argparse.ArgumentParser) -> None:
    """Add --who to a command that records labels."""
    command.add_argument("--who", type=words, help="who says it (default: the name of the user who runs this)")


def who(options: argparse.Namespace) -> str:
    """Return who says it."""
    return str(options.who or getpass.getuser())


def recording(new: list[Statement], labels: Labels, config: Config, who: str) -> AbstractContextManager[None]:
    """Return what writes labels into the log of changes while they are said.

    Args:
        new: the labels.
        labels: knows what was said before.
        config: of the agent.
        who: says them.
    """
    from edge_agent.page.changes import Change, changes_of, label_state

    holding = labels.latest(one.inspection for one in new)
    return changes_of(config).recording(
        *(
            Change(
                who,
                "label",
                one.inspection,
                label_state(holding.get(one.inspection)),
                label_state(one),
                reason=one.note or "",
            )
            for one in new
        )
    )


def said_in(statements: list[Statement]) -> str:
    """Return how many statements say what, in words."""
    counts: dict[str, int] = {}
    for one in statements:
        counts[one.value.value] = counts.get(one.value.value, 0) + 1
    return ", ".join(f"{count} {value}" for value, count in sorted(counts.items())) or "nothing new"


def _label(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config
    from edge_agent.journal.labels import open_labels
    from edge_agent.journal.reader import open_reader
    from edge_agent.learn.label_file import news, read_labels

    config = load_config(options.config or default_path())
    station, url = config.station(options.station), config.database.full_url()
    with open_reader(url) as reader, open_labels(url) as labels:
        statements = read_labels(options.labels, reader, station.name)
        new = news(statements, labels)
        if new:
            with recording(new, labels, config, who(options)):
                labels.say_all(new, who(options))
    old = len(statements) - len(new)
    print(f"recorded: {said_in(new)}" + (f"; {old} said already" if old else ""))
    return OK
