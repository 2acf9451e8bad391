"""Shared by all soaks: a camera that writes pictures into a folder, and the count of what became of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from tests.agent import journalled
from tests.made import png
from tests.mosquitto import Listener


def picture(number: int, height: int = 48, width: int = 64) -> bytes:
    """A PNG of noise, three bytes a pixel, another one for each number."""
    return png(np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8))


class Camera:
    """Writes a picture into a folder every `every_s` seconds: in one go, in two halves, or under another name first."""

    def __init__(self, folder: Path, every_s: float, draw: Callable[[int], bytes] = picture) -> None:
        self._folder, self._every_s, self._draw = folder, every_s, draw
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera")
        self.written: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0.0)):
            due += self._every_s
            number = len(self.written)
            path = self._folder / f"{number:06}.png"
            content = self._draw(number)
            if number % 3 == 0:
                path.write_bytes(content)
            elif number % 3 == 1:
                with path.open("wb", buffering=0) as file:
                    file.write(content[: len(content) // 2])
                    self._stop.wait(self._every_s / 2)
                    file.write(content[len(content) // 2 :])
            else:
                unfinished = path.with_suffix(".part")
                unfinished.write_bytes(content)
                unfinished.rename(path)
            self.written.append(f"{self._folder.name}/{path.name}")


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Wait until the condition holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def faults_of(journal: Path) -> list[str]:
    """What SQLite finds wrong with a copy of a journal, which leaves the recovery of the file itself to the agent."""
    if not journal.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        for file in (journal, Path(f"{journal}-wal")):
            if file.exists():
                shutil.copyfile(file, Path(folder) / file.name)
        try:
            with closing(sqlite3.connect(Path(folder) / journal.name)) as database:
                found = [row[0] for row in database.execute("PRAGMA integrity_check")]
                found += [str(row) for row in database.execute("PRAGMA foreign_key_check")]
        except sqlite3.Error as error:
            return [str(error)]
    return [one for one in found if one != "ok"]


def account(written: list[str], journal: Path, listener: Listener) -> dict[str, int]:
    """How many pictures and alarms there were, and how many went wrong, by the way in which they did."""
    rows = journalled(journal)
    alarms = [row["id"] for row in rows if row["alarm"]]
    heard = listener.payloads("alarm")
    recorded = Counter("/".join(Path(row["origin"]).parts[-2:]) for row in rows)
    seqs = {payload["id"]: payload["seq"] for payload in heard}
    first = [seqs[id_] for id_ in listener.ids("alarm")]
    return {
        "pictures": len(written),
        "pictures_never_recorded": sum(name not in recorded for name in written),
        "pictures_recorded_twice": sum(count - 1 for count in recorded.values()),
        "not_ok_recorded": sum(row["evaluation"] == "NotOK" for row in rows),
        "alarms_recorded": len(alarms),
        "alarms_never_delivered": len(set(alarms) - set(listener.ids("alarm"))),
        "alarms_delivered_that_no_row_knows": len(set(listener.ids("alarm")) - set(alarms)),
        "first_deliveries_out_of_order": sum(later < earlier for earlier, later in itertools.pairwise(first)),
        "redeliveries": len(heard) - len(listener.ids("alarm")),
        "redeliveries_with_another_content": _contents(heard) - len(listener.ids("alarm")),
        "alarms_waiting_in_the_end": waiting(journal),
        "evidence_named_but_missing_or_changed": sum(not whole for whole in _evidence(rows)),
    }


WRONG = (
    "pictures_never_recorded",
    "pictures_recorded_twice",
    "alarms_never_delivered",
    "alarms_delivered_that_no_row_knows",
    "first_deliveries_out_of_order",
    "redeliveries_with_another_content",
    "alarms_waiting_in_the_end",
    "evidence_named_but_missing_or_changed",
)


def _contents(heard: list[dict[str, Any]]) -> int:
    """How many different alarms were heard; a late one is the same alarm."""
    return len({json.dumps(payload | {"historical": None}, sort_keys=True) for payload in heard})


def recorded(journal: Path) -> int:
    """How many inspections a journal holds."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM inspections").fetchone()
        return int(count)


def waiting(journal: Path) -> int:
    """How many messages of a journal are not sent yet, and how many inspections have theirs still to come."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        (unsent,) = database.execute("SELECT count(*) FROM deliveries WHERE sent_at IS NULL").fetchone()
        (to_come,) = database.execute("SELECT count(*) FROM inspections WHERE evidence = 'pending'").fetchone()
        return int(unsent + to_come)


def _evidence(rows: list[dict[str, Any]]) -> Iterator[bool]:
    """Whether each picture that the journal names lies on disk as it says."""
    for row in rows:
        for kind in ("image", "overlay"):
            if uri := row[f"{kind}_uri"]:
                path = Path(unquote(urlsplit(uri).path))
                yield path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == row[f"{kind}_sha256"]
