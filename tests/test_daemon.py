"""`edge-agent run` inspects every picture once and tells of it, whatever happens to it, its folders and its broker."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest

from edge_agent.cli import main
from edge_agent.io.pictures import decode
from edge_agent.mqtt.messages import schema
from tests.agent import ALL_OK, Daemon, journalled, part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.mosquitto import Listener, Mosquitto

# How long the broker stays away; a minute or more is worth a try where there is time.
DOWN_S = float(os.environ.get("EDGE_AGENT_BROKER_DOWN_S", "3"))


def test_each_picture_is_inspected_once_however_it_comes_and_across_restarts(tmp_path: Path) -> None:
    quick = {"folder": "./cam1", "rescan_s": 1}  # so that unfinished files are looked at, too
    config = write_config(tmp_path, station("cam1", source=quick), station("cam2"))
    cam1, cam2 = tmp_path / "cam1", tmp_path / "cam2"
    whole = part(cam1 / "lying1.png", 1).read_bytes()
    part(cam1 / "lying2.png", 2)
    with Daemon(config) as daemon:
        daemon.until("ready: watching 2 stations")
        daemon.until(f"{cam2} cannot be read (No such file or directory): create or mount it")
        part(tmp_path / "moved.png", 3).rename(cam1 / "moved.png")
        part(cam2 / "late1.png", 4)
        first = ["lying1.png", "lying2.png", "moved.png", "late1.png"]
        daemon.has_inspected(*first)
        with (cam1 / "slow.png").open("wb") as slow:
            slow.write(whole[: len(whole) // 2])
            slow.flush()
            # Nobody is known to write it, so it is read once it has kept still for a while, as the half picture has by then.
            (cam1 / "linked.png").hardlink_to(part(tmp_path / "elsewhere.png", 5))
            first.append("linked.png")
            daemon.has_inspected(*first)
            slow.write(whole[len(whole) // 2 :])
        part(cam2 / "late2.png", 6)
        first += ["slow.png", "late2.png"]
        daemon.has_inspected(*first)
        daemon.stop(signal.SIGTERM)
        assert "stopped: 7 inspected, 7 NotOK, 0 NotDecidable" in daemon.log

    os.utime(cam1 / "lying1.png")
    (cam1 / "lying2.png").rename(cam1 / "renamed.png")
    part(cam1 / "new.png", 7)  # is the newest, and so comes after all others
    with Daemon(config) as daemon:
        daemon.has_inspected(*first, "new.png")
        daemon.stop(signal.SIGINT)
        assert "stopped: 1 inspected" in daemon.log
    assert {row["station"] for row in daemon.rows if "late" in row["origin"]} == {"cam2"}
    assert not any(row["simulated"] for row in daemon.rows)


def test_a_stop_amid_the_work_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    names = [part(tmp_path / "cam1" / f"{number}.png", number).name for number in range(40)]  # more than may wait
    with Daemon(config) as daemon:
        wait_until(lambda: daemon.rows, "something is inspected")
        daemon.stop()
        at_stop = len(daemon.rows)
        assert f"stopped: {at_stop} inspected" in daemon.log
    with Daemon(config) as daemon:
        daemon.until("ready")
        daemon.has_inspected(*names)
        daemon.stop()
        assert f"stopped: {40 - at_stop} inspected" in daemon.log


def test_a_killed_agent_is_told_lost_and_its_next_run_goes_on_where_it_was(
    tmp_path: Path, broker: Mosquitto, listener: Listener
) -> None:
    config = write_config(tmp_path, broker=broker)
    names = [part(tmp_path / "cam1" / f"{number}.png", number).name for number in range(20)]
    with Daemon(config) as daemon:
        wait_until(lambda: status(listener) == ["connected"], "it is online")
        wait_until(lambda: daemon.rows, "something is inspected")
        daemon.kill()
    wait_until(lambda: status(listener) == ["connected", "lost"], "the broker tells that it is gone")
    with Daemon(config) as daemon:
        daemon.has_inspected(*names)
        wait_until(lambda: len(listener.ids("alarm")) == 20, "all alarms arrive")
        daemon.stop()
    assert arrived_in_order(listener) == [row["id"] for row in daemon.rows]
    wait_until(lambda: status(listener)[2:] == ["connected", "stopped"], "it says goodbye")


def test_what_is_published_keeps_to_the_schemas_and_what_it_names_lies_on_disk(
    tmp_path: Path, broker: Mosquitto, listener: Listener
) -> None:
    config = write_config(
        tmp_path,
        station("cam1"),
        station("cam2", threshold=ALL_OK),
        broker=broker,
        evidence={"originals": "all", "overlays": "all"},
    )
    (tmp_path / "cam1").mkdir()
    (tmp_path / "cam2").mkdir()
    with Daemon(config) as daemon:
        daemon.until("station cam1: watches")
        daemon.until("station cam2: watches")
        part(tmp_path / "cam1" / "a.png")
        part(tmp_path / "cam2" / "b.png")
        daemon.has_inspected("a.png", "b.png")
        wait_until(lambda: len(listener.heard("state")) >= 2 and listener.heard("alarm"), "all is told")
        daemon.stop()
    wait_until(lambda: status(listener) == ["connected", "stopped"], "it says goodbye")

    (alarm,) = listener.heard("alarm")
    for kind in ("alarm", "state", "status"):
        for heard in listener.heard(kind):
            jsonschema.validate(heard.payload, schema(kind))
    assert {heard.topic for kind in ("alarm", "state", "status") for heard in listener.heard(kind)} == {
        "plant/line/box/cam1/alarm", "plant/line/box/cam1/state", "plant/line/box/cam2/state", "plant/line/box/status",
    }  # fmt: skip
    assert (alarm.payload["event"], alarm.payload["simulated"]) == ("raised", False)
    with Listener(broker) as later:
        wait_until(lambda: len(later.heard("state")) == 2, "states are retained")
        evaluations = {payload["station"]: payload["evaluation"] for payload in later.payloads("state")}
    assert evaluations == {"cam1": "NotOK", "cam2": "OK"}

    for row in daemon.rows:
        for kind in ("image", "overlay"):
            path = Path(unquote(urlsplit(row[f"{kind}_uri"]).path))
            assert hashlib.sha256(path.read_bytes()).hexdigest() == row[f"{kind}_sha256"]
        assert decode(Path(unquote(urlsplit(row["image_uri"]).path))).shape == (48, 64, 3)
    assert alarm.payload["overlay"]["uri"] in [row["overlay_uri"] for row in daemon.rows if row["station"] == "cam1"]


def test_alarms_arrive_in_order_while_the_broker_is_up_restarts_and_is_down(
    tmp_path: Path, broker: Mosquitto, listener: Listener
) -> None:
    broker.stop()
    config = write_config(tmp_path, broker=broker)
    names: list[str] = []

    def inspect(daemon: Daemon, *more: str) -> None:
        names.extend(part(tmp_path / "cam1" / name, len(names) + i).name for i, name in enumerate(more))
        daemon.has_inspected(*names)

    with Daemon(config) as daemon:
        inspect(daemon, "before1.png", "before2.png")
        broker.start()
        wait_until(lambda: len(listener.ids("alarm")) == 2, "what waited arrives")
        inspect(daemon, "up.png")
        wait_until(lambda: len(listener.ids("alarm")) == 3, "it arrives at once")
        broker.restart()
        inspect(daemon, "restarted.png")
        broker.stop()
        inspect(daemon, "down1.png", "down2.png", "down3.png")
        time.sleep(DOWN_S)
        broker.start()
        inspect(daemon, "up_again.png")
        wait_until(lambda: len(listener.ids("alarm")) == len(names), "every alarm arrives")
        daemon.stop()
    assert arrived_in_order(listener) == [row["id"] for row in daemon.rows]
    late = {payload["part_id"]: payload["historical"] for payload in listener.payloads("alarm")}
    assert (late["before1"], late["up"], late["down1"]) == (True, False, True)


def test_a_broker_that_never_comes_keeps_nothing_from_being_inspected_nor_from_stopping(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)  # not started
    config = write_config(tmp_path, broker=broker)
    part(tmp_path / "cam1" / "a.png")
    with Daemon(config) as daemon:
        daemon.has_inspected("a.png")
        daemon.until(f"not connected to 127.0.0.1:{broker.port}: nothing listens there: start the broker")
        daemon.stop()
        assert "1 unsent messages wait in the journal for the next start" in daemon.log


def test_a_second_daemon_on_the_same_journal_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with Daemon(config) as daemon:
        daemon.until("ready")
        (tmp_path / "other").mkdir()
        other = write_config(tmp_path / "other", agent={"name": "box2", "data_dir": "../data"})
        with Daemon(other) as second:
            assert second.ended() == 1
            said = f"journal.db: another agent uses it (process {daemon.pid}): stop that one, or give this one its own"
            assert said in second.log
            assert "Traceback" not in second.log
        part(tmp_path / "cam1" / "a.png")
        daemon.has_inspected("a.png")
        daemon.stop()


def test_the_doctor_and_a_replay_may_visit_while_the_daemon_works(
    tmp_path: Path, broker: Mosquitto, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, broker=broker)
    stored = part(tmp_path / "stored.png", 7)
    with Daemon(config) as daemon:
        wait_until(lambda: status(listener) == ["connected"], "it is online")
        assert main(["doctor", "--config", str(config)]) == 0
        said = capsys.readouterr().out
        assert (
            f"ok       journal   sqlite:///{tmp_path}/data/journal.db: in use, as expected while the agent runs" in said
        )
        assert f"ok       broker    127.0.0.1:{broker.port} answers" in said
        out = tmp_path / "out"
        assert main(["replay", str(stored), "--config", str(config), "--out", str(out), "--publish"]) == 0
        part(tmp_path / "cam1" / "a.png")
        daemon.has_inspected("a.png")
        wait_until(lambda: len(listener.ids("alarm")) == 3, "both alarms arrive, after what the doctor tried")
        assert "no longer connected" not in daemon.log
        assert "not connected" not in daemon.log
        daemon.stop()
    replayed, inspected = (one for one in listener.payloads("alarm") if one["schema"] != "edge-agent/probe/1")
    assert (replayed["simulated"], inspected["simulated"]) == (True, False)
    assert [replayed["id"]] == [row["id"] for row in journalled(out / "journal.db")]
    wait_until(lambda: status(listener) == ["connected", "stopped"], "only the daemon tells how the daemon is")
    assert all(payload.get("inspection_id") != replayed["id"] for payload in listener.payloads("state"))


def test_an_alarm_that_was_on_at_a_stop_is_on_at_the_next_start(
    tmp_path: Path, broker: Mosquitto, listener: Listener
) -> None:
    (tmp_path / "cam1").mkdir()
    with Daemon(write_config(tmp_path, broker=broker)) as daemon:
        daemon.until("station cam1: watches")
        part(tmp_path / "cam1" / "bad.png", 1)
        daemon.has_inspected("bad.png")
        daemon.stop()
    with Daemon(write_config(tmp_path, station(threshold=ALL_OK), broker=broker)) as daemon:
        daemon.until("station cam1: watches")
        part(tmp_path / "cam1" / "good.png", 2)
        daemon.has_inspected("bad.png", "good.png")
        wait_until(lambda: len(listener.ids("alarm")) == 2, "it is cleared")
        daemon.stop()
    assert [payload["event"] for payload in listener.payloads("alarm")] == ["raised", "cleared"]


def test_the_command_itself_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    part(tmp_path / "cam1" / "a.png")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(config), "--verbose"]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            wait_until(lambda: "cam1: NotOK" in log.read_text() or process.poll() is not None, "it inspects")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            process.kill()
    assert "stopped: 1 inspected, 1 NotOK, 0 NotDecidable" in log.read_text()


def status(listener: Listener) -> Sequence[str]:
    """What was told of the daemon's being there, in order."""
    heard = [one.payload for one in listener.heard("status") if one.topic == "plant/line/box/status"]
    return [payload["reason"] for payload in heard if payload["schema"] != "edge-agent/probe/1"]


def arrived_in_order(listener: Listener) -> list[str]:
    """The ids of the alarms in the order of their first arrival, which has to be that of seq."""
    seqs = {payload["id"]: payload["seq"] for payload in listener.payloads("alarm")}
    assert Counter(seqs.values()).most_common(1)[0][1] == 1
    ids = listener.ids("alarm")
    assert ids == sorted(ids, key=seqs.__getitem__)
    return ids
