"""The agent under systemd: what it tells its service manager, and the units that it comes with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.core import Evidence, Inspection, OutboxRow, Reading
from edge_agent.diagnostics.service import Service
from edge_agent.health.systemd import Notifier, notifier, watchdog_s
from edge_agent.health.watchdog import Watchdog, watching
from edge_agent.line.heartbeat import Stage
from edge_agent.line.inspect import warm_up
from edge_agent.line.line import Line
from edge_agent.mqtt.broker import Broker
from edge_agent.mqtt.sender import POLL_S, MqttSink
from tests.agent import Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.line import context
from tests.manager import Manager
from tests.mosquitto import Mosquitto
from tests.test_pipeline import Brightness, Given, Kept, frame, nothing
from tests.test_pipeline import station as inspected_by

LIMIT_S = 2.0  # the watchdog's; half of it passes between pings


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as listening:
        yield listening


class Sleeper(Brightness):
    """Takes `seconds` a picture, and for ever from the moment that `hangs` is set to its being set free."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.hangs, self.free = seconds, threading.Event(), threading.Event()

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        time.sleep(self.seconds * len(images))
        if self.hangs.is_set():
            self.free.wait()
        return super().read(images, keep)


@contextmanager
def running(line: Line, manager: Manager, *, until: Callable[[], object] = lambda: True) -> Iterator[None]:
    """The line and its watchdog, from the first ping to the end of the block."""
    stop = threading.Event()
    watchdog = Watchdog(line.stages, Notifier(manager.address), lambda: f"{line.counts.inspected} inspected", LIMIT_S)
    thread = threading.Thread(target=line.run, args=(stop,))
    thread.start()
    try:
        with watching(watchdog, LIMIT_S / 2):
            manager.until("WATCHDOG", "1")
            yield
            wait_until(until, "what the test waits for")
    finally:
        stop.set()
        thread.join()


def line_of(detector: Brightness, frames: int, kept: Kept | None = None, batch: int = 8) -> Line:
    kept, stations = kept or Kept(), {"cam1": inspected_by(detector)}
    source = Given("cam1", [frame(9, seq) for seq in range(frames)])
    return Line([source], stations, kept, kept, nothing, [kept], batch=batch, picture_s=warm_up(stations.values()))


def test_the_service_manager_hears_of_the_start_the_work_a_reload_and_the_end(tmp_path: Path, manager: Manager) -> None:
    config = write_config(tmp_path)
    part(tmp_path / "cam1" / "a.png")
    begun = time.monotonic()
    with Daemon(config, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="1000000") as daemon:
        daemon.has_inspected("a.png")
        manager.until("READY", "1")
        manager.until("STATUS", "1 inspected, 1 NotOK, 0 NotDecidable")
        os.kill(daemon.pid, signal.SIGHUP)
        manager.until("READY", "1", times=2)
        daemon.stop()
    manager.until("STOPPING", "1")
    kinds = [key for _, message in manager.messages for key in message if key in ("READY", "RELOADING", "STOPPING")]
    assert kinds == ["READY", "RELOADING", "READY", "STOPPING"]
    (reloaded_at,) = manager.values("MONOTONIC_USEC")
    assert begun < int(reloaded_at) / 1e6 < time.monotonic()
    assert manager.values("WATCHDOG")


def test_it_is_stopping_once_however_many_stored_frames_are_still_to_be_finished(manager: Manager) -> None:
    names, kept, stop = ["cam1", "cam2", "cam3", "cam4"], Kept(), threading.Event()
    detector = Brightness()
    sources = [Given(name, [frame(9, seq, name) for seq in range(9)]) for name in names]
    stations = {name: inspected_by(detector) for name in names}
    line = Line(sources, stations, kept, kept, nothing, [kept], batch=1)

    def started() -> None:
        wait_until(lambda: all(line.inbox.captured[name] for name in names), "a frame of each station waits")
        stop.set()

    line.run(stop, started=started, stopping=Notifier(manager.address).stopping)
    assert len(kept.recorded) == len(detector.batches) == len(names)
    Notifier(manager.address).send("the=end")
    manager.until("the", "end")
    assert manager.values("STOPPING") == ["1"]


