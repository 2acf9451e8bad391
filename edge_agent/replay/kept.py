"""The pictures that were kept of a station's inspections, for replaying them."""

from __future__ import annotations

import os
from datetime import datetime
from urllib.parse import unquote, urlsplit

from edge_agent.errors import EdgeAgentError
from edge_agent.journal.reader import open_reader


def kept_pictures(url: str, station: str, since: datetime | None = None, until: datetime | None = None) -> list[str]:
    """Return the paths of the originals that are still there, in the order in which they were taken.

    Args:
        url: of the journal, see journal/database.py.
        station: of this station.
        since: taken at this moment or later, aware; None (default) for no lower limit.
        until: taken before this moment, aware; None (default) for no upper limit.

    Raises:
        JournalError: the journal cannot be read.
        EdgeAgentError: there are none.
    """
    with open_reader(url) as journal:
        pages = journal.inspections(since, until, station)
        kept = [one.evidence.image for page in pages for one in page if one.evidence.image and not one.simulated]
    paths = [unquote(urlsplit(image.uri).path) for image in kept]
    there = [path for path in paths if os.path.exists(path)]
    if not there:
        raise EdgeAgentError(
            f"no picture of {station} is kept of that time: evidence.originals says of which verdicts they are, "
            "evidence.keep_days for how long"
        )
    return there
