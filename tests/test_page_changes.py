"""The log of changes: every one that people make is in it, before and after, and none without it is made."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import threading
from contextlib import closing, contextmanager

import pytest
from starlette.testclient import TestClient

from edge_agent.cli import main
from edge_agent.core import AlarmEvent, Evidence
from edge_agent.errors import EdgeAgentError
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import open_labels
from edge_agent.page.access.accounts import Role
from edge_agent.page.changes import NAME, OLDER, Change, Changes
from tests.line import inspected
from tests.made import gradient
from tests.pages import accounts_of, journal_of, page, shift, sign_in, token_in


@contextmanager
def no_file_longer_than(size):
    """Have the disk refuse to make any file longer: what a full one does, for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def change(number: int = 0) -> Change:
    return Change("anna", "threshold", "cam1", {"threshold": number}, {"threshold": number + 1}, "finer", "dust")


def test_a_change_is_written_before_it_is_made_and_taken_back_where_it_fails(tmp_path):
    changes = Changes(tmp_path / NAME)
    with changes.recording(change(1)):
        assert json.loads((tmp_path / NAME).read_text())["who"] == "anna"
    with pytest.raises(ValueError, match="refused"), changes.recording(change(2), change(3)):
        raise ValueError("refused")
    assert changes.newest(10) == [changes.newest(1)[0]]
    assert changes.newest(1)[0].before == {"threshold": 1}
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640


def test_the_newest_come_first_and_the_oldest_go_where_the_log_grows_too_long(tmp_path):
    changes = Changes(tmp_path / NAME, keep_bytes=1000)
    for number in range(100):
        with changes.recording(change(number)):
            pass
    kept = [one.before["threshold"] for one in changes.newest(1000)]
    assert kept == list(range(99, 99 - len(kept), -1))
    assert len(list(tmp_path.glob(f"{NAME}*"))) == OLDER + 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1300 * (OLDER + 1)
    assert changes.newest(5, "label") == changes.newest(5, about="cam2") == []
    assert len(changes.newest(5, "threshold", "cam1")) == 5


def test_a_line_that_a_power_cut_has_torn_spoils_no_other(tmp_path):
    changes = Changes(tmp_path / NAME)
    (tmp_path / NAME).write_bytes(b'{"who": "anna", "wh')
    with changes.recording(change(7)):
        pass
    assert [one.before["threshold"] for one in changes.newest(10)] == [7]