def test_it_is_ready_only_when_the_detector_is_warm_and_all_sources_run() -> None:
    detector = Brightness()
    line = line_of(detector, frames=0)
    assert detector.batches == [1, 1]
    stop, seen = threading.Event(), []

    def started() -> None:
        seen.extend(thread.name for thread in threading.enumerate())
        stop.set()

    class Waiting(Given):
        def frames(self, stop: threading.Event) -> Iterator[object]:  # type: ignore[override]
            stop.wait()
            yield from ()

    line = Line([Waiting("cam1", [])], {"cam1": inspected_by(detector)}, Kept(), Kept(), nothing, [])
    line.run(stop, started=started)
    assert {"source-cam1", "writer"} <= set(seen)


def test_a_detector_that_hangs_stops_the_pings_and_its_place_is_logged(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    detector = Sleeper()
    line = line_of(detector, frames=3)
    detector.hangs.set()
    try:
        with running(line, manager):
            manager.until("STATUS", "hangs: detector")
            hung_at = time.monotonic()
            manager.until("STATUS", "hangs: detector", times=5)  # told at every look, so for twice the limit
            assert manager.pings_since(hung_at) == 0
            detector.hangs.clear()
            detector.free.set()
            wait_until(lambda: line.counts.inspected == 3, "it goes on once it is free")
            wait_until(lambda: manager.pings_since(hung_at), "and is told to live again")
    finally:
        detector.free.set()
    assert "the detector hangs: silent for" in caplog.text
    assert "self.free.wait()" in caplog.text


def test_a_source_that_hangs_is_said_and_stops_the_pings_only_if_no_other_works(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [Stage("source cam1"), Stage("source cam2")]
    watchdog = Watchdog(sources, Notifier(manager.address), lambda: "7 inspected", -1.0, sources)  # late at once
    sources[0].beat()
    watchdog.look()
    manager.until("STATUS", "hangs: source cam1; 7 inspected")
    assert watchdog.pings == 1
    assert "the source cam1 hangs: silent for 0 s; the others go on; check its disk or share" in caplog.text
    assert watchdog.health(True)[0] is False
    sources[1].beat()
    watchdog.look()
    manager.until("STATUS", "hangs: source cam1, source cam2")
    assert watchdog.pings == 1
    sources[1].rest()
    detector = Stage("detector")
    both = Watchdog([*sources, detector], Notifier(manager.address), lambda: "", -1.0, sources)
    detector.beat()
    both.look()
    assert both.pings == 0


@pytest.mark.parametrize(("hanging", "named"), [("write", "writer"), ("save", "evidence 1")])
def test_a_thread_behind_the_detector_that_hangs_stops_the_pings(manager: Manager, hanging: str, named: str) -> None:
    free = threading.Event()

    class Stuck(Kept):
        def wants(self, inspection: Inspection) -> bool:
            return True

        def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
            if hanging == "save":
                free.wait()
            return Evidence()

        def write(self, inspection: Inspection, evidence: Evidence) -> None:
            if hanging == "write":
                free.wait()

    try:
        with running(line_of(Brightness(), frames=100, kept=Stuck()), manager):
            # And not the detector, though that waits for the writer; of the threads that keep evidence all may hang.
            wait_until(
                lambda: any(told.startswith("hangs: ") and named in told for told in manager.values("STATUS")), named
            )
            free.set()
    finally:
        free.set()
    assert "hangs: detector" not in " ".join(manager.values("STATUS"))


def test_a_sender_that_hangs_stops_the_pings(tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    class Stuck:
        def pending(self, limit: int) -> list[OutboxRow]:
            free.wait()
            return []

        def mark_sent(self, seqs: Sequence[int]) -> None: ...

        def outbox_depth(self) -> tuple[int, None]:
            return 0, None

        def set_aside(self, seq: int, reason: str) -> None: ...

        def retained(self) -> set[str]:
            return set()

        def retain(self, topics: Collection[str]) -> None: ...

        def forget(self, topics: Collection[str]) -> None: ...

    monkeypatch.setattr("edge_agent.mqtt.sender.DATABASE_S", 0.0)
    with Mosquitto(tmp_path) as broker:
        sink = MqttSink(Broker("127.0.0.1", "plant", "box", broker.port), context(Stuck()))
        try:
            watchdog = Watchdog(list(sink.stages), Notifier(manager.address), lambda: "", POLL_S + LIMIT_S)
            with watching(watchdog, LIMIT_S / 2):
                manager.until("WATCHDOG", "1")
                manager.until("STATUS", "hangs: sender")
        finally:
            free.set()
            sink.close()


def test_a_thread_that_has_died_stops_the_pings(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage("writer")
    watchdog = Watchdog([stage], Notifier(manager.address), lambda: "", LIMIT_S)
    thread = threading.Thread(target=stage.beat)
    thread.start()
    thread.join()
    with watching(watchdog, LIMIT_S / 2):
        manager.until("STATUS", "hangs: writer")
    assert "its thread has ended" in caplog.text


def test_a_long_batch_of_a_slow_detector_is_no_hang(manager: Manager) -> None:
    detector = Sleeper(seconds=0.6)
    line = line_of(detector, frames=9)
    with running(line, manager, until=lambda: line.counts.inspected == 9):
        pass
    assert 8 in detector.batches  # which took more than twice the watchdog's limit
    assert not any("hangs" in status for status in manager.values("STATUS"))


def test_idling_is_no_hang(manager: Manager) -> None:
    with running(line_of(Brightness(), frames=0), manager):
        begun = time.monotonic()
        wait_until(lambda: manager.pings_since(begun) >= 4, "pings go on for twice the limit")
    assert not any("hangs" in status for status in manager.values("STATUS"))


def test_a_sender_without_a_broker_lives(tmp_path: Path, manager: Manager) -> None:
    config = write_config(tmp_path, mqtt={"host": "127.0.0.1", "port": 9})
    with Daemon(config, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="1000000") as daemon:
        daemon.until("mqtt: not connected")
        begun = time.monotonic()
        wait_until(lambda: manager.pings_since(begun) >= 6, "pings go on")
        daemon.stop()
    assert not any("hangs" in status for status in manager.values("STATUS"))


def test_without_a_service_manager_nothing_is_told_and_a_gone_one_stops_nothing(tmp_path: Path) -> None:
    notifier({}).ready("fine")
    notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("fine")


def test_an_abstract_socket_is_told_too() -> None:
    import socket

    name = f"edge-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("two\nlines")
        assert listening.recv(4096) == b"READY=1\nSTATUS=two lines"


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}, 7) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7) == 30
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, 7) is None
    assert watchdog_s({}, 7) is None


