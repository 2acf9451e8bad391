"""`edge-agent outbox` beside a running agent: what waits is listed, given up with a reason, and sent again."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.core import MQTT, AlarmEvent
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Journal
from edge_agent.journal.reader import open_reader
from tests.agent import Daemon, part, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.line import evidence, inspected, message
from tests.mosquitto import Listener, Mosquitto


def record(journal: Journal, count: int, station: str = "cam1") -> None:
    for _ in range(count):
        inspection = inspected(AlarmEvent.RAISED, station)
        assert journal.record(inspection, evidence(), [message(inspection)])


def seqs(journal: Journal) -> list[int]:
    return [row.seq for row in journal.outbox(MQTT).pending(1000)]


def test_messages_are_given_up_with_a_reason_and_brought_back_beside_the_agent(url: str) -> None:
    with closing(Journal.open(url)) as agent:
        record(agent, 4, "cam1")
        record(agent, 2, "cam2")
        with open_reader(url) as visitor:
            assert [one.seq for one in visitor.waiting()] == seqs(agent)
            first, second, *_ = seqs(agent)
            assert visitor.drop("too large for the broker", seqs=[first, second, 4711]) == 2
            assert visitor.drop("moved away", station="cam2") == 2
            assert len(seqs(agent)) == 2
            assert [(one.seq, one.dropped) for one in visitor.dropped()][:2] == [
                (first, "too large for the broker"),
                (second, "too large for the broker"),
            ]
            record(agent, 1)
            assert visitor.retry(seqs=[first]) == 1
            assert seqs(agent)[0] == first
            assert visitor.retry() == 3
            assert list(visitor.dropped()) == []
            assert len(seqs(agent)) == 7
            agent.outbox(MQTT).mark_sent(seqs(agent))
            assert visitor.retry(seqs=[first]) == 1  # the receiver has lost it
            assert visitor.drop("enough") == 1
            assert visitor.drop("enough") == 0


def test_each_receiver_gets_every_message_once_in_order_whatever_becomes_of_the_others(url: str) -> None:
    with closing(Journal.open(url)) as agent:
        plc, broker = agent.outbox("plc"), agent.outbox(MQTT)
        for number in range(6):
            inspection = inspected(AlarmEvent.RAISED)
            receivers = (MQTT, "plc") if number % 3 else (MQTT,)
            agent.record(inspection, evidence(), [replace(message(inspection), receivers=receivers)])
        to_broker = [row.seq for row in broker.pending(10)]
        to_plc = [row.seq for row in plc.pending(10)]
        assert len(to_broker) == 6
        assert to_plc == [to_broker[index] for index in (1, 2, 4, 5)]
        assert agent.receivers() == [MQTT, "plc"]

        broker.mark_sent(to_broker)  # the PLC is away
        assert broker.pending(10) == []
        assert [row.seq for row in plc.pending(10)] == to_plc
        assert agent.receivers() == ["plc"]
        assert plc.outbox_depth()[0] == 4
        with open_reader(url) as visitor:
            assert visitor.drop("it was replaced", seqs=to_plc[:1], receiver=MQTT) == 0
            assert visitor.drop("it was replaced", seqs=to_plc[:1], receiver="plc") == 1
            assert [(one.receiver, one.seq) for one in visitor.waiting("plc")] == [("plc", seq) for seq in to_plc[1:]]
            assert list(visitor.waiting(MQTT)) == []
            assert visitor.retry(seqs=to_plc, receiver="plc") == 1
            assert visitor.retry(seqs=to_broker[:2], receiver=MQTT) == 2
        plc.mark_sent(to_plc)
        assert [row.seq for row in broker.pending(10)] == to_broker[:2]
        assert plc.pending(10) == []


def test_an_inspection_stays_while_any_receiver_waits_for_its_message(url: str) -> None:
    with closing(Journal.open(url)) as agent:
        for _ in range(3):
            inspection = inspected(AlarmEvent.RAISED)
            agent.record(inspection, evidence(), [replace(message(inspection), receivers=(MQTT, "plc"))])
        first, second, third = seqs(agent)
        agent.outbox(MQTT).mark_sent([first, second, third])
        agent.outbox("plc").mark_sent([second])
        assert agent.purge_oldest().rows == 1
        assert [row.seq for row in agent.outbox("plc").pending(10)] == [first, third]


def test_who_visits_writes_while_the_agent_does_and_neither_loses_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None may give up, however slowly they come to write on a busy machine.
    monkeypatch.setattr("edge_agent.journal.sqlite.BUSY_MS", int(1000 * PATIENCE_S))
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(Journal.open(url)) as agent:
        thread = threading.Thread(target=record, args=(agent, 150))
        thread.start()
        script = (
            "import sys; from edge_agent.journal import sqlite; from edge_agent.journal.reader import open_reader\n"
            f"sqlite.BUSY_MS = {int(1000 * PATIENCE_S)}\n"
            "with open_reader(sys.argv[1]) as visitor:\n"
            "    for number in range(100): visitor.drop(f'{number}', seqs=[number]); visitor.retry(seqs=[number])\n"
            "print(len(list(visitor.waiting())))"
        )
        others = [subprocess.Popen([sys.executable, "-c", script, url]) for _ in range(2)]
        assert [other.wait(PATIENCE_S) for other in others] == [0, 0]
        thread.join()
        assert len(seqs(agent)) == 150
    with closing(Journal.open(url)) as again:  # which checks the file throughout
        assert len(seqs(again)) == 150


def test_the_agent_waits_for_a_visitor_that_writes_and_says_so_when_it_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(Journal.open(url)) as agent:
        with (tmp_path / "journal.db.writing").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            monkeypatch.setattr("edge_agent.journal.sqlite.BUSY_MS", 100)
            with pytest.raises(JournalError, match="another process has been writing"):
                record(agent, 1)
            assert seqs(agent) == []  # reading goes on
        record(agent, 1)
        assert len(seqs(agent)) == 1


def test_a_visitor_makes_no_journal_and_upgrades_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"start the agent"), open_reader(url):
        pass
    assert not (tmp_path / "data").exists()


def test_a_journal_can_be_visited_while_no_agent_runs_and_the_agent_goes_on_with_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(Journal.open(url)) as agent:
        record(agent, 2)
    with open_reader(url) as visitor:
        assert visitor.drop("old") == 2
    with closing(Journal.open(url)) as agent:
        assert seqs(agent) == []


def test_the_command_lists_drops_and_retries_what_a_running_agent_then_sends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Mosquitto(tmp_path)  # not started
    config = write_config(tmp_path, broker=broker)

    def outbox(*arguments: str) -> str:
        assert main(["outbox", arguments[0], "--config", str(config), *arguments[1:]]) == 0
        return capsys.readouterr().out

    for name in ("a", "b", "c"):
        part(tmp_path / "cam1" / f"{name}.png", ord(name))
    with Daemon(config) as daemon:
        daemon.has_inspected("a.png", "b.png", "c.png")
        wait_until(lambda: len(outbox("list", "--json").splitlines()) == 3, "messages follow their verdicts")
        listed = [json.loads(line) for line in outbox("list", "--json").splitlines()]
        assert [one["payload"]["event"] for one in listed] == ["raised", "repeated", "repeated"]
        assert "3 messages waiting" in outbox("list")
        assert "2 messages dropped" in outbox("drop", "1-2", "--reason", "a trial\nrun")
        assert "dropped: a trial run\n" in outbox("list", "--dropped")
        with broker, Listener(broker) as listener:
            wait_until(lambda: len(listener.ids("alarm")) == 1, "what was left arrives")
            assert "1 message will be sent again" in outbox("retry", "2")
            wait_until(lambda: len(listener.ids("alarm")) == 2, "what was brought back arrives")
            daemon.stop()
    assert listener.ids("alarm") == [listed[2]["id"], listed[1]["id"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["drop", "--all"],
        ["drop", "--reason", "why"],
        ["drop", "--reason", " ", "--all"],
        ["drop", "7", "--all", "--reason", "why"],
        ["retry"],
        ["retry", "seven"],
        ["retry", "9-7"],
        ["retry", "1-99999999999"],
        [],
    ],
)
def test_what_is_not_said_clearly_changes_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["outbox", *arguments])
    assert ended.value.code == 2
    assert "usage: edge-agent outbox" in capsys.readouterr().err
