"""SIGHUP: a new configuration takes effect between two pictures, or is refused whole; none is lost or inspected twice."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.config.load import load_config
from edge_agent.config.reload import change
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.inference.load import Loader
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.taught import bank

LEFT = [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]


@contextmanager
def a_flow_of_pictures(folder: Path, daemon: Daemon) -> Iterator[list[str]]:
    """Pictures moved into the folder one after another, so that some ten wait; the names of those that are there by now."""
    names: list[str] = []
    over = threading.Event()

    def put() -> None:
        while not over.wait(0.05):
            if len(names) > len(daemon.rows) + 10:
                continue
            name = f"{len(names):04}.png"
            part(folder.parent / "made" / name, len(names)).rename(folder / name)
            names.append(name)

    folder.mkdir(exist_ok=True)
    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield names
    finally:
        over.set()
        thread.join()


def reload(daemon: Daemon, says: str) -> None:
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.until(says)


def test_every_picture_of_a_steady_flow_is_inspected_once_while_thresholds_and_masks_change(tmp_path: Path) -> None:
    config = write_config(tmp_path, station(threshold=ALL_NOT_OK))
    with Daemon(config) as daemon, a_flow_of_pictures(tmp_path / "cam1", daemon) as names:
        daemon.until("ready")
        wait_until(lambda: len(daemon.rows) > 5, "it inspects")
        write_config(tmp_path, station(threshold=ALL_OK))
        reload(daemon, "config.yaml: cam1.threshold")
        wait_until(lambda: daemon.rows[-1]["evaluation"] == "OK", "it judges by the new threshold")
        write_config(tmp_path, station(threshold=ALL_NOT_OK, ignore=LEFT, debounce={"raise_after": 3, "of": 5}))
        reload(daemon, "cam1.debounce.raise_after 1 -> 3, cam1.debounce.of 1 -> 5")
        wait_until(lambda: daemon.rows[-1]["evaluation"] == "NotOK", "it judges by the old one again")
        for _ in range(20):  # one upon another: each is heeded, or the last one is
            os.kill(daemon.pid, signal.SIGHUP)
            time.sleep(0.01)
        more = len(daemon.rows) + 3
        wait_until(lambda: len(daemon.rows) > more, "pictures go on to be inspected")
        daemon.stop()
    with Daemon(config) as daemon:  # what came after the stop
        daemon.has_inspected(*names)
        daemon.stop()
    rows = daemon.rows
    assert Counter(Path(row["origin"]).name for row in rows) == Counter(names)
    evaluations = [row["evaluation"] for row in rows]
    assert [kind for kind, before in zip(evaluations, ["", *evaluations], strict=False) if kind != before] == [
        "NotOK", "OK", "NotOK",
    ]  # fmt: skip
    for row in rows:  # each says by what it was judged
        assert row["threshold"] == (ALL_OK if row["evaluation"] == "OK" else ALL_NOT_OK)
    assert len({row["config_sha256"] for row in rows}) == 3
    alarms = [row["alarm"] for row in rows if row["alarm"] in ("raised", "cleared")]
    assert alarms == ["raised", "cleared", "raised"]
    again = next(index for index, row in enumerate(rows) if index and row["alarm"] == "raised")
    assert [row["evaluation"] for row in rows[again - 3 : again + 1]] == ["OK", "NotOK", "NotOK", "NotOK"]


def test_another_checkpoint_of_the_same_model_takes_effect_between_two_pictures(tmp_path: Path) -> None:
    made = bank(Loader())
    digests = {}
    for name, rows in (("one", 300), ("two", 200)):
        some = Checkpoint(made.header, {**made.tensors, "bank": made.tensors["bank"][:rows]})
        save_checkpoint(some, tmp_path / f"{name}.safetensors")
        digests[name] = load_checkpoint(tmp_path / f"{name}.safetensors").sha256

    def looks_with(name: str) -> Path:
        detector = {"model": made.header["backbone"], "checkpoint": f"{name}.safetensors", "image_size": 64}
        return write_config(tmp_path, station(threshold=ALL_OK, detector=detector))

    with Daemon(looks_with("one")) as daemon, a_flow_of_pictures(tmp_path / "cam1", daemon) as names:
        wait_until(lambda: len(daemon.rows) > 5, "it inspects")
        looks_with("two")
        reload(daemon, "config.yaml: cam1.detector.checkpoint")
        wait_until(lambda: daemon.rows[-1]["checkpoint_sha256"] == digests["two"], "it looks with the other one")
        daemon.stop()
    with Daemon(looks_with("one")) as daemon:  # what came after the stop
        daemon.has_inspected(*names)
        daemon.stop()
    assert Counter(daemon.inspected) == Counter(names)


def test_a_bad_configuration_is_refused_with_all_its_errors_and_the_old_one_goes_on(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with Daemon(config) as daemon:
        daemon.until("ready")
        write_config(tmp_path, station(threshold=7.0, colour="red", debounce={"raise_after": 0}))
        reload(daemon, "is refused: the configuration of before goes on")
        for error in ("threshold: is '7.0'", "colour: unknown key", "raise_after: is '0'"):
            assert error in daemon.log
        part(tmp_path / "cam1" / "a.png")
        daemon.has_inspected("a.png")
        config.unlink()
        reload(daemon, "config.yaml: does not exist")
        write_config(tmp_path, station(threshold=ALL_OK))
        reload(daemon, "cam1.threshold")
        part(tmp_path / "cam1" / "b.png", 1)
        daemon.has_inspected("a.png", "b.png")
        daemon.stop()
    assert [row["evaluation"] for row in daemon.rows] == ["NotOK", "OK"]


def test_what_needs_a_restart_is_said_and_stays_as_it_was(tmp_path: Path) -> None:
    config = write_config(tmp_path, station("cam1"), station("cam2"), station("cam3"))
    with Daemon(config) as daemon:
        daemon.until("ready")
        write_config(
            tmp_path,
            station("cam1", source={"folder": "./elsewhere"}, threshold=ALL_OK),
            station("cam2", detector={"class_name": "gear"}, threshold=ALL_OK),
            station("cam4"),
            agent={"name": "other", "data_dir": "./data"},
            database="sqlite:///other.db",
        )
        reload(daemon, "reloaded")
        for key in ("agent.name", "database.url", "cam1.source.folder", "cam2.detector.class_name", "cam2.threshold"):
            assert f"{key}: needs a restart" in daemon.log
        assert "stations: cam4 is new: needs a restart" in daemon.log
        assert "stations: cam3 is gone: needs a restart" in daemon.log
        assert re.search(r"config\.yaml: cam1\.threshold [\d.]+ -> [\d.]+\n", daemon.log)
        assert re.search(
            r"cam2\.detector\.class_name: needs a restart; till then .* \(cam2\.detector\.class_name object -> ",
            daemon.log,
        )
        for name in ("cam1", "cam2", "cam3"):
            part(tmp_path / name / f"{name}.png")
        daemon.has_inspected("cam1.png", "cam2.png", "cam3.png")
        daemon.stop()
    assert {row["station"]: row["evaluation"] for row in daemon.rows} == {
        "cam1": "OK",
        "cam2": "NotOK",
        "cam3": "NotOK",
    }
    assert not (tmp_path / "other.db").exists()


def test_the_configuration_in_effect_is_known_by_what_is_in_effect(tmp_path: Path) -> None:
    before = load_config(write_config(tmp_path, station()))
    moved = change(before, load_config(write_config(tmp_path, station(source={"folder": "./elsewhere"}))))
    assert moved.config.sha256 == before.sha256
    both = change(before, load_config(write_config(tmp_path, station(threshold=0.5), evidence={"keep_days": 3})))
    assert both.config.sha256 == load_config(write_config(tmp_path, station(threshold=0.5))).sha256
    assert (both.changed, both.waiting) == (("cam1.threshold",), ("evidence.keep_days",))


@pytest.mark.parametrize("closed", [False, True])
def test_a_hangup_ends_the_agent_only_when_its_terminal_was_closed(closed: bool) -> None:
    script = (
        "from edge_agent.commands.signals import *\n"
        "with stopped_by_signals() as stop, reloaded_by_hangups() as reload:\n"
        "    print('ready', flush=True)\n"
        "    while not (stop.is_set() or reload.is_set()): stop.wait(0.05)\n"
        "raise SystemExit(3 if stop.is_set() else 4)"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=subprocess.PIPE, start_new_session=True
    )
    os.close(theirs)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if closed:
            os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == (3 if closed else 4)
    if not closed:
        os.close(ours)