def test_journald_gets_a_line_a_verdict_with_its_level_and_words_to_search_for(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    part(tmp_path / "cam1" / "one two.png")
    (tmp_path / "cam1" / "broken\n<0>.png").write_bytes(b"no picture")
    os.utime(tmp_path / "cam1" / "broken\n<0>.png", (time.time() - 60,) * 2)  # old enough to be what it is
    log = tmp_path / "log"
    log.touch()
    stat = log.stat()
    with Daemon(config, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}") as daemon:
        daemon.until("ready")
        wait_until(lambda: len(daemon.rows) == 2, "both are inspected")
        os.kill(daemon.pid, signal.SIGHUP)
        config.write_text("stations: 7")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until("is refused")
        daemon.stop()
    lines = daemon.log.splitlines()
    assert all(re.match(r"<[2346]>\S", line) for line in lines)
    (whole,) = [line for line in lines if 'part="one two"' in line]
    assert re.match(r"<6>box: station=cam1 evaluation=NotOK score=0\.\d+ threshold=0\.0000 alarm=raised ", whole)
    assert len([line for line in lines if "evaluation=" in line]) == 2
    assert any(line.startswith("<3>") and "stations" in line for line in lines)

    with Daemon(config, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}") as daemon:
        assert daemon.ended() == 78
    assert daemon.log.startswith("<3>")
    assert all(line.startswith("<3>") for line in daemon.log.splitlines())


SYSTEMD = Path(__file__).parents[1] / "deploy" / "systemd"
UNITS = ("edge-agent.service", "edge-agent@.service")
PAGE_UNITS = ("edge-agent-page.service", "edge-agent-page@.service")


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    return found


@pytest.mark.parametrize("unit", [*UNITS, *PAGE_UNITS])
def test_systemd_finds_nothing_wrong_with_the_units(unit: str, analyze: str, tmp_path: Path) -> None:
    text = (SYSTEMD / unit).read_text()
    assert text.count("/opt/edge-agent/.venv/bin/edge-agent ") == 1  # which is not installed here
    copy = tmp_path / unit
    copy.write_text(text.replace("/opt/edge-agent/.venv/bin/edge-agent ", "/bin/true "))
    verified = run(analyze, "verify", copy)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    copy.write_text(copy.read_text().replace("RestartSec=5", "RestartSec=soon"))
    assert "Failed to parse" in run(analyze, "verify", copy).stderr


@pytest.mark.parametrize("unit", [*UNITS, *PAGE_UNITS])
def test_the_units_expose_little(unit: str, analyze: str) -> None:
    judged = run(analyze, "security", "--offline=true", SYSTEMD / unit)
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", judged.stdout)
    if level is None and "unrecognized option" in judged.stderr:
        pytest.skip("this systemd-analyze cannot judge units offline (250 and later can)")
    assert level is not None, judged.stderr
    assert float(level[1]) <= 3.0


def is_as(one: str, several: str) -> None:
    """A template says all that the unit of an only one says, with the name of each in its files and folders."""
    for line in filter(None, one.partition("[Unit]")[2].splitlines()):
        here = line.replace("config.yaml", "%i.yaml").replace("inspection agent", "inspection agent %i")
        here = here.replace("edge-agent.service", "edge-agent@%i.service").replace("agent-page", "agent-page-%i")
        here = re.sub(r"((Directory|Identifier)=|%C/)edge-agent(?!-)", r"\1edge-agent-%i", here)
        assert line.startswith("#") or here in several.splitlines(), here


def test_one_of_several_agents_is_confined_as_the_only_one_is() -> None:
    one, several = ((SYSTEMD / unit).read_text() for unit in UNITS)
    assert "MemoryDenyWriteExecute=" not in one
    is_as(one, several)


def test_one_of_several_pages_is_confined_as_the_only_one_is() -> None:
    one, several = ((SYSTEMD / unit).read_text() for unit in PAGE_UNITS)
    is_as(one, several)
    # All agents have this user, as systemd takes what is before the @ of a unit's name.
    assert "User=edge-agent\n" in several


def test_the_page_is_confined_as_the_agent_is_and_has_its_user_and_folders() -> None:
    agent, page = ((SYSTEMD / unit).read_text().splitlines() for unit in (UNITS[0], PAGE_UNITS[0]))
    assert "User=edge-agent" in page  # as DynamicUser= derives it for the agent from the unit's name
    confined = (
        "Protect",
        "Private",
        "Restrict",
        "Capability",
        "NoNew",
        "Lock",
        "SystemCall",
        "StateDirectory",
        "Dynamic",
    )
    wider = [line for line in agent if line.startswith(confined) and line not in page]
    assert wider == [
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=~@privileged",
    ]
    assert not any(line.startswith(("DeviceAllow", "SupplementaryGroups")) for line in page)


def test_what_is_installed_stays_installed_and_goes_again(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    for _ in range(2):
        installed = run("sh", SYSTEMD / "install.sh", root)
        assert installed.returncode == 0, installed.stderr
        assert "systemctl enable --now edge-agent" in installed.stdout
    assert sorted(tree(root)) == [
        "etc/edge-agent/config.yaml",
        "etc/systemd/system/edge-agent-page.service",
        "etc/systemd/system/edge-agent-page@.service",
        "etc/systemd/system/edge-agent.service",
        "etc/systemd/system/edge-agent@.service",
        "etc/udev/rules.d/70-edge-agent-cameras.rules",
    ]
    assert oct((root / "etc/edge-agent/config.yaml").stat().st_mode)[-3:] == "644"
    load_config(root / "etc/edge-agent/config.yaml")

    (root / "etc/edge-agent/config.yaml").write_text("mine")
    (root / "etc/systemd/system/edge-agent.service").write_text("of an older version")
    assert run("sh", SYSTEMD / "install.sh", root).returncode == 0
    assert tree(root)["etc/edge-agent/config.yaml"] == b"mine"
    assert tree(root)["etc/systemd/system/edge-agent.service"] == (SYSTEMD / "edge-agent.service").read_bytes()

    journal = root / "var/lib/private/edge-agent/journal.db"
    journal.parent.mkdir(parents=True)
    journal.write_text("years of work")
    for _ in range(2):
        assert run("sh", SYSTEMD / "uninstall.sh", root).returncode == 0
        assert sorted(tree(root)) == ["etc/edge-agent/config.yaml", "var/lib/private/edge-agent/journal.db"]
    for _ in range(2):
        assert run("sh", SYSTEMD / "uninstall.sh", "--purge", root).returncode == 0
        assert tree(root) == {}


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_the_scripts_refuse_what_they_do_not_know(script: str, tmp_path: Path) -> None:
    refused = run("sh", SYSTEMD / script, tmp_path, "what")
    assert refused.returncode == 1
    assert script in refused.stderr
    assert tree(tmp_path) == {}


def test_udev_finds_nothing_wrong_with_the_rule() -> None:
    udevadm = shutil.which("udevadm")
    if udevadm is None or "verify" not in run(udevadm, "--help").stdout:
        pytest.skip("no udevadm that verifies rules (systemd 254 and later have one)")
    verified = run(udevadm, "verify", SYSTEMD / "70-edge-agent-cameras.rules")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(("unit", "instance"), [*zip(UNITS, (None, "press"), strict=True)])
def test_the_doctor_takes_the_folders_and_the_user_that_the_unit_gives_to_the_service(
    unit: str, instance: str | None
) -> None:
    service = Service(instance)
    text = (SYSTEMD / unit).read_text().replace("%i", "press").replace("%C", "/var/cache")
    assert set(service.properties()) <= set(text.splitlines())
    environment = service.environment()
    assert f"Environment=XDG_CACHE_HOME={environment['XDG_CACHE_HOME']} " in text
    assert f"StateDirectory={environment['STATE_DIRECTORY'].removeprefix('/var/lib/')}\n" in text
    assert f" run --config {service.config}\n" in text


def test_a_model_that_is_missing_ends_the_daemon_so_that_systemd_does_not_start_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all("RestartPreventExitStatus=78\n" in (SYSTEMD / unit).read_text() for unit in UNITS)
    config = write_config(tmp_path, station(detector={"model": "tips-s14", "method": "clip"}))
    assert main(["run", "--config", str(config)]) == 78
    said = capsys.readouterr().err
    assert "tips-s14 is not in " in said
    assert "run `edge-agent models fetch tips-s14`, with sudo if a service is to find it" in said