def test_two_processes_never_write_into_each_others_lines(tmp_path):
    threads = [threading.Thread(target=record, args=(tmp_path, 20)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(Changes(tmp_path / NAME).newest(1000)) == 80


def record(folder, count):
    for number in range(count):
        with Changes(folder / NAME).recording(change(number)):
            pass


def test_what_cannot_be_written_down_is_not_done(tmp_path):
    changes, done = Changes(tmp_path / NAME), []
    with changes.recording(change()):
        pass
    before = (tmp_path / NAME).read_bytes()
    with (
        no_file_longer_than(len(before) + 10),
        pytest.raises(EdgeAgentError, match="nothing was changed"),
        changes.recording(change()),
    ):
        done.append(1)
    assert not done
    assert (tmp_path / NAME).read_bytes() == before


@pytest.fixture
def line(tmp_path):
    """A page beside an agent with an alarm, signed in as its operator; its folder, and the inspections."""
    held = journal_of(tmp_path, [*shift(), inspected(AlarmEvent.RAISED, pixels=gradient(48, 64))])
    with page(tmp_path, accounts=accounts_of(tmp_path), stations=("cam1",)) as app:
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)
        sign_in(client, "oscar")
        yield client, tmp_path, held


def form(client: TestClient, inspection: str, **fields: str) -> dict[str, str]:
    return {"token": token_in(client.get(f"/inspection/{inspection}").text), "seen": "", **fields}


def test_labels_and_acknowledgements_are_in_the_log_which_the_engineer_reads(line):
    client, folder, held = line
    first, last = held[1].id, held[-1].id
    assert client.post(f"/inspection/{first}", data=form(client, first, value="good", note="<dust>")).status_code == 200
    token = token_in(client.get("/line").text)
    for _ in range(2):
        said = client.post("/line/acknowledge", data={"token": token, "station": "cam1", "alarm": last})
        assert said.status_code == 200
    found = Changes(folder / NAME).newest(10)
    assert [(one.who, one.what, one.about) for one in found] == [
        ("oscar", "acknowledgement", last),
        ("oscar", "label", first),
    ]
    assert (found[1].before, found[1].after["label"], found[1].reason) == ({"label": None}, "good", "<dust>")
    assert client.get("/changes").status_code == 403
    client.cookies.clear()
    sign_in(client, "erika")
    html = client.get("/changes").text
    assert "label: - &#8594; good" in html
    assert "&lt;dust&gt;" in html
    assert html.count("<td>oscar</td>") == 2
    assert client.get("/changes?what=label").text.count("<td>oscar</td>") == 1
    assert client.get(f"/changes?about={last}").text.count("<td>oscar</td>") == 1
    assert client.get("/changes?what=nonsense").status_code == 400


@pytest.mark.parametrize("full", ["the log", "the journal"])
def test_on_a_full_disk_a_label_is_not_said_and_what_was_typed_stays(line, full):
    client, folder, held = line
    agent = Journal.open(f"sqlite:///{folder}/journal.db")
    for one in shift():
        assert agent.record(one, Evidence(), [])
    size = (folder / "journal.db-wal").stat().st_size
    (folder / NAME).write_bytes(b"\n" * (size if full == "the log" else 1))
    first = held[1].id
    fields = form(client, first, value="defect", kind="dent", note="left of the hole", box="1,2,3,4")
    with closing(agent), no_file_longer_than(size):
        answer = client.post(f"/inspection/{first}", data=fields)
    assert answer.status_code == 503
    assert ("nothing was changed" if full == "the log" else "journal.db: ") in answer.text
    for typed in ('value="dent"', ">left of the hole</textarea>", 'value="1,2,3,4"'):
        assert typed in answer.text
    with open_labels(f"sqlite:///{folder}/journal.db") as labels:
        assert labels.history(first) == []
    assert Changes(folder / NAME).newest(1) == []


def test_while_the_journal_is_locked_a_label_is_not_said_and_what_was_typed_stays(line, monkeypatch):
    client, folder, held = line
    first = held[1].id
    monkeypatch.setattr("edge_agent.journal.sqlite.BUSY_MS", 100)
    fields = form(client, first, value="defect", kind="dent")
    with (folder / "journal.db.writing").open() as another:
        fcntl.flock(another, fcntl.LOCK_EX)  # as another process does while it writes
        answer = client.post(f"/inspection/{first}", data=fields)
    assert answer.status_code == 503
    assert 'value="dent"' in answer.text
    assert Changes(folder / NAME).newest(1) == []
    assert client.post(f"/inspection/{first}", data=fields).status_code == 200


def test_commands_write_into_the_same_log(tmp_path, monkeypatch, capsys):
    held = journal_of(tmp_path, shift())
    (tmp_path / "config.yaml").write_text(
        "agent: {data_dir: .}\npage: {}\nstations: [{name: cam1, source: {folder: in}}]\n"
    )
    config = ["--config", str(tmp_path / "config.yaml")]
    read, write = os.pipe()
    os.write(write, b"a long password\n")
    os.close(write)
    with os.fdopen(read) as typed:
        monkeypatch.setattr("sys.stdin", typed)
        assert main(["page", "passwd", *config, "erika", "--role", "engineer"]) == 0
    assert main(["page", "passwd", *config, "erika", "--remove"]) == 0
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([{"inspection": held[0].id, "label": "good"}]))
    assert main(["label", *config, "--labels", str(labels), "--who", "anna"]) == 0
    capsys.readouterr()
    found = Changes(tmp_path / NAME).newest(10)
    assert [(one.what, one.about, one.before, one.after) for one in found] == [
        ("label", held[0].id, {"label": None}, {"label": "good", "kind": None, "box": None}),
        ("account", "erika", {"role": "engineer"}, {"role": None}),
        ("account", "erika", {"role": None}, {"role": "engineer", "password": "set"}),
    ]
    assert "a long password" not in (tmp_path / NAME).read_text()


def test_a_page_that_only_looks_writes_no_log(tmp_path):
    journal_of(tmp_path, shift()[:1])
    with page(tmp_path, local=Role.VIEWER) as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        for address in ("/review", "/threshold", "/numbers"):
            assert client.get(address).status_code == 200
            assert '"/changes"' not in client.get(address).text
        assert client.get("/changes").status_code == 403
        assert client.post("/threshold", data={"threshold": "0.5"}).status_code == 405
    assert not (tmp_path / NAME).exists()
