"""A journal with pictures for the page to show, small and whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from argon2 import PasswordHasher
from starlette.applications import Starlette
from starlette.testclient import TestClient

from edge_agent.core import MQTT, AlarmEvent, Evaluation, Inspection
from edge_agent.evidence.store import EvidenceStore
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import open_labels
from edge_agent.journal.reader import open_reader
from edge_agent.journal.review import open_review
from edge_agent.journal.rows import RecordedInspection
from edge_agent.page.access.accounts import Accounts, Role
from edge_agent.page.access.sessions import Sessions
from edge_agent.page.agent_state import AgentState
from edge_agent.page.app import Line, application
from edge_agent.page.changes import NAME as CHANGES
from edge_agent.page.changes import Changes
from edge_agent.page.configuring.config_file import ConfigFile
from edge_agent.page.pictures import Pictures
from tests.line import inspected
from tests.made import gradient

TEN = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


def part(minute: int, evaluation: Evaluation, score: float, **more: object) -> Inspection:
    """Build an inspection of a picture with known pixels, so many minutes after ten o'clock."""
    alarm = AlarmEvent.RAISED if evaluation is Evaluation.NOT_OK else None
    return inspected(
        alarm,
        evaluation=evaluation,
        score=score,
        pixels=gradient(48, 64, seed=minute),
        taken_at=TEN.replace(hour=10 + minute // 60, minute=minute % 60),
        **more,  # type: ignore[arg-type]
    )


def shift() -> list[Inspection]:
    """Build two hours of two stations: good parts, one of them borderline, defects, and one that could not be judged."""
    return [
        part(0, Evaluation.OK, 0.1),
        part(5, Evaluation.NOT_OK, 0.9, part_id="SN-bad-1"),
        part(10, Evaluation.OK, 0.6, part_id="SN-border"),
        part(15, Evaluation.OK, 0.2, station="cam2"),
        part(20, Evaluation.NOT_OK, 0.8, part_id="SN-bad-2", station="cam2"),
        part(65, Evaluation.NOT_OK, 0.7, part_id="SN-bad-3"),
    ]


def journal_of(folder: Path, inspections: Sequence[Inspection]) -> list[RecordedInspection]:
    """Record inspections with their pictures in FOLDER/journal.db, and return them as recorded, in their order."""
    store = EvidenceStore(folder / "evidence", originals="all", overlays="all")
    with closing(Journal.open(f"sqlite:///{folder}/journal.db")) as journal:
        for one in inspections:
            assert journal.record(one, store.save(one), [])
        by_id = {one.id: one for one in journal.inspections()}
    return [by_id[one.id] for one in inspections]


@contextmanager
def page(
    folder: Path,
    *,
    accounts: Accounts | None = None,
    local: Role = Role.VIEWER,
    exposed: bool = False,
    secure: bool = False,
    keep_bytes: float = 1e6,
    stations: Sequence[str] | None = None,
    agent: Callable[[], AgentState | None] = lambda: None,
    config: Path | None = None,
) -> Iterator[Starlette]:
    """Give the page of FOLDER/journal.db, in UTC.

    Args:
        folder: of the journal; the cache is in it, too.
        accounts: who may sign in; default nobody.
        local: what may be done without an account.
        exposed: whether accounts are needed even so.
        secure: whether cookies go over TLS alone.
        keep_bytes: of the cache.
        stations: of the agent beside it; None for no agent.
        agent: how that agent is.
        config: its config.yaml; None for one that the page may not change.
    """
    url = f"sqlite:///{folder}/journal.db"
    sessions = Sessions(accounts, local=local, exposed=exposed, secure=secure)
    with open_review(url) as journal, open_labels(url) as labels, open_reader(url) as outbox:
        pictures = Pictures(folder / "cache", keep_bytes)
        line = (
            None if stations is None else Line(stations, outbox, (MQTT,), agent, ConfigFile(config) if config else None)
        )
        hosts = ["page.example"]
        changes = Changes(folder / CHANGES)
        yield application(journal, labels, pictures, sessions, changes, hosts=hosts, zone=timezone.utc, line=line)


def accounts_of(folder: Path, clock: Callable[[], float] = time.monotonic) -> Accounts:
    """Return accounts of three people, one of each role, whose passwords are their names, twice, and hashed in no time."""
    accounts = Accounts(folder / "page-accounts.json", PasswordHasher(1, 8, 1), clock)
    for name, role in (("vera", "viewer"), ("oscar", "operator"), ("erika", "engineer")):
        accounts.put(name, role, password_of(name))
    return accounts


def password_of(name: str) -> str:
    """Return the password that accounts_of() gives a name."""
    return f"{name}, {name}!"


def token_in(html: str) -> str:
    """Return what the forms of a view have to carry."""
    return re.search(r'name="token" value="([0-9a-f]{64})"', html)[1]  # type: ignore[index]


def sign_in(client: TestClient, name: str) -> None:
    """Sign in, as the form does."""
    form = {
        "token": token_in(client.get("/sign-in").text),
        "name": name,
        "password": password_of(name),
        "next": "/review",
    }
    answer = client.post("/sign-in", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")


def mean(pixels: np.ndarray) -> list[int]:
    """Return the mean colour of a picture."""
    return [round(value) for value in pixels.reshape(-1, 3).mean(axis=0)]
