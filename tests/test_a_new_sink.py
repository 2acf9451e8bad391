"""A sink is one class and one field of Config: one that is added from outside works in every command."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest
from pydantic import create_model

from edge_agent.cli import main
from edge_agent.config import load
from edge_agent.config.config import Config
from edge_agent.core import AlarmChange, Evidence, Inspection, Measure, Message, SinkContext, Triggers, Watched
from edge_agent.daemon import Agent
from edge_agent.health.systemd import Notifier
from edge_agent.journal.journal import Journal
from edge_agent.line.heartbeat import Stage
from edge_agent.line.line import Line
from edge_agent.settings.finding import Finding
from edge_agent.settings.sinks import Loc, SinkSection
from tests.agent import Daemon, part, write_config
from tests.conftest import wait_until
from tests.mosquitto import free_port
from tests.test_health import get, samples


class NullConfig(SinkSection):
    """`null: {to: NAME}`"""

    to: str

    def build(self, context: SinkContext) -> NullSink:
        return NullSink(context)

    def describe(self, agent: str) -> str:
        return f"to {self.to}, by {agent}"

    def check(self, agent: str, stations: Collection[str] = (), asked: Collection[str] = ()) -> Iterator[Finding]:
        yield Finding("null", "ok", f"{self.to} takes everything")

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        yield ("to",), "is nowhere"


class NullSink:
    """Takes every message at once, and forgets it."""

    receiver = "null"

    def __init__(self, context: SinkContext) -> None:
        self._outbox = context.outbox(self.receiver)
        self._taken = self._drifts = 0
        stage = Stage("null")
        stage.beat()
        stage.rest()
        self.stages: Sequence[Watched] = (stage,)

    problem = None

    def triggers(self, station: str) -> Triggers:
        raise NotImplementedError

    def messages(self, inspection: Inspection, evidence: Evidence) -> Sequence[Message]:
        payload = {"evaluation": inspection.verdict.evaluation.value}
        return [Message(f"null-{inspection.id}", "result", inspection.frame.station, payload, (self.receiver,))]

    def write(self, inspection: Inspection, evidence: Evidence) -> None:
        pass

    def completed(self, inspection: Inspection, evidence: Evidence) -> None:
        self._deliver()

    def _deliver(self) -> None:
        rows = self._outbox.pending(100)
        self._outbox.mark_sent([row.seq for row in rows])
        self._taken += len(rows)

    def alarm_messages(self, change: AlarmChange) -> Sequence[Message]:
        return [Message(f"null-{change.id}", "alarm", change.station, {"kind": change.kind.value}, (self.receiver,))]

    def alarmed(self, change: AlarmChange) -> None:
        self._deliver()

    def drifted(self, station: str, quantities: tuple[str, ...]) -> None:
        self._drifts += 1

    def measures(self) -> Sequence[Measure]:
        return [Measure("null_taken", "Messages that were taken.", self._taken)]

    def close(self, timeout_s: float = 5.0) -> None:
        self._deliver()


def add() -> None:
    load.Config = create_model("Config", __base__=Config, null=(NullConfig | None, None))  # type: ignore[misc]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def config(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load, "Config", Config)  # and put back afterwards
    add()
    return write_config(tmp_path, null={"to": "nobody"}, health={"port": port})


def test_check_describes_it_and_passes_its_warnings_on(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert "null      to nobody, by box" in printed
    assert "null.to: is nowhere" in printed
    assert "nothing is published" not in printed


def test_the_doctor_examines_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(config), "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["text"] for one in findings if one["name"] == "null"] == ["nobody takes everything"]


def test_the_daemon_delivers_to_it_and_metrics_count_it(config: Path, port: int) -> None:
    part(config.parent / "cam1" / "a.png")
    with Daemon(config, before=add) as daemon:
        daemon.has_inspected("a.png")
        wait_until(lambda: samples(get(port, "/metrics")[1]).get(("null_taken_total",)) == 1, "it is counted")
        found = samples(get(port, "/metrics")[1])
        assert found["outbox_messages", "null"] == 0
        assert ("stage_hangs", "null") in found
        daemon.stop()
    with closing(Journal.open(f"sqlite:///{config.parent}/data/journal.db")) as journal:
        assert journal.receivers() == []


def test_a_replay_delivers_to_it_only_when_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = str(part(config.parent / "stored" / "b.png", 1)), str(config.parent / "replayed")
    assert main(["replay", picture, "--config", str(config), "--out", out]) == 0
    assert main(["replay", picture, "--config", str(config), "--out", out, "--again", "--publish"]) == 0
    with closing(Journal.open(f"sqlite:///{out}/journal.db")) as journal:
        assert len(journal.inspections()) == 2
        assert journal.receivers() == []


def test_a_sink_is_told_why_a_station_gives_no_verdicts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[SinkContext] = []
    at_its_end: list[str | None] = []
    monkeypatch.setattr(NullConfig, "build", lambda self, context: told.append(context) or NullSink(context))
    monkeypatch.setattr(NullSink, "close", lambda self, timeout_s=5.0: at_its_end.append(told[0].not_ready("cam1")))
    stop, reload_asked, loading = Event(), Event(), Event()

    def slow(path: Path) -> Config:
        loading.set()
        wait_until(lambda: not loading.is_set(), "the test has looked")
        return load.load_config(path)

    monkeypatch.setattr("edge_agent.daemon.load_config", slow)
    with Agent(load.load_config(config), config, Notifier(None)) as agent:
        (context,) = told
        assert context.not_ready("cam1") == "the agent starts"
        running = Thread(target=agent.run, args=(stop, reload_asked))
        running.start()
        wait_until(lambda: "its source gives no pictures" in str(context.not_ready("cam1")), "its folder is missed")
        (config.parent / "cam1").mkdir()
        wait_until(lambda: context.not_ready("cam1") is None, "it is ready")
        reload_asked.set()
        wait_until(loading.is_set, "it reads its configuration")
        assert context.not_ready("cam1") == "the agent reads its configuration again"
        loading.clear()
        wait_until(lambda: context.not_ready("cam1") is None, "it is ready again")
        with monkeypatch.context() as full:
            full.setattr(Line, "not_recording", property(lambda line: "disk full"))
            assert context.not_ready("cam1") == "the journal takes nothing (disk full)"
        with monkeypatch.context() as hanging:
            hanging.setattr(Stage, "hangs", property(lambda stage: stage.name == "source cam2"))
            assert context.not_ready("cam1") is None
            hanging.setattr(Stage, "hangs", property(lambda stage: stage.name == "source cam1"))
            assert context.not_ready("cam1") == "the source cam1 hangs"
            hanging.setattr(Stage, "hangs", property(lambda stage: stage.name == "detector"))
            assert context.not_ready("cam1") == "the detector hangs"
        stop.set()
        running.join(30)
    assert at_its_end == ["the agent stops"]
